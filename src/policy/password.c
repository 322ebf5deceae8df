/*
 * Passwords and the hasher (see password.h).
 *
 * Parameters: 64 MiB, 3 passes, one lane. That is RFC 9106's second recommended choice (section 4, for machines that cannot give 2 GiB to a login) but for the lanes, of which libsodium has one,
 * and three times the memory of OWASP's least (Password Storage Cheat Sheet: 19 MiB, 2 passes).
 *
 * The hasher is one queue for all loops. A pool job ("runner") is made by whoever finds fewer than TG_HASHING_AT_ONCE of them; it works the queue off, in order of arrival, and ends when that is empty, so there is
 * never one per login. Results go by message to the loop that asked.
 *
 * Invariants: a job is in exactly one place: in the queue (under the lock), in a runner's hands, or in its loop's mailbox. `loop` of a job that runs is NULL once it was cancelled (under the lock), so a
 * runner never touches a loop that nobody keeps alive: who starts a job cancels it or is called before its loop ends. What was posted is delivered in the loop's own thread, where
 * `cancelled` is read and written.
 */
#include "policy/password.h"
#include "base/utf8.h"
#include <errno.h>
#include <sodium.h>
#include <stdio.h>

static const struct {
	unsigned long long passes;
	size_t memory;
} cost = { 3, 64u << 20 };
enum { PASSES_MAX = 16, LANES_MAX = 4 };
#define MEMORY_MAX (TG_HASHING_MEMORY / TG_HASHING_AT_ONCE)

const char *tg_password_fault(struct tg_slice p)
{
	if (p.n < TG_PASSWORD_MIN)
		return "must have at least 12 bytes";
	if (p.n > TG_PASSWORD_MAX)
		return "must have at most 1024 bytes";
	if (!tg_utf8_valid(p.p, p.n))
		return "must be valid UTF-8";
	for (size_t i = 0; i < p.n; i++)
		if ((unsigned char)p.p[i] < 0x20 || p.p[i] == 0x7f)
			return "must not have control characters";
	return NULL;
}

/* Passes and memory that a stored string asks for, within what one hash may cost; lanes as they are computed by libsodium, one after the other. */
static bool affordable(const char *encoded)
{
	unsigned kib, passes, lanes;
	if (strnlen(encoded, TG_PASSWORD_HASH) >= TG_PASSWORD_HASH || sscanf(encoded, "$argon2id$v=19$m=%9u,t=%9u,p=%9u$", &kib, &passes, &lanes) != 3)
		return false;
	return (uint64_t)kib << 10 <= MEMORY_MAX && passes <= PASSES_MAX && lanes <= LANES_MAX;
}

bool tg_password_hash(struct tg_slice p, char out[TG_PASSWORD_HASH])
{
	_Static_assert(TG_PASSWORD_HASH >= crypto_pwhash_STRBYTES, "an encoded string fits");
	return p.n <= TG_PASSWORD_MAX && crypto_pwhash_str_alg(out, p.n ? p.p : "", p.n, cost.passes, cost.memory, crypto_pwhash_ALG_ARGON2ID13) == 0;
}

/* A string of today's parameters that no password fits: random salt, random hash. */
static void stand_in(char out[TG_PASSWORD_HASH])
{
	unsigned char salt[16], hash[32];
	char a[25], b[48];
	randombytes_buf(salt, sizeof salt);
	randombytes_buf(hash, sizeof hash);
	sodium_bin2base64(a, sizeof a, salt, sizeof salt, sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
	sodium_bin2base64(b, sizeof b, hash, sizeof hash, sodium_base64_VARIANT_ORIGINAL_NO_PADDING);
	snprintf(out, TG_PASSWORD_HASH, "$argon2id$v=19$m=%zu,t=%llu,p=1$%s$%s", cost.memory >> 10, cost.passes, a, b);
}

enum tg_password_answer tg_password_verify(const char *encoded, struct tg_slice p)
{
	char nobody[TG_PASSWORD_HASH];
	bool known = encoded != NULL;
	if (!known) {
		stand_in(nobody);
		encoded = nobody;
	}
	if (!affordable(encoded))
		return TG_PASSWORD_FAILED;
	if (p.n > TG_PASSWORD_MAX) {
		p.n = TG_PASSWORD_MAX;
		known = false;
	}
	errno = 0;
	int r = crypto_pwhash_str_verify(encoded, p.n ? p.p : "", p.n);
	if (r != 0 && errno == ENOMEM)
		return TG_PASSWORD_FAILED;
	return r == 0 && known ? TG_PASSWORD_OK : TG_PASSWORD_WRONG;
}

/* ---- the hasher ---- */

struct tg_password_job {
	struct tg_password_job *next, **pprev; /* pprev NULL: not in the queue */
	struct tg_hasher *hasher;
	struct tg_loop *loop;  /* under the lock; NULL: cancelled while it ran */
	struct tg_msg msg;
	tg_password_fn done;
	void *ctx;
	bool hashing, known, cancelled;
	enum tg_password_answer answer;
	size_t n;
	char hash[TG_PASSWORD_HASH]; /* to compare with, or the result */
	char password[TG_PASSWORD_MAX + 1]; /* one more than may be: then it is too long */
};

struct tg_hasher {
	uv_mutex_t lock;
	struct tg_password_job *first, **last;
	unsigned waiting, runners;
};

struct runner {
	uv_work_t work; /* first */
	struct tg_hasher *hasher;
};

struct tg_hasher *tg_hasher_new(void)
{
	struct tg_hasher *h = calloc(1, sizeof *h);
	if (!h || sodium_init() < 0 || uv_mutex_init(&h->lock)) {
		free(h);
		return NULL;
	}
	h->last = &h->first;
	return h;
}

void tg_hasher_free(struct tg_hasher *h)
{
	if (!h)
		return;
	uv_mutex_destroy(&h->lock);
	free(h);
}

static void free_job(struct tg_password_job *j)
{
	sodium_memzero(j, sizeof *j);
	free(j);
}

static void unlink_job(struct tg_hasher *h, struct tg_password_job *j)
{
	*j->pprev = j->next;
	if (j->next)
		j->next->pprev = j->pprev;
	else
		h->last = j->pprev;
	j->next = NULL;
	j->pprev = NULL;
	h->waiting--;
}

static void deliver(struct tg_loop *l, void *arg)
{
	struct tg_password_job *j = arg;
	(void)l;
	if (!j->cancelled)
		j->done(j->ctx, j->answer, j->hashing && j->answer == TG_PASSWORD_OK ? j->hash : NULL);
	free_job(j);
}

static void do_job(struct tg_password_job *j)
{
	struct tg_slice p = { j->password, j->n };
	if (j->hashing)
		j->answer = tg_password_hash(p, j->hash) ? TG_PASSWORD_OK : TG_PASSWORD_FAILED;
	else
		j->answer = tg_password_verify(j->known ? j->hash : NULL, p);
	sodium_memzero(j->password, sizeof j->password);
}

static void run(uv_work_t *w)
{
	struct tg_hasher *h = ((struct runner *)w)->hasher;
	uv_mutex_lock(&h->lock);
	for (struct tg_password_job *j; (j = h->first);) {
		unlink_job(h, j);
		uv_mutex_unlock(&h->lock);
		do_job(j);
		uv_mutex_lock(&h->lock);
		if (!j->loop || !tg_loop_post(j->loop, &j->msg, deliver, j))
			free_job(j);
	}
	h->runners--;
	uv_mutex_unlock(&h->lock);
}

static void ran(uv_work_t *w, int status)
{
	(void)status; /* nobody cancels a runner */
	free(w);
}

static struct tg_password_job *start(struct tg_hasher *h, struct tg_loop *l, struct tg_password_job *j, struct tg_slice p, tg_password_fn done, void *ctx)
{
	struct runner *r = j ? malloc(sizeof *r) : NULL;
	if (!r) {
		free(j);
		return NULL;
	}
	j->hasher = h;
	j->loop = l;
	j->done = done;
	j->ctx = ctx;
	j->n = p.n < sizeof j->password ? p.n : sizeof j->password;
	if (j->n)
		memcpy(j->password, p.p, j->n);
	uv_mutex_lock(&h->lock);
	bool busy = h->waiting >= TG_HASHING_WAITING, run_it = !busy && h->runners < TG_HASHING_AT_ONCE;
	if (!busy) {
		j->pprev = h->last;
		*h->last = j;
		h->last = &j->next;
		h->waiting++;
	}
	h->runners += run_it;
	uv_mutex_unlock(&h->lock);
	if (run_it) {
		*r = (struct runner){ .hasher = h };
		uv_queue_work(&l->uv, &r->work, run, ran);
	} else {
		free(r);
	}
	if (busy) {
		free_job(j);
		return NULL;
	}
	return j;
}

struct tg_password_job *tg_password_verify_start(struct tg_hasher *h, struct tg_loop *l, const char *encoded, struct tg_slice p, tg_password_fn done, void *ctx)
{
	struct tg_password_job *j = calloc(1, sizeof *j);
	if (j && encoded) {
		j->known = true;
		size_t n = strnlen(encoded, sizeof j->hash - 1);
		memcpy(j->hash, encoded, n); /* cut: no string that may be tried */
	}
	return start(h, l, j, p, done, ctx);
}

struct tg_password_job *tg_password_hash_start(struct tg_hasher *h, struct tg_loop *l, struct tg_slice p, tg_password_fn done, void *ctx)
{
	struct tg_password_job *j = calloc(1, sizeof *j);
	if (j)
		j->hashing = true;
	return start(h, l, j, p, done, ctx);
}

void tg_password_cancel(struct tg_password_job *j)
{
	struct tg_hasher *h = j->hasher;
	uv_mutex_lock(&h->lock);
	bool queued = j->pprev != NULL;
	if (queued)
		unlink_job(h, j);
	else
		j->loop = NULL;
	j->cancelled = true; /* of a job that is in the mailbox: read there, in this thread */
	uv_mutex_unlock(&h->lock);
	if (queued)
		free_job(j);
}

unsigned tg_hasher_waiting(struct tg_hasher *h)
{
	uv_mutex_lock(&h->lock);
	unsigned n = h->waiting;
	uv_mutex_unlock(&h->lock);
	return n;
}
