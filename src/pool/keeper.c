/*
 * The keeper (see keeper.h). Plain system calls and one poll without a timeout: it costs nothing while it waits, and there is nothing in it that could
 * fail when the machine is short of memory.
 *
 * Why a process of its own: what ends with the gate must not depend on the gate being able to run a line of code. Why our own program run again and not a fork that
 * goes on: a fork of the gate would hold its keys in memory and its listening sockets open, and could not be made once there are threads.
 *
 * Invariants: when it exits, no process that descends from the command is left. What a command starts in a session of its own comes to us all the same when its
 * parent ends (we are its subreaper), and is killed. Should we be killed ourselves, the command dies with us (PR_SET_PDEATHSIG), and what is left becomes the gate's child and is killed there (pool/child.c).
 */
#include "pool/keeper.h"
#include "pool/procfs.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SWEEP_MS 20
#define CHILDREN_MAX 256 /* looked at in one sweep */
#define SWEEPS 150 /* three seconds: whatever survives SIGKILL that long hangs in the kernel */

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void report(int lifeline, const char *what, int n)
{
	char line[48];
	int k = snprintf(line, sizeof line, "%s %d\n", what, n);
	(void)!send(lifeline, line, (size_t)k, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Descriptors that somebody left open in the gate's parents are none of the command's. */
static void close_above(int fd)
{
#ifdef SYS_close_range
	if (syscall(SYS_close_range, (unsigned)fd + 1, ~0u, 0u) == 0)
		return;
#endif
	for (int i = fd + 1; i < 65536; i++)
		close(i);
}

static _Noreturn void run_command(char **argv, int failed, pid_t keeper)
{
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != keeper)
		_exit(127); /* it died before the line above */
	for (int s = 1; s < NSIG; s++)
		if (s != SIGKILL && s != SIGSTOP)
			signal(s, SIG_DFL);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* When memory runs out, the kernel is to take a worker before the gate. */
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		(void)!write(fd, "500", 3);
		close(fd);
	}
	execvp(argv[0], argv);
	int e = errno;
	(void)!write(failed, &e, sizeof e);
	_exit(127);
}

/* Children that came to us when their parents ended: killed one by one, wherever they have put themselves. */
static void kill_children(void)
{
	pid_t children[CHILDREN_MAX];
	unsigned n = tg_procfs_children(getpid(), children, CHILDREN_MAX);
	for (unsigned i = 0; i < n; i++)
		kill(children[i], SIGKILL);
}

static void sweep(pid_t group)
{
	for (int i = 0; i < SWEEPS; i++) {
		kill(-group, SIGKILL);
		pid_t p;
		while ((p = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (p < 0) /* ECHILD: nobody is left */
			return;
		kill_children();
		nanosleep(&(struct timespec){ .tv_nsec = SWEEP_MS * 1000000L }, NULL);
	}
}

struct kept {
	pid_t command;
	int lifeline, signals;
	int64_t stop_ms, kill_at; /* kill_at 0: not stopping */
};

/* The command's group, and the command itself where it has left it. It has not been reaped yet, so its number is still its own. */
static void signal_command(const struct kept *k, int sig)
{
	kill(-k->command, sig);
	if (getpgid(k->command) != k->command)
		kill(k->command, sig);
}

static void stop(struct kept *k, int64_t grace_ms)
{
	int64_t at = now_ms() + grace_ms;
	if (!k->kill_at)
		signal_command(k, SIGTERM);
	if (!k->kill_at || at < k->kill_at)
		k->kill_at = at;
}

/* What the gate wants; its end is a wish too. */
static void listen_to_gate(struct kept *k)
{
	char c;
	ssize_t n = recv(k->lifeline, &c, 1, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		stop(k, k->stop_ms < TG_KEEP_ORPHAN_MS ? k->stop_ms : TG_KEEP_ORPHAN_MS);
		close(k->lifeline);
		k->lifeline = -1;
	} else if (c == TG_KEEP_STOP) {
		stop(k, k->stop_ms);
	} else {
		stop(k, 0);
	}
}

/* Reaps whatever has ended. True: the command was among it. */
static bool reap(const struct kept *k, int *status)
{
	bool ended = false;
	int st;
	for (pid_t p; (p = waitpid(-1, &st, WNOHANG)) > 0;)
		if (p == k->command) {
			*status = st;
			ended = true;
		}
	return ended;
}

static int keep(struct kept *k)
{
	int status = 0;
	while (!reap(k, &status)) {
		struct pollfd p[2] = { { .fd = k->signals, .events = POLLIN }, { .fd = k->lifeline, .events = POLLIN } };
		int64_t left = k->kill_at ? k->kill_at - now_ms() : -1;
		if (k->kill_at && left <= 0) {
			signal_command(k, SIGKILL);
			left = 1000; /* it may hang in the kernel: asked again */
		}
		if (poll(p, 2, left > 1000000 ? 1000000 : (int)left) < 0 && errno != EINTR)
			nanosleep(&(struct timespec){ .tv_nsec = SWEEP_MS * 1000000L }, NULL);
		struct signalfd_siginfo s;
		if (p[0].revents)
			(void)!read(k->signals, &s, sizeof s);
		if (p[1].revents)
			listen_to_gate(k);
	}
	sweep(k->command);
	if (k->lifeline >= 0)
		report(k->lifeline, WIFSIGNALED(status) ? "signal" : "exit", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return 0;
}

static int usage(void)
{
	fputs("tollgate keep: used by the gate itself, to start a worker\n", stderr);
	return 2;
}

int tg_keeper_main(int argc, char **argv)
{
	if (argc < 5 || strcmp(argv[3], "--") != 0)
		return usage();
	struct kept k = { .lifeline = (int)strtol(argv[1], NULL, 10), .stop_ms = strtol(argv[2], NULL, 10) };
	if (k.lifeline < 3 || fcntl(k.lifeline, F_SETFD, FD_CLOEXEC) != 0)
		return usage();
	setsid();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	close_above(k.lifeline);
	sigset_t all;
	sigfillset(&all); /* a Ctrl-C meant for the gate reaches the command in order, through the lifeline */
	sigprocmask(SIG_SETMASK, &all, NULL);
	sigset_t child;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	k.signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	int failed[2];
	if (k.signals < 0 || pipe2(failed, O_CLOEXEC) != 0) {
		report(k.lifeline, "exec", errno);
		return 1;
	}
	pid_t self = getpid();
	k.command = fork();
	if (k.command == 0)
		run_command(argv + 4, failed[1], self);
	int e = errno;
	close(failed[1]);
	if (k.command < 0 || read(failed[0], &e, sizeof e) == (ssize_t)sizeof e) {
		report(k.lifeline, "exec", e);
		if (k.command > 0)
			(void)waitpid(k.command, NULL, 0); /* the gate, who would inherit it, has no name for it */
		return 127;
	}
	close(failed[0]);
	report(k.lifeline, "pid", (int)k.command);
	return keep(&k);
}
