/* AWS Signature Version 4 (see s3_sign.h): canonical request, string to sign, a key derived by four HMACs. Keys are wiped; nothing here is logged. */
#include "store/s3_sign.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#define CANONICAL_MAX 65536

void tg_s3_encode(struct tg_buf *b, struct tg_slice s, bool path)
{
	static const char hex[] = "0123456789ABCDEF";
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~' || (path && c == '/');
		if (plain) {
			tg_buf_char(b, (char)c);
		} else {
			char t[3] = { '%', hex[c >> 4], hex[c & 15] };
			tg_buf_put(b, t, sizeof t);
		}
	}
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct tg_s3_header *)a)->name, ((const struct tg_s3_header *)b)->name);
}

void tg_s3_query_text(struct tg_buf *b, const struct tg_s3_query *q, unsigned n)
{
	struct tg_s3_query sorted[TG_S3_HEADERS_MAX];
	if (n > TG_S3_HEADERS_MAX) {
		b->failed = true;
		return;
	}
	for (unsigned i = 0; i < n; i++) { /* names are ours, and need no encoding that could change their order */
		unsigned k = i;
		for (; k && strcmp(sorted[k - 1].name, q[i].name) > 0; k--)
			sorted[k] = sorted[k - 1];
		sorted[k] = q[i];
	}
	for (unsigned i = 0; i < n; i++) {
		if (i)
			tg_buf_char(b, '&');
		tg_s3_encode(b, tg_slice_cstr(sorted[i].name), false);
		tg_buf_char(b, '=');
		tg_s3_encode(b, tg_slice_cstr(sorted[i].value), false);
	}
}

static void to_hex(const uint8_t *p, size_t n, char *out)
{
	static const char hex[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = hex[p[i] >> 4];
		out[2 * i + 1] = hex[p[i] & 15];
	}
	out[2 * n] = 0;
}

void tg_s3_sha256_hex(struct tg_slice s, char out[65])
{
	uint8_t d[32];
	SHA256((const unsigned char *)(s.p ? s.p : ""), s.n, d);
	to_hex(d, sizeof d, out);
}

static bool hmac(const void *key, size_t n, struct tg_slice text, uint8_t out[32])
{
	unsigned len = 32;
	return HMAC(EVP_sha256(), key, (int)n, (const unsigned char *)text.p, text.n, out, &len) && len == 32;
}

static bool derived(const struct tg_s3_credentials *c, const char *date, const char *region, uint8_t key[32])
{
	struct tg_buf first;
	tg_buf_init(&first, 8192);
	tg_buf_lit(&first, "AWS4");
	tg_buf_put(&first, c->secret.p, c->secret.n);
	uint8_t a[32], b[32];
	bool ok = !first.failed && hmac(first.p, first.len, (struct tg_slice){ date, 8 }, a) && hmac(a, 32, tg_slice_cstr(region), b) && hmac(b, 32, TG_S("s3"), a) &&
		  hmac(a, 32, TG_S("aws4_request"), key);
	if (first.p)
		explicit_bzero(first.p, first.len);
	tg_buf_free(&first);
	explicit_bzero(a, sizeof a);
	explicit_bzero(b, sizeof b);
	return ok;
}

static void put_names(struct tg_buf *b, const struct tg_s3_header *h, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		if (i)
			tg_buf_char(b, ';');
		tg_buf_cstr(b, h[i].name);
	}
}

bool tg_s3_sign(const struct tg_s3_credentials *c, const char *region, const char *method, struct tg_slice path, struct tg_slice query, const struct tg_s3_header *headers, unsigned nheaders,
		const char *date, const char *payload, struct tg_buf *out)
{
	struct tg_s3_header h[TG_S3_HEADERS_MAX];
	if (nheaders > TG_S3_HEADERS_MAX)
		return false;
	memcpy(h, headers, nheaders * sizeof *h);
	qsort(h, nheaders, sizeof *h, by_name);
	struct tg_buf b;
	tg_buf_init(&b, CANONICAL_MAX);
	tg_buf_fmt(&b, "%s\n", method);
	tg_buf_slice(&b, path);
	tg_buf_char(&b, '\n');
	tg_buf_slice(&b, query);
	tg_buf_char(&b, '\n');
	for (unsigned i = 0; i < nheaders; i++) {
		tg_buf_cstr(&b, h[i].name);
		tg_buf_char(&b, ':');
		tg_buf_slice(&b, tg_slice_trim(tg_slice_cstr(h[i].value)));
		tg_buf_char(&b, '\n');
	}
	tg_buf_char(&b, '\n');
	put_names(&b, h, nheaders);
	tg_buf_fmt(&b, "\n%s", payload);
	char digest[65], scope[128];
	tg_s3_sha256_hex(tg_buf_view(&b), digest);
	bool ok = !b.failed;
	b.len = 0;
	snprintf(scope, sizeof scope, "%.8s/%s/s3/aws4_request", date, region);
	tg_buf_fmt(&b, "AWS4-HMAC-SHA256\n%s\n%s\n%s", date, scope, digest);
	uint8_t key[32], signature[32];
	char text[65];
	ok = ok && !b.failed && derived(c, date, region, key) && hmac(key, sizeof key, tg_buf_view(&b), signature);
	explicit_bzero(key, sizeof key);
	tg_buf_free(&b);
	if (!ok)
		return false;
	to_hex(signature, sizeof signature, text);
	tg_buf_fmt(out, "AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=", c->id, scope);
	put_names(out, h, nheaders);
	tg_buf_fmt(out, ",Signature=%s", text);
	return !out->failed;
}
