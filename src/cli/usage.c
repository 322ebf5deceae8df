/*
 * tollgate usage: what the database knows of usage, on the machine where it lies. A gate that runs tells the database once a minute ([store] usage_flush_s): what it counted since is not here yet.
 */
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/stored.h"
#include "policy/price.h"
#include "store/usage.h"
#include <stdio.h>

static const char usage[] =
	"usage: tollgate usage [--from DAY] [--to DAY] [--by principal|day] [--principal ID] [--json] [--config FILE]\n"
	"\n"
	"What each key and user used, and what it cost, in the days from DAY to DAY (2026-11-26; UTC); without them in the thirty\n"
	"days that end today. A gate that runs tells the database once a minute: GET /api/v1/usage knows the last one too.\n";

struct call {
	const char *config, *from, *to, *by, *principal;
	bool json, by_day;
	struct tg_usage_range range;
	struct tg_counts total;
	unsigned n;
};

/* One member after the other as it comes: a list of a million keys is no one buffer. */
static bool put_json(void *ctx, const struct tg_usage_row *r)
{
	struct call *c = ctx;
	struct tg_buf b;
	tg_buf_init(&b, 1u << 16);
	tg_buf_cstr(&b, c->n++ ? ",\n  {" : "\n  {");
	tg_usage_who_json(&b, r);
	tg_buf_char(&b, ',');
	tg_usage_counts_json(&b, &r->counts);
	tg_buf_char(&b, '}');
	bool ok = !b.failed && fwrite(b.p, 1, b.len, stdout) == b.len;
	tg_buf_free(&b);
	return ok;
}

static void put_counts(const struct tg_counts *c)
{
	char cost[TG_COST_TEXT];
	tg_cost_text(c->cost, cost);
	printf("%10llu  %8llu  %8llu  %12llu  %12llu  %9llu  %11llu  %12llu  %s\n", (unsigned long long)c->requests, (unsigned long long)c->errors, (unsigned long long)c->limited,
	       (unsigned long long)c->prompt_tokens, (unsigned long long)c->completion_tokens, (unsigned long long)c->trainings, (unsigned long long)c->predictions,
	       (unsigned long long)c->rows, cost);
}

static bool put_line(void *ctx, const struct tg_usage_row *r)
{
	struct call *c = ctx;
	char day[TG_DAY_TEXT], name[TG_CLI_SHOWN];
	tg_day_text(r->day, day);
	if (c->by_day)
		printf("%-10s  ", day);
	else
		printf("%-20s  %-9s  %-24.24s  ", r->principal, r->prefix, tg_cli_shown(r->name, name));
	put_counts(&r->counts);
	c->n++;
	return true;
}

static enum tg_db_result look(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct call *c = ctx;
	tg_usage_row_fn row = c->json ? put_json : put_line;
	enum tg_db_result r = c->by_day ? tg_usage_by_day(db, &c->range, 0, 1u << 22, row, c, err) : tg_usage_by_principal(db, &c->range, "", 1u << 22, row, c, err);
	return r == TG_DB_OK ? tg_usage_total(db, &c->range, &c->total, err) : r;
}

static int print_all(struct tg_cli_store *s, struct call *c)
{
	static const char counts[] = "  REQUESTS    ERRORS   LIMITED        PROMPT    COMPLETION  TRAININGS  PREDICTIONS          ROWS  COST";
	char from[TG_DAY_TEXT], to[TG_DAY_TEXT];
	struct tg_err err;
	struct tg_buf b;
	tg_day_text(c->range.from, from);
	tg_day_text(c->range.to, to);
	if (c->json)
		printf("{\"usage\":[");
	else if (c->by_day)
		printf("%-10s  %s\n", "DAY", counts);
	else
		printf("%-20s  %-9s  %-24s  %s\n", "PRINCIPAL", "PREFIX", "NAME", counts);
	if (tg_store_read(s->store, look, c, &err) != TG_DB_OK)
		return tg_cli_failed(&err);
	if (!c->json) {
		printf(c->by_day ? "%-10s  " : "%-57s  ", "TOTAL");
		put_counts(&c->total);
		printf("%s to %s, UTC; costs in %s\n", from, to, s->config->currency);
		return tg_cli_done();
	}
	tg_buf_init(&b, 1u << 16);
	tg_buf_lit(&b, "],\n\"total\":{");
	tg_usage_counts_json(&b, &c->total);
	tg_buf_lit(&b, "},\"currency\":");
	tg_buf_json(&b, tg_slice_cstr(s->config->currency));
	tg_buf_fmt(&b, ",\"from\":\"%s\",\"to\":\"%s\"}\n", from, to);
	bool ok = !b.failed && fwrite(b.p, 1, b.len, stdout) == b.len;
	tg_buf_free(&b);
	return ok ? tg_cli_done() : 1;
}

static int wrong(const char *why)
{
	if (why)
		fprintf(stderr, "tollgate usage: %s\n", why);
	fputs(usage, stderr);
	return 2;
}

int tg_cmd_usage(int argc, char **argv)
{
	struct call c = { .by = "principal", .principal = "" };
	const struct {
		const char *name, **into;
	} options[] = { { "--config", &c.config }, { "--from", &c.from }, { "--to", &c.to }, { "--by", &c.by }, { "--principal", &c.principal } };
	for (int i = 1; i < argc; i++) {
		const char **into = NULL;
		for (size_t k = 0; k < sizeof options / sizeof *options; k++)
			if (strcmp(argv[i], options[k].name) == 0)
				into = options[k].into;
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			fputs(usage, stdout);
			return tg_cli_done();
		}
		if (strcmp(argv[i], "--json") == 0)
			c.json = true;
		else if (into && i + 1 < argc)
			*into = argv[++i];
		else
			return wrong("a word is not understood here");
	}
	const char *field, *why;
	char text[80];
	if (!tg_usage_range_parse(c.from, c.to, (uint32_t)(tg_wall_us() / TG_DAY_US), &c.range, &field, &why)) {
		snprintf(text, sizeof text, "--%s %s", field, why);
		return wrong(text);
	}
	c.range.principal = c.principal;
	c.by_day = strcmp(c.by, "day") == 0;
	if (!c.by_day && strcmp(c.by, "principal") != 0)
		return wrong("--by must be principal or day");
	struct tg_cli_store s;
	int rc = tg_cli_store_look(&s, c.config);
	if (rc == 0) {
		rc = print_all(&s, &c);
		tg_cli_store_close(&s);
	}
	return rc;
}
