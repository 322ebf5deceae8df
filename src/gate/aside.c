/*
 * Threads beside the loops (see aside.h). One lock a pool: who is in line, who has left. A result goes to its loop by a message that is posted under the lock and only while its exchange is there: so the
 * loop has not ended. Who leaves while his work runs is not told of: the thread frees it when it comes back.
 */
#include "gate/aside.h"
#include <pthread.h>
#include <signal.h>

#define THREADS_MAX 64
#define STACK (1u << 20)

struct tg_asides {
	uv_mutex_t lock;
	uv_cond_t wake, ended;
	unsigned most, n, idle, alive, waiting; /* n: threads made; waiting: in line */
	bool stop;
	struct tg_aside *first, **last;         /* in line */
	uv_thread_t threads[THREADS_MAX];
};

static void left(struct tg_parking *p)
{
	struct tg_aside *a = (struct tg_aside *)p;
	struct tg_asides *all = a->of;
	uv_mutex_lock(&all->lock);
	bool queued = a->queued;
	for (struct tg_aside **at = &all->first; queued && *at; at = &(*at)->next)
		if (*at == a) {
			*at = a->next;
			if (all->last == &a->next)
				all->last = at;
			all->waiting--;
			break;
		}
	a->x = NULL;
	uv_mutex_unlock(&all->lock);
	if (queued)
		a->free(a);
}

static void back(struct tg_loop *l, void *arg)
{
	struct tg_aside *a = arg;
	struct tg_exchange *x = a->x; /* nobody but this loop changes it now */
	(void)l;
	if (!x) {
		a->free(a);
		return;
	}
	x->parked = NULL;
	enum tg_step step = a->answer(a, x);
	a->free(a);
	if (step != TG_ANSWERED)
		return;
	x->stage = TG_STAGE_SETTLE;
	tg_corridor_run(x);
}

/* Under the lock, which is let go meanwhile. */
static void do_first(struct tg_asides *all)
{
	struct tg_aside *a = all->first;
	if (!(all->first = a->next))
		all->last = &all->first;
	all->waiting--;
	a->queued = false;
	uv_mutex_unlock(&all->lock);
	a->run(a);
	uv_mutex_lock(&all->lock);
	if (a->x) {
		(void)tg_loop_post(a->x->gl->loop, &a->msg, back, a);
		return;
	}
	uv_mutex_unlock(&all->lock);
	a->free(a);
	uv_mutex_lock(&all->lock);
}

static void thread(void *arg)
{
	struct tg_asides *all = arg;
	uv_mutex_lock(&all->lock);
	while (all->first || !all->stop) { /* at the end too: who is in line is owed an answer */
		if (all->first) {
			do_first(all);
			continue;
		}
		all->idle++;
		uv_cond_wait(&all->wake, &all->lock);
		all->idle--;
	}
	all->alive--;
	uv_cond_broadcast(&all->ended);
	uv_mutex_unlock(&all->lock);
}

/* Under the lock. Signals are the control thread's alone. */
static void make_thread(struct tg_asides *all)
{
	uv_thread_options_t options = { .flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = STACK };
	sigset_t every, old;
	sigfillset(&every);
	pthread_sigmask(SIG_BLOCK, &every, &old);
	if (uv_thread_create_ex(&all->threads[all->n], &options, thread, all) == 0) {
		all->n++;
		all->alive++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

struct tg_asides *tg_asides_new(unsigned most)
{
	struct tg_asides *all = calloc(1, sizeof *all);
	if (!all)
		return NULL;
	all->most = most < THREADS_MAX ? most : THREADS_MAX;
	all->last = &all->first;
	uv_mutex_init(&all->lock);
	uv_cond_init(&all->wake);
	uv_cond_init(&all->ended);
	return all;
}

enum tg_step tg_aside_start(struct tg_exchange *x, struct tg_asides *all, struct tg_aside *a)
{
	bool kept = tg_exchange_keep_head(x), taken = false;
	a->of = all;
	uv_mutex_lock(&all->lock);
	if (kept && !all->stop && all->waiting < TG_ASIDES_MAX) {
		if (all->waiting >= all->idle && all->n < all->most)
			make_thread(all);
		taken = all->n > 0;
	}
	if (taken) {
		a->parking.left = left;
		a->x = x;
		a->next = NULL;
		a->queued = true;
		*all->last = a;
		all->last = &a->next;
		all->waiting++;
		x->parked = &a->parking;
		uv_cond_signal(&all->wake);
	}
	uv_mutex_unlock(&all->lock);
	if (taken)
		return TG_WAIT;
	a->free(a);
	return tg_answer_problem(x, TG_E_unavailable, kept ? "busy" : "memory", "Too much is being done at once; try again.", NULL, "Retry-After: 2\r\n");
}

bool tg_aside_over(struct tg_aside *a)
{
	uv_mutex_lock(&a->of->lock);
	bool over = !a->x;
	uv_mutex_unlock(&a->of->lock);
	return over;
}

void tg_asides_stop(struct tg_asides *all)
{
	if (!all)
		return;
	uv_mutex_lock(&all->lock);
	all->stop = true;
	uv_cond_broadcast(&all->wake);
	uv_mutex_unlock(&all->lock);
}

bool tg_asides_free(struct tg_asides *all, unsigned wait_ms)
{
	if (!all)
		return true;
	tg_asides_stop(all);
	uint64_t until = uv_hrtime() + (uint64_t)wait_ms * 1000000u;
	uv_mutex_lock(&all->lock);
	for (uint64_t now; all->alive && (now = uv_hrtime()) < until;)
		(void)uv_cond_timedwait(&all->ended, &all->lock, until - now);
	bool none = !all->alive;
	uv_mutex_unlock(&all->lock);
	if (!none)
		return false;
	for (unsigned i = 0; i < all->n; i++)
		uv_thread_join(&all->threads[i]);
	uv_mutex_destroy(&all->lock);
	uv_cond_destroy(&all->wake);
	uv_cond_destroy(&all->ended);
	free(all);
	return true;
}
