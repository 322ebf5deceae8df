/*
 * What redirect: listeners answer: 308 to the same path under https://, whatever the request. 308 and not 301 for all methods alike, so that a client that follows it
 * repeats the method and the body. The head is parsed as strictly as any; no credential in it is looked at, the body is dropped, the connection closed.
 *
 * Where to: the host that the client asked for, if it is one of server.hosts (or of this machine), or, where that is not set, any plain name or address; never anything of
 * which a browser and we could think differently. The path goes back as it came, with what is no URI character escaped.
 */
#include "gate/exchange.h"

#define LOCATION_MAX (3u * TG_H1_TARGET_MAX + 512)

static bool name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

/* A name or an IPv4 address in its usual letters, or an IPv6 address. */
static bool host_is_plain(struct tg_slice h, bool *v6)
{
	struct tg_addr a;
	*v6 = h.n && memchr(h.p, ':', h.n) != NULL;
	if (*v6)
		return tg_addr_parse(h, &a);
	if (!h.n || h.n > 253 || h.p[0] == '.' || h.p[0] == '-')
		return false;
	for (size_t i = 0; i < h.n; i++)
		if (!name_char(h.p[i]) || (h.p[i] == '.' && i + 1 < h.n && h.p[i + 1] == '.'))
			return false;
	return true;
}

/* Of HTTP/1.0 without a Host: the first of server.hosts. */
static struct tg_slice wanted_host(const struct tg_exchange *x)
{
	const struct tg_strlist *hosts = &x->snap->config->hosts;
	if (x->head->host.n || !hosts->n)
		return tg_host_only(x->head->host);
	return tg_slice_cstr(hosts->v[0]);
}

static void put_target(struct tg_buf *b, struct tg_slice t)
{
	static const char hex[] = "0123456789ABCDEF", other[] = "-._~!$&'()*+,;=:@/?%";
	if (!t.n || t.p[0] != '/') { /* OPTIONS * */
		tg_buf_char(b, '/');
		return;
	}
	for (size_t i = 0; i < t.n; i++) {
		unsigned char c = (unsigned char)t.p[i];
		if ((c < 0x80 && name_char((char)c)) || (c && memchr(other, c, sizeof other - 1))) {
			tg_buf_char(b, (char)c);
		} else {
			tg_buf_char(b, '%');
			tg_buf_char(b, hex[c >> 4]);
			tg_buf_char(b, hex[c & 15]);
		}
	}
}

void tg_redirect_answer(struct tg_exchange *x)
{
	const struct tg_head *h = x->head;
	struct tg_slice host = wanted_host(x);
	bool v6;
	x->method = (uint8_t)h->method;
	x->minor = h->minor;
	x->head_request = h->method == TG_HEAD;
	x->closes = true;
	x->body_left = true; /* whatever of it comes is dropped */
	x->path_len = (uint8_t)tg_record_endpoint(h->path, x->path_text, sizeof x->path_text);
	if (!host_is_plain(host, &v6)) {
		tg_answer_refusal(x, TG_REFUSE_bad_host);
		return;
	}
	struct tg_addr self;
	bool have = tg_session_self(x->session, &self);
	if (x->snap->config->hosts.n && !tg_policy_own_host(&x->snap->policy, host, have ? &self : NULL)) {
		tg_answer_problem(x, TG_E_misdirected, "unknown_host", "This server does not answer to that Host.", NULL, NULL);
		return;
	}
	struct tg_buf b;
	tg_buf_init(&b, LOCATION_MAX);
	tg_buf_lit(&b, "Location: https://");
	tg_buf_cstr(&b, v6 ? "[" : "");
	tg_buf_slice(&b, host);
	tg_buf_cstr(&b, v6 ? "]" : "");
	if (x->gl->gate->tls_port != 443) {
		tg_buf_char(&b, ':');
		tg_buf_u64(&b, x->gl->gate->tls_port);
	}
	put_target(&b, h->target);
	tg_buf_put(&b, "\r\n", 3); /* with its NUL */
	if (b.failed)
		tg_answer_problem(x, TG_E_internal, "memory", "The answer could not be built.", NULL, NULL);
	else
		tg_answer(x, 308, "", (struct tg_slice){ 0 }, b.p);
	tg_buf_free(&b);
}
