#pragma once
/* What tests of statements begin with: a database in a folder of its own, and OK(call), which says why one was not. Included after cmocka.h. */
#include "store/db.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char dir[64], url[160], path[128];
static struct tg_db *db;
static struct tg_err err;

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/tollgate-unit-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/t.db", dir);
	snprintf(url, sizeof url, "sqlite:%s", path);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	char name[160];
	static const char *const names[] = { "t.db", "t.db-wal", "t.db-shm", "t.db.known", "t.db.before-0002", "secret.key", "" };
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(name, sizeof name, "%s/%s", dir, names[i]);
		remove(name);
	}
	return 0;
}

static int open_db(void **state)
{
	enum tg_db_result why;
	make_dir(state);
	db = tg_db_open(url, true, NULL, &why, &err);
	assert_non_null(db);
	return 0;
}

static int close_db(void **state)
{
	tg_db_close(db);
	db = NULL;
	return remove_dir(state);
}

#define OK(call)                                                   \
	do {                                                       \
		snprintf(err.text, sizeof err.text, "-");          \
		if ((call) != TG_DB_OK)                            \
			fail_msg("line %d: %s", __LINE__, err.text); \
	} while (0)
