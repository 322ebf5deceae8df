/*
 * The sandbox (see sandbox.h).
 *
 * System calls by an allow-list: what is not known to be needed does not work, new calls of new kernels among it. What is not on it answers ENOSYS, which every library takes for an older kernel and
 * works round; the calls by which code breaks out are named and answer EPERM. Nothing is killed for trying: a library that probes what the machine can do is no attack. It holds under
 * AddressSanitizer too, whose leak check stops the process's own threads by ptrace(2) and finds them in /proc: in such a build, which is never given to anybody, these two are let be.
 *
 * Why all libraries are linked and none is opened later: mappings that can be executed are refused from here on, and so is the reading of /usr. That also goes for what a library would like to
 * read (OpenMP and XGBoost the number of processors in /sys and /proc, locales, /etc): each of them copes, and sched_getaffinity(2) tells the number.
 *
 * Landlock by its version: 1 files, 2 moves between folders, 3 truncation, 4 TCP, 5 devices, 6 signals and abstract sockets. What a kernel does not know is left out; the constants are written
 * here because the headers of Debian 12 know version 2.
 */
#include "engine/sandbox.h"
#include "base/landlock.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* ---- files ---- */

#define FS_V1 ((1ull << 13) - 1)      /* execute .. make_sym */
#define FS_REFER (1ull << 13)
#define FS_TRUNCATE (1ull << 14)
#define FS_IOCTL_DEV (1ull << 15)
#define NET_TCP 3ull                  /* bind, connect */
#define SCOPED 3ull                   /* abstract sockets, signals */
struct ruleset {
	uint64_t fs, net, scoped;
};
static const uint64_t readable = LANDLOCK_ACCESS_FS_READ_FILE;
static const uint64_t writable = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE;

static bool allow(int ruleset, int folder, uint64_t what)
{
	struct landlock_path_beneath_attr rule = { .allowed_access = what, .parent_fd = folder };
	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
}

static bool bound_files(const struct tg_sandbox *s, int version, struct tg_err *err)
{
	struct ruleset r = { .fs = FS_V1 | (version >= 2 ? FS_REFER : 0) | (version >= 3 ? FS_TRUNCATE : 0) | (version >= 5 ? FS_IOCTL_DEV : 0),
			     .net = version >= 4 ? NET_TCP : 0,
			     .scoped = version >= 6 ? SCOPED : 0 };
	size_t size = version >= 6 ? sizeof r : version >= 4 ? offsetof(struct ruleset, scoped) : offsetof(struct ruleset, net);
	int fd = (int)syscall(SYS_landlock_create_ruleset, &r, size, 0);
	bool ok = fd >= 0;
	for (unsigned i = 0; ok && i < s->nread; i++)
		ok = s->read[i] < 0 || allow(fd, s->read[i], readable);
	ok = ok && allow(fd, s->write, writable | (version >= 3 ? FS_TRUNCATE : 0));
	if (ok && SANITIZED) {
		int proc = open("/proc", O_PATH | O_CLOEXEC);
		ok = proc >= 0 && allow(fd, proc, LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR);
		if (proc >= 0)
			close(proc);
	}
	ok = ok && syscall(SYS_landlock_restrict_self, fd, 0) == 0;
	if (!ok)
		tg_err_set(err, "Landlock version %d: %s", version, strerror(errno));
	if (fd >= 0)
		close(fd);
	return ok;
}

/* ---- system calls ---- */

static const char *const allowed[] = {
	/* files and what is open */
	"access", "close", "close_range", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64", "fallocate", "fcntl", "fdatasync", "flock", "fstat", "fstatfs", "fsync", "ftruncate",
	"getdents", "getdents64", "lseek", "lstat", "newfstatat", "open", "openat", "openat2", "pipe", "pipe2", "pread64", "pwrite64", "read", "readlink", "readlinkat", "readv", "rename", "renameat",
	"renameat2", "stat", "statfs", "statx", "umask", "unlink", "unlinkat", "write", "writev",
	/* connections that are there, and those accepted */
	"accept", "accept4", "getpeername", "getsockname", "getsockopt", "poll", "ppoll", "recvfrom", "recvmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
	/* memory */
	"brk", "madvise", "mincore", "mremap", "msync", "munmap",
	/* threads and processes of our own */
	"arch_prctl", "exit", "exit_group", "fork", "futex", "futex_waitv", "get_robust_list", "getcpu", "getegid", "geteuid", "getgid", "getpgrp", "getpid", "getppid", "getpriority", "gettid", "getuid",
	"kill", "membarrier", "prctl", "restart_syscall", "rseq", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity", "sched_getparam", "sched_getscheduler", "sched_yield",
	"set_robust_list", "set_tid_address", "tgkill", "wait4", "waitid",
	/* signals, time, numbers */
	"clock_getres", "clock_gettime", "clock_nanosleep", "getrandom", "getrusage", "gettimeofday", "nanosleep", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigreturn", "rt_sigsuspend",
	"rt_sigtimedwait", "sigaltstack", "sysinfo", "time", "times", "uname",
};
static const char *const refused[] = {
	"acct", "add_key", "bind", "bpf", "chroot", "connect", "delete_module", "execve", "execveat", "finit_module", "init_module", "io_uring_enter", "io_uring_register", "io_uring_setup",
	"kexec_load", "keyctl", "listen", "memfd_create", "memfd_secret", "mount", "move_mount", "name_to_handle_at", "open_by_handle_at", "open_tree", "perf_event_open", "personality",
	"pidfd_getfd", "pidfd_open", "pidfd_send_signal", "pivot_root", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace", "reboot", "request_key", "setns", "setuid", "setgid", "socket",
	"socketpair", "swapon", "umount2", "unshare", "userfaultfd", "vfork",
};

static bool add(scmp_filter_ctx f, uint32_t action, const char *name, unsigned n, const struct scmp_arg_cmp *args)
{
	int nr = seccomp_syscall_resolve_name(name);
	if (nr == __NR_SCMP_ERROR)
		return true; /* this library does not know it: the default is what it gets */
	int r = seccomp_rule_add_array(f, action, nr, n, args);
	return r == 0 || r == -EDOM || (nr < 0 && r == -EINVAL); /* not on this kind of processor */
}

static bool bound_calls(struct tg_err *err)
{
	const struct scmp_arg_cmp no_code = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
				  no_namespace = SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET, 0),
				  own = SCMP_A0(SCMP_CMP_EQ, 0, 0), own_priority[] = { SCMP_A0(SCMP_CMP_EQ, PRIO_PROCESS, 0), SCMP_A1(SCMP_CMP_EQ, 0, 0) };
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	bool ok = f != NULL;
	for (size_t i = 0; ok && i < sizeof allowed / sizeof allowed[0]; i++)
		ok = add(f, SCMP_ACT_ALLOW, allowed[i], 0, NULL);
	for (size_t i = 0; ok && i < sizeof refused / sizeof refused[0]; i++)
		ok = (SANITIZED && strcmp(refused[i], "ptrace") == 0) || add(f, SCMP_ACT_ERRNO(EPERM), refused[i], 0, NULL);
	/* clone3's arguments lie in memory, where a filter cannot see them: it stays ENOSYS, and the C library takes clone. */
	ok = ok && add(f, SCMP_ACT_ALLOW, "mmap", 1, &no_code) && add(f, SCMP_ACT_ALLOW, "mprotect", 1, &no_code) && add(f, SCMP_ACT_ALLOW, "clone", 1, &no_namespace);
	ok = ok && add(f, SCMP_ACT_ALLOW, "prlimit64", 1, &own) && add(f, SCMP_ACT_ALLOW, "setpriority", 2, own_priority);
	if (ok && SANITIZED)
		ok = add(f, SCMP_ACT_ALLOW, "ptrace", 0, NULL);
	int r = ok ? seccomp_load(f) : -EINVAL;
	if (r != 0)
		tg_err_set(err, "seccomp: %s", strerror(-r));
	seccomp_release(f);
	return r == 0;
}

/* Threads that were there before would be outside. */
static bool alone(void)
{
	struct stat st;
	return stat("/proc/self/task", &st) == 0 && st.st_nlink == 3;
}

bool tg_sandbox_enter(const struct tg_sandbox *s, int *files, struct tg_err *err)
{
	struct rlimit none = { 0 };
	if (!alone()) {
		tg_err_set(err, "there are threads already, which a library has started, or there is no /proc to tell");
		return false;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || (setrlimit(RLIMIT_CORE, &none) != 0)) {
		tg_err_set(err, "no new privileges: %s", strerror(errno));
		return false;
	}
	*files = tg_landlock_version();
	return (*files < 0 || bound_files(s, *files, err)) && bound_calls(err);
}
