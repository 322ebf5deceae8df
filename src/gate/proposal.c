/* A change of settings from the job pool to the control thread (see proposal.h). */
#include "gate/proposal.h"
#include <stddef.h>

void tg_proposals_init(struct tg_proposals *cs)
{
	*cs = (struct tg_proposals){ .asked = NULL };
	uv_mutex_init(&cs->one);
	uv_mutex_init(&cs->lock);
	uv_cond_init(&cs->told);
}

void tg_proposals_free(struct tg_proposals *cs)
{
	uv_mutex_destroy(&cs->one);
	uv_mutex_destroy(&cs->lock);
	uv_cond_destroy(&cs->told);
}

bool tg_propose(struct tg_proposals *cs, struct tg_proposal *c, uv_async_t *wake)
{
	c->why = "the gate is busy with something else";
	uv_mutex_lock(&cs->lock);
	cs->asked = c;
	uv_async_send(wake);
	uint64_t end = uv_hrtime() + TG_PROPOSAL_MS * (uint64_t)1000000;
	for (uint64_t now; cs->asked == c && (now = uv_hrtime()) < end;)
		uv_cond_timedwait(&cs->told, &cs->lock, end - now);
	bool began = cs->asked != c;
	cs->asked = NULL; /* what was not taken by now is not done any more */
	while (cs->taken == c)
		uv_cond_wait(&cs->told, &cs->lock);
	uv_mutex_unlock(&cs->lock);
	return began && !c->why;
}

struct tg_proposal *tg_proposal_take(struct tg_proposals *cs)
{
	uv_mutex_lock(&cs->lock);
	struct tg_proposal *c = cs->asked;
	cs->taken = c;
	cs->asked = NULL;
	uv_mutex_unlock(&cs->lock);
	return c;
}

void tg_proposal_done(struct tg_proposals *cs, struct tg_proposal *c, const char *why, uint64_t number)
{
	uv_mutex_lock(&cs->lock);
	c->why = why;
	c->number = number;
	cs->taken = NULL;
	uv_cond_signal(&cs->told);
	uv_mutex_unlock(&cs->lock);
}
