/* Ticket keys: which one seals, how long each opens, that they turn over however long nobody asks, and that threads may ask at once. */
#include "net/tickets.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#define P ((uint64_t)TG_TICKET_PERIOD_S)

static void same(const struct tg_ticket_key *a, const struct tg_ticket_key *b, bool equal)
{
	assert_int_equal(memcmp(a, b, sizeof *a) == 0, equal);
}

static void test_turning(void **state)
{
	(void)state;
	struct tg_tickets *t = tg_tickets_new();
	struct tg_ticket_key first, again, second, third, got;
	bool renew;
	assert_non_null(t);
	assert_true(tg_tickets_seal(t, 1000, &first));
	assert_true(tg_tickets_seal(t, 1000 + P - 1, &again));
	same(&first, &again, true);
	assert_true(tg_tickets_open(t, 1000 + P - 1, first.name, &got, &renew));
	assert_false(renew);
	same(&first, &got, true);
	/* After a period a new one seals; the old one opens for one more, and its tickets are renewed. */
	assert_true(tg_tickets_seal(t, 1000 + P, &second));
	same(&first, &second, false);
	assert_memory_not_equal(first.name, second.name, sizeof first.name);
	assert_true(tg_tickets_open(t, 1000 + 2 * P - 1, first.name, &got, &renew));
	assert_true(renew);
	same(&first, &got, true);
	assert_true(tg_tickets_open(t, 1000 + 2 * P - 1, second.name, &got, &renew));
	assert_false(renew);
	assert_true(tg_tickets_seal(t, 1000 + 2 * P, &third));
	assert_false(tg_tickets_open(t, 1000 + 2 * P, first.name, &got, &renew));
	assert_true(tg_tickets_open(t, 1000 + 2 * P, second.name, &got, &renew));
	assert_true(renew);
	uint8_t unknown[TG_TICKET_NAME] = { 1 };
	assert_false(tg_tickets_open(t, 1000 + 2 * P, unknown, &got, &renew));
	tg_tickets_put(t);
}

/* The old one lives one period from its end, not from when somebody came and saw. */
static void test_sleep(void **state)
{
	(void)state;
	static const struct {
		uint64_t asleep;
		bool opens;
	} rows[] = { { P, true }, { P + 1, true }, { 2 * P - 1, true }, { 2 * P, false }, { 3 * P, false }, { 100 * P, false } };
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (int turn = 0; turn < 3; turn++) { /* opened at once; after a new one was made; after a turn without handshakes */
			struct tg_tickets *t = tg_tickets_new();
			struct tg_ticket_key first, other, got;
			bool renew;
			assert_true(tg_tickets_seal(t, 5, &first));
			if (turn == 1)
				assert_true(tg_tickets_seal(t, 5 + rows[i].asleep, &other));
			if (turn == 2)
				tg_tickets_turn(t, 5 + rows[i].asleep);
			if (tg_tickets_open(t, 5 + rows[i].asleep, first.name, &got, &renew) != rows[i].opens)
				fail_msg("row %zu, turn %d", i, turn);
			assert_true(!rows[i].opens || renew);
			assert_true(tg_tickets_seal(t, 5 + rows[i].asleep, &other));
			same(&first, &other, false);
			tg_tickets_put(t);
		}
}

/* A key made late in a period does not shorten or stretch the life of the one before. */
static void test_late_seal(void **state)
{
	(void)state;
	struct tg_tickets *t = tg_tickets_new();
	struct tg_ticket_key first, second, got;
	bool renew;
	assert_true(tg_tickets_seal(t, 0, &first));
	assert_true(tg_tickets_seal(t, 2 * P - 10, &second));
	assert_true(tg_tickets_open(t, 2 * P - 1, first.name, &got, &renew));
	assert_false(tg_tickets_open(t, 2 * P, first.name, &got, &renew));
	assert_true(tg_tickets_open(t, 3 * P - 1, second.name, &got, &renew)); /* sealed with until 2 P, so good until 3 P */
	assert_false(tg_tickets_open(t, 3 * P, second.name, &got, &renew));
	tg_tickets_put(t);
}

static void *hammer(void *arg)
{
	struct tg_tickets *t = arg;
	for (uint64_t s = 0; s < 20 * P; s += P / 50) {
		struct tg_ticket_key k, got;
		bool renew;
		if (!tg_tickets_seal(t, s, &k))
			return t;
		/* Others may have gone further ahead. */
		if (tg_tickets_open(t, s, k.name, &got, &renew) && memcmp(&k, &got, sizeof k) != 0)
			return t;
		tg_tickets_turn(t, s);
	}
	return NULL;
}

static void test_threads(void **state)
{
	(void)state;
	struct tg_tickets *t = tg_tickets_new();
	pthread_t th[4];
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&th[i], NULL, hammer, t), 0);
	for (int i = 0; i < 4; i++) {
		void *bad;
		pthread_join(th[i], &bad);
		assert_null(bad);
	}
	tg_tickets_put(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_turning), cmocka_unit_test(test_sleep), cmocka_unit_test(test_late_seal), cmocka_unit_test(test_threads) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
