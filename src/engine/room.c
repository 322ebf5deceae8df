/*
 * Room in the spool (see room.h). The engine knows what it has written, not what the gate has removed since, nor what another gate's engine writes into the same folder while the two change over. So what it has added up
 * is held against the folder itself: once a second while there is something to take in, and before anything is refused. A look at 10,000 files takes some tens of milliseconds: the longer it takes, the seldomer
 * it is done.
 */
#include "engine/room.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 1000  /* a look is good for so long, and for fifty times of what it took */
#define AGAIN_MS 100  /* where it is why somebody is refused: and for ten times of that */
#define DISK_MIN (4ull << 30)
#define MARGIN (64ull << 20) /* for the database and the logs of a disk that is shared: they stop everybody, the spool only jobs */

static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000 + 1;
}

void tg_room_init(struct tg_room *r, int folder, uint64_t most)
{
	*r = (struct tg_room){ .folder = folder, .most = most };
	pthread_mutex_init(&r->lock, NULL);
}

uint64_t tg_room_margin(uint64_t disk)
{
	return disk >= DISK_MIN ? MARGIN : 0;
}

/* Under the lock. What cannot be looked at stays as it was added up. Half of a file that is being written is counted twice, here and in `writing`: never too little. */
static void look(struct tg_room *r)
{
	int64_t begun = now_ms();
	uint64_t sum = 0;
	struct stat st;
	int fd = openat(r->folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* one of our own: a directory's place is shared by duplicates */
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	r->looked_ms = begun;
	if (!d) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (struct dirent *e; (e = readdir(d));)
		if (fstatat(r->folder, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode))
			sum += (uint64_t)st.st_size;
	closedir(d);
	r->there = sum;
	r->looked_ms = now_ms();
	r->took_ms = r->looked_ms - begun;
}

/* Under the lock. Whether the last look is older than that. */
static bool older(const struct tg_room *r, int64_t ms, int64_t times)
{
	int64_t most = r->took_ms * times > ms ? r->took_ms * times : ms;
	return !r->looked_ms || now_ms() - r->looked_ms >= most;
}

/* Under the lock. */
static bool fits(const struct tg_room *r, uint64_t bytes)
{
	uint64_t sum;
	return !__builtin_add_overflow(r->there, r->writing, &sum) && !__builtin_add_overflow(sum, bytes, &sum) && sum <= r->most;
}

static bool disk_has(int folder, uint64_t bytes)
{
	struct statvfs v;
	if (fstatvfs(folder, &v) != 0 || !v.f_blocks)
		return true; /* writing will tell */
	uint64_t need = tg_room_margin((uint64_t)v.f_blocks * v.f_frsize);
	return !need || (!__builtin_add_overflow(need, bytes, &need) && need <= (uint64_t)v.f_bavail * v.f_frsize);
}

const char *tg_room_take(struct tg_room *r, uint64_t bytes)
{
	if (!disk_has(r->folder, bytes))
		return "the spool's disk is as good as full; try again later";
	pthread_mutex_lock(&r->lock);
	if (r->most && (older(r, LOOK_MS, 50) || (!fits(r, bytes) && older(r, AGAIN_MS, 10))))
		look(r);
	bool ok = !r->most || fits(r, bytes);
	r->writing += ok ? bytes : 0;
	pthread_mutex_unlock(&r->lock);
	return ok ? NULL : "the spool has as much as it may; try again later";
}

void tg_room_done(struct tg_room *r, uint64_t bytes, bool written)
{
	pthread_mutex_lock(&r->lock);
	r->writing -= bytes;
	r->there += written ? bytes : 0;
	pthread_mutex_unlock(&r->lock);
}
