/*
 * The keeper (see child.h): plain processes and poll(2), no thread and no loop, so that it works in a fork. It runs in a session of its own: a Ctrl-C meant for the gate
 * reaches the command through the keeper only, in order.
 */
#include "cli/child.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TERM_GRACE_MS 5000

static void pause_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000L };
	nanosleep(&t, NULL);
}

static _Noreturn void run_command(char **argv, int output)
{
	setpgid(0, 0);
	dup2(output, 1);
	dup2(output, 2);
	int null = open("/dev/null", O_RDONLY);
	if (null >= 0)
		dup2(null, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* should even the keeper be killed */
	signal(SIGPIPE, SIG_DFL);
	/* The gate's keys are none of the worker's business. */
	static const char *const ours[] = { "INFERENCE_ADMIN_KEY", "INFERENCE_READ_KEY", "TOLLGATE_API_KEYS", "CHAPKIT_API_KEYS", "TOLLGATE_AUTH_ADMIN_KEY",
					    "TOLLGATE_AUTH_READ_KEY", "TOLLGATE_AUTH_KEYS", "TOLLGATE_AUTH_CHAPKIT_KEYS", "NOTIFY_SOCKET" };
	for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
		unsetenv(ours[i]);
	execvp(argv[0], argv);
	dprintf(2, "%s: %s\n", argv[0], strerror(errno));
	_exit(127);
}

/* Waits until the command ends or the lifeline closes. */
static _Noreturn void keep(pid_t command, int lifeline)
{
	int status = 0;
	for (;;) {
		struct pollfd p = { .fd = lifeline, .events = POLLIN };
		bool gone = poll(&p, 1, 100) > 0;
		if (waitpid(command, &status, WNOHANG) == command)
			break;
		if (gone) {
			kill(-command, SIGTERM);
			for (int i = 0; i < TERM_GRACE_MS / 50 && waitpid(command, &status, WNOHANG) == 0; i++)
				pause_ms(50);
			break;
		}
	}
	kill(-command, SIGKILL); /* what is left of its group */
	waitpid(command, &status, WNOHANG);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : WIFSIGNALED(status) ? 128 + WTERMSIG(status) : 1);
}

bool tg_child_start(struct tg_child *c, char **argv, struct tg_err *err)
{
	int out[2] = { -1, -1 }, life[2] = { -1, -1 };
	if (pipe2(out, O_CLOEXEC) || pipe2(life, O_CLOEXEC)) {
		tg_err_set(err, "no pipe: %s", strerror(errno));
		return false;
	}
	c->keeper = fork();
	if (c->keeper < 0) {
		tg_err_set(err, "no process: %s", strerror(errno));
		return false;
	}
	if (c->keeper == 0) {
		setsid();
		signal(SIGTERM, SIG_IGN);
		signal(SIGINT, SIG_IGN);
		signal(SIGHUP, SIG_IGN);
		close(life[1]);
		close(out[0]);
		pid_t command = fork();
		if (command == 0) {
			signal(SIGTERM, SIG_DFL);
			signal(SIGINT, SIG_DFL);
			signal(SIGHUP, SIG_DFL);
			run_command(argv, out[1]);
		}
		close(out[1]);
		if (command < 0)
			_exit(1);
		setpgid(command, command);
		keep(command, life[0]);
	}
	close(out[1]);
	close(life[0]);
	c->output = out[0];
	c->lifeline = life[1];
	fcntl(c->output, F_SETFL, O_NONBLOCK);
	return true;
}

int tg_child_end(struct tg_child *c)
{
	if (c->lifeline >= 0)
		close(c->lifeline);
	c->lifeline = -1;
	if (c->keeper <= 0)
		return -1;
	int status = -1;
	for (int i = 0; i < (TERM_GRACE_MS + 3000) / 20; i++) {
		if (waitpid(c->keeper, &status, WNOHANG) == c->keeper)
			break;
		pause_ms(20);
	}
	c->keeper = 0;
	return status;
}
