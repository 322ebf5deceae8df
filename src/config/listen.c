/*
 * `listen` entries as a whole: their prefixes, their normal form, and what no single entry can know: that two are one address, and that TLS has a certificate. What
 * one entry is allowed to be is in url.c.
 */
#include "config/config.h"

const char *const tg_listen_prefixes[] = { [TG_LISTEN_PLAIN] = "", [TG_LISTEN_TLS] = "tls:", [TG_LISTEN_REDIRECT] = "redirect:" };

enum tg_listen_kind tg_listen_kind_of(struct tg_slice *spec)
{
	for (enum tg_listen_kind k = TG_LISTEN_TLS; k <= TG_LISTEN_REDIRECT; k++) {
		struct tg_slice prefix = tg_slice_cstr(tg_listen_prefixes[k]);
		if (tg_slice_starts(*spec, prefix)) {
			*spec = (struct tg_slice){ spec->p + prefix.n, spec->n - prefix.n };
			return k;
		}
	}
	return TG_LISTEN_PLAIN;
}

bool tg_listen_text(const struct tg_listen *l, char *out, size_t cap)
{
	bool v6 = memchr(l->host.p, ':', l->host.n) != NULL;
	int n = snprintf(out, cap, "%s%s%.*s%s:%u", tg_listen_prefixes[l->kind], v6 ? "[" : "", (int)l->host.n, l->host.p, v6 ? "]" : "", l->port);
	return n > 0 && (size_t)n < cap;
}

/* Whichever prefix they have: a port has one listener. */
static bool same_place(const struct tg_listen *a, const struct tg_listen *b)
{
	return a->unix_socket == b->unix_socket && tg_slice_eq(a->host, b->host) && a->port == b->port && (a->port || a->unix_socket);
}

static bool check_files(const struct tg_config *c, const struct tg_listen *l, const char *entry, struct tg_err *err)
{
	if (l->kind != TG_LISTEN_TLS || c->tls_cert) /* that one is not without the other has been seen to */
		return true;
	tg_err_set(err, "[server] listen (%.200s): \"%.120s\" needs tls_cert and tls_key", tg_config_origin(c, "server", "listen"), entry);
	return false;
}

bool tg_listen_check(const struct tg_config *c, struct tg_err *err)
{
	const char *origin = tg_config_origin(c, "server", "listen");
	struct tg_listen a, b;
	struct tg_err why;
	bool tls = false, redirect = false;
	if (!c->tls_cert != !c->tls_key) {
		const char *have = c->tls_cert ? "tls_cert" : "tls_key", *lack = c->tls_cert ? "tls_key" : "tls_cert";
		tg_err_set(err, "[server] %s (%.200s) is set, %s is not: TLS needs both", have, tg_config_origin(c, "server", have), lack);
		return false;
	}
	for (size_t i = 0; i < c->listen.n; i++) {
		if (!tg_listen_parse(tg_slice_cstr(c->listen.v[i]), &a, &why))
			continue; /* it was refused where it was read */
		if (!check_files(c, &a, c->listen.v[i], err))
			return false;
		tls |= a.kind == TG_LISTEN_TLS;
		redirect |= a.kind == TG_LISTEN_REDIRECT;
		for (size_t k = i + 1; k < c->listen.n; k++)
			if (tg_listen_parse(tg_slice_cstr(c->listen.v[k]), &b, &why) && same_place(&a, &b)) {
				tg_err_set(err, "[server] listen (%.300s): \"%.120s\" is given twice", origin, c->listen.v[k]);
				return false;
			}
	}
	if (redirect && !tls) {
		tg_err_set(err, "[server] listen (%.300s): a redirect: entry sends callers to a tls: entry, and there is none", origin);
		return false;
	}
	return true;
}
