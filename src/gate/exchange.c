/*
 * Exchanges: made when a head is complete, freed after the record. Spares are kept per loop; what hangs on an exchange is freed here and nowhere else.
 */
#include "gate/exchange.h"
#include <stdlib.h>

#define SPARES 256

struct tg_exchange *tg_exchange_new(struct tg_gate_loop *gl, struct tg_session *s)
{
	struct tg_exchange *x = gl->spare;
	if (x) {
		gl->spare = x->next_spare;
		gl->nspare--;
	} else if (!(x = malloc(sizeof *x))) {
		return NULL;
	}
	*x = (struct tg_exchange){ .session = s, .gl = gl, .family = TG_FAM_PLAIN, .method = TG_METHOD_OTHER, .minor = 1 };
	tg_gate_hold(gl, &x->snap);
	x->start_us = x->mark_us = tg_mono_us();
	x->wall_us = x->start_us + tg_gate_wall_offset(gl, x->start_us);
	tg_ulid(&gl->rng, x->wall_us, x->rid);
	x->rid_len = TG_ULID_LEN;
	x->client = *tg_session_peer(s);
	return x;
}

void tg_exchange_drop_head(struct tg_exchange *x)
{
	x->head = NULL;
	free(x->kept_head);
	x->kept_head = NULL;
	x->body = (struct tg_slice){ 0 };
}

static void free_intake(struct tg_exchange *x)
{
	if (x->intake)
		free(x->intake->body);
	free(x->intake);
	x->intake = NULL;
}

void tg_exchange_free(struct tg_exchange *x)
{
	struct tg_gate_loop *gl = x->gl;
	tg_timer_cancel(&gl->loop->wheel, &x->timer);
	if (x->parked)
		x->parked->left(x->parked);
	tg_forward_let_go(x);
	tg_exchange_drop_head(x);
	free_intake(x);
	if (x->sse)
		tg_sse_free(x->sse);
	free(x->sse);
	if (x->usage_scan)
		tg_usage_scan_free(x->usage_scan);
	free(x->usage_scan);
	tg_buf_free(&x->collected);
	free(x->rid_long);
	tg_gate_unbuffer(gl->gate, x->buffered);
	if (x->shared)
		tg_share_give(&gl->gate->shares, x->principal->id, TG_SHARE_ANSWERS, x->shared);
	tg_gate_let_go(gl, x->snap);
	if (gl->nspare < SPARES) {
		x->next_spare = gl->spare;
		gl->spare = x;
		gl->nspare++;
	} else {
		free(x);
	}
}

static void rebase(struct tg_slice *s, const char *from, size_t n, const char *to)
{
	if (s->p && s->p >= from && s->p <= from + n)
		s->p = to + (s->p - from);
}

bool tg_exchange_keep_head(struct tg_exchange *x)
{
	if (!x->head || x->kept_head)
		return true;
	/* The head's slices lie between the start of the target and the end of the last header value. */
	const struct tg_head *h = x->head;
	const char *from = h->target.p, *to = h->target.p + h->target.n;
	for (unsigned i = 0; i < h->nheaders; i++) {
		const struct tg_header *f = &h->headers[i];
		if (f->value.p && f->value.p + f->value.n > to)
			to = f->value.p + f->value.n;
		if (f->name.p + f->name.n > to)
			to = f->name.p + f->name.n;
	}
	size_t bytes = (size_t)(to - from), body = x->body_owned ? 0 : x->body.n;
	if (!tg_exchange_charge(x, body))
		return false;
	struct tg_head *k = malloc(sizeof *k + bytes + body);
	if (!k)
		return false;
	memcpy(k, h, offsetof(struct tg_head, headers) + h->nheaders * sizeof h->headers[0]);
	char *text = (char *)(k + 1);
	memcpy(text, from, bytes);
	struct tg_slice *fields[] = { &k->target, &k->path, &k->query, &k->host };
	for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
		rebase(fields[i], from, bytes, text);
	for (unsigned i = 0; i < k->nheaders; i++) {
		rebase(&k->headers[i].name, from, bytes, text);
		rebase(&k->headers[i].value, from, bytes, text);
	}
	if (body) {
		memcpy(text + bytes, x->body.p, body);
		x->body.p = text + bytes;
	}
	x->kept_head = k;
	x->head = k;
	return true;
}

bool tg_exchange_charge(struct tg_exchange *x, size_t bytes)
{
	if (bytes && !tg_gate_buffer(x->gl->gate, bytes, x->snap->config->max_buffered_bytes))
		return false;
	x->buffered += bytes;
	return true;
}

struct tg_slice tg_exchange_path(const struct tg_exchange *x)
{
	if (x->head)
		return x->head->path;
	return x->route ? x->route->path : (struct tg_slice){ x->path_text, x->path_len };
}
