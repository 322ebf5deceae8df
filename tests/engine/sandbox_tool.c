/*
 * A program in the engine's sandbox that tries to get out: sandbox_tool in|out SPOOL MODELS. It prints one line a try, its name and errno (0: it worked). "out" leaves the sandbox away, which shows
 * that a try that fails within would work without it. The first line is Landlock's version. Run by test_sandbox.py, which knows what is expected.
 */
#include "engine/sandbox.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <unistd.h>

static int spool, models, early; /* early: a socket from before */

static void tell(const char *name, long r)
{
	printf("%s %d\n", name, r < 0 ? errno : 0);
	fflush(stdout);
}

static int opened(int fd)
{
	if (fd >= 0)
		close(fd);
	return fd;
}

static void *thread(void *arg)
{
	return arg;
}

static void *own_page(int protection)
{
	void *p = mmap(NULL, 4096, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

/* In a process of its own, for what would change or end this one. */
static void apart(const char *name, long (*what)(void))
{
	int status;
	pid_t p = fork();
	if (p == 0) {
		errno = 0;
		_exit(what() < 0 ? errno : 0);
	}
	errno = 0;
	if (p > 0)
		waitpid(p, &status, 0);
	printf("%s %d\n", name, p < 0 ? errno : WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status));
	fflush(stdout);
}

static long run_program(void)
{
	char *const argv[] = { (char[]){ "true" }, NULL };
	return execve("/bin/true", argv, NULL);
}
static long run_by_descriptor(void)
{
	char *const argv[] = { (char[]){ "true" }, NULL };
	return syscall(SYS_execveat, open("/bin/true", O_RDONLY | O_CLOEXEC), "", argv, NULL, AT_EMPTY_PATH);
}
static long trace_me(void)
{
	return ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}
static long new_user(void)
{
	return unshare(CLONE_NEWUSER);
}
static long new_user_by_clone(void)
{
	long p = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
	if (p == 0)
		_exit(0);
	return p;
}
static long clone3_is_there(void)
{
	return syscall(SYS_clone3, NULL, 0);
}

/* What the engine must still be able to do. */
static void needed(void)
{
	pthread_t t;
	int e = pthread_create(&t, NULL, thread, NULL);
	errno = e;
	tell("thread", e ? -1 : 0);
	if (!e)
		pthread_join(t, NULL);
	tell("fork", 0);
	tell("read_model", opened(openat(models, "good.tgm", O_RDONLY)));
	tell("write_spool", opened(openat(spool, "x.part", O_WRONLY | O_CREAT | O_TRUNC, 0600)));
	tell("rename_in_spool", renameat(spool, "x.part", spool, "x"));
	tell("read_spool", opened(openat(spool, "x", O_RDONLY)));
	tell("list_spool", opened(openat(spool, ".", O_RDONLY | O_DIRECTORY)));
	tell("remove_from_spool", unlinkat(spool, "x", 0));
	tell("memory", own_page(PROT_READ | PROT_WRITE) ? 0 : -1);
}

static void files(void)
{
	tell("read_passwd", opened(open("/etc/passwd", O_RDONLY)));
	tell("read_above_models", opened(openat(models, "../secret", O_RDONLY)));
	tell("read_by_link", opened(openat(models, "link.tgm", O_RDONLY)));
	tell("list_models", opened(openat(models, ".", O_RDONLY | O_DIRECTORY)));
	tell("write_model", opened(openat(models, "good.tgm", O_WRONLY)));
	tell("new_model", opened(openat(models, "new.tgm", O_WRONLY | O_CREAT, 0600)));
	tell("remove_model", unlinkat(models, "victim.tgm", 0));
	tell("write_above_spool", opened(openat(spool, "../written", O_WRONLY | O_CREAT, 0600)));
	tell("write_tmp", opened(open("/tmp/.tollgate-sandbox-test", O_WRONLY | O_CREAT, 0600)));
	unlink("/tmp/.tollgate-sandbox-test");
	tell("folder_in_spool", mkdirat(spool, "folder", 0700));
	tell("link_in_spool", symlinkat("/etc/passwd", spool, "link"));
	int fd = openat(spool, "moved", O_WRONLY | O_CREAT, 0600);
	opened(fd);
	tell("move_out_of_spool", renameat(spool, "moved", spool, "../moved"));
	unlinkat(spool, "moved", 0);
}

static void network(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int pair[2];
	tell("socket_tcp", opened(socket(AF_INET, SOCK_STREAM, 0)));
	tell("socket_udp", opened(socket(AF_INET, SOCK_DGRAM, 0)));
	tell("socket_unix", opened(socket(AF_UNIX, SOCK_STREAM, 0)));
	tell("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	tell("connect", connect(early, (struct sockaddr *)&to, sizeof to));
	tell("bind", bind(early, (struct sockaddr *)&(struct sockaddr_in){ .sin_family = AF_INET }, sizeof to));
}

static void code(void)
{
	void *p = own_page(PROT_READ | PROT_WRITE);
	apart("execve", run_program);
	apart("execveat", run_by_descriptor);
	tell("map_code", own_page(PROT_READ | PROT_WRITE | PROT_EXEC) ? 0 : -1);
	tell("make_code", mprotect(p, 4096, PROT_READ | PROT_EXEC));
	tell("memfd", opened((int)syscall(SYS_memfd_create, "x", 0)));
}

static void others(void)
{
	struct rlimit r;
	char c = 0, d;
	struct iovec from = { &c, 1 }, to = { &d, 1 };
	apart("ptrace", trace_me);
	apart("unshare", new_user);
	apart("clone_user", new_user_by_clone);
	apart("clone3", clone3_is_there);
	tell("kill_parent", kill(getppid(), 0));
	tell("limits_of_parent", (long)syscall(SYS_prlimit64, getppid(), RLIMIT_NOFILE, NULL, &r));
	tell("pidfd", opened((int)syscall(SYS_pidfd_open, getppid(), 0)));
	tell("read_process", (long)syscall(SYS_process_vm_readv, getpid(), &to, 1, &from, 1, 0));
	tell("mount", (long)syscall(SYS_mount, NULL, NULL, NULL, 0, NULL)); /* root's tests run outside too: nothing here may do anything if it works */
	tell("bpf", (long)syscall(SYS_bpf, 0, NULL, 0));
	tell("keyctl", (long)syscall(SYS_keyctl, 0, 0, 0, 0, 0));
	tell("setns", (long)syscall(SYS_setns, -1, 0));
	tell("open_by_handle", (long)syscall(SYS_open_by_handle_at, -1, NULL, 0));
	tell("io_uring", (long)syscall(SYS_io_uring_setup, 0, NULL));
	tell("userfaultfd", opened((int)syscall(SYS_userfaultfd, O_CLOEXEC)));
	tell("perf", (long)syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
	tell("unknown", (long)syscall(100000));
}

int main(int argc, char **argv)
{
	struct tg_err err = { "" };
	int version = 0;
	if (argc != 4)
		return 2;
	spool = open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	models = open(argv[3], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	early = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int read[] = { models, -1 };
	if (strcmp(argv[1], "in") == 0 && !tg_sandbox_enter(&(struct tg_sandbox){ .read = read, .nread = 2, .write = spool }, &version, &err)) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	printf("landlock %d\n", version);
	needed();
	files();
	network();
	code();
	others();
	return 0;
}
