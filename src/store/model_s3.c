/*
 * Models in a bucket (see model_s3.h). Each request's body is signed by its SHA-256, which the store checks; beside that its ETag is compared with the MD5 that it must be, save where the store encrypts
 * with a key of its own and the ETag is something else.
 */
#include "store/model_s3.h"
#include "store/model_store.h"
#include "base/clock.h"
#include <openssl/evp.h>
#include <unistd.h>

#define PARTS_MAX 10000
#define LIST_PAGES_MAX 1000 /* of 1000 names */
#define PAGE_MAX (4u << 20)
#define COMPLETE_MAX (2u << 20)

struct part {
	char sha256[65];
	uint8_t md5[16];
	bool has_md5; /* not where this OpenSSL may not make one */
};

static void to_hex(const uint8_t *p, size_t n, char *out)
{
	static const char hex[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = hex[p[i] >> 4];
		out[2 * i + 1] = hex[p[i] & 15];
	}
	out[2 * n] = 0;
}

static bool digest_part(int fd, uint64_t offset, uint64_t length, struct part *p)
{
	char block[65536];
	uint8_t sha[32];
	EVP_MD_CTX *s = EVP_MD_CTX_new(), *m = EVP_MD_CTX_new();
	bool ok = s && m && EVP_DigestInit_ex(s, EVP_sha256(), NULL) == 1;
	p->has_md5 = ok && EVP_DigestInit_ex(m, EVP_md5(), NULL) == 1;
	while (ok && length) {
		ssize_t k = pread(fd, block, length < sizeof block ? (size_t)length : sizeof block, (off_t)offset);
		ok = k > 0 && EVP_DigestUpdate(s, block, (size_t)k) == 1 && (!p->has_md5 || EVP_DigestUpdate(m, block, (size_t)k) == 1);
		if (ok) {
			offset += (uint64_t)k;
			length -= (uint64_t)k;
		}
	}
	ok = ok && EVP_DigestFinal_ex(s, sha, NULL) == 1 && (!p->has_md5 || EVP_DigestFinal_ex(m, p->md5, NULL) == 1);
	EVP_MD_CTX_free(s);
	EVP_MD_CTX_free(m);
	if (ok)
		to_hex(sha, sizeof sha, p->sha256);
	return ok;
}

/*
 * What the store has is what was sent: its ETag is the MD5 of a whole object, or of the parts' MD5s with their number behind ("...-3"). Stores that
 * encrypt have others, and some stores have their own: where the ETag does not look like ours it says nothing.
 */
static bool arrived(const struct tg_s3_request *r, const char *etag, const struct part *p, unsigned n, bool parts, struct tg_err *err)
{
	char expected[64], hex[33];
	uint8_t d[16];
	bool ok = !r->encrypted;
	for (unsigned i = 0; i < n; i++)
		ok = ok && p[i].has_md5;
	memcpy(d, p[0].md5, sizeof d);
	if (ok && parts) {
		EVP_MD_CTX *m = EVP_MD_CTX_new();
		ok = m && EVP_DigestInit_ex(m, EVP_md5(), NULL) == 1;
		for (unsigned i = 0; ok && i < n; i++)
			ok = EVP_DigestUpdate(m, p[i].md5, sizeof p[i].md5) == 1;
		ok = ok && EVP_DigestFinal_ex(m, d, NULL) == 1;
		EVP_MD_CTX_free(m);
	}
	to_hex(d, sizeof d, hex);
	int len = parts ? snprintf(expected, sizeof expected, "%s-%u", hex, n) : snprintf(expected, sizeof expected, "%s", hex);
	bool alike = strlen(etag) == (size_t)len && strspn(etag, "0123456789abcdefABCDEF") == 32 && (!parts || etag[32] == '-');
	if (!ok || !alike || strcasecmp(etag, expected) == 0)
		return true;
	tg_err_set(err, "the bucket has something else than what was sent, by its ETag");
	return false;
}

static enum tg_s3_result put_whole(struct tg_s3 *s, const char *key, int fd, uint64_t size, struct tg_err *err)
{
	struct part p;
	struct tg_s3_request r = tg_s3_request("PUT", key);
	if (!digest_part(fd, 0, size, &p)) {
		tg_err_set(err, "the file cannot be read");
		return TG_S3_AWAY;
	}
	r.fd = fd;
	r.length = size;
	memcpy(r.sha256, p.sha256, sizeof r.sha256);
	enum tg_s3_result result = tg_s3_do(s, &r, err);
	return result == TG_S3_OK && !arrived(&r, r.etag, &p, 1, false, err) ? TG_S3_AWAY : result;
}

/* ---- in parts ---- */

struct upload {
	struct tg_s3 *s;
	const char *key;
	char id[1024];
	struct part *parts;
	struct tg_buf list; /* the body that ends it */
};

static enum tg_s3_result begin(struct upload *u, struct tg_err *err)
{
	struct tg_buf answer;
	size_t at = 0;
	struct tg_s3_request r = tg_s3_request("POST", u->key);
	r.query[r.nquery++] = (struct tg_s3_query){ "uploads", "" };
	tg_buf_init(&answer, 65536);
	r.into = &answer;
	enum tg_s3_result result = tg_s3_do(u->s, &r, err);
	if (result == TG_S3_OK && (!tg_s3_element(tg_buf_view(&answer), "UploadId", &at, u->id, sizeof u->id) || !u->id[0])) {
		tg_err_set(err, "the bucket began an upload without a name for it");
		result = TG_S3_REFUSED;
	}
	tg_buf_free(&answer);
	return result;
}

static enum tg_s3_result put_part(struct upload *u, unsigned i, int fd, uint64_t offset, uint64_t length, struct tg_err *err)
{
	char number[12];
	snprintf(number, sizeof number, "%u", i + 1);
	struct tg_s3_request r = tg_s3_request("PUT", u->key);
	r.query[r.nquery++] = (struct tg_s3_query){ "partNumber", number };
	r.query[r.nquery++] = (struct tg_s3_query){ "uploadId", u->id };
	if (!digest_part(fd, offset, length, &u->parts[i])) {
		tg_err_set(err, "the file cannot be read");
		return TG_S3_AWAY;
	}
	r.fd = fd;
	r.offset = offset;
	r.length = length;
	memcpy(r.sha256, u->parts[i].sha256, sizeof r.sha256);
	enum tg_s3_result result = tg_s3_do(u->s, &r, err);
	if (result == TG_S3_OK && !arrived(&r, r.etag, &u->parts[i], 1, false, err))
		return TG_S3_AWAY;
	tg_buf_fmt(&u->list, "<Part><PartNumber>%s</PartNumber><ETag>&quot;", number);
	for (const char *e = r.etag; *e; e++)
		if (*e != '<' && *e != '&')
			tg_buf_char(&u->list, *e);
	tg_buf_lit(&u->list, "&quot;</ETag></Part>");
	return result;
}

/* Its answer may be 200 and an error all the same: the store begins to answer before it has put the parts together. */
static enum tg_s3_result complete(struct upload *u, unsigned n, struct tg_err *err)
{
	struct tg_buf answer;
	char etag[120];
	size_t at = 0;
	struct tg_s3_request r = tg_s3_request("POST", u->key);
	r.query[r.nquery++] = (struct tg_s3_query){ "uploadId", u->id };
	tg_buf_lit(&u->list, "</CompleteMultipartUpload>");
	if (u->list.failed) {
		tg_err_set(err, "out of memory");
		return TG_S3_AWAY;
	}
	r.body = u->list.p;
	r.length = u->list.len;
	tg_s3_sha256_hex(tg_buf_view(&u->list), r.sha256);
	tg_buf_init(&answer, 65536);
	r.into = &answer;
	enum tg_s3_result result = tg_s3_do(u->s, &r, err);
	if (result == TG_S3_OK && !(tg_s3_element(tg_buf_view(&answer), "ETag", &at, etag, sizeof etag) && etag[0])) {
		tg_err_set(err, "the bucket could not put the parts of an upload together");
		result = TG_S3_AWAY;
	} else if (result == TG_S3_OK) {
		size_t len = strlen(etag);
		if (len > 2 && etag[0] == '"' && etag[len - 1] == '"') {
			memmove(etag, etag + 1, len - 2);
			etag[len - 2] = 0;
		}
		if (!arrived(&r, etag, u->parts, n, true, err))
			result = TG_S3_AWAY;
	}
	tg_buf_free(&answer);
	return result;
}

/* Parts that nobody puts together cost money until somebody removes them. */
static void give_up(struct upload *u)
{
	struct tg_err err;
	struct tg_s3_request r = tg_s3_request("DELETE", u->key);
	r.query[r.nquery++] = (struct tg_s3_query){ "uploadId", u->id };
	tg_s3_do(u->s, &r, &err);
}

static enum tg_s3_result put_parts(struct tg_s3 *s, const char *key, int fd, uint64_t size, struct tg_err *err)
{
	uint64_t each = TG_S3_PART;
	if (size / each >= PARTS_MAX)
		each = size / (PARTS_MAX - 1) + 1;
	unsigned n = (unsigned)((size + each - 1) / each);
	struct upload u = { .s = s, .key = key, .parts = calloc(n, sizeof *u.parts) };
	tg_buf_init(&u.list, COMPLETE_MAX);
	tg_buf_lit(&u.list, "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
	tg_err_set(err, "out of memory");
	enum tg_s3_result result = u.parts ? begin(&u, err) : TG_S3_AWAY;
	for (unsigned i = 0; result == TG_S3_OK && i < n; i++) {
		uint64_t offset = i * each;
		result = put_part(&u, i, fd, offset, size - offset < each ? size - offset : each, err);
	}
	if (result == TG_S3_OK)
		result = complete(&u, n, err);
	if (result != TG_S3_OK && u.id[0])
		give_up(&u);
	tg_buf_free(&u.list);
	free(u.parts);
	return result;
}

enum tg_s3_result tg_model_s3_put(struct tg_s3 *s, const char *key, int fd, uint64_t size, struct tg_err *err)
{
	return size > TG_S3_PART ? put_parts(s, key, fd, size, err) : put_whole(s, key, fd, size, err);
}

/* ---- the list ---- */

struct pairing {
	char id[TG_MODEL_ID_MAX + 1]; /* of the .json that was seen last; objects come in order: "a.json", "a.tgm" */
	bool enough;
};

static void one_key(struct pairing *p, struct tg_slice name, bool (*row)(void *ctx, const char *id), void *ctx)
{
	static const struct tg_slice json = { ".json", 5 }, model = { TG_MODEL_EXT, sizeof TG_MODEL_EXT - 1 };
	struct tg_slice id = name;
	bool is_json = name.n > json.n && memcmp(name.p + name.n - json.n, json.p, json.n) == 0;
	bool is_model = name.n > model.n && memcmp(name.p + name.n - model.n, model.p, model.n) == 0;
	id.n -= is_json ? json.n : is_model ? model.n : 0;
	if ((!is_json && !is_model) || !tg_model_id_ok(id))
		return;
	if (is_json)
		snprintf(p->id, sizeof p->id, "%.*s", (int)id.n, id.p);
	else if (tg_slice_eq(id, tg_slice_cstr(p->id)))
		p->enough = !row(ctx, p->id);
}

/* Names come in the order of their bytes, over all pages. One that is too long to be read ("") is none of ours. */
static bool goes_on(const char *key, char last[TG_S3_KEY_MAX + 1])
{
	if (key[0] && strcmp(key, last) <= 0)
		return false;
	if (key[0])
		memcpy(last, key, strlen(key) + 1);
	return true;
}

static bool is_list(struct tg_slice xml)
{
	return xml.n && memmem(xml.p, xml.n, "<ListBucketResult", 17) && memmem(xml.p, xml.n, "</ListBucketResult>", 19);
}

enum tg_s3_result tg_model_s3_list(struct tg_s3 *s, const char *prefix, unsigned ms, bool (*row)(void *ctx, const char *id), void *ctx, struct tg_err *err)
{
	struct pairing p = { .id = "" };
	char token[TG_S3_KEY_MAX + 64] = "", key[TG_S3_KEY_MAX + 1], last[TG_S3_KEY_MAX + 1] = "", truncated[8];
	struct tg_buf page;
	tg_buf_init(&page, PAGE_MAX);
	enum tg_s3_result result = TG_S3_OK;
	uint64_t end_ms = tg_mono_us() / 1000 + ms, now_ms;
	for (unsigned i = 0; result == TG_S3_OK && !p.enough; i++) {
		struct tg_s3_request r = tg_s3_request("GET", "");
		now_ms = tg_mono_us() / 1000;
		r.ms = now_ms < end_ms ? (unsigned)(end_ms - now_ms) : 1;
		r.query[r.nquery++] = (struct tg_s3_query){ "list-type", "2" };
		r.query[r.nquery++] = (struct tg_s3_query){ "prefix", prefix };
		r.query[r.nquery++] = (struct tg_s3_query){ "delimiter", "/" };
		if (token[0])
			r.query[r.nquery++] = (struct tg_s3_query){ "continuation-token", token };
		r.into = &page;
		result = tg_s3_do(s, &r, err);
		if (i && tg_mono_us() / 1000 >= end_ms) { /* it answers: there is too much of it */
			tg_err_set(err, "the bucket's list takes longer than %u s", ms / 1000);
			result = TG_S3_REFUSED;
		}
		if (result != TG_S3_OK)
			break;
		struct tg_slice xml = tg_buf_view(&page);
		size_t n = strlen(prefix);
		if (!is_list(xml)) {
			tg_err_set(err, "what the bucket sent for a list is none");
			result = TG_S3_REFUSED;
			break;
		}
		for (size_t at = 0; result == TG_S3_OK && !p.enough && tg_s3_element(xml, "Key", &at, key, sizeof key);)
			if (!goes_on(key, last))
				result = TG_S3_REFUSED;
			else if (strncmp(key, prefix, n) == 0)
				one_key(&p, (struct tg_slice){ key + n, strlen(key + n) }, row, ctx);
		if (result != TG_S3_OK) {
			tg_err_set(err, "the bucket's list is not in order, or gives the same again");
			break;
		}
		size_t at = 0, next = 0;
		if (!tg_s3_element(xml, "IsTruncated", &at, truncated, sizeof truncated) || strcmp(truncated, "true") != 0)
			break;
		if (i + 1 == LIST_PAGES_MAX || !tg_s3_element(xml, "NextContinuationToken", &next, token, sizeof token) || !token[0]) {
			tg_err_set(err, i + 1 == LIST_PAGES_MAX ? "the bucket has more models than can be listed" : "the bucket's list has no way on");
			result = TG_S3_REFUSED;
		}
	}
	tg_buf_free(&page);
	return result;
}
