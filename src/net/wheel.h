#pragma once
/*
 * A timer wheel for deadlines, one per loop. A deadline that moves later (the common case: every read moves the idle clock) is one store; the
 * timer is linked anew only when its slot comes up. Resolution: TG_TICK_MS. The owner embeds struct tg_timer and cancels it before it frees it.
 */
#include <stdbool.h>
#include <stdint.h>

#define TG_TICK_MS 50u
#define TG_WHEEL_SLOTS 1024u /* a full turn is 51 s; later deadlines are looked at once a turn */

struct tg_timer {
	struct tg_timer *next, **pprev; /* pprev NULL: not linked */
	uint64_t due_ms;                /* 0: off though linked */
	uint64_t tick;                  /* the tick it is linked at */
	void (*fire)(struct tg_timer *t);
};

struct tg_wheel {
	struct tg_timer *slot[TG_WHEEL_SLOTS];
	uint64_t tick;      /* the last tick handled */
	unsigned linked;
	void (*armed)(struct tg_wheel *w); /* called when the first timer is linked: start ticking */
};

void tg_wheel_init(struct tg_wheel *w, uint64_t now_ms, void (*armed)(struct tg_wheel *));
void tg_timer_set(struct tg_wheel *w, struct tg_timer *t, uint64_t due_ms);
/* Off, but possibly still linked: cheap, for clocks that stop and start. */
static inline void tg_timer_stop(struct tg_timer *t)
{
	t->due_ms = 0;
}
void tg_timer_cancel(struct tg_wheel *w, struct tg_timer *t); /* unlinks: before the owner is freed */
/* Fires what is due. True while timers are linked. */
bool tg_wheel_run(struct tg_wheel *w, uint64_t now_ms);
