#pragma once
/*
 * One request and its answer: what walks the corridor. Owner: its session (gate/session.c) from the first byte of the head to the record; memory comes from
 * a per-loop list of spares. A stream of hours holds one of these, so what only the way in needs (head, body) is let go before the answer begins.
 */
#include "base/clock.h"
#include "gate/gate.h"
#include "gate/parking.h"
#include "http/cors.h"
#include "policy/token.h"
#include "pool/health.h"
#include "pool/upstream.h"

enum tg_answer_mode { TG_ANSWER_NONE, TG_ANSWER_PASS, TG_ANSWER_STREAM, TG_ANSWER_COLLECT };

/* What a forwarding route asks of the request and of the answer: api/inference.c has one row a route. */
struct tg_forward {
	const char *model_member;      /* where the body names its model */
	const char *prompt_member;     /* whose length is bounded; NULL: none */
	const char *path;              /* at the worker */
	bool strict_type;              /* Content-Type must be application/json */
	bool translates;               /* both bodies are rewritten (infer, inference) */
	bool embeds;                   /* the answer has no tokens of its own */
};

/* One limit that was asked for this request, as it stood then: what the answer's head tells. */
enum tg_bucket_kind { TG_BUCKET_CLASS, TG_BUCKET_ADDRESS, TG_BUCKET_KEY, TG_BUCKET_TOKENS, TG_BUCKET_IN_FLIGHT, TG_BUCKET_COUNT };
struct tg_bucket {
	uint64_t end_ms;               /* of its window, on the monotonic clock */
	uint32_t limit, remaining, period_s;
	uint8_t kind;                  /* enum tg_bucket_kind */
	bool refused;                  /* it is why the answer is 429 */
};

/* Tokens of the key's minute that this request holds. */
struct tg_reservation {
	uint32_t limit;                /* a minute; 0: none applies */
	uint32_t reserved;             /* 0: nothing (any more) */
	uint32_t prompt;               /* what is reckoned for the prompt, whether a limit applies or not */
	uint64_t window;               /* policy/limit.h */
};

/* The body on its way in; exists only while it is incomplete. */
struct tg_intake {
	struct tg_json_scan scan;
	struct tg_chunked chunked;
	char *body;                    /* owned */
	size_t len, cap;
	bool scanning;
	struct tg_upload *upload;      /* it is passed on as it comes (gate/upload.c) and nothing of it is kept; NULL: kept */
};

struct tg_exchange {
	struct tg_session *session;
	struct tg_gate_loop *gl;
	struct tg_snapshot *snap;
	const struct tg_route *route;  /* NULL: unmatched */
	const struct tg_forward *forward; /* NULL: a local handler */
	const struct tg_principal *principal;
	const struct tg_head *head;    /* NULL once the request has been sent on or answered */
	struct tg_head *kept_head;     /* owned copy, when the exchange had to park before that */
	struct tg_addr client;
	uint8_t stage, method, minor, family;
	uint8_t answer_mode;
	bool path_known, keep_alive, local, presented, body_left, head_request;
	bool unsure;                   /* what it presented may be somebody's: nobody can tell while the database is away */
	bool was_ours;                 /* what it presented is a key or token of ours that has ended */
	bool received, chunk_out, preflight;
	uint8_t cors;                  /* enum tg_cors: what its answer says to a browser */
	const char *cors_origin;       /* for TG_CORS_LISTED; the snapshot's */
	bool stream, cut_usage, head_sent, head_pending, aborted, partial, sent_upstream, closes, done;
	bool judged, failed_it;        /* what came of it is known to the worker's health; it failed by the worker's fault */
	uint8_t sends, retries;        /* times it may have reached a worker; times it was tried again */
	bool refreshed;                /* a kept-alive connection had died: tried on a fresh one */
	uint32_t allow;                /* methods of a known path */
	uint32_t perms;                /* of its principal, from authorize on; less where some were taken away while it waited (revoked.h) */
	char rid[TG_ULID_LEN];         /* request id, when ours */
	uint8_t rid_len;
	char *rid_long;                /* owned: the caller's own id */
	char presented_prefix[TG_KEY_PREFIX_MAX + 1];
	uint8_t credential[8];         /* the beginning of the digest of the key, or of the token's jti, that it came with */
	uint64_t delayed;              /* policy/guess.h: whose place it holds while its refusal is delayed; 0: none */
	void (*delayed_answer)(struct tg_exchange *x); /* gives it */
	/* limits */
	struct tg_bucket bucket[TG_BUCKET_COUNT];
	uint8_t nbuckets;              /* 0: none applies */
	struct tg_limit_cell *held;    /* it is one of the key's requests in flight */
	struct tg_reservation tokens;
	/* body */
	struct tg_slice body;          /* complete; valid while head is */
	char *body_owned;              /* where it lies when it is ours */
	uint64_t buffered;             /* accounted bytes */
	uint64_t shared;               /* of them those that count in its key's share: a large answer's */
	struct tg_intake *intake;
	struct tg_json_want want[4];   /* what the scan found: model, stream, stream_options, prompt or request_body */
	size_t first_member;
	/* worker */
	struct tg_model *model;
	struct tg_worker *worker;      /* its slot is ours */
	const struct tg_worker *failed;/* not to be tried again */
	bool trial;                    /* it tries whether the worker is back */
	uint64_t affinity;             /* the key of its session in sessions.h; 0: none */
	uint64_t print;                /* quarantine.h: 0: not taken */
	uint64_t total_due_ms;         /* the total clock, from the first time it was sent; 0: not sent yet */
	struct tg_waiter waiter;
	unsigned queue_seen;
	struct tg_upconn *up;
	char *up_req;                  /* owned: [room for the worker's lines][common lines][blank line][small body]; kept until the first byte */
	size_t up_room, up_len;
	struct iovec up_body[9];       /* a large body's pieces */
	uint8_t up_nbody;
	char *edits;                   /* owned: inserted text the pieces point to */
	struct tg_timer timer;         /* a delayed refusal; queue wait, then the total clock */
	struct tg_sse *sse;
	struct tg_usage_scan *usage_scan;
	struct tg_buf collected;       /* an answer that must be whole before it is translated */
	struct tg_parking *parked;     /* what it waits for off this loop; told when it leaves */
	/* of a login's token (source TG_SRC_USER): when it was issued, its id; to be compared again if users or ended tokens change meanwhile */
	int64_t token_from, token_ends;
	char token_id[TG_TOKEN_JTI_MAX + 1];
	/* record */
	uint64_t wall_us, start_us, sent_us, answer_us, first_us, end_us, mark_us, overhead_us, bytes_in, bytes_out;
	struct tg_usage usage;
	uint16_t status;
	const char *event, *reason;
	char path_text[96];            /* unmatched path for the log */
	uint8_t path_len;
	struct tg_exchange *next_spare;
};

/* ---- corridor.c ---- */
enum tg_stage {
	TG_STAGE_IDENTIFY, TG_STAGE_MATCH, TG_STAGE_AUTHENTICATE, TG_STAGE_AUTHORIZE, TG_STAGE_LIMIT, TG_STAGE_RECEIVE, TG_STAGE_ADMIT,
	TG_STAGE_DISPATCH, TG_STAGE_RELAY, TG_STAGE_SETTLE, TG_STAGE_RECORD, TG_STAGE_END
};
void tg_corridor_run(struct tg_exchange *x); /* may free x */

/* ---- one file a stage ---- */
enum tg_step tg_stage_identify(struct tg_exchange *x);
enum tg_step tg_stage_match(struct tg_exchange *x);
enum tg_step tg_stage_authenticate(struct tg_exchange *x);
enum tg_step tg_stage_authorize(struct tg_exchange *x);
enum tg_step tg_stage_limit(struct tg_exchange *x);
enum tg_step tg_stage_receive(struct tg_exchange *x);
enum tg_step tg_stage_admit(struct tg_exchange *x);
enum tg_step tg_stage_dispatch(struct tg_exchange *x);
enum tg_step tg_stage_relay(struct tg_exchange *x);
enum tg_step tg_stage_settle(struct tg_exchange *x);
enum tg_step tg_stage_record(struct tg_exchange *x);

/* ---- authorize.c ---- */
enum tg_step tg_answer_lacks(struct tg_exchange *x, uint32_t perms); /* 403: it needs one of these */

/* ---- audited.c: what the audit trail has of its credential; neither waits ---- */
void tg_audited_success(struct tg_exchange *x);       /* x->principal is whose it is */
void tg_audited_failure(struct tg_exchange *x);       /* nobody's, or it has ended: x->presented_prefix */

/* ---- page.c: which web page it comes from, by its Origin; both are false where it says nothing, or twice ---- */
bool tg_page_is_own(const struct tg_exchange *x);     /* the same scheme, host and port as it was sent to; a trusted proxy's X-Forwarded-Proto counts */
/* One that this machine serves, on whatever port. self: the connection's own address; NULL: unknown. */
bool tg_page_is_of_this_machine(const struct tg_exchange *x, const struct tg_addr *self);

/* ---- limit.c ---- */
/* Takes what the route's class and the key allow. False: one of them refuses (the last in x->bucket, or the only one that counts what is in flight), and nothing stays taken but by x->held. */
bool tg_limit_take(struct tg_exchange *x);
uint32_t tg_limit_prompt(const struct tg_exchange *x); /* tokens of the prompt, reckoned by the body's bytes */
/* The body is known: reserves its tokens where the key has a bound for them. `scan`: what was found in it. NEXT, or ANSWERED (429). */
enum tg_step tg_limit_tokens(struct tg_exchange *x, const struct tg_json_scan *scan);
/* The request's end, as soon as it is known: before its last bytes leave, so that whoever reads them finds the limits as they are. about_to_send: body bytes of those. */
void tg_limit_finish(struct tg_exchange *x, uint64_t about_to_send);
static inline void tg_limit_end(struct tg_exchange *x, uint64_t about_to_send)
{
	if (x->held || x->tokens.reserved)
		tg_limit_finish(x, about_to_send);
}
/* An answer that was left or broke off before its usage came: x->usage is what it has cost, as it is settled. Else nothing is done. */
void tg_limit_reckon(struct tg_exchange *x);
/* ---- limit_head.c ---- */
void tg_limit_head(const struct tg_exchange *x, struct tg_buf *b); /* the lines of x->bucket, for the answer's head */

/* ---- receive.c, fed by the session ---- */
/* Body bytes that arrived (moved within p if chunked). *used: how many belong to this body. False: answered (framing fault, too large). True: look at
 * x->received: set once the body is whole. */
bool tg_receive_feed(struct tg_exchange *x, char *p, size_t n, size_t *used);
/* Where the next bytes of a body of known length can be received without a copy; 0: use the shared buffer. */
size_t tg_receive_room(struct tg_exchange *x, char **p);
void tg_receive_took(struct tg_exchange *x, size_t n); /* n bytes were received there */

bool tg_receive_is_type(const struct tg_head *h, struct tg_slice type); /* Content-Type, with or without parameters */
bool tg_receive_is_json(const struct tg_head *h); /* application/json */
enum tg_step tg_receive_timeout(struct tg_exchange *x);
enum { TG_WANT_MODEL, TG_WANT_STREAM, TG_WANT_STREAM_OPTIONS, TG_WANT_PROMPT, TG_WANT_COUNT, /* places in x->want */
       TG_WANT_MAX_TOKENS = TG_WANT_COUNT, TG_WANT_MAX_COMPLETION, TG_WANT_N, TG_WANT_BEST_OF, TG_WANT_ALL }; /* and in the scan, where tokens are limited */

/* ---- guess.c: answers to failed credentials ---- */
/* Answers by `refuse` (which writes an answer and nothing else), now or when the verdict's delay is over (WAIT), or by 429. For whoever counted a failure by policy/guess.h; takes the verdict's place over. */
enum tg_step tg_guess_answer(struct tg_exchange *x, struct tg_guess_verdict v, void (*refuse)(struct tg_exchange *x));
void tg_guess_release(struct tg_exchange *x);         /* if it waits: answers now; may free x */
void tg_guess_settle(struct tg_exchange *x);          /* its place (x->delayed) goes back */

/* ---- forward.c: towards the worker ---- */
enum tg_step tg_forward_start(struct tg_exchange *x); /* dispatch of a forwarding route */
bool tg_forward_retry(struct tg_exchange *x);         /* the worker broke off before the first byte; true: tried again */
bool tg_forward_elsewhere(struct tg_exchange *x);     /* a trial failed by its status: on another worker; true: that is seen to, perhaps by an error */
uint64_t tg_forward_print(struct tg_exchange *x);     /* its fingerprint, while the request is still there */
bool tg_forward_build(struct tg_exchange *x);         /* the request as the worker gets it; forward_build.c */
void tg_forward_let_go(struct tg_exchange *x);        /* frees what only a retry would need */
/* ---- outcome.c: what a request met, told to the worker's health, to the quarantine and to the queue ---- */
void tg_outcome_begun(struct tg_exchange *x);         /* a byte of an answer that is no server error, or its end */
void tg_outcome_fault(struct tg_exchange *x, enum tg_fault f, const char *why);
void tg_outcome_ended(struct tg_exchange *x);         /* the exchange leaves its worker: the slot goes back */
/* ---- relay.c: from the worker ---- */
void tg_relay_attach(struct tg_exchange *x);
void tg_relay_client_writable(struct tg_exchange *x);
void tg_relay_fail(struct tg_exchange *x, enum tg_error e, const char *reason, const char *detail); /* the worker failed us: answer or cut */
/* The client has left, or the gate cuts: frees the worker at once. Ends with the record. */
void tg_exchange_abort(struct tg_exchange *x, const char *reason);

/* ---- exchange.c ---- */
struct tg_exchange *tg_exchange_new(struct tg_gate_loop *gl, struct tg_session *s);
void tg_exchange_free(struct tg_exchange *x);
bool tg_exchange_keep_head(struct tg_exchange *x);    /* before parking: the head's bytes are about to be overwritten */
void tg_exchange_drop_head(struct tg_exchange *x);    /* head and body are not needed any more */
static inline struct tg_slice tg_exchange_rid(const struct tg_exchange *x)
{
	return (struct tg_slice){ x->rid_long ? x->rid_long : x->rid, x->rid_len };
}
/* Counts bytes that this request keeps in memory against server.max_buffered_bytes; false: over it. Given back when the worker's first byte has come, or at the end. */
bool tg_exchange_charge(struct tg_exchange *x, size_t bytes);
struct tg_slice tg_exchange_path(const struct tg_exchange *x); /* without query, for `instance` */

/* ---- answer.c ---- */
/* Status line and the headers every answer has, into the loop's obuf (emptied first). content_length -1: chunked or until close. */
void tg_answer_head(struct tg_exchange *x, uint16_t status, struct tg_slice content_type, int64_t content_length);
void tg_answer_end_head(struct tg_exchange *x);
/* Whole answers; extra: further header lines, each with CRLF. All return TG_ANSWERED. */
enum tg_step tg_answer(struct tg_exchange *x, uint16_t status, const char *content_type, struct tg_slice body, const char *extra);
/* A large answer of a local handler: counted against server.max_buffered_bytes until the client has taken it (503 where that is full; 429 where its key has half of it already, unless this is all that it has). WAIT
 * while it has not; who takes it more slowly than TG_ANSWER_RATE, over write_stall_ms, is cut off. */
#define TG_ANSWER_LARGE (256u << 10)
#define TG_ANSWER_RATE (32u << 10) /* bytes a second */
enum tg_step tg_answer_counted(struct tg_exchange *x, uint16_t status, const char *content_type, struct tg_slice body, const char *extra);
enum tg_step tg_answer_taken(struct tg_exchange *x);  /* of one whose head was sent: WAIT until what is pending has gone out */
enum tg_step tg_answer_buf(struct tg_exchange *x, const char *content_type, struct tg_buf *b, const char *extra); /* 200; frees b */
enum tg_step tg_answer_problem(struct tg_exchange *x, enum tg_error e, const char *reason, const char *detail, const char *param, const char *extra);
enum tg_step tg_answer_refusal(struct tg_exchange *x, enum tg_refusal r);
void tg_answer_problem_of(const struct tg_exchange *x, enum tg_error e, const char *detail, const char *param, struct tg_problem *p);

/* ---- redirect.c ---- */
void tg_redirect_answer(struct tg_exchange *x);       /* the whole answer of a redirect: listener */

/* ---- session.c ---- */
void tg_session_accept(struct tg_listener *l, int fd, const struct tg_addr *peer);
struct tg_conn *tg_session_conn(struct tg_session *s);
const struct tg_addr *tg_session_peer(const struct tg_session *s);
bool tg_session_on_loopback(const struct tg_session *s); /* it came in at a listener of a loopback address */
const char *tg_session_tls(const struct tg_session *s); /* "TLSv1.3"; NULL: plain */
bool tg_session_self(struct tg_session *s, struct tg_addr *self); /* the connection's own local address */
/* The bytes that lie behind the head, and how many of them the exchange has taken. */
struct tg_slice tg_session_avail(struct tg_session *s, char **p);
void tg_session_took(struct tg_session *s, size_t n);
/* The bytes that came while the exchange waited for something else than them (at most 2 * TG_RBUF, then reading pauses), and how many of them it has taken. */
struct tg_slice tg_session_kept(struct tg_session *s, char **p);
void tg_session_kept_took(struct tg_session *s, size_t n);
void tg_session_body_clock(struct tg_session *s);      /* a body is awaited: its idle clock starts anew */
void tg_session_write_clock(struct tg_session *s);     /* output is pending: the write-stall clock */
void tg_session_answered(struct tg_session *s);        /* its exchange is recorded: frees it, goes on or closes */
void tg_session_cut(struct tg_session *s);             /* drain deadline */
void tg_session_drain(struct tg_session *s);
struct tg_session *tg_session_next(struct tg_session *s);
struct tg_exchange *tg_session_exchange(struct tg_session *s); /* NULL: none is under way */
