#pragma once
/*
 * What is known of one request when it ends, and the access-log line made of it: exactly one line a request, also for refused, aborted
 * and malformed ones. Members (JSON, one line):
 *   ts (RFC 3339 ms, start), level "info", event "request" or the auth event ("auth.missing_key", "auth.invalid_key"), request_id, client (address), tls ("TLSv1.3", null of a plain connection),
 *   user (principal id or null), key_name, key_prefix, key_label (null without), method, endpoint (the route's pattern; of an unmatched path its redacted
 *   form), model (known ones only, else null), stream (bool), status, ms, first_byte_ms (null if none), overhead_us, bytes_in, bytes_out,
 *   prompt_tokens, completion_tokens (null if unknown), partial (true where the answer was cut), worker (null if none), retries, reason (null, or why it was refused or
 *   cut: a refusal name, "client_gone", "worker_gone", "timeout_first_byte", ...).
 */
#include "base/log.h"
#include "gate/route.h"
#include "http/usage.h"
#include "net/addr.h"
#include "policy/principal.h"

struct tg_record {
	uint64_t wall_us;           /* start */
	uint64_t total_us, first_byte_us, overhead_us; /* first_byte_us 0: no byte was sent */
	const struct tg_addr *client;
	const char *tls;            /* version; NULL: plain */
	const struct tg_principal *principal; /* NULL: nobody */
	const char *key_prefix;     /* of a refused credential; NULL: the principal's */
	const struct tg_route *route; /* NULL: unmatched */
	enum tg_method method;
	struct tg_slice path;       /* only for unmatched: raw */
	const char *model, *worker; /* NULL: none */
	int model_index;            /* place among the configured models, -1: none */
	uint16_t status;
	uint64_t bytes_in, bytes_out;
	struct tg_usage usage;
	bool stream, partial;
	uint8_t retries;
	const char *event;          /* NULL: "request" */
	const char *reason;         /* NULL: none */
	struct tg_slice request_id;
};
/* Appends the line to the loop's batch (flushes it first when it is full). Hot path: no printf. */
void tg_record_line(struct tg_log_batch *b, const struct tg_record *r);
/*
 * The form in which an unmatched path may be logged: escapes decoded, segments that look like keys (a digit and at least 8 characters), e-mail addresses and what else
 * tg_log_redact knows replaced by "***". Whoever keeps such a path beyond its head, cut to a length, cuts this form and not the raw one: half a key is still most
 * of a key. At most cap bytes; not escaped for JSON. Doing it twice changes nothing.
 */
size_t tg_record_endpoint(struct tg_slice path, char *out, size_t cap);
