/*
 * The error body: the superset that serves the clients of five documents at once (seed ledger C-01). One function writes it, so that no answer can
 * lack a member, and the texts stand in two tables: errors.def (what went wrong) and `texts` below (how a family's document words its 401 and 500).
 *
 * Invariants: `message` equals `detail`; `status` is the status of the answer; `detail` is always a string (never a list, as frameworks like to
 * send); `error` is an object everywhere but on document 004's routes, whose clients compare it with the code.
 */
#include "http/problem.h"
#include "base/clock.h"

static const struct tg_error_info infos[] = {
	[TG_E_NONE] = { 500, "INTERNAL_ERROR", "Internal Server Error", "server_error", "internal_error" },
#define ERROR(name, status, code, title, otype, ocode) [TG_E_##name] = { status, code, title, otype, ocode },
#include "tables/errors.def"
#undef ERROR
};

/* Our own `error.type`: the row's name, finer than the code. */
static const char *const names[] = {
	[TG_E_NONE] = "internal",
#define ERROR(name, status, code, title, otype, ocode) [TG_E_##name] = #name,
#include "tables/errors.def"
#undef ERROR
};

static const struct tg_family_text texts[] = {
	[TG_FAM_ADMIN0] = { "Invalid or missing admin API key", "Invalid or missing admin API key", "INFERENCE_ADMIN_KEY not configured" },
	[TG_FAM_READ0] = { "Invalid or missing API key", "Invalid or missing API key", "No API keys configured" },
	[TG_FAM_OPENAI] = { "Invalid or missing API key", "Invalid or missing API key", "No API keys configured" },
	[TG_FAM_INFER] = { "Invalid or missing API key. Please provide a valid X-API-Key header.",
			   "Invalid or missing API key. Please provide a valid X-API-Key header.", NULL },
	[TG_FAM_API] = { "Missing API key", "Invalid API key", NULL },
	[TG_FAM_CHAPKIT] = { "Missing authentication header: X-API-Key", "Invalid API key", NULL },
	[TG_FAM_CREDIT] = { "Missing API key", "Invalid API key", NULL },
	[TG_FAM_PLAIN] = { "Missing API key", "Invalid API key", NULL },
};
_Static_assert(sizeof texts / sizeof *texts == TG_FAM_COUNT, "a family has no texts");

/* Document 003's clients tell faults apart by `type`; where its origin has a word of its own, that is it (chapkit's problem types). Others are made from the title. */
static const struct {
	enum tg_error error;
	const char *type, *title;
} chapkit_words[] = {
	{ TG_E_bad_field, "validation-failed", "Validation Error" }, { TG_E_bad_json, "validation-failed", "Validation Error" }, { TG_E_invalid_ulid, "invalid-ulid", "Invalid ULID Format" },
	{ TG_E_not_found, "not-found", "Resource Not Found" }, { TG_E_conflict, "conflict", "Resource Conflict" },
};

const struct tg_error_info *tg_error_info(enum tg_error e)
{
	return &infos[(unsigned)e < TG_E_COUNT ? e : TG_E_NONE];
}

const struct tg_family_text *tg_family_text(enum tg_family f)
{
	return &texts[(unsigned)f < TG_FAM_COUNT ? f : TG_FAM_PLAIN];
}

const char *tg_problem_type(enum tg_family f)
{
	return f == TG_FAM_CHAPKIT ? "application/problem+json" : "application/json";
}

const char *tg_problem_challenge(bool presented)
{
	return presented ? "Bearer realm=\"tollgate\", error=\"invalid_token\"" : "Bearer realm=\"tollgate\"";
}

/* RFC 9110 section 15: with about:blank the title is the status's phrase, also where a refusal brought a status of its own. */
static const char *title(const struct tg_error_info *info, unsigned status)
{
	static const struct {
		uint16_t status;
		const char *title;
	} more[] = {
		{ 402, "Payment Required" }, { 406, "Not Acceptable" }, { 409, "Conflict" }, { 411, "Length Required" }, { 414, "URI Too Long" },
		{ 417, "Expectation Failed" }, { 422, "Unprocessable Content" }, { 431, "Request Header Fields Too Large" }, { 505, "HTTP Version Not Supported" },
	};
	if (info->status == status)
		return info->title;
	for (unsigned e = TG_E_NONE + 1; e < TG_E_COUNT; e++)
		if (infos[e].status == status)
			return infos[e].title;
	for (size_t i = 0; i < sizeof more / sizeof *more; i++)
		if (more[i].status == status)
			return more[i].title;
	return info->title;
}

/* "Not Found" -> not-found. */
static void slug(struct tg_buf *out, const char *text)
{
	for (; *text; text++)
		tg_buf_char(out, *text == ' ' ? '-' : (char)(*text >= 'A' && *text <= 'Z' ? *text + 32 : *text));
}

/* What a problem says once the defaults are filled in. */
struct words {
	const struct tg_error_info *info;
	const char *title, *name, *type; /* type NULL: made from the title */
	unsigned status;
	struct tg_slice detail;
	const char *event;
};

static struct words words_of(const struct tg_problem *p)
{
	struct words w = { .info = tg_error_info(p->error), .name = names[(unsigned)p->error < TG_E_COUNT ? p->error : TG_E_NONE] };
	w.status = p->status ? p->status : w.info->status;
	w.title = title(w.info, w.status);
	for (size_t i = 0; i < sizeof chapkit_words / sizeof *chapkit_words; i++)
		if (p->family == TG_FAM_CHAPKIT && p->error == chapkit_words[i].error && w.status == w.info->status) {
			w.title = chapkit_words[i].title;
			w.type = chapkit_words[i].type;
		}
	w.detail = p->detail;
	if (w.status == 401)
		w.event = p->event ? p->event : "auth.missing_key";
	if (!w.detail.n) {
		const struct tg_family_text *t = tg_family_text(p->family);
		const char *text = NULL;
		if (p->error == TG_E_unauthenticated)
			text = w.event && strcmp(w.event, "auth.invalid_key") == 0 ? t->invalid : t->missing;
		else if (p->error == TG_E_not_configured)
			text = t->not_configured;
		w.detail = tg_slice_cstr(text ? text : w.title);
	}
	return w;
}

static void error_object(struct tg_buf *out, const struct tg_problem *p, const struct words *w)
{
	bool openai = p->family == TG_FAM_OPENAI;
	tg_buf_lit(out, "{\"code\":");
	tg_buf_json(out, tg_slice_cstr(openai ? w->info->openai_code : w->info->code));
	tg_buf_lit(out, ",\"message\":");
	tg_buf_json(out, w->detail);
	tg_buf_lit(out, ",\"type\":");
	tg_buf_json(out, tg_slice_cstr(openai ? w->info->openai_type : w->name));
	tg_buf_lit(out, ",\"param\":");
	tg_buf_json_or_null(out, p->param);
	tg_buf_lit(out, ",\"details\":");
	if (p->details.p)
		tg_buf_slice(out, p->details);
	else
		tg_buf_lit(out, "null");
	tg_buf_char(out, '}');
}

void tg_problem_write(struct tg_buf *out, const struct tg_problem *p)
{
	struct words w = words_of(p);
	char now[24];
	tg_rfc3339_ms(tg_wall_us(), now);
	tg_buf_lit(out, "{\"type\":\"");
	if (p->family == TG_FAM_CHAPKIT) {
		tg_buf_lit(out, "urn:chapkit:error:");
		slug(out, w.type ? w.type : w.title);
	} else {
		tg_buf_lit(out, "about:blank");
	}
	tg_buf_lit(out, "\",\"title\":");
	tg_buf_json(out, tg_slice_cstr(w.title));
	tg_buf_lit(out, ",\"status\":");
	tg_buf_u64(out, w.status);
	tg_buf_lit(out, ",\"detail\":");
	tg_buf_json(out, w.detail);
	tg_buf_lit(out, ",\"instance\":");
	tg_buf_json(out, p->instance); /* a head without a path: "", the empty URI reference */
	tg_buf_lit(out, ",\"code\":");
	tg_buf_json(out, tg_slice_cstr(w.info->code));
	tg_buf_lit(out, ",\"message\":");
	tg_buf_json(out, w.detail);
	tg_buf_lit(out, ",\"timestamp\":\"");
	tg_buf_put(out, now, sizeof now);
	tg_buf_lit(out, "\",\"request_id\":");
	tg_buf_json_or_null(out, p->request_id.n ? p->request_id : (struct tg_slice){ 0 });
	if (w.event) {
		tg_buf_lit(out, ",\"event\":");
		tg_buf_json(out, tg_slice_cstr(w.event));
	}
	tg_buf_lit(out, ",\"error\":");
	if (p->family == TG_FAM_CREDIT)
		tg_buf_json(out, tg_slice_cstr(w.info->code));
	else
		error_object(out, p, &w);
	if (p->family == TG_FAM_CREDIT && p->details.p) {
		/* `error` is no object here, so that the details stand beside it. */
		tg_buf_lit(out, ",\"details\":");
		tg_buf_slice(out, p->details);
	}
	tg_buf_char(out, '}');
}

void tg_problem_sse(struct tg_buf *out, const struct tg_problem *p)
{
	struct words w = words_of(p);
	tg_buf_lit(out, "data: {\"error\":");
	error_object(out, p, &w);
	tg_buf_lit(out, "}\n\n");
}
