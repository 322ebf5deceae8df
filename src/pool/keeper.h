#pragma once
/*
 * The keeper: a process between the gate and one command that it starts, so that the command never outlives the gate. It is this program, run again as
 * `tollgate keep FD STOP_MS -- COMMAND ...` by pool/child.c; nobody types that.
 *
 * FD is its end of a stream socket pair, the lifeline. The gate writes one byte to it: TG_KEEP_STOP (SIGTERM to the command's process group, after STOP_MS
 * SIGKILL) or TG_KEEP_KILL (SIGKILL now). The end of the gate, however it comes, closes the other end and means TG_KEEP_STOP with at most
 * TG_KEEP_ORPHAN_MS. The keeper writes lines:
 *   "exec ERRNO"   the command could not be run; nothing follows
 *   "pid N"        it runs; N is its process id and its process group
 *   "exit STATUS"  it has ended by itself or was ended, and nothing of it is left
 *   "signal N"     the same, by a signal
 */

#define TG_KEEP_STOP 'T'
#define TG_KEEP_KILL 'K'
#define TG_KEEP_ORPHAN_MS 2000

/* The whole program, from argv[0] = "keep". The exit status tells nothing that the lines do not. */
int tg_keeper_main(int argc, char **argv);
