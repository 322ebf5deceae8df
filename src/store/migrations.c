/* The migrations as the build found them: migrations.inc is made by meson.build, a row a file, so that the SQL is kept as SQL. */
#include "store/migrations.h"

const struct tg_migration tg_migrations[] = {
#include "migrations.inc"
};
const unsigned tg_nmigrations = sizeof tg_migrations / sizeof tg_migrations[0];
