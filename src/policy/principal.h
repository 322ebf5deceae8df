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
		 TG_SRC_STORED_KEY, TG_SRC_USER, TG_SRC_LOCAL, TG_SRC_OUTSIDER, TG_SRC_ANONYMOUS };

/* A key's or user's own bounds, beside those of the routes' classes; 0: none. */
struct tg_key_limits {
	struct tg_rate requests;
	uint32_t tokens_per_minute;
	uint32_t in_flight;
};

struct tg_use; /* policy/use.h */

struct tg_principal {
	char id[24];      /* opaque and stable for one key: "key_" + 16 hex digits of its digest, or the database's "key_..." and "usr_..."; "local" for local callers */
	char name[32];    /* "admin", "read", "api_keys.json", "TOLLGATE_API_KEYS", "CHAPKIT_API_KEYS", "CHAPKIT_API_KEY_FILE", "CREDIT_RISK_API_KEYS", "local", "anonymous";
			   * "database" (a key of it), "user" */
	char prefix[TG_KEY_PREFIX_MAX + 1];
	char label[TG_KEY_LABEL_MAX + 1];
	uint32_t perms;
	enum tg_source source;
	struct tg_key_limits limits;
	struct tg_use *use; /* where it counts; shared by all loops and outlives snapshots: the store's (store/uses.h). NULL: nobody asks */
	uint64_t expires_s; /* seconds since the epoch from which on it is nobody's; 0: never */
	uint64_t hash;    /* the first 8 bytes of the digest: the limiter's key */
};

const char *tg_perm_name(uint32_t bit_mask);    /* of one bit */
uint32_t tg_perm_named(struct tg_slice name);   /* 0: no such permission */
/* "read_models,run_inference". Names that this program does not know, which a newer one wrote, give nothing. */
uint32_t tg_perms_listed(struct tg_slice names);
/* The names of a mask's bits, separated by `between`, NUL-terminated. */
#define TG_PERMS_TEXT 320
void tg_perms_text(uint32_t mask, const char *between, char out[TG_PERMS_TEXT]);
