/*
 * The loop: uv_run with a mailbox and a wheel. The wheel's ticker runs only while a deadline is linked, so an idle gate sleeps.
 */
#include "net/loop.h"
#include <stdlib.h>

static void on_tick(uv_timer_t *t)
{
	struct tg_loop *l = t->data;
	if (!tg_wheel_run(&l->wheel, uv_now(&l->uv)))
		uv_timer_stop(t);
}

static void on_armed(struct tg_wheel *w)
{
	struct tg_loop *l = (struct tg_loop *)((char *)w - offsetof(struct tg_loop, wheel));
	if (!uv_is_active((uv_handle_t *)&l->tick)) {
		/* The wheel may have slept: what it believes to be now must not lie in the past. */
		l->wheel.tick = uv_now(&l->uv) / TG_TICK_MS;
		uv_timer_start(&l->tick, on_tick, TG_TICK_MS, TG_TICK_MS);
	}
}

static struct tg_msg *take_mail(struct tg_loop *l, bool ending)
{
	uv_mutex_lock(&l->mail_lock);
	struct tg_msg *m = l->mail_first;
	l->mail_first = NULL;
	l->mail_last = &l->mail_first;
	l->ended = l->ended || (ending && !m);
	uv_mutex_unlock(&l->mail_lock);
	return m;
}

static void do_mail(struct tg_loop *l, struct tg_msg *m)
{
	while (m) {
		struct tg_msg *next = m->next;
		m->fn(l, m->arg); /* may free m */
		m = next;
	}
}

static void on_mail(uv_async_t *a)
{
	struct tg_loop *l = a->data;
	do_mail(l, take_mail(l, false));
}

void tg_loop_no_turn(struct tg_turn *t)
{
	if (!t->pprev)
		return;
	*t->pprev = t->next;
	if (t->next)
		t->next->pprev = t->pprev;
	t->pprev = NULL;
}

static void on_idle(uv_idle_t *i)
{
	struct tg_loop *l = i->data;
	/* Those that ask again meanwhile go to the turn after this one. */
	struct tg_turn *now = l->turns;
	l->turns = NULL;
	if (now)
		now->pprev = &now;
	while (now) {
		struct tg_turn *t = now;
		tg_loop_no_turn(t);
		t->run(t);
	}
	if (!l->turns)
		uv_idle_stop(i);
}

void tg_loop_next_turn(struct tg_loop *l, struct tg_turn *t)
{
	if (t->pprev || uv_is_closing((uv_handle_t *)&l->idle))
		return;
	t->next = l->turns;
	t->pprev = &l->turns;
	if (t->next)
		t->next->pprev = &t->next;
	l->turns = t;
	uv_idle_start(&l->idle, on_idle);
}

bool tg_loop_init(struct tg_loop *l, unsigned index)
{
	*l = (struct tg_loop){ .index = index };
	l->mail_last = &l->mail_first;
	if (uv_loop_init(&l->uv))
		return false;
	l->rbuf = malloc(TG_RBUF);
	if (!l->rbuf || uv_mutex_init(&l->mail_lock))
		return false;
	tg_buf_init(&l->obuf, 16u << 20);
	uv_timer_init(&l->uv, &l->tick);
	l->tick.data = l;
	uv_idle_init(&l->uv, &l->idle);
	l->idle.data = l;
	if (uv_async_init(&l->uv, &l->async, on_mail))
		return false;
	l->async.data = l;
	tg_wheel_init(&l->wheel, uv_now(&l->uv), on_armed);
	return true;
}

void tg_loop_run(struct tg_loop *l)
{
	uv_run(&l->uv, UV_RUN_DEFAULT);
}

void tg_loop_stop(struct tg_loop *l)
{
	struct tg_msg *m;
	while ((m = take_mail(l, true)))
		do_mail(l, m);
	if (!uv_is_closing((uv_handle_t *)&l->tick))
		uv_close((uv_handle_t *)&l->tick, NULL);
	if (!uv_is_closing((uv_handle_t *)&l->idle))
		uv_close((uv_handle_t *)&l->idle, NULL);
	if (!uv_is_closing((uv_handle_t *)&l->async))
		uv_close((uv_handle_t *)&l->async, NULL);
}

void tg_loop_free(struct tg_loop *l)
{
	uv_loop_close(&l->uv);
	uv_mutex_destroy(&l->mail_lock);
	free(l->rbuf);
	tg_buf_free(&l->obuf);
}

bool tg_loop_post(struct tg_loop *l, struct tg_msg *m, tg_msg_fn fn, void *arg)
{
	*m = (struct tg_msg){ .fn = fn, .arg = arg };
	uv_mutex_lock(&l->mail_lock);
	bool open = !l->ended;
	if (open) {
		*l->mail_last = m;
		l->mail_last = &m->next;
		uv_async_send(&l->async); /* under the lock: the handle is closed only after `ended` was set */
	}
	uv_mutex_unlock(&l->mail_lock);
	return open;
}
