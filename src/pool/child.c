/*
 * The gate's side of a keeper (see child.h): libuv makes the process and watches it; here its report is read and the three signs of its end are brought together.
 */
#include "pool/child.h"
#include "pool/keeper.h"
#include "pool/procfs.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_LINGER_MS 1000
#define LIFELINE_FD 3
#define ADOPTED_MAX 256

static void closed(uv_handle_t *h)
{
	struct tg_child *c = h->data;
	if (--c->open)
		return;
	c->running = false;
	c->on_end(c);
}

static void close_handle(struct tg_child *c, uv_handle_t *h)
{
	if (!uv_is_closing(h)) {
		h->data = c;
		uv_close(h, closed);
	}
}

/* The keeper has ended and the output was read to its end, or has lingered long enough. */
static void finish(struct tg_child *c)
{
	if (!c->end_known)
		c->end = (struct tg_child_end){ TG_CHILD_LOST, 0 };
	close_handle(c, (uv_handle_t *)&c->linger);
	close_handle(c, (uv_handle_t *)&c->output);
	close_handle(c, (uv_handle_t *)&c->lifeline);
	if (c->has_process)
		close_handle(c, (uv_handle_t *)&c->keeper);
}

static void look(struct tg_child *c)
{
	if (c->keeper_gone && c->output_gone)
		finish(c);
}

static void on_linger(uv_timer_t *t)
{
	finish(t->data);
}

/* "pid 12", "exit 1", "signal 9", "exec 2" */
static void take_line(struct tg_child *c, const char *line)
{
	static const struct {
		const char *word;
		enum tg_child_end_kind kind;
	} ends[] = { { "exec ", TG_CHILD_NOT_RUN }, { "exit ", TG_CHILD_EXITED }, { "signal ", TG_CHILD_SIGNALLED } };
	if (strncmp(line, "pid ", 4) == 0) {
		c->pid = (pid_t)strtol(line + 4, NULL, 10);
		c->on_pid(c);
		return;
	}
	for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
		if (strncmp(line, ends[i].word, strlen(ends[i].word)) == 0) {
			c->end = (struct tg_child_end){ ends[i].kind, (int)strtol(line + strlen(ends[i].word), NULL, 10) };
			c->end_known = true;
		}
}

static void lifeline_alloc(uv_handle_t *h, size_t want, uv_buf_t *b)
{
	struct tg_child *c = h->data;
	(void)want;
	*b = uv_buf_init(c->line + c->line_len, (unsigned)sizeof c->line - 1 - c->line_len);
}

static void on_lifeline(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct tg_child *c = s->data;
	(void)b;
	if (n < 0) {
		uv_read_stop(s);
		return;
	}
	c->line_len += (unsigned)n;
	c->line[c->line_len] = 0;
	for (char *nl; (nl = memchr(c->line, '\n', c->line_len));) {
		*nl = 0;
		take_line(c, c->line);
		c->line_len -= (unsigned)(nl + 1 - c->line);
		memmove(c->line, nl + 1, c->line_len + 1);
	}
	if (c->line_len == sizeof c->line - 1)
		c->line_len = 0; /* no line of ours is that long */
}

static void output_alloc(uv_handle_t *h, size_t want, uv_buf_t *b)
{
	struct tg_child *c = h->data;
	(void)want;
	*b = uv_buf_init(c->buf, sizeof c->buf);
}

static void on_output(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct tg_child *c = s->data;
	if (n > 0) {
		c->on_output(c, b->base, (size_t)n);
	} else if (n < 0) {
		uv_read_stop(s);
		c->output_gone = true;
		look(c);
	}
}

bool tg_child_end_adopted(const pid_t *keepers, unsigned n)
{
	pid_t children[ADOPTED_MAX];
	unsigned have = tg_procfs_children(getpid(), children, ADOPTED_MAX), strangers = 0;
	for (unsigned i = 0; i < have; i++) {
		bool ours = false;
		for (unsigned k = 0; k < n; k++)
			ours |= keepers[k] == children[i];
		if (ours)
			continue;
		kill(children[i], SIGKILL);
		strangers += waitpid(children[i], NULL, WNOHANG) != children[i];
	}
	return strangers > 0;
}

static void on_exit_of_keeper(uv_process_t *p, int64_t status, int sig)
{
	struct tg_child *c = p->data;
	(void)status;
	c->keeper_gone = true;
	if (sig && c->pid > 0)
		kill(-c->pid, SIGKILL);
	/* Its last words may still lie in the lifeline. */
	char more[sizeof c->line];
	uv_os_fd_t fd;
	ssize_t n = uv_fileno((uv_handle_t *)&c->lifeline, &fd) == 0 ? recv(fd, more, sizeof c->line - 1 - c->line_len, MSG_DONTWAIT) : 0;
	if (n > 0) {
		memcpy(c->line + c->line_len, more, (size_t)n);
		on_lifeline((uv_stream_t *)&c->lifeline, n, NULL);
	}
	tg_child_pause(c, false);
	uv_timer_start(&c->linger, on_linger, OUTPUT_LINGER_MS, 0);
	look(c);
}

/* Ends without having been: told like any other end, a turn of the loop later. */
static void not_run(struct tg_child *c, int e)
{
	c->end = (struct tg_child_end){ TG_CHILD_NOT_RUN, e };
	c->end_known = true;
	finish(c);
}

static int spawn(struct tg_child *c, uv_loop_t *loop, char **args, char *const *env)
{
	int out[2], r;
	if (pipe2(out, O_CLOEXEC) != 0)
		return -errno;
	r = uv_pipe_open(&c->output, out[0]);
	if (r == 0) {
		uv_stdio_container_t io[4] = { { .flags = UV_IGNORE }, { .flags = UV_INHERIT_FD, .data.fd = out[1] }, { .flags = UV_INHERIT_FD, .data.fd = out[1] },
					       { .flags = UV_CREATE_PIPE | UV_READABLE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&c->lifeline } };
		uv_process_options_t o = { .exit_cb = on_exit_of_keeper, .file = "/proc/self/exe", .args = args, .env = (char **)(uintptr_t)env, .stdio = io,
					   .stdio_count = 4, .flags = UV_PROCESS_DETACHED };
		r = uv_spawn(loop, &c->keeper, &o);
		c->has_process = true; /* a handle to close, whether or not there is a process behind it */
		c->open++;
	} else {
		close(out[0]);
	}
	close(out[1]);
	return r;
}

void tg_child_start(struct tg_child *c, uv_loop_t *loop, char *const *argv, char *const *env, uint32_t stop_ms)
{
	c->pid = 0;
	c->line_len = 0;
	c->keeper_gone = c->output_gone = c->end_known = false;
	c->running = true;
	c->open = 3;
	c->has_process = false;
	uv_pipe_init(loop, &c->lifeline, 0);
	uv_pipe_init(loop, &c->output, 0);
	uv_timer_init(loop, &c->linger);
	c->lifeline.data = c->output.data = c->linger.data = c->keeper.data = c;
	size_t n = 0, k = 0;
	while (argv[n])
		n++;
	char stop_text[16], fd_text[8], **args = calloc(n + 6, sizeof *args);
	if (args) {
		snprintf(stop_text, sizeof stop_text, "%u", stop_ms);
		snprintf(fd_text, sizeof fd_text, "%d", LIFELINE_FD);
		char *const fixed[] = { "tollgate", "keep", fd_text, stop_text, "--" };
		for (; k < sizeof fixed / sizeof fixed[0]; k++)
			args[k] = fixed[k];
		memcpy(args + k, argv, n * sizeof *args);
	}
	int r = args ? spawn(c, loop, args, env) : -ENOMEM;
	free(args);
	if (r != 0) {
		not_run(c, -r);
		return;
	}
	uv_read_start((uv_stream_t *)&c->lifeline, lifeline_alloc, on_lifeline);
	uv_read_start((uv_stream_t *)&c->output, output_alloc, on_output);
}

static void tell_keeper(struct tg_child *c, char what)
{
	uv_buf_t b = uv_buf_init(&what, 1);
	if (c->running && !uv_is_closing((uv_handle_t *)&c->lifeline))
		(void)uv_try_write((uv_stream_t *)&c->lifeline, &b, 1);
}

void tg_child_stop(struct tg_child *c)
{
	tell_keeper(c, TG_KEEP_STOP);
}

void tg_child_kill(struct tg_child *c)
{
	tell_keeper(c, TG_KEEP_KILL);
}

void tg_child_pause(struct tg_child *c, bool pause)
{
	if (!c->running || c->output_gone || uv_is_closing((uv_handle_t *)&c->output))
		return;
	if (pause)
		uv_read_stop((uv_stream_t *)&c->output);
	else
		uv_read_start((uv_stream_t *)&c->output, output_alloc, on_output);
}

void tg_child_end_text(const struct tg_child_end *e, char *out, size_t cap)
{
	switch (e->kind) {
	case TG_CHILD_NOT_RUN:
		snprintf(out, cap, "could not be run: %s", strerror(e->code));
		break;
	case TG_CHILD_EXITED:
		snprintf(out, cap, "exited with status %d", e->code);
		break;
	case TG_CHILD_SIGNALLED:
		snprintf(out, cap, "was ended by signal %d (%s)", e->code, strsignal(e->code));
		break;
	case TG_CHILD_LOST:
		snprintf(out, cap, "was lost: its keeper was killed");
	}
}
