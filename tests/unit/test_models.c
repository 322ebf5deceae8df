/*
 * The registry: from configured urls to workers (address, base path, the lines that never change), look-up by name and alias, and what a reload takes over:
 * a worker by url, key and place in its model, a queue by the model's name. What is taken over lives as long as anybody holds it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "pool/model.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

static struct tg_config *config(const char *name, const char *const *urls, const char *key)
{
	struct tg_err err = { "" };
	struct tg_config *c = tg_config_defaults();
	assert_non_null(c);
	if (!tg_config_add_model(c, name, urls[0], TG_PROTO_OPENAI, &err))
		fail_msg("%s", err.text);
	for (unsigned i = 1; urls[i]; i++)
		assert_true(tg_strlist_add(&c->models[0].urls, tg_slice_cstr(urls[i])));
	if (key)
		assert_true(tg_secret_set(&c->models[0].api_key, tg_slice_cstr(key)));
	return c;
}
#define URLS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static struct tg_models build(const struct tg_config *c, const struct tg_models *old)
{
	struct tg_models m;
	struct tg_err err = { "" };
	if (!tg_models_build(&m, c, old, 2, &err))
		fail_msg("%s", err.text);
	return m;
}

static void test_urls(void **state)
{
	(void)state;
	static const struct {
		const char *url, *key, *fixed, *base, *host, *port; /* host NULL: a Unix socket */
		const char *ip;                                     /* NULL: a name, to be looked up later */
	} rows[] = {
		{ "http://10.0.0.5:8000", NULL, "Host: 10.0.0.5:8000\r\n", "", "10.0.0.5", "8000", "10.0.0.5" },
		{ "http://10.0.0.5", NULL, "Host: 10.0.0.5:80\r\n", "", "10.0.0.5", "80", "10.0.0.5" },
		{ "http://worker.example:8000/", NULL, "Host: worker.example:8000\r\n", "", "worker.example", "8000", NULL },
		{ "http://worker.example/v1", NULL, "Host: worker.example:80\r\n", "", "worker.example", "80", NULL },
		{ "http://worker.example/v1/", NULL, "Host: worker.example:80\r\n", "", "worker.example", "80", NULL },
		{ "http://worker.example/api/v1", NULL, "Host: worker.example:80\r\n", "/api", "worker.example", "80", NULL },
		{ "http://worker.example/v1/v1", NULL, "Host: worker.example:80\r\n", "/v1", "worker.example", "80", NULL },
		{ "http://worker.example/v10", NULL, "Host: worker.example:80\r\n", "/v10", "worker.example", "80", NULL },
		{ "http://worker.example/xv1", NULL, "Host: worker.example:80\r\n", "/xv1", "worker.example", "80", NULL },
		{ "http://worker.example/v1/x", NULL, "Host: worker.example:80\r\n", "/v1/x", "worker.example", "80", NULL },
		{ "http://[2001:db8::5]:8000/base", NULL, "Host: [2001:db8::5]:8000\r\n", "/base", "2001:db8::5", "8000", "2001:db8::5" },
		{ "http://[::1]", NULL, "Host: [::1]:80\r\n", "", "::1", "80", "::1" },
		{ "unix:/run/worker.sock", NULL, "Host: localhost\r\n", "", NULL, NULL, NULL },
		{ "unix:/run/worker.sock", "secret", "Host: localhost\r\nAuthorization: Bearer secret\r\n", "", NULL, NULL, NULL },
		{ "http://127.0.0.1:1", "sk-1", "Host: 127.0.0.1:1\r\nAuthorization: Bearer sk-1\r\n", "", "127.0.0.1", "1", "127.0.0.1" },
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct tg_config *c = config("m", URLS(rows[i].url), rows[i].key);
		struct tg_models ms = build(c, NULL);
		struct tg_worker *w = ms.v[0].workers[0];
		assert_string_equal(w->identity, rows[i].url);
		assert_string_equal(w->name, "m/0");
		assert_string_equal(w->base, rows[i].base);
		assert_true(tg_slice_eq((struct tg_slice){ w->fixed, w->fixed_len }, tg_slice_cstr(rows[i].fixed)));
		assert_int_equal(w->state, TG_WORKER_UNKNOWN);
		assert_int_equal(w->nloops, 2);
		struct tg_sockaddr *a = atomic_load(&w->addr);
		if (!rows[i].host) {
			assert_null(w->host);
			assert_int_equal(a->ss.ss_family, AF_UNIX);
			assert_string_equal(((struct sockaddr_un *)&a->ss)->sun_path, "/run/worker.sock");
			assert_false(tg_worker_named(w)); /* nothing to look up */
		} else {
			assert_string_equal(w->port, rows[i].port);
			assert_int_equal(tg_worker_named(w), !rows[i].ip);
			if (!rows[i].ip)
				assert_string_equal(w->host, rows[i].host);
			char text[INET6_ADDRSTRLEN] = "";
			if (a && a->ss.ss_family == AF_INET6)
				inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&a->ss)->sin6_addr, text, sizeof text);
			else if (a)
				inet_ntop(AF_INET, &((struct sockaddr_in *)&a->ss)->sin_addr, text, sizeof text);
			assert_string_equal(text, rows[i].ip ? rows[i].ip : "");
			if (a) {
				uint16_t port = a->ss.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a->ss)->sin6_port : ((struct sockaddr_in *)&a->ss)->sin_port;
				char number[8];
				snprintf(number, sizeof number, "%u", ntohs(port));
				assert_string_equal(number, rows[i].port);
				tg_worker_set_addr(w, (struct sockaddr *)&a->ss, a->len); /* the same address: nothing is kept twice */
				assert_ptr_equal(atomic_load(&w->addr), a);
				assert_ptr_equal(w->seen, a);
				assert_null(a->next);
			}
		}
		tg_models_free(&ms);
		tg_config_free(c);
	}
}

static void test_bad_url(void **state)
{
	(void)state;
	struct tg_err err = { "" };
	struct tg_models ms;
	struct tg_config *c = config("m", URLS("http://10.0.0.1", "http://10.0.0.2", "ftp://10.0.0.3"), NULL);
	assert_false(tg_models_build(&ms, c, NULL, 1, &err));
	assert_non_null(strstr(err.text, "http://"));
	assert_int_equal(ms.n, 0);
	assert_null(ms.v);
	tg_models_free(&ms);
	tg_config_free(c);
	/* No model at all is a configuration, too. */
	c = tg_config_defaults();
	ms = build(c, NULL);
	assert_int_equal(ms.n, 0);
	assert_null(tg_models_find(&ms, TG_S("m")));
	tg_models_free(&ms);
	tg_config_free(c);
}

static void test_find_and_list(void **state)
{
	(void)state;
	struct tg_err err = { "" };
	struct tg_config *c = config("llama", URLS("http://10.0.0.1"), NULL);
	assert_true(tg_config_add_model(c, "qwen3:8b", "http://10.0.0.2", TG_PROTO_INFER, &err));
	assert_true(tg_config_add_model(c, "alone", "http://10.0.0.3", TG_PROTO_OPENAI, &err));
	assert_true(tg_strlist_add(&c->models[0].aliases, TG_S("gpt-4o")));
	assert_true(tg_strlist_add(&c->models[0].aliases, TG_S("chat")));
	assert_true(tg_strlist_add(&c->models[1].aliases, TG_S("qwen")));
	struct tg_models ms = build(c, NULL);
	static const struct {
		struct tg_slice name;
		int index;
	} rows[] = {
		{ TG_S("llama"), 0 }, { TG_S("gpt-4o"), 0 }, { TG_S("chat"), 0 }, { TG_S("qwen3:8b"), 1 }, { TG_S("qwen"), 1 }, { TG_S("alone"), 2 },
		{ TG_S("Llama"), -1 }, { TG_S("llam"), -1 }, { TG_S("llama2"), -1 }, { TG_S("gpt-4"), -1 }, { TG_S("llama\0"), -1 }, { TG_S(""), -1 },
		{ { NULL, 0 }, -1 }, { { "llama2", 5 }, 0 },
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct tg_model *m = tg_models_find(&ms, rows[i].name);
		assert_ptr_equal(m, rows[i].index < 0 ? NULL : &ms.v[rows[i].index]);
		assert_true(!m || m->index == (unsigned)rows[i].index);
	}
	struct tg_buf b;
	tg_buf_init(&b, 1000);
	tg_models_list(&ms, &b);
	assert_true(tg_slice_eq(tg_buf_view(&b), TG_S("llama, qwen3:8b, alone")));
	for (unsigned i = 0; i < 3; i++)
		assert_string_equal(ms.names[i], c->models[i].name);
	tg_buf_free(&b);
	tg_models_free(&ms);
	tg_config_free(c);
}

static void test_take_over(void **state)
{
	(void)state;
	static const char *const before[] = { "http://10.0.0.1/v1", "http://10.0.0.2", "unix:/run/w.sock", NULL };
	static const struct {
		const char *model, *urls[5], *key;
		int same[4]; /* per worker: the one before that it is, or -1: a new one */
		bool queue;
	} rows[] = {
		{ "m", { "http://10.0.0.1/v1", "http://10.0.0.2", "unix:/run/w.sock" }, "k", { 0, 1, 2 }, true },
		{ "m", { "http://10.0.0.1/v1", "http://10.0.0.2", "unix:/run/w.sock", "http://10.0.0.4" }, "k", { 0, 1, 2, -1 }, true }, /* one more */
		{ "m", { "http://10.0.0.1/v1" }, "k", { 0 }, true },                                                        /* two fewer */
		{ "m", { "http://10.0.0.1/v1", "http://10.0.0.9", "unix:/run/w.sock" }, "k", { 0, -1, 2 }, true },          /* one replaced */
		{ "m", { "http://10.0.0.2", "http://10.0.0.1/v1", "unix:/run/w.sock" }, "k", { -1, -1, 2 }, true },         /* places changed: their names do */
		{ "m", { "http://10.0.0.1", "http://10.0.0.2", "unix:/run/w.sock" }, "k", { -1, 1, 2 }, true },             /* spelled otherwise */
		{ "m", { "http://10.0.0.1/v1", "http://10.0.0.2", "unix:/run/w.sock" }, "j", { -1, -1, -1 }, true },        /* another key */
		{ "m", { "http://10.0.0.1/v1", "http://10.0.0.2", "unix:/run/w.sock" }, "", { -1, -1, -1 }, true },         /* none */
		{ "other", { "http://10.0.0.1/v1", "http://10.0.0.2", "unix:/run/w.sock" }, "k", { -1, -1, -1 }, false },   /* another model */
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct tg_config *c1 = config("m", before, "k"), *c2 = config(rows[i].model, rows[i].urls, rows[i].key);
		struct tg_models old = build(c1, NULL);
		struct tg_worker *was[3];
		struct tg_queue *q = tg_queue_get(old.v[0].queue);
		for (int k = 0; k < 3; k++) {
			was[k] = tg_worker_get(old.v[0].workers[k]);
			atomic_store(&was[k]->state, TG_WORKER_UP);
			atomic_store(&was[k]->in_use, 5 + k);
		}
		struct tg_models ms = build(c2, &old);
		struct tg_model *m = &ms.v[0];
		assert_true((m->queue == q) == rows[i].queue);
		assert_ptr_equal(m->conf, &c2->models[0]);
		bool kept[3] = { false };
		for (unsigned k = 0; k < m->nworkers; k++) {
			struct tg_worker *w = m->workers[k];
			int same = rows[i].same[k];
			if (same >= 0) {
				assert_ptr_equal(w, was[same]);
				assert_int_equal(w->in_use, 5 + same);
				assert_int_equal(w->state, TG_WORKER_UP);
				kept[same] = true;
			} else {
				assert_true(w != was[0] && w != was[1] && w != was[2]);
				assert_int_equal(w->in_use, 0);
				assert_int_equal(w->state, TG_WORKER_UNKNOWN);
			}
			assert_int_equal(w->index, k);
			assert_true(tg_models_have_worker(&ms, w));
		}
		for (int k = 0; k < 3; k++) {
			assert_int_equal(tg_models_have_worker(&ms, was[k]), kept[k]);
			assert_int_equal(was[k]->refs, kept[k] ? 3 : 2); /* old, ours, and the new registry */
		}
		/* The old registry goes first, as after a reload; then what somebody still holds. */
		tg_models_free(&old);
		tg_config_free(c1);
		for (int k = 0; k < 3; k++) {
			assert_int_equal(was[k]->refs, kept[k] ? 2 : 1);
			assert_non_null(was[k]->identity);
			tg_worker_put(was[k]);
		}
		tg_queue_put(q);
		assert_int_equal(tg_queue_length(m->queue), 0);
		tg_models_free(&ms);
		tg_config_free(c2);
	}
}

/* A reload that fails half way leaves the registry that is in use as it was. */
static void test_failed_reload(void **state)
{
	(void)state;
	struct tg_err err = { "" };
	struct tg_config *c1 = config("m", URLS("http://10.0.0.1", "http://10.0.0.2"), NULL);
	struct tg_config *c2 = config("m", URLS("http://10.0.0.1", "http://10.0.0.2:99999"), NULL);
	struct tg_models old = build(c1, NULL), ms;
	assert_false(tg_models_build(&ms, c2, &old, 2, &err));
	tg_config_free(c2);
	for (unsigned k = 0; k < 2; k++)
		assert_int_equal(old.v[0].workers[k]->refs, 1);
	assert_int_equal(tg_queue_length(old.v[0].queue), 0);
	/* A chain of reloads takes the same worker along. */
	struct tg_worker *w = old.v[0].workers[0];
	for (int i = 0; i < 5; i++) {
		struct tg_config *c = config("m", URLS("http://10.0.0.1", "http://10.0.0.2"), NULL);
		ms = build(c, &old);
		tg_models_free(&old);
		tg_config_free(c1);
		old = ms;
		c1 = c;
		assert_ptr_equal(old.v[0].workers[0], w);
		assert_int_equal(w->refs, 1);
	}
	tg_models_free(&old);
	tg_config_free(c1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_urls), cmocka_unit_test(test_bad_url), cmocka_unit_test(test_find_and_list), cmocka_unit_test(test_take_over),
		cmocka_unit_test(test_failed_reload),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
