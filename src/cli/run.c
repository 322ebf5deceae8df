/*
 * `tollgate run -- COMMAND`: a gate and a fresh key in front of one command, with no file at all. "{port}" in the command becomes a free port; the gate opens when the
 * command answers there, and both end together. It is `serve` with a configuration made here and a supervisor that starts nothing twice.
 */
#include "cli/cli.h"
#include "gate/control.h"
#include "pool/model.h"
#include <sodium.h>
#include <stdlib.h>
#include <unistd.h>

#define TAIL_LINES 20 /* of the command's output, shown when it ends */

struct run {
	const char *name;
	unsigned ready_seconds;
	char key[64];
};

static int usage(FILE *out, int code)
{
	fputs("usage: tollgate run [--name MODEL] [--listen ADDRESS]... [--ready-seconds N] [--protocol openai|infer] -- COMMAND [ARGUMENT]...\n"
	      "\n"
	      "Starts COMMAND, which must serve HTTP on 127.0.0.1:{port} ({port} in its arguments becomes a free port) or on the Unix socket\n"
	      "{socket}, waits until it answers, and opens a gate with a fresh key in front of it. Example:\n"
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

/* Once the address is known: port 0 may have been asked for. */
static void greet(struct tg_gate *g, void *ctx)
{
	struct run *r = ctx;
	const char *at = g->addrs[0].text;
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

static void worker_changed(struct tg_gate *g, void *ctx, const struct tg_worker *w, const struct tg_child_end *end)
{
	(void)ctx;
	if (!end)
		return;
	char why[256];
	struct tg_buf tail;
	tg_buf_init(&tail, TG_OUTPUT_TAIL_MAX + 16);
	tg_output_tail(&w->started->output, TAIL_LINES, &tail);
	uv_mutex_lock(&w->started->lock);
	snprintf(why, sizeof why, "%s", w->started->reason);
	uv_mutex_unlock(&w->started->lock);
	fprintf(stderr, "tollgate: the command has ended: %s %s%s%.*s", w->started->command.v[0], why, tail.len ? "; its last output:\n" : ", without any output\n", (int)tail.len,
		tail.len ? tail.p : "");
	tg_buf_free(&tail);
	tg_control_end(g, 1);
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
	struct tg_slice address = tg_slice_cstr(spec);
	if (tg_listen_kind_of(&address) != TG_LISTEN_PLAIN) {
		tg_err_set(err, "--listen %.120s: `tollgate run` has no certificate: [server] tls_cert and tls_key are of `tollgate serve`", spec);
		return false;
	}
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

static bool add_command(struct tg_config *c, const char *name, enum tg_protocol protocol, char *const *command, unsigned ready_seconds, struct tg_err *err)
{
	struct tg_err why;
	if (!tg_config_add_command(c, name, command, protocol, &why)) {
		tg_err_set(err, "--name \"%.64s\": %.300s", name, why.text);
		return false;
	}
	c->models[0].start_ms = ready_seconds * 1000u;
	return true;
}

/* The configuration in memory: one model that the command serves, one key. */
static struct tg_config *make_config(const struct run *r, enum tg_protocol protocol, char *const *command, const struct tg_strlist *listen, struct tg_err *err)
{
	struct tg_config *c = tg_config_defaults();
	if (!c)
		return NULL;
	tg_strlist_free(&c->listen);
	bool ok = take_listen(c, listen, err) && tg_strlist_add(&c->tollgate_keys, tg_slice_cstr(r->key)) && add_command(c, r->name, protocol, command, r->ready_seconds, err);
	free(c->log_path);
	free(c->api_keys_file);
	free(c->audit_path);
	c->ml_engine = false;
	free(c->store_url);
	c->log_path = strdup("-"); /* no file at all: neither log nor audit trail nor key file nor database nor models */
	c->api_keys_file = strdup("");
	c->audit_path = strdup("");
	c->store_url = strdup("");
	c->metrics_loopback = true; /* the one key is for inference; whoever started this may look at the numbers */
	if (!ok || !c->log_path || !c->api_keys_file || !c->audit_path || !c->store_url) {
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

/* NULL: it is missing. */
static char *value_of(char **argv, int argc, int i)
{
	return i + 1 < argc && strcmp(argv[i + 1], "--") != 0 && argv[i + 1][0] ? argv[i + 1] : NULL;
}

static bool seconds(const char *text, unsigned *out)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);
	*out = (unsigned)n;
	return text[0] >= '0' && text[0] <= '9' && !*end && n >= 1 && n <= 86400;
}

/* NULL: taken. Else what its value may be. */
static const char *take_option(struct options *o, const char *name, char *value)
{
	if (strcmp(name, "--name") == 0) {
		o->name = value;
		return value ? NULL : "the name of a model";
	}
	if (strcmp(name, "--listen") == 0)
		return value && tg_strlist_add(&o->listen, tg_slice_cstr(value)) ? NULL : "an address";
	if (strcmp(name, "--protocol") == 0) {
		bool infer = value && strcmp(value, "infer") == 0;
		o->protocol = infer ? TG_PROTO_INFER : TG_PROTO_OPENAI;
		return infer || (value && strcmp(value, "openai") == 0) ? NULL : "openai or infer";
	}
	return value && seconds(value, &o->ready_seconds) ? NULL : "a number of seconds from 1 to 86400";
}

static bool is_option(const char *word)
{
	static const char *const names[] = { "--name", "--listen", "--protocol", "--ready-seconds" };
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
		if (strcmp(word, names[i]) == 0)
			return true;
	return false;
}

static int parse(int argc, char **argv, struct options *o)
{
	int i = 1;
	while (i < argc && strcmp(argv[i], "--") != 0) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return usage(stdout, 0);
		if (!is_option(argv[i])) {
			fprintf(stderr, "tollgate run: \"%s\" is not understood here\n", argv[i]);
			return usage(stderr, 2);
		}
		char *value = value_of(argv, argc, i);
		const char *wanted = take_option(o, argv[i], value);
		if (wanted && value)
			fprintf(stderr, "tollgate run: %s must be %s, not \"%s\"\n", argv[i], wanted, value);
		else if (wanted)
			fprintf(stderr, "tollgate run: %s must be followed by %s\n", argv[i], wanted);
		if (wanted)
			return usage(stderr, 2);
		i += 2;
	}
	if (i + 1 >= argc) {
		fputs("tollgate run: no command after --\n", stderr);
		return usage(stderr, 2);
	}
	o->command = i + 1;
	bool port = false;
	for (int k = o->command; k < argc; k++)
		port = port || strstr(argv[k], "{port}") || strstr(argv[k], "{socket}");
	if (!port)
		fputs("tollgate: warning: no argument of the command holds {port} or {socket}: it must find its port by itself, and the gate cannot know it\n", stderr);
	return -1;
}

int tg_cmd_run(int argc, char **argv)
{
	struct options o = { .name = "default", .ready_seconds = 300 };
	int code = parse(argc, argv, &o);
	if (code >= 0) {
		tg_strlist_free(&o.listen);
		return code;
	}
	struct run r = { .name = o.name, .ready_seconds = o.ready_seconds };
	struct tg_err err = { "out of memory" };
	fresh_key(r.key);
	struct tg_config *c = make_config(&r, o.protocol, argv + o.command, &o.listen, &err);
	tg_strlist_free(&o.listen);
	if (!c) {
		fprintf(stderr, "tollgate: %s\n", err.text);
		return 2;
	}
	fprintf(stderr, "tollgate: waiting for the command to answer (%u s at most)\n", o.ready_seconds);
	struct tg_control_conf conf = { .config = c, .hold = true, .worker_changed = worker_changed, .started = greet, .ctx = &r };
	code = tg_control_main(&conf);
	sodium_memzero(r.key, sizeof r.key);
	return code;
}
