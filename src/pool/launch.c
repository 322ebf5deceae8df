/*
 * Launching (see launch.h). The gate's own secrets are none of a worker's business: every variable that holds one (by the options table, or by "env:NAME" in the configuration) and everything named TOLLGATE_ is
 * left out of its environment.
 *
 * A port is only known to be free at the moment it is tried; who loses it to somebody else ends, as a rule, and gets another. A Unix socket in a folder that only our user
 * can enter has no such gap, and no other user of the machine can reach the worker behind the gate's back: {socket} is the better choice where the command can do it.
 */
#include "config/env.h"
#include "config/options.h"
#include "pool/launch.h"
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

extern char **environ;

#define EXPANDED_MAX (1u << 20) /* one argument */
#define PORT_FIRST 16384
#define PORTS_MIN 1024

void tg_launch_free(struct tg_launch *l)
{
	char **lists[] = { l->argv, l->env };
	for (unsigned k = 0; k < 2; k++) {
		for (char **p = lists[k]; p && *p; p++) {
			explicit_bzero(*p, strlen(*p)); /* an argument or a variable may be the worker's key */
			free(*p);
		}
		free(lists[k]);
	}
	l->argv = l->env = NULL;
}

/* ---- where it listens ---- */

/* Ports that workers of ours have been given. A worker binds its port only when it has loaded its model, perhaps a minute later: until then the port looks free. */
static uint8_t claimed[65536 / 8];

static bool is_claimed(uint16_t port)
{
	return claimed[port / 8] >> port % 8 & 1;
}

static void claim(unsigned port, bool yes)
{
	if (port)
		claimed[port / 8] = (uint8_t)(yes ? claimed[port / 8] | 1u << port % 8 : claimed[port / 8] & ~(1u << port % 8));
}

static bool try_port(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t n = sizeof a;
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one); /* connections of its last process may still be closing */
	bool ok = bind(fd, (struct sockaddr *)&a, n) == 0;
	close(fd);
	return ok;
}

/* Below the range from which the kernel takes ports for outgoing connections (32768 and up), so that none of those takes it before the worker does. Begins anywhere, so that two
 * gates seldom try the same. */
static uint16_t find_port(void)
{
	unsigned low = 32768, high;
	FILE *f = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
	if (f && fscanf(f, "%u %u", &low, &high) != 2)
		low = 32768;
	if (f)
		fclose(f);
	unsigned first = low > PORT_FIRST + PORTS_MIN ? PORT_FIRST : 1024, end = low > PORT_FIRST + PORTS_MIN ? low : 65536, n = end - first;
	uint32_t r;
	if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
		r = (uint32_t)getpid() * 2654435761u;
	for (unsigned i = 0; i < n; i++) {
		uint16_t port = (uint16_t)(first + (r + i) % n);
		if (!is_claimed(port) && try_port(port))
			return port;
	}
	return 0;
}

/* Socket files of gates that were killed. */
static void sweep(const char *dir)
{
	DIR *d = opendir(dir);
	for (struct dirent *e; d && (e = readdir(d));) {
		char *end;
		long pid = strtol(e->d_name, &end, 10);
		struct stat st;
		if (end != e->d_name && *end == '-' && pid > 0 && fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode) && kill((pid_t)pid, 0) != 0 && errno == ESRCH)
			unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d)
		closedir(d);
}

/* systemd's folder for the service, else data/run here. */
static bool socket_dir(char out[PATH_MAX], struct tg_err *err)
{
	const char *given = getenv("RUNTIME_DIRECTORY");
	static bool swept;
	if (given && given[0] == '/' && !strchr(given, ':')) {
		snprintf(out, PATH_MAX, "%s", given);
	} else {
		if (!getcwd(out, PATH_MAX - 16)) {
			tg_err_set(err, "the folder of its socket: %s", strerror(errno));
			return false;
		}
		size_t n = strlen(out);
		snprintf(out + n, PATH_MAX - n, "/data");
		mkdir(out, 0700);
		snprintf(out + n, PATH_MAX - n, "/data/run");
		struct stat st;
		if ((mkdir(out, 0700) != 0 && errno != EEXIST) || lstat(out, &st) != 0) {
			tg_err_set(err, "the folder of its socket, %.300s: %s", out, strerror(errno));
			return false;
		}
		if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || ((st.st_mode & 077) && chmod(out, 0700) != 0)) {
			tg_err_set(err, "the folder of its socket, %.300s, must be a folder that only this user can enter", out);
			return false;
		}
	}
	if (!swept)
		sweep(out);
	swept = true;
	return true;
}

static bool choose_place(struct tg_launch *l, const struct tg_worker *w, struct tg_err *err)
{
	if (w->started->by_socket) {
		char dir[PATH_MAX];
		if (!socket_dir(dir, err))
			return false;
		int n = snprintf(l->socket, sizeof l->socket, "%.90s/%d-%u.sock", dir, (int)getpid(), w->id);
		if (strlen(dir) > 90 || n >= (int)sizeof l->socket) {
			tg_err_set(err, "the path of its socket would be over 107 bytes: %.200s; start the gate in a folder with a shorter name", dir);
			return false;
		}
		unlink(l->socket);
		return true;
	}
	uint16_t last = (uint16_t)atomic_load(&w->started->port);
	if (last && try_port(last)) {
		l->port = last;
		return true;
	}
	claim(last, false);
	l->port = find_port();
	claim(l->port, true);
	if (!l->port)
		tg_err_set(err, "no free port on 127.0.0.1: %s", strerror(errno));
	return l->port != 0;
}

void tg_launch_forget(const struct tg_worker *w)
{
	claim(atomic_load(&w->started->port), false);
}

/* ---- words in braces ---- */

static char *expand(const char *text, const struct tg_launch *l, const struct tg_worker *w)
{
	char port[8], index[12];
	snprintf(port, sizeof port, "%u", l->port);
	snprintf(index, sizeof index, "%u", w->index);
	const struct {
		struct tg_slice word;
		const char *with;
	} words[] = { { TG_S("{port}"), port }, { TG_S("{socket}"), l->socket }, { TG_S("{index}"), index }, { TG_S("{model}"), w->model },
		      { TG_S("{file}"), w->started->file ? w->started->file : "{file}" } };
	struct tg_buf b;
	tg_buf_init(&b, EXPANDED_MAX);
	while (*text) {
		size_t k = 0;
		for (size_t i = 0; i < sizeof words / sizeof words[0] && !k; i++)
			if (strncmp(text, words[i].word.p, words[i].word.n) == 0) {
				tg_buf_cstr(&b, words[i].with);
				k = words[i].word.n;
			}
		if (!k)
			tg_buf_char(&b, *text);
		text += k ? k : 1;
	}
	tg_buf_char(&b, 0);
	if (b.failed)
		tg_buf_free(&b);
	return b.p;
}

static bool is_ours(const char *var)
{
	static const char *const others[] = { "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID" };
	size_t n = strcspn(var, "=");
	if (strncmp(var, "TOLLGATE_", 9) == 0 || tg_env_withheld(var, n))
		return true;
	for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
		if (strlen(others[i]) == n && memcmp(var, others[i], n) == 0)
			return true;
	for (unsigned i = 0; i < tg_noptions; i++) {
		if (!tg_opt_secret(tg_options[i].type) && tg_options[i].type != TG_OPT_KEYS)
			continue;
		for (const char *a = tg_options[i].aliases; *a;) {
			size_t k = strcspn(a, " ");
			if (tg_option_alias_is(a, k, var, n))
				return true;
			a += k + (a[k] == ' ');
		}
	}
	return false;
}

static bool replaced(const char *var, const struct tg_strlist *by)
{
	size_t n = strcspn(var, "=") + 1;
	for (size_t i = 0; i < by->n; i++)
		if (strncmp(var, by->v[i], n) == 0)
			return true;
	return false;
}

bool tg_launch_make(struct tg_launch *l, const struct tg_worker *w, struct tg_err *err)
{
	const struct tg_started *s = w->started;
	*l = (struct tg_launch){ 0 };
	if (!choose_place(l, w, err))
		return false;
	size_t have = 0, k = 0;
	while (environ[have])
		have++;
	l->argv = calloc(s->command.n + 1, sizeof *l->argv);
	l->env = calloc(have + s->env.n + 1, sizeof *l->env);
	bool ok = l->argv && l->env;
	for (size_t i = 0; ok && i < s->command.n; i++)
		ok = (l->argv[i] = expand(s->command.v[i], l, w)) != NULL;
	for (size_t i = 0; ok && i < have; i++)
		if (!is_ours(environ[i]) && !replaced(environ[i], &s->env))
			ok = (l->env[k++] = tg_slice_dup(tg_slice_cstr(environ[i]))) != NULL;
	for (size_t i = 0; ok && i < s->env.n; i++)
		ok = (l->env[k++] = expand(s->env.v[i], l, w)) != NULL;
	if (!ok) {
		tg_launch_free(l);
		tg_err_set(err, "out of memory");
	}
	return ok;
}
