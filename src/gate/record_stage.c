/*
 * Stage 11: the record. One access-log line and the metrics of it, for every request; and what its principal used. The audit log's `closed` record will be written here, its `opened` one after
 * authorize; the answer's first byte does not leave before the latter.
 */
#include "gate/exchange.h"
#include "policy/price.h"
#include "policy/use.h"

static uint64_t believed(uint64_t n)
{
	return n < TG_COUNT_MAX ? n : TG_COUNT_MAX;
}

/* Once a request, at its end, whose day it is: a stream over midnight is the new day's. */
static void count(const struct tg_exchange *x)
{
	struct tg_counts c = { .requests = 1, .errors = x->status >= 400, .limited = x->status == 429 };
	if (x->usage.seen) {
		c.prompt_tokens = believed(x->usage.prompt);
		c.completion_tokens = believed(x->usage.completion);
		if (x->model)
			c.cost = tg_price_tokens(x->model->conf, c.prompt_tokens, c.completion_tokens);
	}
	tg_use_add(x->principal->use, x->wall_us + (x->end_us - x->start_us), &c);
}

enum tg_step tg_stage_record(struct tg_exchange *x)
{
	struct tg_record r = {
		.wall_us = x->wall_us,
		.total_us = x->end_us - x->start_us,
		.first_byte_us = x->first_us ? x->first_us - x->start_us : 0,
		.overhead_us = x->overhead_us,
		.client = &x->client,
		.tls = tg_session_tls(x->session),
		.principal = x->principal,
		.key_prefix = !x->principal && x->presented ? x->presented_prefix : NULL,
		.route = x->route,
		.method = (enum tg_method)x->method,
		.path = { x->path_text, x->path_len },
		.model = x->model ? x->model->conf->name : NULL,
		.worker = x->worker ? x->worker->name : NULL,
		.model_index = x->model ? (int)x->model->index : -1,
		.status = x->status,
		.bytes_in = x->bytes_in,
		.bytes_out = x->bytes_out,
		.usage = x->usage,
		.stream = x->stream,
		.partial = x->partial,
		.retries = x->retries,
		.event = x->event,
		.reason = x->reason,
		.request_id = tg_exchange_rid(x),
	};
	tg_record_line(&x->gl->log, &r);
	tg_gate_log_later(x->gl);
	tg_metrics_record(x->gl->metrics, &r);
	if (x->principal && x->principal->use && x->snap->config->usage_days)
		count(x);
	if (x->worker)
		tg_outcome_ended(x); /* last, so that the line could name it: the next in the queue gets the slot */
	return TG_NEXT;
}
