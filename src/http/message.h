#pragma once
/* A parsed HTTP/1.1 head: slices into the bytes it was parsed from, nothing owned. */
#include "base/slice.h"

#define TG_HEADERS_MAX 100

enum tg_method { TG_GET, TG_HEAD, TG_POST, TG_PUT, TG_PATCH, TG_DELETE, TG_OPTIONS, TG_METHOD_OTHER };
extern const char *const tg_method_names[]; /* "GET" ... ; OTHER: "?" */

/* Header names that some stage looks for. */
enum tg_header_id {
	TG_H_OTHER, TG_H_HOST, TG_H_CONTENT_LENGTH, TG_H_TRANSFER_ENCODING, TG_H_CONNECTION, TG_H_AUTHORIZATION, TG_H_X_API_KEY, TG_H_COOKIE,
	TG_H_CONTENT_TYPE, TG_H_CONTENT_ENCODING, TG_H_EXPECT, TG_H_UPGRADE, TG_H_ORIGIN, TG_H_SEC_FETCH_SITE, TG_H_X_REQUEST_ID, TG_H_X_CORRELATION_ID,
	TG_H_ACCEPT, TG_H_ACCEPT_ENCODING, TG_H_X_FORWARDED_FOR, TG_H_FORWARDED, TG_H_X_REAL_IP, TG_H_X_FORWARDED, /* any other x-forwarded-* */
	TG_H_TE, TG_H_TRAILER, TG_H_KEEP_ALIVE, TG_H_PROXY, /* proxy-connection, proxy-authorization, proxy-authenticate */
	TG_H_RETRY_AFTER, TG_H_SET_COOKIE, TG_H_CACHE_CONTROL, TG_H_USER_AGENT, TG_H_X_SESSION_ID, TG_H_LOCATION, TG_H_WWW_AUTHENTICATE, TG_H_DATE, TG_H_SERVER,
	TG_H_VIA, TG_H_ACCESS_CONTROL_REQUEST_METHOD, TG_H_ACCESS_CONTROL_REQUEST_HEADERS,
	TG_H_COUNT
};

struct tg_header {
	struct tg_slice name, value; /* value without surrounding white space */
	uint8_t id;                  /* enum tg_header_id */
};

struct tg_head {
	/* requests */
	enum tg_method method;
	struct tg_slice target;      /* origin-form, as sent (an absolute-form target is already cut to its origin-form) */
	struct tg_slice path, query; /* of target; query without '?' */
	struct tg_slice host;        /* the Host value; empty only for HTTP/1.0 */
	bool expect_continue, upgrade;
	bool key_twice;              /* more than one Authorization */
	/* answers */
	uint16_t status;
	/* both */
	uint8_t minor;               /* HTTP/1.minor: 0 or 1 */
	bool keep_alive;
	bool chunked;
	int64_t content_length;      /* -1: none given */
	unsigned nheaders;
	int16_t first[TG_H_COUNT];   /* index of the first header of that id, -1: none; first[TG_H_OTHER] unused */
	struct tg_header headers[TG_HEADERS_MAX];
};

/* The first header of that id, trimmed; p == NULL: absent. */
static inline struct tg_slice tg_head_get(const struct tg_head *h, enum tg_header_id id)
{
	return h->first[id] < 0 ? (struct tg_slice){ 0 } : h->headers[h->first[id]].value;
}
enum tg_header_id tg_header_lookup(struct tg_slice name);
/* Does Accept name this media type? No weighing of q values: for routes with a default and one other form. */
bool tg_head_accepts(const struct tg_head *h, const char *type);
/* Whether If-None-Match holds this entity tag (which has its quotes), or is "*": the caller has that text already. */
bool tg_head_has_tag(const struct tg_head *h, const char *etag);
/* A parameter of a query ("a=1&b=x%20y"; '+' is a space, as forms write it), decoded into out, NUL-terminated; of several of one name the last, as the documents' origins take it. Bytes, or -1: absent, -2: malformed, with a NUL in it, or longer than cap - 1. */
long tg_query_get(struct tg_slice query, const char *name, char *out, size_t cap);
