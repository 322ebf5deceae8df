/* The file of what is known: what happens between two who write it, and when it cannot be written. What it says of whom is in test_store.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "store/known.h"
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], database[128], file[160];
static struct tg_known *k;
static struct tg_identity *now; /* what would be in force */
static struct tg_list_end at;

static struct tg_list_end end(int64_t seq)
{
	struct tg_list_end e = { .seq = seq };
	snprintf(e.mark, sizeof e.mark, "%032lld", (long long)seq * 7);
	return e;
}

static void digest_of(unsigned n, uint8_t out[32])
{
	memset(out, 0, 32);
	memcpy(out, &n, sizeof n);
}

/* Key n comes, or goes; without a word to the file. */
static struct tg_change change(unsigned n, bool comes)
{
	struct tg_change c = { .kind = TG_CHANGE_SECRET };
	struct tg_principal p = { .source = TG_SRC_STORED_KEY, .name = "database", .perms = TG_PERM_read_models };
	uint8_t digest[32];
	digest_of(n, digest);
	sodium_bin2hex(c.id, sizeof c.id, digest, 32);
	snprintf(p.id, sizeof p.id, "key_%016u", n);
	struct tg_identity *next = tg_identity_next(now, 0);
	assert_non_null(next);
	assert_true(tg_identity_set_key(next, digest, comes ? &p : NULL));
	assert_true(tg_identity_seal(next));
	tg_identity_put(now);
	now = next;
	return c;
}

static bool tell_by(struct tg_known *who, unsigned n, bool comes)
{
	struct tg_change c = change(n, comes);
	struct tg_changes changes = { .v = &c, .n = 1 };
	struct tg_list_end to = end(at.seq + 1);
	struct tg_err err;
	bool ok = tg_known_append(who, now, &changes, &at, &to, &err);
	at = to;
	return ok;
}

static int setup(void **state)
{
	(void)state;
	struct tg_err err;
	snprintf(dir, sizeof dir, "/tmp/tollgate-unit-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(database, sizeof database, "%s/t.db", dir);
	snprintf(file, sizeof file, "%s.known", database);
	k = tg_known_new(database);
	assert_non_null(k);
	tg_known_under(k, 5);
	now = tg_identity_new();
	assert_true(now && tg_identity_seal(now));
	at = end(10);
	assert_true(tg_known_replace(k, now, &at, &err));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tg_identity_put(now);
	tg_known_free(k);
	unlink(file);
	assert_int_equal(rmdir(dir), 0); /* and nothing else was left */
	return 0;
}

/* -1: nothing. */
static int known(void)
{
	struct tg_identity *d = tg_known_read(k, NULL);
	int n = d ? (int)tg_identity_keys(d) : -1;
	tg_identity_put(d);
	return n;
}

static bool knows(unsigned n)
{
	uint8_t digest[32];
	digest_of(n, digest);
	struct tg_identity *d = tg_known_read(k, NULL);
	bool has = tg_identity_key(d, digest) != NULL;
	tg_identity_put(d);
	return has;
}

static void fold(bool done)
{
	struct tg_known_fold f;
	struct tg_err err;
	struct tg_identity *d = tg_identity_get(now);
	assert_true(tg_known_fold_begin(k, &at, &f));
	tg_known_fold_fill(&f, d);
	assert_int_equal(tg_known_fold_end(k, &f, &err), done);
	assert_string_equal(err.text, "");
	tg_identity_put(d);
}

static void test_changes_that_come_while_it_is_folded(void **state)
{
	(void)state;
	struct tg_known_fold f;
	struct tg_err err;
	struct stat before, after;
	for (unsigned i = 1; i <= 40; i++)
		assert_true(tell_by(k, i, true));
	for (unsigned i = 1; i <= 30; i++)
		assert_true(tell_by(k, i, false));
	assert_int_equal(known(), 10);
	assert_int_equal(stat(file, &before), 0);
	struct tg_identity *d = tg_identity_get(now);
	assert_true(tg_known_fold_begin(k, &at, &f));
	assert_true(tell_by(k, 40, false));
	tg_known_fold_fill(&f, d);
	assert_true(tell_by(k, 41, true));
	assert_true(tg_known_fold_end(k, &f, &err));
	tg_identity_put(d);
	assert_int_equal(stat(file, &after), 0);
	assert_int_not_equal(before.st_ino, after.st_ino);
	assert_true(after.st_size < before.st_size / 2);
	assert_int_equal(after.st_mode & 0777, 0600);
	assert_int_equal(known(), 10);
	assert_false(knows(40));
	assert_true(knows(41));
	assert_true(tell_by(k, 42, true)); /* and on */
	assert_int_equal(known(), 11);
	fold(true);
	assert_int_equal(known(), 11);
}

/* Another process, whose file was emptied or made anew meanwhile: ours does not go with it. */
static void test_what_no_longer_goes_with_the_file(void **state)
{
	(void)state;
	struct tg_known_fold f;
	struct tg_err err;
	assert_true(tell_by(k, 1, true));
	assert_true(tg_known_fold_begin(k, &at, &f));
	struct tg_identity *d = tg_identity_get(now);
	tg_known_forget(k);
	assert_true(tell_by(k, 1, false));
	tg_known_fold_fill(&f, d);
	assert_false(tg_known_fold_end(k, &f, &err));
	assert_int_equal(known(), -1);
	tg_identity_put(d);
	/* Emptied again: there is nothing to go with, only what follows. */
	assert_true(tg_known_due(k) || known() == -1);
	fold(true);
	assert_int_equal(known(), 0);
	assert_true(tg_known_fold_begin(k, &at, &f));
	d = tg_identity_get(now);
	assert_true(tell_by(k, 2, true));
	assert_true(tg_known_replace(k, now, &at, &err));
	tg_known_fold_fill(&f, d);
	assert_false(tg_known_fold_end(k, &f, &err));
	assert_true(knows(2));
	tg_identity_put(d);
}

/* Who begins a file anew with what he read, while another one, who is ahead, finds it empty: between the two a change is missing. */
static void test_a_gap_behind_everybody(void **state)
{
	(void)state;
	struct tg_known_fold f;
	struct tg_err err;
	struct tg_list_end early = at;
	struct tg_identity *d = tg_identity_get(now);
	tg_known_forget(k);
	assert_true(tg_known_fold_begin(k, &early, &f));
	at = end(11); /* of which nobody told the file */
	assert_true(tell_by(k, 1, true));
	tg_known_fold_fill(&f, d);
	assert_false(tg_known_fold_end(k, &f, &err));
	assert_int_equal(known(), -1);
	assert_false(tg_known_fold_begin(k, &early, &f)); /* others are ahead */
	tg_identity_put(d);
	fold(true);
	assert_true(knows(1));
}

static void test_of_two_one_writes(void **state)
{
	(void)state;
	struct stat one, two;
	struct tg_known *other = tg_known_new(database);
	tg_known_under(other, 5);
	assert_true(tell_by(k, 1, true));
	struct tg_list_end from = end(10);
	struct tg_change c = change(1, true);
	struct tg_changes changes = { .v = &c, .n = 1 };
	struct tg_err err;
	assert_int_equal(stat(file, &one), 0);
	assert_true(tg_known_append(other, now, &changes, &from, &at, &err));
	assert_int_equal(stat(file, &two), 0);
	assert_int_equal(one.st_size, two.st_size);
	assert_true(tell_by(other, 2, true));
	assert_true(tell_by(k, 3, true));
	assert_int_equal(known(), 3);
	/* The same numbers of another list: what is there does not lead here. */
	snprintf(at.mark, sizeof at.mark, "%032d", 1);
	assert_true(tell_by(k, 4, true));
	assert_int_equal(known(), -1);
	assert_true(tg_known_due(k));
	tg_known_under(other, 6); /* of another secret */
	fold(true);
	assert_int_equal(known(), 4);
	struct tg_list_end ignored;
	assert_true(tg_known_at(k, &ignored));
	assert_false(tg_known_at(other, &ignored));
	assert_null(tg_known_read(other, NULL));
	tg_known_free(other);
}

/* A disk without room, or somebody who holds the file for ever: then nothing is known, rather than that key 1 is good still. */
static void test_what_cannot_be_written_is_not_known(void **state)
{
	(void)state;
	struct rlimit was, small;
	struct stat st;
	assert_true(tell_by(k, 1, true));
	assert_int_equal(stat(file, &st), 0);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &was);
	small = was;
	small.rlim_cur = (rlim_t)st.st_size + 40; /* half a section */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	bool told = tell_by(k, 1, false);
	setrlimit(RLIMIT_FSIZE, &was);
	assert_false(told);
	assert_int_equal(known(), -1);
	assert_true(tg_known_there(k));
	fold(true);
	assert_int_equal(known(), 0);
	int fd = open(file, O_RDWR);
	assert_int_equal(flock(fd, LOCK_EX), 0);
	assert_false(tell_by(k, 2, true));
	assert_int_equal(known(), -1);
	close(fd);
	assert_true(tell_by(k, 3, true));
	fold(true);
	assert_int_equal(known(), 2);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { T(test_changes_that_come_while_it_is_folded), T(test_what_no_longer_goes_with_the_file), T(test_a_gap_behind_everybody), T(test_of_two_one_writes),
					    T(test_what_cannot_be_written_is_not_known) };
	return sodium_init() < 0 || cmocka_run_group_tests(tests, NULL, NULL);
}
