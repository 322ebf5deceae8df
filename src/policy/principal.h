#pragma once
/* Who is calling and what they may do. A principal lives in a key set, inside a snapshot; exchanges borrow it while they hold the snapshot. */
#include "base/secret.h"
#include "config/config.h"

#define PERM(bit, name, doc) TG_PERM_##name = 1u << (bit),
enum tg_perm {
#include "tables/permissions.def"
};
#undef PERM
#define TG_PERM_ALL 0xffffu
#define TG_PERMS_USER (TG_PERM_read_models | TG_PERM_run_inference | TG_PERM_use_streaming)
#define TG_PERMS_CHAPKIT (TG_PERMS_USER | TG_PERM_train_models | TG_PERM_manage_configs | TG_PERM_manage_artifacts)
#define TG_PERMS_CREDIT_RISK (TG_PERMS_USER | TG_PERM_train_models)
#define TG_PERMS_LOCAL (TG_PERM_run_inference | TG_PERM_use_streaming)

enum tg_source { TG_SRC_ADMIN_KEY, TG_SRC_READ_KEY, TG_SRC_KEYS_FILE, TG_SRC_TOLLGATE_KEYS, TG_SRC_CHAPKIT_KEYS, TG_SRC_CHAPKIT_FILE, TG_SRC_CREDIT_RISK_KEYS,
		 TG_SRC_LOCAL, TG_SRC_OUTSIDER, TG_SRC_ANONYMOUS };

/* A key's or user's own bounds, beside those of the routes' classes; 0: none. */
struct tg_key_limits {
	struct tg_rate requests;
	uint32_t tokens_per_minute;
	uint32_t in_flight;
};

struct tg_principal {
	char id[24];      /* opaque and stable for one key: "key_" + 16 hex digits of its digest; "local" for local callers */
	char name[32];    /* "admin", "read", "api_keys.json", "TOLLGATE_API_KEYS", "CHAPKIT_API_KEYS", "CHAPKIT_API_KEY_FILE", "CREDIT_RISK_API_KEYS", "local", "anonymous" */
	char prefix[TG_KEY_PREFIX_MAX + 1];
	char label[TG_KEY_LABEL_MAX + 1];
	uint32_t perms;
	enum tg_source source;
	struct tg_key_limits limits;
	uint64_t hash;    /* the first 8 bytes of the digest: the limiter's key */
};

const char *tg_perm_name(uint32_t bit_mask); /* of one bit */
