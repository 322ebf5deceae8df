/* See store_watch.h. Two works, since folding a million keys takes as long as a second, and what the command line revokes is not to wait for that. */
#include "gate/store_watch.h"
#include "jobs/tend.h"

static void poll_store(uv_work_t *w)
{
	struct tg_store_watch *s = w->data;
	tg_store_poll(s->gate->store);
	tg_waiting_look(&s->gate->waiting, s->gate->store);
	tg_tend_look(s->gate->tend, s->gate->runner);
}

static void polled(uv_work_t *w, int status)
{
	(void)status;
	struct tg_store_watch *s = w->data;
	s->polling = false;
	s->looked(s->gate);
}

static void tidy_store(uv_work_t *w)
{
	struct tg_store_watch *s = w->data;
	tg_store_tidy(s->gate->store);
}

static void tidied(uv_work_t *w, int status)
{
	(void)status;
	struct tg_store_watch *s = w->data;
	s->tidying = false;
	s->looked(s->gate);
}

void tg_store_watch_look(struct tg_store_watch *s)
{
	if (!s->tidying && tg_store_untidy(s->gate->store)) {
		s->tidying = true;
		s->tidy.data = s;
		uv_queue_work(&s->gate->control, &s->tidy, tidy_store, tidied);
	}
	if (!s->polling) {
		s->polling = true;
		s->poll.data = s;
		uv_queue_work(&s->gate->control, &s->poll, poll_store, polled);
	}
}
