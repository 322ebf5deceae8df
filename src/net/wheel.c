/*
 * A hashed wheel with lazy moves (see wheel.h). Invariant: a linked timer's tick is never later than its due time asks for, so a deadline
 * can be seen late by at most one tick, never missed.
 */
#include "net/wheel.h"
#include <stddef.h>

void tg_wheel_init(struct tg_wheel *w, uint64_t now_ms, void (*armed)(struct tg_wheel *))
{
	for (unsigned i = 0; i < TG_WHEEL_SLOTS; i++)
		w->slot[i] = NULL;
	w->tick = now_ms / TG_TICK_MS;
	w->linked = 0;
	w->armed = armed;
}

static void unlink_timer(struct tg_wheel *w, struct tg_timer *t)
{
	*t->pprev = t->next;
	if (t->next)
		t->next->pprev = t->pprev;
	t->next = NULL;
	t->pprev = NULL;
	w->linked--;
}

static void link_timer(struct tg_wheel *w, struct tg_timer *t)
{
	uint64_t tick = (t->due_ms + TG_TICK_MS - 1) / TG_TICK_MS;
	if (tick <= w->tick)
		tick = w->tick + 1;
	if (tick > w->tick + TG_WHEEL_SLOTS - 1)
		tick = w->tick + TG_WHEEL_SLOTS - 1;
	struct tg_timer **head = &w->slot[tick % TG_WHEEL_SLOTS];
	t->tick = tick;
	t->next = *head;
	t->pprev = head;
	if (t->next)
		t->next->pprev = &t->next;
	*head = t;
	w->linked++;
}

void tg_timer_set(struct tg_wheel *w, struct tg_timer *t, uint64_t due_ms)
{
	t->due_ms = due_ms;
	if (t->pprev) {
		if (due_ms + TG_TICK_MS > t->tick * TG_TICK_MS)
			return;
		unlink_timer(w, t);
	}
	if (!w->linked && w->armed)
		w->armed(w);
	link_timer(w, t);
}

void tg_timer_cancel(struct tg_wheel *w, struct tg_timer *t)
{
	t->due_ms = 0;
	if (t->pprev)
		unlink_timer(w, t);
}

bool tg_wheel_run(struct tg_wheel *w, uint64_t now_ms)
{
	uint64_t now_tick = now_ms / TG_TICK_MS;
	if (now_tick > w->tick + TG_WHEEL_SLOTS)
		w->tick = now_tick - TG_WHEEL_SLOTS; /* one turn looks at every slot */
	while (w->tick < now_tick) {
		w->tick++;
		struct tg_timer **head = &w->slot[w->tick % TG_WHEEL_SLOTS];
		/* The slot's list is moved aside, so that a timer set again while we walk is not met twice. */
		struct tg_timer *due = *head;
		*head = NULL;
		if (due)
			due->pprev = &due;
		while (due) {
			struct tg_timer *t = due;
			unlink_timer(w, t);
			if (!t->due_ms)
				continue;
			if (t->due_ms > now_ms)
				link_timer(w, t);
			else {
				t->due_ms = 0;
				t->fire(t);
			}
		}
	}
	return w->linked > 0;
}
