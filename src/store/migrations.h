#pragma once
/* The schema's history: migrations/NNNN_name.sql in order, compiled in (meson.build). A file that was released is never changed; what comes later is a new file. */
struct tg_migration {
	unsigned version; /* NNNN */
	const char *sql;
};
extern const struct tg_migration tg_migrations[];
extern const unsigned tg_nmigrations;
