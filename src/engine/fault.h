#pragma once
/* What is wrong with a body, in the words its sender reads. */
#include "engine/frame.h"

#define TG_NAME_CUT 72

/* Always false, so that a reader can end with it. field: what is longer than its room is cut. */
__attribute__((format(printf, 3, 4))) bool tg_fault(struct tg_intake_fault *f, const char *field, const char *why, ...);
bool tg_fault_memory(struct tg_intake_fault *f);
/* A name for a sentence: its first 60 bytes or so, by whole characters; control characters become question marks. Returns out. */
const char *tg_name_cut(struct tg_slice name, char out[TG_NAME_CUT]);
