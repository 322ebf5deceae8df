/*
 * `tollgate run -- COMMAND`: a gate and a fresh key in front of one command, with no file at all. "{port}" in the command becomes a free port; the gate opens when the
 * command answers there, and both end together.
 */
#include "cli/child.h"
#include "cli/cli.h"
#include "gate/control.h"
#include "pool/model.h"
#include <arpa/inet.h>
#include <poll.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define TAIL 4096 /* of the command's output, shown when it dies */

struct run {
	struct tg_child child;
	struct tg_gate *gate;
	uv_poll_t output;
	uv_timer_t watch;
	char tail[TAIL];
	size_t tail_len;
	bool dead;
	const char *name;
	char key[64];
};

static int usage(FILE *out, int code)
{
	fputs("usage: tollgate run [--name MODEL] [--listen ADDRESS]... [--ready-seconds N] [--protocol openai|infer] -- COMMAND [ARGUMENT]...\n"
	      "\n"
	      "Starts COMMAND, which must serve HTTP on 127.0.0.1:{port} ({port} in its arguments becomes a free port), waits until it answers,\n"
	      "and opens a gate with a fresh key in front of it. Example:\n"
	      "\n"
	      "  tollgate run --name qwen3 -- llama-server -m models/qwen3.gguf --host 127.0.0.1 --port {port}\n"
	      "\n"
	      "  --name MODEL        what callers write as \"model\" (default: default)\n"
	      "  --listen ADDRESS    where the gate listens (default: 127.0.0.1:9001, or a free port if that is taken)\n"
	      "  --ready-seconds N   how long the command may take to answer (default: 300)\n"
	      "  --protocol P        openai (default) or infer\n",
	      out);
	return code;
}

static uint16_t free_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&a, n) == 0 && getsockname(fd, (struct sockaddr *)&a, &n) == 0;
	if (fd >= 0)
		close(fd);
	return ok ? ntohs(a.sin_port) : 0;
}

/* The arguments with {port} filled in; owned. */
static char **fill_port(char **argv, int n, uint16_t port)
{
	char **out = calloc((size_t)n + 1, sizeof *out);
	for (int i = 0; out && i < n; i++) {
		struct tg_buf b;
		tg_buf_init(&b, 1u << 20);
		for (const char *p = argv[i]; *p;) {
			if (strncmp(p, "{port}", 6) == 0) {
				tg_buf_u64(&b, port);
				p += 6;
			} else {
				tg_buf_char(&b, *p++);
			}
		}
		tg_buf_char(&b, 0);
		if (b.failed)
			return NULL;
		out[i] = b.p;
	}
	return out;
}

static void take_output(struct run *r)
{
	char buf[4096];
	ssize_t n;
	while ((n = read(r->child.output, buf, sizeof buf)) > 0) {
		(void)!write(2, buf, (size_t)n);
		size_t k = (size_t)n;
		if (k > TAIL)
			k = TAIL;
		if (r->tail_len + k > TAIL) {
			size_t drop = r->tail_len + k - TAIL;
			memmove(r->tail, r->tail + drop, r->tail_len - drop);
			r->tail_len -= drop;
		}
		memcpy(r->tail + r->tail_len, buf + (size_t)n - k, k);
		r->tail_len += k;
	}
}

/* True while the command lives. */
static bool alive(struct run *r)
{
	int status;
	if (r->dead)
		return false;
	if (waitpid(r->child.keeper, &status, WNOHANG) != r->child.keeper)
		return true;
	r->dead = true;
	r->child.keeper = 0;
	take_output(r);
	/* The keeper passes a signal on as 128 + its number, as shells do. */
	int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	fprintf(stderr, "tollgate: the command has ended (%s %d)%s\n", code > 128 ? "signal" : "exit code", code > 128 ? code - 128 : code,
		r->tail_len ? "; its last output:" : ", without any output");
	if (r->tail_len)
		fprintf(stderr, "%.*s\n", (int)r->tail_len, r->tail);
	return false;
}

static bool await_ready(struct run *r, struct tg_worker *w, unsigned seconds)
{
	fprintf(stderr, "tollgate: waiting for the command to answer on %s (%u s at most)\n", w->url, seconds);
	uint64_t until = uv_hrtime() / 1000000u + seconds * 1000u;
	while (alive(r)) {
		if (tg_worker_probe(w, 1000))
			return true;
		if (uv_hrtime() / 1000000u > until) {
			fprintf(stderr, "tollgate: the command did not answer on %s within %u seconds\n", w->url, seconds);
			return false;
		}
		struct pollfd p = { .fd = r->child.output, .events = POLLIN };
		poll(&p, 1, 100);
		take_output(r);
		if (p.revents & POLLHUP)
			usleep(100000);
	}
	return false;
}

static void on_output(uv_poll_t *p, int status, int events)
{
	struct run *r = p->data;
	(void)status, (void)events;
	take_output(r);
	char c;
	if (read(r->child.output, &c, 1) == 0)
		uv_poll_stop(p);
}

static void on_watch(uv_timer_t *t)
{
	struct run *r = t->data;
	if (!alive(r)) {
		uv_timer_stop(t);
		tg_control_end(r->gate, 1);
	}
}

/* Once the address is known: port 0 may have been asked for. */
static void greet(const struct run *r)
{
	const char *at = r->gate->addrs[0].text;
	bool socket_file = strncmp(at, "unix:", 5) == 0;
	fprintf(stderr,
		"tollgate: the command answers; its model is \"%s\"\n"
		"tollgate: key: %s\n"
		"\n"
		"  curl %s%s http://%s/v1/chat/completions -H 'Authorization: Bearer %s' -H 'Content-Type: application/json' \\\n"
		"       -d '{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'\n"
		"\n",
		r->name, r->key, socket_file ? "--unix-socket " : "-N", socket_file ? at + 5 : "", socket_file ? "localhost" : at, r->key, r->name);
}

static void started(struct tg_gate *g, void *ctx)
{
	struct run *r = ctx;
	r->gate = g;
	greet(r);
	uv_poll_init(&g->control, &r->output, r->child.output);
	r->output.data = r;
	uv_poll_start(&r->output, UV_READABLE | UV_DISCONNECT, on_output);
	uv_timer_init(&g->control, &r->watch);
	r->watch.data = r;
	uv_timer_start(&r->watch, on_watch, 100, 100);
}

static void fresh_key(char out[64])
{
	unsigned char raw[32];
	char text[64];
	if (sodium_init() < 0)
		abort();
	randombytes_buf(raw, sizeof raw);
	sodium_bin2base64(text, sizeof text, raw, sizeof raw, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	randombytes_buf(raw, 4);
	snprintf(out, 64, "tg_%02x%02x%02x%02x_%.43s", raw[0], raw[1], raw[2], raw[3], text);
	sodium_memzero(text, sizeof text);
}

static bool can_bind(const char *spec, struct tg_err *err)
{
	struct tg_listen_addr probe;
	bool free_now = tg_listen_bind(&probe, spec, 1, err) == TG_BIND_OK;
	if (free_now)
		tg_listen_free(&probe);
	return free_now;
}

/* Before a model takes minutes to load: can we listen where we are told to? */
static bool take_listen(struct tg_config *c, const struct tg_strlist *asked, struct tg_err *err)
{
	for (size_t i = 0; i < asked->n; i++)
		if (!can_bind(asked->v[i], err) || !tg_strlist_add(&c->listen, tg_slice_cstr(asked->v[i])))
			return false;
	if (asked->n)
		return true;
	struct tg_err unused;
	return tg_strlist_add(&c->listen, can_bind("127.0.0.1:9001", &unused) ? TG_S("127.0.0.1:9001") : TG_S("127.0.0.1:0"));
}

/* The configuration in memory: one model at the command's port, one key. */
static struct tg_config *make_config(const char *name, enum tg_protocol protocol, uint16_t port, const char *key, const struct tg_strlist *listen,
				     struct tg_err *err)
{
	struct tg_config *c = tg_config_defaults();
	if (!c)
		return NULL;
	char url[64];
	snprintf(url, sizeof url, "http://127.0.0.1:%u", port);
	tg_strlist_free(&c->listen);
	struct tg_err why;
	bool ok = take_listen(c, listen, err) && tg_strlist_add(&c->tollgate_keys, tg_slice_cstr(key));
	if (ok && !tg_config_add_model(c, name, url, protocol, &why)) {
		tg_err_set(err, "--name \"%.64s\": %s", name, why.text);
		ok = false;
	}
	free(c->log_path);
	free(c->api_keys_file);
	c->log_path = strdup("-"); /* no file at all: neither log nor key file */
	c->api_keys_file = strdup("");
	c->metrics_loopback = true; /* the one key is for inference; whoever started this may look at the numbers */
	if (!ok || !c->log_path || !c->api_keys_file) {
		tg_config_free(c);
		return NULL;
	}
	return c;
}

struct options {
	const char *name;
	enum tg_protocol protocol;
	unsigned ready_seconds;
	struct tg_strlist listen;
	int command; /* index of the first word */
};

static int parse(int argc, char **argv, struct options *o)
{
	int i = 1;
	for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
		bool value = i + 1 < argc;
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return usage(stdout, 0);
		if (strcmp(argv[i], "--name") == 0 && value && argv[i + 1][0]) {
			o->name = argv[++i];
		} else if (strcmp(argv[i], "--listen") == 0 && value) {
			if (!tg_strlist_add(&o->listen, tg_slice_cstr(argv[++i])))
				return 1;
		} else if (strcmp(argv[i], "--protocol") == 0 && value && (!strcmp(argv[i + 1], "openai") || !strcmp(argv[i + 1], "infer"))) {
			o->protocol = strcmp(argv[++i], "infer") == 0 ? TG_PROTO_INFER : TG_PROTO_OPENAI;
		} else if (strcmp(argv[i], "--ready-seconds") == 0 && value && strtoul(argv[i + 1], NULL, 10) > 0 && strtoul(argv[i + 1], NULL, 10) <= 86400) {
			o->ready_seconds = (unsigned)strtoul(argv[++i], NULL, 10);
		} else {
			fprintf(stderr, "tollgate run: \"%s\" is not understood here\n", argv[i]);
			return usage(stderr, 2);
		}
	}
	if (i + 1 >= argc) {
		fputs("tollgate run: no command after --\n", stderr);
		return usage(stderr, 2);
	}
	o->command = i + 1;
	bool port = false;
	for (int k = o->command; k < argc; k++)
		port = port || strstr(argv[k], "{port}");
	if (!port)
		fputs("tollgate: warning: no argument of the command holds {port}: it must find its port by itself, and the gate cannot know it\n", stderr);
	return -1;
}

/* A worker object to probe with before the gate exists. */
static bool probe_models(struct tg_models *m, const struct tg_config *c, struct tg_err *err)
{
	return tg_models_build(m, c, NULL, 1, err) && m->n == 1;
}

int tg_cmd_run(int argc, char **argv)
{
	struct options o = { .name = "default", .ready_seconds = 300 };
	int code = parse(argc, argv, &o);
	if (code >= 0) {
		tg_strlist_free(&o.listen);
		return code;
	}
	struct run r = { .child = { .lifeline = -1 }, .name = o.name };
	struct tg_err err = { "out of memory" };
	fresh_key(r.key);
	uint16_t port = free_port();
	char **command = fill_port(argv + o.command, argc - o.command, port);
	struct tg_config *c = make_config(o.name, o.protocol, port, r.key, &o.listen, &err);
	tg_strlist_free(&o.listen);
	struct tg_models probe = { 0 };
	if (!port || !command || !c || !probe_models(&probe, c, &err) || !tg_child_start(&r.child, command, &err)) {
		fprintf(stderr, "tollgate: %s\n", err.text);
		tg_models_free(&probe);
		tg_config_free(c);
		return c ? 1 : 2;
	}
	code = 1;
	bool ready = await_ready(&r, probe.v[0].workers[0], o.ready_seconds);
	tg_models_free(&probe);
	if (ready) {
		struct tg_control_conf conf = { .config = c, .started = started, .ctx = &r };
		code = tg_control_main(&conf);
	} else {
		tg_config_free(c);
	}
	tg_child_end(&r.child);
	sodium_memzero(r.key, sizeof r.key);
	for (int i = 0; command[i]; i++)
		free(command[i]);
	free(command);
	return code;
}
