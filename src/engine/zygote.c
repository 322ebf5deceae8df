/*
 * The zygote (see zygote.h). A request is one message with three descriptors: the child's two pipes, and one for its end. The pipe to the child is its lifeline as well: the zygote holds the reading
 * end too, and when the other end is closed the child is killed. So there is no number of a process that the engine could kill when it belongs to somebody else.
 */
#include "engine/zygote.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define NICE 5
#define END_MS 10000

struct child {
	pid_t pid; /* 0: a free place */
	int in, status;
};
struct zygote {
	const struct tg_zygote_conf *conf;
	int control;
	pid_t self;
	struct child children[TG_ZYGOTE_JOBS_MAX];
};

static void on_child(int sig)
{
	(void)sig; /* only to end ppoll */
}

static _Noreturn void be_child(struct zygote *z, int in, int out, int status)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != z->self)
		_exit(1); /* it ended before the line above */
	sigset_t none;
	sigemptyset(&none);
	signal(SIGCHLD, SIG_DFL);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close(z->control);
	close(status);
	for (unsigned i = 0; i < TG_ZYGOTE_JOBS_MAX; i++)
		if (z->children[i].pid) {
			close(z->children[i].in);
			close(z->children[i].status);
		}
	(void)setpriority(PRIO_PROCESS, 0, NICE); /* answers come before trainings */
#if !defined(__SANITIZE_ADDRESS__)
	struct rlimit memory = { .rlim_cur = z->conf->memory, .rlim_max = z->conf->memory };
	if (z->conf->memory && setrlimit(RLIMIT_DATA, &memory) != 0)
		_exit(1);
#endif
	z->conf->job(z->conf->ctx, in, out);
	_exit(0);
}

/* What came with a message; fewer than three are closed. */
static bool take_message(int control, int fds[3], bool *end)
{
	char byte;
	struct iovec io = { &byte, 1 };
	union {
		char space[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr align;
	} u;
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = u.space, .msg_controllen = sizeof u.space };
	ssize_t n = recvmsg(control, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	*end = n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS || c->cmsg_len < CMSG_LEN(0))
		return false;
	size_t have = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	int got[3];
	memcpy(got, CMSG_DATA(c), (have < 3 ? have : 3) * sizeof(int));
	if (have == 3) {
		memcpy(fds, got, sizeof got);
		return true;
	}
	for (size_t i = 0; i < have && i < 3; i++)
		close(got[i]);
	return false;
}

static void take_request(struct zygote *z, bool *end)
{
	int fds[3]; /* in, out, status */
	if (!take_message(z->control, fds, end))
		return;
	struct child *c = z->children;
	while (c < z->children + TG_ZYGOTE_JOBS_MAX && c->pid)
		c++;
	pid_t pid = c < z->children + TG_ZYGOTE_JOBS_MAX ? fork() : -1;
	if (pid == 0)
		be_child(z, fds[0], fds[1], fds[2]);
	close(fds[1]);
	if (pid > 0) {
		*c = (struct child){ pid, fds[0], fds[2] };
	} else { /* that nothing is written to it says so */
		close(fds[0]);
		close(fds[2]);
	}
}

static void reap(struct zygote *z)
{
	int status;
	for (pid_t p; (p = waitpid(-1, &status, WNOHANG)) > 0;)
		for (struct child *c = z->children; c < z->children + TG_ZYGOTE_JOBS_MAX; c++)
			if (c->pid == p) {
				(void)!write(c->status, &status, sizeof status);
				close(c->status);
				close(c->in);
				c->pid = 0;
			}
}

static _Noreturn void be_zygote(struct zygote *z)
{
	struct pollfd p[1 + TG_ZYGOTE_JOBS_MAX];
	struct child *of[TG_ZYGOTE_JOBS_MAX];
	sigset_t blocked, open;
	sigfillset(&blocked);
	sigprocmask(SIG_SETMASK, &blocked, NULL); /* signals for the engine are not for us: we end with it */
	open = blocked;
	sigdelset(&open, SIGCHLD);
	struct sigaction a = { .sa_handler = on_child };
	sigaction(SIGCHLD, &a, NULL);
	for (bool end = false; !end;) {
		nfds_t n = 1;
		p[0] = (struct pollfd){ .fd = z->control, .events = POLLIN };
		for (struct child *c = z->children; c < z->children + TG_ZYGOTE_JOBS_MAX; c++)
			if (c->pid) {
				of[n - 1] = c;
				p[n++] = (struct pollfd){ .fd = c->in };
			}
		int r = ppoll(p, n, NULL, &open);
		for (nfds_t i = 1; r > 0 && i < n; i++)
			if (p[i].revents)
				kill(of[i - 1]->pid, SIGKILL); /* nobody waits for it any more; it has not been reaped, so its number is still its own */
		reap(z);
		if (r > 0 && p[0].revents)
			take_request(z, &end);
	}
	for (struct child *c = z->children; c < z->children + TG_ZYGOTE_JOBS_MAX; c++)
		if (c->pid)
			kill(c->pid, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	_exit(0);
}

bool tg_zygote_pair(int pair[2], struct tg_err *err)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0)
		return true;
	tg_err_set(err, "a pair of sockets: %s", strerror(errno));
	return false;
}

bool tg_zygote_start(struct tg_zygote *z, int pair[2], const struct tg_zygote_conf *conf, struct tg_err *err)
{
	pid_t parent = getpid(), pid = fork();
	if (pid < 0) {
		tg_err_set(err, "a process for trainings: %s", strerror(errno));
		close(pair[0]);
		close(pair[1]);
		return false;
	}
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		close(pair[0]);
		close(conf->not_its);
		static struct zygote me;
		me = (struct zygote){ .conf = conf, .control = pair[1], .self = getpid() };
		be_zygote(&me);
	}
	close(pair[1]);
	*z = (struct tg_zygote){ pid, pair[0] };
	return true;
}

void tg_zygote_stop(struct tg_zygote *z)
{
	close(z->control); /* that ends it, after its children */
	while (waitpid(z->pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static bool send_request(const struct tg_zygote *z, const int fds[3])
{
	char byte = 'r';
	struct iovec io = { &byte, 1 };
	union {
		char space[CMSG_SPACE(3 * sizeof(int))];
		struct cmsghdr align;
	} u = { 0 };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1, .msg_control = u.space, .msg_controllen = sizeof u.space };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(3 * sizeof(int));
	memcpy(CMSG_DATA(c), fds, 3 * sizeof(int));
	ssize_t n;
	do
		n = sendmsg(z->control, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n == 1;
}

bool tg_zygote_run(const struct tg_zygote *z, struct tg_zygote_job *j, struct tg_err *err)
{
	int pipes[3][2], n = 0;
	while (n < 3 && pipe2(pipes[n], O_CLOEXEC) == 0)
		n++;
	bool ok = n == 3 && send_request(z, (const int[3]){ pipes[0][0], pipes[1][1], pipes[2][1] });
	if (!ok)
		tg_err_set(err, "a process for a training: %s", strerror(errno));
	/* Theirs are theirs alone now; of those that go nowhere both go. */
	for (int i = 0; i < n; i++) {
		close(pipes[i][i == 0 ? 0 : 1]);
		if (!ok)
			close(pipes[i][i == 0 ? 1 : 0]);
	}
	if (ok)
		*j = (struct tg_zygote_job){ .in = pipes[0][1], .out = pipes[1][0], .status = pipes[2][0] };
	return ok;
}

int tg_zygote_end(struct tg_zygote_job *j)
{
	int status = -1;
	close(j->in);
	struct pollfd p = { .fd = j->status, .events = POLLIN };
	int r;
	do
		r = poll(&p, 1, END_MS); /* what survives SIGKILL for so long hangs in the kernel */
	while (r < 0 && errno == EINTR);
	if (r <= 0 || read(j->status, &status, sizeof status) != (ssize_t)sizeof status)
		status = -1;
	close(j->status);
	close(j->out);
	return status;
}
