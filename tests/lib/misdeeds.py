"""
What no worker should do, and a resolver and a clock that do as they are told: faults that the suites and the table of docs/reliability.md share.

    MISDEEDS                  name -> script for lib.raw.RawWorker: answers that no worker should give
    two_answers, endless_event  two more, which clients do not notice
    resolver_shim(folder)     a library for LD_PRELOAD: RESOLVER_FILE says what the name worker.test is: "sleep N", "fail" or an address
    clock_shim(folder)        another: CLOCK_FILE has by how many seconds (a native int64) the time of day is another one
"""
import socket
import struct
import subprocess

from .raw import GOOD_ANSWER, SSE_HEAD


def rst(c):
    c.s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.s.close()


def half_head(c):
    c.read_request()
    c.send(b"HTTP/1.1 200 OK\r\nContent-Le")


def endless_head(c):
    c.read_request()
    c.send(b"HTTP/1.1 200 OK\r\n")
    for i in range(1 << 20):  # a gigabyte, if anybody took it
        c.send(b"X-Pad-%d: %s\r\n" % (i, b"x" * 1000))


def endless_header_line(c):
    c.read_request()
    c.send(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(1 << 20):
        c.send(b"x" * 1024)


def endless_interim(c):
    c.read_request()
    while True:
        c.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 50)


def endless_chunk_extension(c):
    c.read_request()
    c.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1;")
    while True:
        c.send(b"x" * 65536)


def endless_event(c):
    c.read_request()
    c.send(SSE_HEAD + b"8000000000000\r\ndata: ")
    while True:
        c.send(b"x" * 65536)


def rubbish(c):
    c.read_request()
    c.send(bytes(range(256)) * 16)


def tls_hello(c):
    c.read_request()
    c.send(b"\x15\x03\x01\x00\x02\x02\x28")


def half_close(c):
    c.read_request()
    c.s.shutdown(socket.SHUT_WR)
    c.wait_closed(5)


def length_lie(c):
    c.read_request()
    c.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n{}")


def resets(c):
    c.read_request()
    rst(c)


def two_answers(c):
    c.read_request()
    c.send(GOOD_ANSWER + GOOD_ANSWER)


MISDEEDS = {f.__name__: f for f in (half_head, endless_head, endless_header_line, endless_interim, rubbish, tls_hello, half_close, resets, length_lie, endless_chunk_extension)}


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* getaddrinfo as a file says: "sleep N", "fail", or "ADDRESS" for the name worker.test; others as ever. */
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res)
{
	static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
	char line[64] = "";
	if (!real)
		real = (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(RTLD_NEXT, "getaddrinfo");
	if (!node || strcmp(node, "worker.test") != 0)
		return real(node, service, hints, res);
	FILE *f = fopen(getenv("RESOLVER_FILE"), "r");
	if (f && !fgets(line, sizeof line, f))
		line[0] = 0;
	if (f)
		fclose(f);
	line[strcspn(line, "\n")] = 0;
	if (strncmp(line, "sleep ", 6) == 0) {
		sleep((unsigned)strtoul(line + 6, NULL, 10));
		return EAI_AGAIN;
	}
	return strcmp(line, "fail") == 0 ? EAI_NONAME : real(line, service, hints, res);
}
"""


def resolver_shim(folder):
    (folder / "shim.c").write_text(SHIM)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", folder / "shim.so", folder / "shim.c", "-ldl"], check=True)
    return folder / "shim.so"


CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *t)
{
	static int (*real)(clockid_t, struct timespec *);
	static volatile long *by;
	if (!real) {
		int fd = open(getenv("CLOCK_FILE"), O_RDONLY);
		void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *by, PROT_READ, MAP_SHARED, fd, 0);
		by = at == MAP_FAILED ? NULL : at;
		real = dlsym(RTLD_NEXT, "clock_gettime");
	}
	int r = real(clock, t);
	if (r == 0 && by && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		t->tv_sec += *by;
	return r;
}
"""


def clock_shim(folder):
    (folder / "clock.c").write_text(CLOCK)
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", folder / "clock.so", folder / "clock.c", "-ldl"], check=True)
    return folder / "clock.so"
