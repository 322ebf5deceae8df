/* Cells of CSV (see csv_cell.h). Nearly all numbers are written as JSON has them and cost one look; the others are written anew in that way, so that there is one reader of numbers. */
#include "engine/csv_cell.h"
#include "engine/number.h"
#include <math.h>

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

static const char *digits(const char *p, const char *end)
{
	while (p < end && digit(*p))
		p++;
	return p;
}

static void put(char *out, size_t *n, const char *from, const char *to)
{
	memcpy(out + *n, from, (size_t)(to - from));
	*n += (size_t)(to - from);
}

/* s, which is not empty, as JSON writes numbers. False: it is none. What is behind the digits is looked at by the reader. */
static bool rewrite(struct tg_slice s, char out[TG_NUMBER_MAX], size_t *n, bool *point)
{
	const char *p = s.p, *end = s.p + s.n, *from;
	*n = 0;
	if (s.n >= TG_NUMBER_MAX) /* it may grow by a zero */
		return false;
	if (*p == '-')
		out[(*n)++] = '-';
	from = p += *p == '-' || *p == '+';
	p = digits(p, end);
	bool any = p > from;
	while (from < p && *from == '0')
		from++;
	if (from == p)
		out[(*n)++] = '0';
	put(out, n, from, p);
	*point = p < end && *p == '.';
	if (*point) {
		from = p++;
		p = digits(p, end);
		any = any || p > from + 1;
		put(out, n, from, p > from + 1 ? p : from);
	}
	put(out, n, p, end);
	return any;
}

static bool missing(struct tg_slice s)
{
	static const char *const words[] = { "NA", "NaN", "nan", "null", "NULL", "None", "N/A", "n/a", "<NA>", "#N/A", "#N/A N/A", "#NA", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN" };
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (tg_slice_eq(s, tg_slice_cstr(words[i])))
			return true;
	return !s.n;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct tg_slice trimmed(struct tg_slice s)
{
	while (s.n && blank(s.p[0]))
		s = (struct tg_slice){ s.p + 1, s.n - 1 };
	while (s.n && blank(s.p[s.n - 1]))
		s.n--;
	return s;
}

enum tg_csv_cell tg_csv_cell(struct tg_slice cell, double *v, bool *whole)
{
	char anew[TG_NUMBER_MAX];
	size_t n;
	bool point = false;
	bool number = cell.n && tg_number(cell.p, cell.p + cell.n, v, whole) == cell.p + cell.n;
	if (!number) {
		struct tg_slice s = trimmed(cell);
		if (missing(s))
			return TG_CSV_MISSING;
		number = rewrite(s, anew, &n, &point) && tg_number(anew, anew + n, v, whole) == anew + n;
	}
	if (!number)
		return TG_CSV_TEXT;
	*whole = *whole && !point;
	return isfinite(*v) ? TG_CSV_NUMBER : TG_CSV_INFINITE;
}
