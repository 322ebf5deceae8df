#pragma once
/*
 * AWS Signature Version 4 for requests to an object store (docs.aws.amazon.com, "Authenticating Requests: Using the Authorization Header"). libcurl can sign by itself, but its 7.88 does not sort query
 * parameters; this does, and is proven by AWS's own examples (tests/unit/test_s3_sign.c).
 */
#include "base/buf.h"
#include "base/secret.h"

#define TG_S3_HEADERS_MAX 8

struct tg_s3_credentials {
	char *id;                 /* AWS_ACCESS_KEY_ID */
	struct tg_secret secret;  /* AWS_SECRET_ACCESS_KEY */
	struct tg_secret session; /* AWS_SESSION_TOKEN; empty: none */
};
struct tg_s3_header {
	const char *name, *value; /* the name in lower case */
};
struct tg_s3_query {
	const char *name, *value; /* raw; value "" is sent as `name=` */
};

/* Percent-encodes all but A-Z a-z 0-9 - . _ ~ (and '/', where `path`). */
void tg_s3_encode(struct tg_buf *b, struct tg_slice s, bool path);
/* Sorted, encoded, joined by &: as it is sent and as it is signed. n at most TG_S3_HEADERS_MAX. */
void tg_s3_query_text(struct tg_buf *b, const struct tg_s3_query *q, unsigned n);
void tg_s3_sha256_hex(struct tg_slice s, char out[65]);

/*
 * The value of the Authorization header, appended to `out`. path: encoded, as it is sent; query: tg_s3_query_text's. headers: all that are signed (host and every x-amz- one), in any order, x-amz-date (`date`,
 * "20130524T000000Z") and x-amz-content-sha256 (`payload`, hex) among them. False: no memory, or OpenSSL failed.
 */
bool tg_s3_sign(const struct tg_s3_credentials *c, const char *region, const char *method, struct tg_slice path, struct tg_slice query, const struct tg_s3_header *headers, unsigned nheaders,
		const char *date, const char *payload, struct tg_buf *out);
