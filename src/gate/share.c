/*
 * Shares (see share.h). A list, for it is short and seldom asked: who is in it has a large answer, a stream or an upload under way, and of all together there are some hundreds at most.
 */
#include "gate/share.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tg_share {
	struct tg_share *next;
	char who[24];
	uint64_t held[TG_SHARE_KINDS];
};

void tg_shares_init(struct tg_shares *s)
{
	*s = (struct tg_shares){ 0 };
	uv_mutex_init(&s->lock);
}

void tg_shares_free(struct tg_shares *s)
{
	for (struct tg_share *one; (one = s->first);) {
		s->first = one->next;
		free(one);
	}
	uv_mutex_destroy(&s->lock);
}

/* Under the lock: where it hangs, or the list's end. */
static struct tg_share **find(struct tg_shares *s, const char *who)
{
	struct tg_share **at = &s->first;
	while (*at && strcmp((*at)->who, who) != 0)
		at = &(*at)->next;
	return at;
}

static struct tg_share *add(struct tg_shares *s, const char *who)
{
	struct tg_share *one = calloc(1, sizeof *one);
	if (!one)
		return NULL;
	snprintf(one->who, sizeof one->who, "%s", who);
	one->next = s->first;
	return s->first = one;
}

bool tg_share_take(struct tg_shares *s, const char *who, enum tg_share_of what, uint64_t n, uint64_t most)
{
	uv_mutex_lock(&s->lock);
	struct tg_share *one = *find(s, who);
	bool ok = one ? !one->held[what] || (one->held[what] <= most && n <= most - one->held[what]) : (one = add(s, who)) != NULL;
	if (ok)
		one->held[what] += n;
	uv_mutex_unlock(&s->lock);
	return ok;
}

void tg_share_give(struct tg_shares *s, const char *who, enum tg_share_of what, uint64_t n)
{
	uv_mutex_lock(&s->lock);
	struct tg_share **at = find(s, who), *one = *at;
	bool holds = false;
	if (one) {
		one->held[what] -= n;
		for (unsigned i = 0; i < TG_SHARE_KINDS; i++)
			holds |= one->held[i] != 0;
		if (!holds) {
			*at = one->next;
			free(one);
		}
	}
	uv_mutex_unlock(&s->lock);
}
