/*
 * /logs: the last lines that started workers wrote, from memory (pool/output.c keeps them): no disk is touched on a loop. ?lines=N (1 to 1000, 100 where none is given) for
 * each worker, ?worker=qwen/0 or ?model=qwen for some of them. JSON, or plain text where Accept asks for it.
 */
#include "gate/exchange.h"
#include "gate/handlers.h"
#include <stdlib.h>

#define PAGE_MAX (8u << 20)
#define LINES_MAX 1000

static enum tg_step bad(struct tg_exchange *x, const char *field, const char *why)
{
	char text[160];
	snprintf(text, sizeof text, "Validation error on %s: %s", field, why);
	return tg_answer_problem(x, TG_E_bad_field, "bad_body", text, field, NULL);
}

/* One worker's lines, "qwen/0 | text" each, or the members of a JSON list. */
static void put_lines(struct tg_buf *b, struct tg_worker *w, unsigned lines, bool json)
{
	struct tg_buf tail;
	tg_buf_init(&tail, TG_OUTPUT_TAIL_MAX + 16);
	tg_output_tail(&w->started->output, lines, &tail);
	for (size_t at = 0; at < tail.len;) {
		const char *nl = memchr(tail.p + at, '\n', tail.len - at);
		struct tg_slice line = { tail.p + at, nl ? (size_t)(nl - (tail.p + at)) : tail.len - at };
		if (json) {
			if (at)
				tg_buf_char(b, ',');
			tg_buf_json(b, line);
		} else {
			tg_buf_cstr(b, w->name);
			tg_buf_lit(b, " | ");
			tg_buf_slice(b, line);
			tg_buf_char(b, '\n');
		}
		at += line.n + 1;
	}
	tg_buf_free(&tail);
}

enum tg_step tg_api_logs(struct tg_exchange *x)
{
	const struct tg_models *ms = &x->snap->models;
	char model[160] = "", worker[176] = "", count[8] = "100";
	struct tg_slice q = x->head->query;
	bool ok = tg_query_get(q, "lines", count, sizeof count) > -2;
	unsigned long lines = strspn(count, "0123456789") == strlen(count) && *count ? strtoul(count, NULL, 10) : 0;
	if (!ok || lines < 1 || lines > LINES_MAX)
		return bad(x, "lines", "must be a number from 1 to 1000");
	if (tg_query_get(q, "model", model, sizeof model) < -1)
		return bad(x, "model", "is no name of a model");
	if (tg_query_get(q, "worker", worker, sizeof worker) < -1)
		return bad(x, "worker", "is no name of a worker");
	bool json = !tg_head_accepts(x->head, "text/plain"), first = true, found = !*model && !*worker;
	struct tg_buf b;
	tg_buf_init(&b, PAGE_MAX);
	tg_buf_cstr(&b, json ? "{\"component\":\"workers\",\"workers\":[" : "");
	for (unsigned i = 0; i < ms->n; i++)
		for (unsigned k = 0; k < ms->v[i].nworkers; k++) {
			struct tg_worker *w = ms->v[i].workers[k];
			if ((*model && strcmp(model, w->model) != 0) || (*worker && strcmp(worker, w->name) != 0))
				continue;
			found = true;
			if (!w->started)
				continue;
			if (json) {
				tg_buf_cstr(&b, first ? "{\"worker\":" : ",{\"worker\":");
				tg_buf_json(&b, tg_slice_cstr(w->name));
				tg_buf_lit(&b, ",\"lines\":[");
			}
			put_lines(&b, w, (unsigned)lines, json);
			if (json)
				tg_buf_lit(&b, "]}");
			first = false;
		}
	if (!found) {
		tg_buf_free(&b);
		return tg_answer_problem(x, TG_E_not_found, "not_found", *worker ? "There is no such worker." : "There is no such model.", *worker ? "worker" : "model", NULL);
	}
	tg_buf_cstr(&b, json ? "]}" : "");
	return tg_answer_buf(x, json ? "application/json" : "text/plain; charset=utf-8", &b, "Cache-Control: no-store\r\n");
}
