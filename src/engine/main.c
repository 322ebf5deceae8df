/*
 * tollgate-engine: trains models and predicts with them for a gate (docs/engine.md). The order of things is what makes it safe: folders and socket first, then the sandbox, then the zygote (which must
 * come before the first thread), then the first request.
 *
 * It runs itself once more where the environment does not tell OpenBLAS to work with one thread: that library starts its threads before main does, and they would be outside the sandbox and
 * in the way of the zygote. Our own work is spread over threads where that pays, in training, and is the same bit for bit whatever their number.
 */
#include "base/landlock.h"
#include "base/standard.h"
#include "base/version.h"
#include "engine/folder.h"
#include "engine/loaded.h"
#include "engine/memory.h"
#include "engine/sandbox.h"
#include "engine/serve.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <sched.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define THREADS_MAX 256
#define SPOOL_MAX (1ull << 40)
#define BACKLOG 128
#define MEMORY_MIN (512ull << 20)
#define DESCRIPTORS 2048 /* a connection, its file, and three pipes for each training */

struct options {
	const char *socket, *spool, *models, *datasets;
	unsigned threads;
	uint64_t memory_mib, intake_mib, spool_bytes;
	bool memory_given;
};

static int usage(FILE *out, int code)
{
	fputs("usage: tollgate-engine --socket PATH --spool FOLDER --models FOLDER --datasets FOLDER [--threads N] [--memory-mib N]\n"
	      "                       [--intake-mib N] [--spool-bytes N]\n"
	      "\n"
	      "Trains models and predicts with them. It is started by the gate (`tollgate serve`) when somebody asks for that, answers on a Unix socket and ends with who started it.\n"
	      "\n"
	      "  --socket PATH      where it listens; only its own user can connect\n"
	      "  --spool FOLDER     data of jobs that are not done; made where it is not there\n"
	      "  --models FOLDER    the trained models; only read\n"
	      "  --datasets FOLDER  CSV files to train with; only read, may be missing\n"
	      "  --threads N        threads of one training; 0, the default: one a processor\n"
	      "  --spool-bytes N    bytes that may lie in the spool when more is to be taken in; 0, the default: no bound\n"
	      "  --intake-mib N     memory that data may have while it is taken in, all of it together; one body and one key half of that; 0, the default: a quarter of what there is\n"
	      "  --memory-mib N     memory that one training may take for its data; 0: no bound; default: three quarters of what there is: the machine's, or its control group's\n",
	      out);
	return code;
}

static bool number(const char *text, uint64_t most, uint64_t *out)
{
	uint64_t v = 0;
	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '9' || v > most)
			return false;
		v = v * 10 + (uint64_t)(*p - '0');
	}
	*out = v;
	return *text && v <= most;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct options *o)
{
	for (int i = 1; i < argc; i += 2) {
		const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
		const struct {
			const char *name, **to;
		} texts[] = { { "--socket", &o->socket }, { "--spool", &o->spool }, { "--models", &o->models }, { "--datasets", &o->datasets } };
		uint64_t n;
		bool known = false;
		if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
			return usage(stdout, 0);
		if (strcmp(name, "--version") == 0) {
			puts("tollgate-engine " TG_VERSION);
			return 0;
		}
		for (size_t k = 0; value && k < sizeof texts / sizeof texts[0]; k++)
			if (strcmp(name, texts[k].name) == 0 && *value) {
				*texts[k].to = value;
				known = true;
			}
		if (value && strcmp(name, "--threads") == 0 && number(value, THREADS_MAX, &n)) {
			o->threads = (unsigned)n;
			known = true;
		} else if (value && strcmp(name, "--memory-mib") == 0 && number(value, 1u << 30, &n)) {
			o->memory_mib = n;
			o->memory_given = known = true;
		}
		if (value && strcmp(name, "--intake-mib") == 0)
			known = number(value, 1u << 30, &o->intake_mib);
		if (value && strcmp(name, "--spool-bytes") == 0)
			known = number(value, SPOOL_MAX, &o->spool_bytes);
		if (!known) {
			fprintf(stderr, "tollgate-engine: \"%.200s\" is not understood here%s\n", name, value ? ", or what follows it" : ", or wants a value");
			return usage(stderr, 2);
		}
	}
	if (!o->socket || !o->spool || !o->models || !o->datasets) {
		fputs("tollgate-engine: --socket, --spool, --models and --datasets are needed\n", stderr);
		return usage(stderr, 2);
	}
	return -1;
}

static int listen_on(const char *path, struct tg_err *err)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct stat st;
	size_t n = strlen(path);
	if (n >= sizeof un.sun_path) {
		tg_err_set(err, "--socket: the path has %zu bytes; %zu are possible", n, sizeof un.sun_path - 1);
		return -1;
	}
	memcpy(un.sun_path, path, n + 1);
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(path); /* of an engine that was killed */
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	mode_t before = umask(0177);
	bool ok = fd >= 0 && bind(fd, (struct sockaddr *)&un, sizeof un) == 0 && listen(fd, BACKLOG) == 0;
	umask(before);
	if (!ok) {
		tg_err_set(err, "--socket %.200s: %s", path, strerror(errno));
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

static unsigned processors(void)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
	return n < 1 ? 1 : n > THREADS_MAX ? THREADS_MAX : (unsigned)n;
}

/* Of the memory there is; where that is little, MEMORY_MIN but not more than half. 0: not known. */
static uint64_t quarters(uint64_t there, unsigned n)
{
	uint64_t part = there / 4 * n, least = there / 2 < MEMORY_MIN ? there / 2 : MEMORY_MIN;
	return part < least ? least : part;
}

static void bound_descriptors(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && (r.rlim_cur > DESCRIPTORS || r.rlim_cur < r.rlim_max)) {
		r.rlim_cur = r.rlim_max < DESCRIPTORS ? r.rlim_max : DESCRIPTORS;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

static bool open_folders(struct tg_service *s, const struct options *o, struct tg_err *err)
{
	s->spool = tg_folder_make(o->spool, true, err);
	s->models = s->spool < 0 ? -1 : tg_folder_make(o->models, false, err);
	s->datasets = open(o->datasets, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->models >= 0 && s->datasets < 0 && errno != ENOENT)
		fprintf(stderr, "tollgate-engine: warning: the folder of data sets, %s: %s\n", o->datasets, strerror(errno));
	return s->models >= 0;
}

static bool bound(const struct tg_service *s, struct tg_err *err)
{
	int files;
	const int read[] = { s->models, s->datasets };
	const struct tg_sandbox box = { .read = read, .nread = 2, .write = s->spool };
	if (!tg_sandbox_enter(&box, &files, err))
		return false;
	if (files < 0)
		fprintf(stderr, "tollgate-engine: warning: %s: what files can be read is bounded by this user's rights alone\n", tg_landlock_lack(files));
	return true;
}

/* Everything up to the first request. */
static bool prepare(struct tg_service *s, const struct options *o, int *listening, struct tg_err *err)
{
	static struct tg_zygote_conf zygote;
	int pair[2];
	uint64_t there = tg_memory_there("");
	/* libcrypto's file of settings cannot be opened in the sandbox, and nothing in it is meant for us. */
	if (sodium_init() < 0 || OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) != 1) {
		tg_err_set(err, "libsodium or libcrypto cannot be used");
		return false;
	}
	if (!open_folders(s, o, err) || (*listening = listen_on(o->socket, err)) < 0 || !tg_zygote_pair(pair, err) || !bound(s, err))
		return false;
	tg_room_init(&s->room, s->spool, o->spool_bytes);
	s->threads = o->threads ? o->threads : processors();
	tg_charges_init(&s->charges, o->intake_mib ? o->intake_mib << 20 : there ? quarters(there, 1) : 4 * MEMORY_MIN);
	s->loaded = tg_loaded_new(s->models);
	if (!s->loaded) {
		tg_err_set(err, "out of memory");
		return false;
	}
	sem_init(&s->predictions, 0, processors() > 2 ? processors() : 2);
	zygote = (struct tg_zygote_conf){ .job = tg_train_job, .ctx = s, .memory = o->memory_given ? o->memory_mib << 20 : quarters(there, 3), .not_its = *listening };
	return tg_zygote_start(&s->zygote, pair, &zygote, err);
}

int main(int argc, char **argv)
{
	static struct tg_service s;
	struct options o = { 0 };
	struct tg_err err;
	int listening;
	bool left;
	tg_standard_open();
	const char *blas = getenv("OPENBLAS_NUM_THREADS");
	if (!blas || strcmp(blas, "1") != 0) {
		setenv("OPENBLAS_NUM_THREADS", "1", 1);
		execv("/proc/self/exe", argv);
		fprintf(stderr, "tollgate-engine: /proc/self/exe: %s\n", strerror(errno));
		return 1;
	}
	int code = parse(argc, argv, &o);
	if (code >= 0)
		return code;
	pid_t parent = getppid();
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a second line: the keeper does it as well */
	if (getppid() != parent)
		return 1;
	signal(SIGPIPE, SIG_IGN);
	bound_descriptors();
	if (!prepare(&s, &o, &listening, &err)) {
		fprintf(stderr, "tollgate-engine: %s\n", err.text);
		return 1;
	}
	fprintf(stderr, "tollgate-engine: ready\n");
	code = tg_serve(&s, listening, &left);
	tg_zygote_stop(&s.zygote);
	if (left)
		_exit(code);
	tg_loaded_free(s.loaded);
	return code;
}
