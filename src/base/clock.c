/*
 * Time in its two kinds. The calendar part is computed once a second and kept per thread: a log line per request would
 * otherwise pay gmtime_r each time.
 */
#include "base/clock.h"
#include <time.h>

static uint64_t read_us(clockid_t id)
{
	struct timespec t;
	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

uint64_t tg_mono_us(void)
{
	return read_us(CLOCK_MONOTONIC);
}

uint64_t tg_wall_us(void)
{
	return read_us(CLOCK_REALTIME);
}

static void two(char *p, int v)
{
	p[0] = (char)('0' + v / 10 % 10);
	p[1] = (char)('0' + v % 10);
}

static const char *calendar(uint64_t sec)
{
	static _Thread_local char text[20];
	static _Thread_local uint64_t text_sec = UINT64_MAX;
	if (sec != text_sec) {
		struct tm tm;
		time_t t = (time_t)sec;
		gmtime_r(&t, &tm);
		int y = tm.tm_year + 1900;
		two(text, y / 100);
		two(text + 2, y % 100);
		text[4] = '-';
		two(text + 5, tm.tm_mon + 1);
		text[7] = '-';
		two(text + 8, tm.tm_mday);
		text[10] = 'T';
		two(text + 11, tm.tm_hour);
		text[13] = ':';
		two(text + 14, tm.tm_min);
		text[16] = ':';
		two(text + 17, tm.tm_sec);
		text[19] = 'Z';
		text_sec = sec;
	}
	return text;
}

void tg_rfc3339_s(uint64_t wall_us, char out[20])
{
	memcpy(out, calendar(wall_us / 1000000u), 20);
}

void tg_rfc3339_ms(uint64_t wall_us, char out[24])
{
	int ms = (int)(wall_us / 1000u % 1000u);
	memcpy(out, calendar(wall_us / 1000000u), 19);
	out[19] = '.';
	out[20] = (char)('0' + ms / 100);
	two(out + 21, ms % 100);
	out[23] = 'Z';
}
