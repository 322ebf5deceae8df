/* Makers of keys and users (see maker.h). Refusals are the corridor's own: who is gone gets its 401, who lacks the route's permission its 403. */
#include "api/maker.h"
#include "api/stored.h"
#include "base/clock.h"
#include "gate/revoked.h"

void tg_maker_of(const struct tg_exchange *x, struct tg_maker *m)
{
	const struct tg_principal *p = x->principal;
	*m = (struct tg_maker){ .who = { .source = p->source, .issued_s = x->token_from }, .perms = x->perms, .needs = x->route->perms };
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
	if (found)
		m->perms &= now.perms;
	m->lacks = found && !(m->perms & m->needs);
	return !m->gone && !m->lacks;
}

bool tg_maker_gives(struct tg_maker *m, uint32_t perms)
{
	m->missing = perms & ~m->perms;
	return !m->missing;
}

bool tg_maker_refused(const struct tg_maker *m, struct tg_exchange *x, enum tg_step *answered)
{
	if (m->gone)
		*answered = tg_answer_taken_away(x);
	else if (m->lacks)
		*answered = tg_answer_lacks(x, m->needs);
	else if (m->missing)
		*answered = tg_may_not_give(x, m->missing);
	else
		return false;
	return true;
}
