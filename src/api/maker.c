/* Makers of keys and users (see maker.h). Refusals are the corridor's own: who is gone gets its 401, who lacks the route's permission its 403. */
#include "api/maker.h"
#include "api/stored.h"
#include "base/clock.h"
#include "gate/revoked.h"
#include "policy/key_limits.h"

void tg_maker_of(const struct tg_exchange *x, struct tg_maker *m)
{
	const struct tg_principal *p = x->principal;
	*m = (struct tg_maker){ .who = { .source = p->source, .issued_s = x->token_from }, .perms = x->perms, .needs = x->route->perms, .defaults = x->snap->policy.key_limits };
	memcpy(m->who.id, p->id, sizeof m->who.id);
	memcpy(m->who.jti, x->token_id, sizeof m->who.jti);
	const uint8_t *digest = p->source == TG_SRC_STORED_KEY ? tg_identity_digest(x->snap->policy.identity, p) : NULL;
	if (digest)
		memcpy(m->who.digest, digest, sizeof m->who.digest);
}

bool tg_maker_look(struct tg_maker *m, struct tg_db *db, enum tg_db_result *r, struct tg_err *err)
{
	struct tg_principal now;
	bool found;
	if (m->who.source != TG_SRC_STORED_KEY && m->who.source != TG_SRC_USER)
		return (*r = TG_DB_OK) == TG_DB_OK;
	*r = tg_bearer_look(db, (int64_t)(tg_wall_us() / 1000000u), &m->who, &now, &found, err);
	if (*r != TG_DB_OK)
		return false;
	m->gone = !found;
	if (found) {
		m->perms &= now.perms;
		m->ends = (int64_t)now.expires_s;
		m->limits = now.limits;
	}
	m->lacks = found && !(m->perms & m->needs);
	return !m->gone && !m->lacks;
}

bool tg_maker_gives(struct tg_maker *m, uint32_t perms)
{
	m->missing = perms & ~m->perms;
	return !m->missing;
}

static bool behind_his_end(struct tg_maker *m, const char *field)
{
	char text[20];
	tg_rfc3339_s((uint64_t)m->ends * 1000000u, text);
	m->field = field;
	snprintf(m->why, sizeof m->why, "Nobody gives more than he has: %s lies behind the maker's own end, %.20s.", field, text);
	return false;
}

static bool over(struct tg_maker *m, const struct tg_key_limits *asked, const struct tg_key_limits *bound)
{
	char text[TG_RATE_TEXT];
	m->field = tg_key_limits_more(asked, bound);
	if (!m->field)
		return false;
	tg_key_limits_text(bound, m->field, text);
	snprintf(m->why, sizeof m->why, "Nobody gives more than he has: %s is over the maker's own, %s.", m->field, text);
	return true;
}

bool tg_maker_bounds_key(struct tg_maker *m, int64_t *expires, struct tg_key_limits *limits)
{
	if (m->ends && *expires > m->ends)
		return behind_his_end(m, "expires_in_days");
	if (!*expires)
		*expires = m->ends;
	*limits = tg_key_limits_under(limits, &m->limits);
	return !over(m, limits, &m->limits);
}

bool tg_maker_takes(struct tg_maker *m, const char *id, int64_t expires, const struct tg_key_limits *limits)
{
	if (m->ends && (!expires || expires > m->ends))
		return behind_his_end(m, "expires_at");
	return strcmp(id, m->who.id) == 0 || !over(m, limits, &m->limits);
}

bool tg_maker_bounds_user(struct tg_maker *m, const char *id, struct tg_key_limits *limits)
{
	bool own = strcmp(id, m->who.id) == 0;
	*limits = tg_key_limits_under(limits, &m->limits);
	if (!own)
		return !over(m, limits, &m->limits);
	if (m->perms == TG_PERM_ALL)
		return true;
	struct tg_key_limits applies = tg_key_limits_over(&m->limits, &m->defaults), then = tg_key_limits_over(limits, &m->defaults);
	return !over(m, &then, &applies);
}

bool tg_maker_lasts(struct tg_maker *m)
{
	return !m->ends || behind_his_end(m, "expires_at");
}

bool tg_maker_refused(const struct tg_maker *m, struct tg_exchange *x, enum tg_step *answered)
{
	if (m->gone)
		*answered = tg_answer_taken_away(x);
	else if (m->lacks)
		*answered = tg_answer_lacks(x, m->needs);
	else if (m->missing)
		*answered = tg_may_not_give(x, m->missing);
	else if (m->field)
		*answered = tg_answer_problem(x, TG_E_forbidden, "forbidden", m->why, m->field, NULL);
	else
		return false;
	return true;
}
