/* /api/v1/system and /api/v1/info (document 003; seed ledger S3-30, S3-31, C-21): what any key may know of the machine and the service. Nothing here waits for anybody. */
#include "base/version.h"
#include "api/stored.h"
#include "gate/handlers.h"
#include <sys/utsname.h>
#include <time.h>

#define PYTHON_VERSION "3.13.8" /* document 003's; its clients ask for the member, there is no Python here */

static void member(struct tg_buf *b, const char *name, const char *text)
{
	tg_buf_fmt(b, ",\"%s\":", name);
	tg_buf_json(b, tg_slice_cstr(text));
}

enum tg_step tg_api_host(struct tg_exchange *x)
{
	struct utsname u;
	struct tm tm;
	time_t now = (time_t)tg_exchange_s(x);
	char platform[256];
	struct tg_buf b;
	tg_buf_init(&b, 8192);
	if (uname(&u))
		u = (struct utsname){ .sysname = "Linux" };
	snprintf(platform, sizeof platform, "%s-%s-%s", u.sysname, u.release, u.machine);
	tg_buf_lit(&b, "{\"current_time\":");
	tg_put_time(&b, (int64_t)now);
	member(&b, "timezone", localtime_r(&now, &tm) && tm.tm_zone ? tm.tm_zone : "UTC");
	member(&b, "python_version", PYTHON_VERSION);
	member(&b, "platform", platform);
	member(&b, "hostname", u.nodename);
	tg_buf_char(&b, '}');
	return tg_answer_buf(x, "application/json", &b, "Cache-Control: no-store\r\n");
}

enum tg_step tg_api_info(struct tg_exchange *x)
{
	struct tg_buf b;
	tg_buf_init(&b, 8192);
	tg_buf_lit(&b, "{\"name\":");
	tg_buf_json(&b, tg_slice_cstr(x->snap->config->name));
	member(&b, "display_name", x->snap->config->name);
	member(&b, "version", TG_VERSION);
	member(&b, "summary", "A gate in front of model workers: inference, training and prediction behind keys");
	tg_buf_char(&b, '}');
	return tg_answer_buf(x, "application/json", &b, NULL);
}
