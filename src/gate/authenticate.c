/*
 * Stage 3: from the credential to a principal. Authorization, then X-API-Key, then the cookie api_key: the first one present decides, and a failure
 * is final (seed ledger C-03). An empty header counts as absent (S0-12). A source that presents many unknown ones is answered ever later (guess.c); what is known never is.
 *
 * /infer alone lets local callers in without a key, judged by the socket's peer address; anything that hints at a proxy or at a web page of another site in
 * between ends that.
 */
#include "gate/exchange.h"
#include "http/cookie.h"
#include "policy/use.h"

/* "Bearer X" or the raw key; the scheme is case-insensitive (RFC 9110 section 11.1). */
static struct tg_slice from_authorization(struct tg_slice v)
{
	if (v.n > 7 && strncasecmp(v.p, "Bearer ", 7) == 0)
		return tg_slice_trim((struct tg_slice){ v.p + 7, v.n - 7 });
	if (v.n == 6 && strncasecmp(v.p, "Bearer", 6) == 0)
		return (struct tg_slice){ 0 };
	return v;
}

static struct tg_slice credential(const struct tg_head *h, bool *by_cookie)
{
	*by_cookie = false;
	struct tg_slice c = from_authorization(tg_head_get(h, TG_H_AUTHORIZATION));
	if (!c.n)
		c = tg_head_get(h, TG_H_X_API_KEY);
	if (!c.n) {
		c = tg_cookie_get(tg_head_get(h, TG_H_COOKIE), TG_S("api_key"));
		*by_cookie = c.n > 0;
	}
	return c;
}

/* Where a key is wanted of nobody: a page that this machine serves, on whatever port, or that of a listed origin. "*" lists none: any page could use the
 * gate of whoever looks at it. */
static bool from_known_page(struct tg_exchange *x, const struct tg_addr *self)
{
	return x->cors == TG_CORS_LISTED || tg_page_is_of_this_machine(x, self);
}

static bool from_other_site(const struct tg_exchange *x)
{
	struct tg_slice site = tg_head_get(x->head, TG_H_SEC_FETCH_SITE);
	if (site.n && !tg_slice_eq(site, TG_S("same-origin")) && !tg_slice_eq(site, TG_S("none")))
		return true;
	return x->head->first[TG_H_ORIGIN] >= 0 && !tg_page_is_own(x);
}

/* Nothing of a proxy, and nothing of a web page from elsewhere, stands between the socket's peer and us. pages: those from_known_page are welcome. */
static bool came_straight(struct tg_exchange *x, bool pages)
{
	static const enum tg_header_id proxied[] = { TG_H_X_FORWARDED_FOR, TG_H_FORWARDED, TG_H_X_REAL_IP, TG_H_X_FORWARDED, TG_H_VIA };
	const struct tg_policy *p = &x->snap->policy;
	const struct tg_head *h = x->head;
	if (p->trusted.n)
		return false;
	for (size_t i = 0; i < sizeof proxied / sizeof proxied[0]; i++)
		if (h->first[proxied[i]] >= 0)
			return false;
	struct tg_addr self;
	bool have = tg_session_self(x->session, &self);
	if (h->host.n && !tg_policy_own_host(p, tg_host_only(h->host), have ? &self : NULL))
		return false;
	return (pages && from_known_page(x, have ? &self : NULL)) || !from_other_site(x);
}

static bool is_local_caller(struct tg_exchange *x)
{
	const struct tg_addr *peer = tg_session_peer(x->session);
	return !peer->unix_peer && tg_cidr_list_has(&x->snap->policy.local, peer) && came_straight(x, false);
}

/* [auth] require_auth = false (ADR 0014): whoever sends no credential to a listener of this machine may do what the anonymous principal may. Routes
 * that need more than that ask for a key as ever. */
static bool is_open(struct tg_exchange *x)
{
	if (x->snap->config->require_auth || x->presented || !tg_session_on_loopback(x->session))
		return false;
	if (x->route && x->route->guard == TG_GUARD_PERMS && !(x->route->perms & x->snap->policy.anonymous.perms))
		return false;
	return came_straight(x, true);
}

/* A browser asks before it sends, without a key. The answer is the same whatever the path: it tells what pages may do, and nothing of what is here. */
static enum tg_step answer_preflight(struct tg_exchange *x)
{
	const struct tg_config *c = x->snap->config;
	if (!x->cors)
		return tg_answer(x, 204, NULL, (struct tg_slice){ 0 }, NULL);
	struct tg_buf lines;
	tg_buf_init(&lines, 64u << 10);
	tg_buf_lit(&lines, "Vary: Access-Control-Request-Method, Access-Control-Request-Headers\r\n");
	if (x->cors == TG_CORS_VARY || !tg_cors_allows(c, x->head))
		x->cors = TG_CORS_VARY;
	else
		tg_cors_preflight_lines(&lines, c);
	tg_buf_char(&lines, 0);
	enum tg_step r = lines.failed ? tg_answer_problem(x, TG_E_internal, "memory", "The answer could not be built.", NULL, NULL)
				      : tg_answer(x, 204, NULL, (struct tg_slice){ 0 }, lines.p);
	tg_buf_free(&lines);
	return r;
}

static void refuse(struct tg_exchange *x)
{
	const struct tg_family_text *t = tg_family_text(x->family);
	tg_answer_problem(x, TG_E_unauthenticated, x->presented ? "invalid_key" : "missing_key", x->presented ? t->invalid : t->missing, NULL, NULL);
}

/* Who presents nothing guesses nothing, nor who presents what may be good (a database that is away is no 401), nor who presents what was valid once. */
static enum tg_step unknown(struct tg_exchange *x)
{
	if (x->unsure)
		return tg_answer_problem(x, TG_E_unavailable, "store_away", "The database cannot be reached now, and without it nobody can tell whose credential this is; try again.", NULL, "Retry-After: 2\r\n");
	x->event = x->presented ? "auth.invalid_key" : "auth.missing_key";
	if (x->presented)
		tg_audited_failure(x);
	if (!x->presented || x->was_ours) {
		refuse(x);
		return TG_ANSWERED;
	}
	uint64_t who = tg_guess_source(TG_GUESS_CREDENTIAL, &x->client);
	return tg_guess_answer(x, tg_guess_failed(x->gl->gate->guess, x->snap->config->guesses, who, x->start_us / 1000u), refuse);
}

/* A page of another site can make a browser send the cookie; it cannot make it lie about where it stands. */
static bool cookie_is_ridden(struct tg_exchange *x)
{
	if (x->method == TG_GET || x->method == TG_HEAD || x->method == TG_OPTIONS)
		return false;
	struct tg_slice site = tg_head_get(x->head, TG_H_SEC_FETCH_SITE);
	if (tg_slice_eq(site, TG_S("same-origin")))
		return false;
	return site.n || !tg_page_is_own(x);
}

/* [metrics] loopback = true: a scraper on this machine needs no key. */
static bool opened_to_loopback(struct tg_exchange *x)
{
	const struct tg_addr *peer = tg_session_peer(x->session);
	return x->snap->config->metrics_loopback && x->route && (x->route->perms & TG_PERM_read_metrics) && x->route->method == TG_GET && !peer->unix_peer &&
	       tg_addr_is_loopback(peer) && came_straight(x, false);
}

/* Only of tokens that we signed: what others made up is one of many guesses, and its own line says so. */
static void say_why(const struct tg_exchange *x, const char *why)
{
	char rid[129];
	struct tg_slice id = tg_exchange_rid(x);
	snprintf(rid, sizeof rid, "%.*s", (int)id.n, id.p);
	tg_log(TG_LOG_F_INFO, "auth.token_refused", "t:request_id", rid, "s:why", why, NULL);
}

/* A token names a user; what he may is looked up, and so is whether the token was ended before its time (policy/token.h). */
static const struct tg_principal *by_token(struct tg_exchange *x, struct tg_slice c)
{
	const struct tg_identity *d = x->snap->policy.identity;
	struct tg_token t;
	enum tg_token_result r = tg_token_verify(x->gl->tokens, c, (int64_t)(x->wall_us / 1000000u), &t);
	x->was_ours = !tg_token_guessed(r);
	if (r != TG_TOKEN_OK) {
		if (x->was_ours)
			say_why(x, tg_token_reason(r));
		return NULL;
	}
	const struct tg_user *u = tg_identity_bearer(d, tg_slice_cstr(t.sub), tg_slice_cstr(t.jti), t.iat);
	x->unsure = tg_identity_blind(d);
	if (x->unsure)
		return NULL;
	if (!u) {
		say_why(x, "its user is gone or disabled, or it was ended");
		return NULL;
	}
	x->token_from = t.iat;
	x->token_ends = t.exp;
	memcpy(x->token_id, t.jti, sizeof x->token_id);
	return &u->who;
}

/* NULL: nobody's, or not any more. */
static const struct tg_principal *known(struct tg_exchange *x, struct tg_slice c)
{
	uint8_t digest[32];
	const struct tg_principal *p = NULL;
	/* Every token begins so: it is the beginning of a JSON object in base64. */
	if (x->gl->tokens && c.n > 3 && memcmp(c.p, "eyJ", 3) == 0 && ((p = by_token(x, c)) || x->was_ours))
		return p;
	if (tg_digest(&x->gl->digester, c, digest)) {
		p = tg_policy_key(&x->snap->policy, digest);
		memcpy(x->credential, digest, sizeof x->credential);
	}
	x->unsure = !p && tg_identity_blind(x->snap->policy.identity) && tg_stored_key_like(c);
	uint64_t now_s = x->wall_us / 1000000u;
	if (p && p->expires_s && now_s >= p->expires_s) {
		x->was_ours = true;
		return NULL;
	}
	/* Once a second at most: else the loops would pass its cache line around. */
	if (p && p->use && atomic_load_explicit(&p->use->last_s, memory_order_relaxed) != now_s)
		atomic_store_explicit(&p->use->last_s, now_s, memory_order_relaxed);
	return p;
}

enum tg_step tg_stage_authenticate(struct tg_exchange *x)
{
	const struct tg_policy *p = &x->snap->policy;
	if (x->preflight)
		return answer_preflight(x);
	if (x->route && x->route->guard == TG_GUARD_PUBLIC)
		return TG_NEXT;
	if (x->head->key_twice) /* which of them counts, somebody in front of us may have decided otherwise */
		return tg_answer_problem(x, TG_E_bad_request, "key_twice", "There must be at most one Authorization header.", NULL, NULL);
	if (opened_to_loopback(x)) {
		x->principal = &p->local_caller;
		x->local = true;
		return TG_NEXT;
	}
	if (x->route && x->route->guard == TG_GUARD_PERMS && !(x->snap->held & x->route->perms) && !tg_identity_blind(p->identity)) {
		const char *text = tg_family_text(x->family)->not_configured;
		if (text)
			return tg_answer_problem(x, TG_E_not_configured, "not_configured", text, NULL, NULL);
	}
	bool by_cookie;
	struct tg_slice c = credential(x->head, &by_cookie);
	x->presented = c.n > 0;
	if (x->presented) {
		x->principal = known(x, c);
		if (!x->principal) /* a token's beginning says what it is, and no more should be said of it (S2-66) */
			tg_key_prefix(memmem(c.p, c.n, "eyJ", 3) ? (struct tg_slice){ 0 } : c, x->presented_prefix);
	}
	by_cookie = by_cookie && x->principal; /* a stale cookie rides nobody */
	bool infer = x->route && x->family == TG_FAM_INFER;
	if (x->principal)
		tg_audited_success(x);
	x->local = infer && is_local_caller(x);
	if (!x->principal && x->local) {
		x->principal = &p->local_caller;
		if (x->presented) {
			x->event = "auth.invalid_key"; /* let in, but said */
			tg_audited_failure(x);
		}
	} else if (!x->principal && infer && !p->require_auth_for_external) {
		x->principal = &p->outsider;
	}
	if (!x->principal && is_open(x))
		x->principal = &p->anonymous;
	if (!x->principal)
		return unknown(x);
	if (by_cookie && cookie_is_ridden(x))
		return tg_answer_problem(x, TG_E_forbidden, "forbidden", "A request authenticated by cookie must come from this site.", NULL, NULL);
	return TG_NEXT;
}
