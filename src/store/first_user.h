#pragma once
/* The user "admin" of a new installation (seed ledger C-41: INFERNO_ADMIN_PASSWORD). Where there is one already nothing is done: the variable is for the first start, not for a change. */
#include "store/store.h"

/* Blocking: a password's hash. False: the password may not be one; err names the variable. A database that is away is a warning. */
bool tg_first_user(struct tg_store *s, struct tg_slice password, void (*warn)(void *ctx, const char *text), void *ctx, struct tg_err *err);
