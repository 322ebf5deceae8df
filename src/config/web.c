/*
 * The values of the CORS options and of artifacts.url: refused here where a browser or an object store would not take them. An origin is brought
 * into the form that browsers write, so that a request's Origin is compared byte by byte and nothing needs parsing then.
 */
#include "config/options.h"
#include <arpa/inet.h>

static bool fail(struct tg_err *why, const char *text)
{
	tg_err_set(why, "%s", text);
	return false;
}

static bool lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* Names and addresses, lower case; what browsers write for a name outside ASCII is its xn-- form. */
static bool host_ok(struct tg_slice h, struct tg_err *why)
{
	if (!h.n || h.n > 200 || h.p[0] == '.' || h.p[0] == '-')
		return fail(why, "the host is missing, too long, or begins with a dot or dash");
	for (size_t i = 0; i < h.n; i++) {
		if (h.p[i] == '*')
			return fail(why, "there are no wildcards, but \"*\" alone");
		if (!lower_alnum(h.p[i]) && h.p[i] != '-' && h.p[i] != '.' && h.p[i] != '_')
			return fail(why, "the host must be a name (xn-- form outside of ASCII) or an address");
	}
	return true;
}

static bool port_of(struct tg_slice s, unsigned *port)
{
	*port = 0;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9' || i > 4)
			return false;
		*port = *port * 10 + (unsigned)(s.p[i] - '0');
	}
	return *port >= 1 && *port <= 65535;
}

bool tg_origin_parse(struct tg_slice s, char out[TG_ORIGIN_MAX], struct tg_err *why)
{
	static const char form[] = "must be SCHEME://HOST or SCHEME://HOST:PORT, \"null\", or \"*\"";
	char low[TG_ORIGIN_MAX], ip[INET6_ADDRSTRLEN];
	if (tg_slice_eq(s, TG_S("*")) || tg_slice_eq(s, TG_S("null"))) {
		snprintf(out, TG_ORIGIN_MAX, "%.*s", (int)s.n, s.p);
		return true;
	}
	if (!s.n || s.n > TG_ORIGIN_MAX - 8)
		return fail(why, form);
	for (size_t i = 0; i < s.n; i++)
		low[i] = s.p[i] >= 'A' && s.p[i] <= 'Z' ? (char)(s.p[i] | 32) : s.p[i];
	low[s.n] = 0;
	char *host = strstr(low, "://");
	if (!host || host == low || !(low[0] >= 'a' && low[0] <= 'z'))
		return fail(why, form);
	struct tg_slice scheme = { low, (size_t)(host - low) };
	for (size_t i = 0; i < scheme.n; i++)
		if (!lower_alnum(low[i]) && !memchr("+-.", low[i], 3))
			return fail(why, form);
	host += 3;
	if (host[strcspn(host, "/?#")])
		return fail(why, "must end with the host or its port, without a path and without the last /");
	if (strchr(host, '@'))
		return fail(why, "a user name is no part of an origin");
	char *end = host + strcspn(host, ":");
	if (*host == '[') {
		struct in6_addr a;
		end = strchr(host, ']');
		if (!end)
			return fail(why, "the [ of the IPv6 address does not end");
		*end++ = 0;
		if (inet_pton(AF_INET6, host + 1, &a) != 1)
			return fail(why, "what stands in [ ] is no IPv6 address");
		inet_ntop(AF_INET6, &a, ip, sizeof ip);
	} else if (!host_ok((struct tg_slice){ host, (size_t)(end - host) }, why)) {
		return false;
	}
	unsigned port = 0;
	if (*end && (*end != ':' || !port_of(tg_slice_cstr(end + 1), &port)))
		return fail(why, "the port is not a number from 1 to 65535");
	if ((port == 80 && tg_slice_eq(scheme, TG_S("http"))) || (port == 443 && tg_slice_eq(scheme, TG_S("https"))))
		port = 0;
	int n = *host == '[' ? snprintf(out, TG_ORIGIN_MAX, "%.*s://[%s]", (int)scheme.n, low, ip)
			     : snprintf(out, TG_ORIGIN_MAX, "%.*s://%.*s", (int)scheme.n, low, (int)(end - host), host);
	if (port)
		snprintf(out + n, TG_ORIGIN_MAX - (size_t)n, ":%u", port);
	return true;
}

bool tg_artifacts_ok(struct tg_slice s, struct tg_err *why)
{
	if (tg_slice_starts(s, TG_S("file:")) && s.n > 5)
		return true;
	if (!tg_slice_starts(s, TG_S("s3://")))
		return fail(why, "must be \"file:FOLDER\" or \"s3://BUCKET/PREFIX\"");
	struct tg_slice bucket = { s.p + 5, s.n - 5 };
	const char *slash = memchr(bucket.p, '/', bucket.n);
	struct tg_slice prefix = { 0 };
	if (slash) {
		prefix = (struct tg_slice){ slash + 1, (size_t)(bucket.p + bucket.n - slash - 1) };
		bucket.n = (size_t)(slash - bucket.p);
	}
	bool ok = bucket.n >= 3 && bucket.n <= 63 && lower_alnum(bucket.p[0]) && lower_alnum(bucket.p[bucket.n - 1]);
	for (size_t i = 0; ok && i < bucket.n; i++)
		ok = lower_alnum(bucket.p[i]) || bucket.p[i] == '-' || bucket.p[i] == '.';
	if (!ok)
		return fail(why, "the bucket must be 3 to 63 lower-case letters, digits, dots and dashes");
	for (size_t from = 0; from < prefix.n;) {
		const char *next = memchr(prefix.p + from, '/', prefix.n - from);
		struct tg_slice part = { prefix.p + from, next ? (size_t)(next - prefix.p) - from : prefix.n - from };
		if (!part.n || tg_slice_eq(part, TG_S(".")) || tg_slice_eq(part, TG_S("..")))
			return fail(why, "the prefix has an empty or a dot segment");
		from += part.n + 1;
	}
	return true;
}
