#pragma once
/*
 * Is a worker to be trusted with the next request? What requests meet counts first, probes second: a worker whose port is open and whose /health is fine, but which
 * fails what it is asked, is out within seconds, and comes back only by answering a request. Any thread, atomics only.
 *
 *   UNKNOWN, UP --unreachable, or its probe fails--> DOWN            --a probe succeeds--> UP
 *   UNKNOWN, UP --fails more than its peers do-----> DOWN, failing   --cooled down and a probe succeeds--> half open --one request succeeds--> UP
 *                                                                                                                --it fails--> DOWN, failing, longer
 * UP after DOWN begins gently: for TG_RAMP_MS it is taken after workers that are as busy.
 *
 * A started worker (pool/supervise.h) that cannot be reached or breaks off without an answer has most likely ended, and is about to be started again: it is STARTING, which
 * requests may wait for, until the supervisor has looked, a few milliseconds later.
 */
#include "pool/model.h"

#define TG_RAMP_MS 10000
#define TG_COOL_MS 1000     /* the first time away; doubles with each trial that fails */
#define TG_COOL_MAX_MS 30000

/* What a request can meet. Only TG_FAULT_UNREACHABLE says by itself that nobody is there; the others may be the request's own doing, and are weighed. */
enum tg_fault { TG_FAULT_UNREACHABLE, TG_FAULT_DROPPED, TG_FAULT_TIMEOUT, TG_FAULT_STATUS, TG_FAULT_RUBBISH };

/* An answer has begun that is no server error: a byte of its body, or its end. `trial`: that request was the trial. True: it is back, the queue should be served. */
bool tg_health_good(struct tg_worker *w, bool trial, uint64_t now_ms);
/* why: for the log. True: it was usable and is not any more. */
bool tg_health_fault(struct tg_model *m, struct tg_worker *w, enum tg_fault f, const char *why, bool trial, uint64_t now_ms);
/* A trial ended without a verdict (its client left). */
void tg_health_untried(struct tg_worker *w);
enum tg_probe_result { TG_PROBE_GOOD, TG_PROBE_SICK, TG_PROBE_REFUSED, TG_PROBE_SILENT }; /* SICK: a server error; SILENT: no answer in time */
/* Control thread. True: it is back, the queue should be served. */
bool tg_health_probed(struct tg_worker *w, enum tg_probe_result r, uint64_t now_ms);
/* Started workers, control thread: a process is ready for requests; one that was doubted is there after all; and the states that only the supervisor gives. */
void tg_health_ready(struct tg_worker *w, bool restarted, uint64_t now_ms);
bool tg_health_cleared(struct tg_worker *w);
void tg_health_gone(struct tg_worker *w, bool for_good);
void tg_health_left(struct tg_worker *w); /* it is no longer configured: nobody is given it any more */
