/*
 * Part of the ThreadSanitizer build only. libuv closes descriptors by syscall(SYS_close), which TSan does not see: it takes the next owner of a number for the
 * last one, and reports a race between two threads that never met. This syscall() takes precedence over the C library's and closes by close(), which is seen.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

typedef long (*syscall_fn)(long number, ...);

long syscall(long number, ...)
{
	static _Atomic(syscall_fn) real;
	long arg[6];
	va_list ap;
	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		arg[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_close)
		return close((int)arg[0]);
	syscall_fn f = real;
	if (!f) {
		*(void **)&f = dlsym(RTLD_NEXT, "syscall");
		real = f;
	}
	if (!f) {
		errno = ENOSYS;
		return -1;
	}
	return f(number, arg[0], arg[1], arg[2], arg[3], arg[4], arg[5]);
}
