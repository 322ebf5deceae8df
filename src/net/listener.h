#pragma once
/*
 * Listening sockets. One configured address ("127.0.0.1:9001", "tls:[::1]:0", "unix:/path") becomes one socket per loop: TCP by SO_REUSEPORT, so that the
 * kernel spreads connections; a Unix socket is one descriptor that all loops accept from.
 */
#include "base/err.h"
#include "config/config.h"
#include "net/addr.h"
#include "net/loop.h"

struct tg_listen_addr {
	char text[128];        /* as listened on: "127.0.0.1:43121", "tls:[::1]:443", "unix:/run/x.sock" */
	enum tg_listen_kind kind;
	uint16_t port;         /* of TCP: the one that 0 became */
	bool unix_socket;
	bool loopback;         /* the address is: no other machine can reach it */
	int *fds;              /* one a loop; owned */
	unsigned nfds;
	char *unlink_path;     /* the socket file we made; owned */
};
enum tg_bind_result { TG_BIND_OK, TG_BIND_TAKEN, TG_BIND_FAILED };
enum tg_bind_result tg_listen_bind(struct tg_listen_addr *a, const char *spec, unsigned nloops, struct tg_err *err);
void tg_listen_free(struct tg_listen_addr *a); /* closes what no loop took over, removes the socket file */

struct tg_listener {
	uv_poll_t poll;
	uv_timer_t pause;      /* out of descriptors: accept again a little later, no busy loop */
	struct tg_loop *loop;
	const struct tg_listen_addr *addr;
	int fd;
	bool closing;
	int open_handles;
	/* a connection was accepted (non-blocking, TCP_NODELAY set); the callee owns fd */
	void (*on_accept)(struct tg_listener *l, int fd, const struct tg_addr *peer);
};
bool tg_listener_start(struct tg_listener *l, struct tg_loop *loop, const struct tg_listen_addr *a);
/* Accepts what is already in the backlog (those clients believe that they are connected), then closes. */
void tg_listener_stop(struct tg_listener *l);
