#pragma once
/*
 * The configuration as the program uses it: one struct, made by tg_config_load from environment, TOML, .env and
 * data/keys.env (beside the file, else in the working directory) in that order of precedence, immutable afterwards. Owner: the caller of tg_config_load; tg_config_free.
 * The options table (tables/options.def) is the one place that knows names, types, bounds, defaults and words of help; the
 * struct has one field a row.
 */
#include "base/err.h"
#include "base/secret.h"

enum tg_profile { TG_PROFILE_NONE, TG_PROFILE_DEV, TG_PROFILE_STAGING, TG_PROFILE_PRODUCTION };
enum tg_protocol { TG_PROTO_OPENAI, TG_PROTO_INFER };
enum tg_affinity { TG_AFFINITY_SESSION, TG_AFFINITY_KEY, TG_AFFINITY_OFF };
enum tg_log_level { TG_LOG_DEBUG, TG_LOG_INFO, TG_LOG_WARN, TG_LOG_ERROR };

/* "N/period"; n == 0: off. */
struct tg_rate {
	uint32_t n;
	uint32_t period_s;
};

struct tg_strlist {
	char **v; /* owned strings */
	size_t n;
};

struct tg_model_conf {
	char *name;
	struct tg_strlist aliases;
	char *upstream_name;      /* what the worker calls it; NULL: name */
	struct tg_strlist urls;   /* http://host[:port][/base] or unix:/path; empty where command is set */
	struct tg_strlist command; /* what starts a worker, with {port}, {socket}, {index}, {model}, {file} in it; empty where urls is set */
	uint32_t workers;         /* how many of it */
	struct tg_strlist env;    /* "NAME=value" for the command */
	char *file, *fetch;       /* a file the command needs, what fetches it; NULL: none */
	uint32_t start_ms, stop_ms; /* until ready; from SIGTERM to SIGKILL */
	enum tg_protocol protocol;
	struct tg_secret api_key; /* the worker's own key; empty: none. "file:/path" already read */
	uint32_t slots;           /* requests at once per worker; 0: no bound */
	uint32_t max_prompt_chars; /* 0: bytes only */
	uint32_t queue;           /* requests that may wait; 0: none */
	uint32_t queue_ms;        /* longest wait */
	uint32_t probe_ms;        /* between probes of an idle worker; 0: none */
	enum tg_affinity affinity;
	uint32_t connect_ms, first_byte_ms, idle_ms, total_ms;
	bool pass_key_prefix;     /* workers are told what may be shown of the caller's key */
	uint64_t price_prompt, price_completion; /* of a million tokens, in millionths of the currency's unit */
	int line;                 /* in the TOML file, for messages; 0: not from a file */
	uint32_t given;           /* one bit per row of MODEL in tables/options.def: written in the file (else the default) */
};

struct tg_origins; /* opaque: where each option's value came from */

struct tg_config {
	enum tg_profile profile;
	/* [server] */
	struct tg_strlist listen;  /* "127.0.0.1:9001", "[::1]:9001", "unix:/path", "tls:...", "redirect:..."; LOAD_BALANCER_HOST/PORT already applied */
	char *name;                /* what the service calls itself */
	char *tls_cert, *tls_key;  /* PEM files; both or neither; NULL: none */
	uint32_t threads;          /* 0: one a core */
	struct tg_strlist hosts;   /* empty: any */
	uint64_t max_body_bytes;
	uint32_t max_prompt_chars; /* code points; /api/v1/inference */
	uint32_t max_header_bytes; /* request line and headers together */
	uint32_t max_headers;
	uint64_t max_buffered_bytes; /* all request bodies in memory together */
	uint32_t max_connections;  /* per process */
	uint32_t head_ms, body_ms, body_idle_ms, keepalive_ms, write_stall_ms, drain_ms;
	struct tg_strlist trusted_proxies; /* addresses or CIDR */
	struct tg_strlist cors_origins; /* "https://host[:port]" in the form browsers send, "null", or "*" alone */
	struct tg_strlist cors_methods, cors_headers;
	bool cors_credentials;     /* has no meaning with "*" */
	uint32_t cors_max_age_s;
	/* [auth] */
	bool require_auth;
	char *api_keys_file;
	struct tg_secret admin_key, read_key; /* INFERENCE_ADMIN_KEY, INFERENCE_READ_KEY */
	struct tg_strlist tollgate_keys, chapkit_keys; /* TOLLGATE_API_KEYS, CHAPKIT_API_KEYS: wiped on free */
	struct tg_strlist credit_risk_keys;   /* CREDIT_RISK_API_KEYS */
	char *chapkit_key_file;    /* CHAPKIT_API_KEY_FILE; NULL: the usual place */
	struct tg_strlist chapkit_file_keys;  /* what it held; no option of its own */
	struct tg_secret admin_password; /* INFERNO_ADMIN_PASSWORD; empty: no user is made */
	bool end_revoked;
	struct tg_secret jwt_secret, jwt_secret_previous; /* INFERNO_JWT_SECRET; empty: data/jwt.secret, none */
	uint32_t token_hours;      /* life of a login's token */
	struct tg_rate guesses, password_guesses; /* failures of one source before its refusals are delayed; n 0: never */
	/* [store] */
	char *store_url;           /* "": no database */
	struct tg_secret store_secret; /* TOLLGATE_SECRET; empty: secret.key beside the database */
	uint32_t usage_days;       /* how long a day's usage is kept; 0: none is counted */
	uint32_t usage_flush_s;    /* between writings of it */
	/* [prices], in millionths of the currency's unit (policy/price.h) */
	char *currency;
	uint64_t price_train, price_predict;         /* of one operation */
	uint64_t price_train_row, price_predict_row; /* of a thousand rows */
	/* [limits] */
	bool limits_enabled;
	struct tg_rate limit_api, limit_train, limit_predict, limit_poll, limit_infer, limit_ml;
	struct tg_rate limit_key_requests;                /* of keys without own limits */
	uint32_t limit_key_tokens, limit_key_in_flight;   /* the same; a minute; 0: off */
	uint32_t reserve_tokens, reserve_bytes;           /* what a request reserves: gate/limit.c */
	/* [artifacts] */
	char *artifacts_url;       /* "file:FOLDER", "s3://BUCKET[/PREFIX]" */
	bool ml_engine;
	uint64_t ml_max_body_bytes;
	char *ml_spool, *ml_datasets; /* folders */
	uint64_t ml_spool_bytes;   /* of the spool's files together; 0: no bound */
	uint32_t ml_train_jobs, ml_predict_jobs; /* at the same time */
	uint32_t ml_key_jobs;      /* of one principal, waiting or running; 0: no bound */
	uint32_t ml_job_days;      /* for which an ended one is kept; 0: for ever */
	uint32_t ml_job_seconds;   /* longest time of a running one */
	uint32_t ml_threads;       /* of one training; 0: one a core */
	char *audit_path;          /* "": none */
	/* [log] */
	bool log_debug;            /* log_level is debug then */
	char *log_path;            /* "-": stdout */
	enum tg_log_level log_level;
	uint64_t log_rotate_bytes; /* 0: never */
	uint32_t log_rotate_keep;
	char *workers_log_path;    /* "-": stdout */
	/* [metrics] */
	bool metrics_loopback;
	/* [[model]] */
	struct tg_model_conf *models;
	size_t nmodels;
	/* where it came from, for messages */
	char *path;                /* the TOML file read, or NULL */
	struct tg_origins *origins;
};

struct tg_worker_count { /* --workers NAME=N */
	struct tg_slice model;
	uint32_t n;
};
#define TG_WORKERS_MAX 64 /* started ones of one model */

struct tg_config_source {
	const char *path;          /* --config; NULL: tollgate.toml here if there is one */
	char *const *env;          /* "NAME=value", ends with NULL; the caller's environ */
	const char *dir;           /* where .env and data/keys.env are looked for when there is no file; NULL: "." */
	const struct tg_worker_count *workers; /* replace `workers` of these models; may be NULL */
	unsigned nworkers;
	const void *settings;      /* json_t: instead of what data/settings.json holds (config/settings.h); NULL: the file */
	bool reload;               /* `workers` may name what the file no longer has: warned about */
	bool draft;                /* only to be looked at: what profile production refuses is let pass (config show, init) */
	const char *const *also;   /* further addresses to listen on (--also); may be NULL */
	unsigned nalso;
	const char *key_file;      /* where CHAPKIT_API_KEY_FILE is looked for when nothing names it; NULL: /run/secrets/ml_api_keys. For tests */
};

/* Exit code 2 material: on failure returns NULL and err has file, line, key, what was wrong and the nearest known name. Warnings go
 * to `warn` (may be NULL), one line a call. */
struct tg_config *tg_config_load(const struct tg_config_source *src, struct tg_err *err, void (*warn)(void *ctx, const char *line), void *ctx);
/* Every default, no file and no environment: for `tollgate run` and tests. NULL: no memory. */
struct tg_config *tg_config_defaults(void);
/* One more model at one url, everything else as the table says. False: the name or the url is not acceptable. */
bool tg_config_add_model(struct tg_config *c, const char *name, const char *url, enum tg_protocol protocol, struct tg_err *why);
/* The same with one started worker; argv ends with NULL. */
bool tg_config_add_command(struct tg_config *c, const char *name, char *const *argv, enum tg_protocol protocol, struct tg_err *why);
/* Slots of a started worker where none are set: a language model server batches a few requests, an /infer worker takes one. */
static inline uint32_t tg_started_slots(enum tg_protocol p)
{
	return p == TG_PROTO_OPENAI ? 4 : 1;
}
/* Does the command (or its environment) say where it is to listen, and how? */
bool tg_model_says(const struct tg_model_conf *m, const char *word); /* "{port}" */
void tg_config_free(struct tg_config *c);
/* Where an option's value came from: "default", "profile dev", "tollgate.toml:12", "environment INFERENCE_ADMIN_KEY", ".env:3 ..." ; table "" for profile.
 * Lives as long as c. NULL: no such option. */
const char *tg_config_origin(const struct tg_config *c, const char *table, const char *name);
/* The path of data/NAME: where it is, beside the configuration file before the working directory; else where it belongs: in the data/ that there is, in the same order. False: over `cap`. */
bool tg_config_data_path(const struct tg_config *c, const char *name, char *out, size_t cap);
/* Appends a copy. */
bool tg_strlist_add(struct tg_strlist *l, struct tg_slice s);
void tg_strlist_free(struct tg_strlist *l);
/* Which of two configurations' changes need a restart: writes their option names, comma separated; false: none. */
bool tg_config_needs_restart(const struct tg_config *old, const struct tg_config *new_, char *names, size_t cap);
/* config show: every option with its value (secrets by prefix) and where it came from (default, file:line, environment NAME, .env, data/keys.env). */
void tg_config_show(const struct tg_config *c, FILE *out);
/* config sample: a commented tollgate.toml from the table. */
void tg_config_sample(FILE *out);
/* "60/minute" (second, minute, hour, day; 1 to TG_RATE_MAX), "off". */
#define TG_RATE_MAX 16000000u
bool tg_rate_parse(struct tg_slice s, struct tg_rate *out);
#define TG_RATE_TEXT 24
void tg_rate_text(struct tg_rate r, char out[TG_RATE_TEXT]); /* the same form, NUL-terminated */
/* "12", "0.15": at most twelve digits, a point and at most six more; no sign, no exponent. In millionths. */
bool tg_decimal_parse(struct tg_slice s, uint64_t *micro);
#define TG_DECIMAL_TEXT 32
void tg_decimal_text(uint64_t micro, char out[TG_DECIMAL_TEXT]); /* the same form, NUL-terminated */
/* Which seed document prints this key or password, "000" to "004"; NULL: none. Whoever has read the document has it. */
const char *tg_demo_key(struct tg_slice key);
/* An origin as it stands in `cors_origins`: "*", "null" or scheme://host[:port], written to out as browsers write it: lower case, without the scheme's own port.
 * False with a reason, also for a path, a user name, a wildcard within. */
#define TG_ORIGIN_MAX 256
bool tg_origin_parse(struct tg_slice s, char out[TG_ORIGIN_MAX], struct tg_err *why);
/* "file:FOLDER" or "s3://BUCKET[/PREFIX]". */
bool tg_artifacts_ok(struct tg_slice s, struct tg_err *why);
/* Parses http://host[:port][/base] or unix:/path. host is without brackets. False with a reason. */
struct tg_url {
	bool unix_socket;
	struct tg_slice host;  /* or the socket's path */
	uint16_t port;
	struct tg_slice base;  /* "" or "/base" without trailing slash */
};
bool tg_url_parse(struct tg_slice s, struct tg_url *out, struct tg_err *err);
/* One `listen` entry: "127.0.0.1:9001", "[::1]:9001", "localhost:9001", "unix:/path"; in front of an address and port "tls:" or "redirect:". Port 0: any free
 * one. */
enum tg_listen_kind { TG_LISTEN_PLAIN, TG_LISTEN_TLS, TG_LISTEN_REDIRECT };
struct tg_listen {
	enum tg_listen_kind kind;
	bool unix_socket;
	struct tg_slice host; /* an IP literal without brackets, or the socket's path; "localhost" is given as 127.0.0.1 */
	uint16_t port;
};
bool tg_listen_parse(struct tg_slice s, struct tg_listen *out, struct tg_err *err);
enum tg_listen_kind tg_listen_kind_of(struct tg_slice *spec); /* cuts "tls:" or "redirect:" off; checks nothing else */
extern const char *const tg_listen_prefixes[]; /* "", "tls:", "redirect:" */
/* The normal form of an address and port, with its prefix. False: it does not fit. */
bool tg_listen_text(const struct tg_listen *l, char *out, size_t cap);
/* The entries together, and with tls_cert and tls_key: none twice, nothing missing. */
bool tg_listen_check(const struct tg_config *c, struct tg_err *err);
