#pragma once
/*
 * Requests to an object store that speaks S3: signed (store/s3_sign.h), timed, tried again. By libcurl, which is opened when the first request is made (dlopen: linked, it would double what an idle gate holds in
 * memory). Blocking; any thread but a loop's.
 *
 * Credentials, region and endpoint come from the environment, as they are when the store is opened: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION or AWS_DEFAULT_REGION
 * ("us-east-1"), AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL (http://HOST[:PORT] or https://; then the bucket is the path's first segment). Certificates are verified, redirects are not followed.
 */
#include "base/buf.h"
#include "base/err.h"
#include "store/s3_sign.h"

#define TG_S3_TRIES 3
#define TG_S3_KEY_MAX 1024

struct tg_s3; /* opaque */
enum tg_s3_result {
	TG_S3_OK,
	TG_S3_NONE,    /* 404: no such object (or bucket: err says which) */
	TG_S3_REFUSED, /* it answers, and does not do it: rights, names; or the answer is not what it may be. Trying again is of no use */
	TG_S3_AWAY,    /* it does not answer, or with 5xx, after TG_S3_TRIES; or stopped */
};
/* NULL: err (a variable that is not understood, no memory). Missing credentials are no fault here: the first request is then REFUSED. */
struct tg_s3 *tg_s3_open(const char *bucket, struct tg_err *err);
void tg_s3_close(struct tg_s3 *s); /* after the last request has returned */
void tg_s3_stop(struct tg_s3 *s);  /* any thread: requests under way and to come end soon, AWAY */

struct tg_s3_request {
	const char *method;
	const char *key;             /* raw; "": of the bucket itself */
	struct tg_s3_query query[4];
	unsigned nquery;
	/* The body: bytes in memory, or `length` bytes of the file from `offset`. None: length 0. */
	const char *body;
	int fd;
	uint64_t offset, length;
	char sha256[65];             /* of the body; "": of no body */
	/* The answer of a success goes here: into a buffer with its own ceiling, or into a file (emptied first) up to `most` bytes. Neither: dropped. */
	struct tg_buf *into;
	int into_fd;                 /* -1: none */
	uint64_t most;
	unsigned ms;                 /* for all tries together; 0: as long as bytes come */
	/* set by the answer */
	char etag[80];               /* without quotes; "": none */
	bool encrypted;              /* by a key of the store's: then the etag is no MD5 */
};
static inline struct tg_s3_request tg_s3_request(const char *method, const char *key)
{
	return (struct tg_s3_request){ .method = method, .key = key, .fd = -1, .into_fd = -1 };
}
enum tg_s3_result tg_s3_do(struct tg_s3 *s, struct tg_s3_request *r, struct tg_err *err);

/* The text of the next element of that name in an answer, entities decoded, cut to cap - 1 bytes (then "", and true all the same). *at starts at 0. False: there is none left. */
bool tg_s3_element(struct tg_slice xml, const char *name, size_t *at, char *out, size_t cap);
