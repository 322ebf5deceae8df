#pragma once
/*
 * A process of one thread, made before the engine has any, that makes a process for each training. Once there are threads a fork could inherit a lock that nobody gives back, and OpenMP does not work
 * in a child of a process that has used it; and to run the program anew is what the sandbox forbids. All of them end when the engine does, in whatever way.
 */
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define TG_ZYGOTE_JOBS_MAX 128

struct tg_zygote {
	pid_t pid;
	int control; /* readable when it has ended: to be watched for that */
};
struct tg_zygote_conf {
	void (*job)(void *ctx, int in, int out); /* the whole life of a child; returns: it exits with 0 */
	void *ctx;
	uint64_t memory; /* bytes a child may have for its data; 0: no bound. Left out in a build with AddressSanitizer */
	int not_its;     /* a descriptor that is none of its business: the listening socket */
};
/* The two ends of its control: made before the sandbox, which refuses sockets. */
bool tg_zygote_pair(int pair[2], struct tg_err *err);
/* Takes both ends over. No thread may be running. */
bool tg_zygote_start(struct tg_zygote *z, int pair[2], const struct tg_zygote_conf *conf, struct tg_err *err);
void tg_zygote_stop(struct tg_zygote *z); /* it and its children are gone when this returns */

struct tg_zygote_job {
	int in, out;  /* to the child, from the child: ours */
	int status;   /* readable once it has ended */
};
/* A child. Any thread; err: there are too many, or there is no zygote any more. */
bool tg_zygote_run(const struct tg_zygote *z, struct tg_zygote_job *j, struct tg_err *err);
/* Ends it, by SIGKILL where it still runs, waits until it is gone and closes everything. wait(2)'s status; -1: not known. */
int tg_zygote_end(struct tg_zygote_job *j);
