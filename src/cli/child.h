#pragma once
/*
 * One command kept alive beside the gate and never left behind. Between the gate and the command stands a keeper, a fork of ourselves that holds one end of
 * a pipe: when the gate ends, however it ends, the pipe closes and the keeper ends the command's whole process group. *The workers'* supervisor takes this over.
 */
#include "base/err.h"
#include <stdbool.h>
#include <sys/types.h>

struct tg_child {
	pid_t keeper;
	int output;   /* what the command writes, both streams; non-blocking */
	int lifeline; /* closing it ends the command */
};
/* Forks; must be called before any thread is made. argv ends with NULL. */
bool tg_child_start(struct tg_child *c, char **argv, struct tg_err *err);
/* Ends the command (SIGTERM, after 5 s SIGKILL) and waits for the keeper. Returns the exit status as of waitpid, -1 if it was fetched before. */
int tg_child_end(struct tg_child *c);
