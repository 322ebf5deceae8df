#pragma once
/*
 * A change of data/settings.json on its way from the job pool to the control thread, which tries it, keeps it and puts it in force, or does none of it: a change that is in the file is in force, whatever else is
 * read again meanwhile.
 */
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#define TG_PROPOSAL_MS 5000 /* how long the control thread may be at something else */

struct tg_proposal {
	const void *settings; /* json_t: the whole file as it is to be */
	const char *path;     /* of the file */
	const char *why;      /* told: why all is as it was, for callers: without anything of this machine. NULL: it is done */
	uint64_t number;      /* told: the snapshot that has it */
};
struct tg_proposals {
	uv_mutex_t one;       /* held from reading the file to the end: one change at a time */
	uv_mutex_t lock;
	uv_cond_t told;
	struct tg_proposal *asked, *taken;
};
void tg_proposals_init(struct tg_proposals *cs);
void tg_proposals_free(struct tg_proposals *cs);
/* Job pool, with `one` held: waits for the control thread, which `wake` wakes. *c is the caller's. False: c->why. */
bool tg_propose(struct tg_proposals *cs, struct tg_proposal *c, uv_async_t *wake);
/* Control thread. NULL: nothing is asked for. Else tg_proposal_done has to follow. */
struct tg_proposal *tg_proposal_take(struct tg_proposals *cs);
void tg_proposal_done(struct tg_proposals *cs, struct tg_proposal *c, const char *why, uint64_t number);
