/*
 * `tollgate engine tabular`: becomes tollgate-engine, which is a program of its own so that the gate never links a BLAS or reads a model's file. It is looked for beside this very file first: the
 * two belong to one build, and what else of that name is in PATH may be of another.
 */
#include "cli/cli.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRAM "tollgate-engine"

static int usage(FILE *out, int code)
{
	fputs("usage: tollgate engine tabular --socket PATH --spool FOLDER --models FOLDER --datasets FOLDER [--threads N] [--memory-mib N]\n"
	      "\n"
	      "Runs " PROGRAM ", which trains models and predicts with them. `tollgate serve` does this by itself when somebody first asks for it ([ml] engine).\n"
	      "`tollgate engine tabular --help` is that program's own help.\n",
	      out);
	return code;
}

/* The folder of this program with a slash; "": not known. */
static void own_folder(char out[PATH_MAX])
{
	ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
	out[n > 0 ? n : 0] = 0;
	char *slash = strrchr(out, '/');
	out[slash ? slash + 1 - out : 0] = 0;
}

int tg_cmd_engine(int argc, char **argv)
{
	static char name[] = PROGRAM;
	char folder[PATH_MAX], path[PATH_MAX + sizeof name];
	if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
		return usage(stdout, 0);
	if (argc < 2 || strcmp(argv[1], "tabular") != 0) {
		fprintf(stderr, argc < 2 ? "tollgate engine: which one? There is \"tabular\"\n" : "tollgate engine: there is no engine of that name; there is \"tabular\"\n");
		return usage(stderr, 2);
	}
	setenv("OPENBLAS_NUM_THREADS", "1", 1); /* its main says why */
	argv[1] = name;
	own_folder(folder);
	snprintf(path, sizeof path, "%s" PROGRAM, folder);
	if (folder[0])
		execv(path, argv + 1);
	if (!folder[0] || errno == ENOENT)
		execvp(name, argv + 1);
	fprintf(stderr, "tollgate engine: " PROGRAM " cannot be run: %s; it belongs beside this program (%s) or in PATH, and comes with the same build\n", strerror(errno), folder);
	return 1;
}
