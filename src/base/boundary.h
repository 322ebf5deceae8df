#pragma once
/* Boundaries of multipart bodies (RFC 2046 section 5.1.1). */
#include "base/slice.h"

#define TG_BOUNDARY_MAX 70

/* 1 to 70 of the characters that the RFC allows, the last of them no blank. */
bool tg_boundary_ok(struct tg_slice boundary);
/* The one that a Content-Type names. False: *why, a sentence's end for its sender. */
bool tg_boundary_of(struct tg_slice content_type, struct tg_slice *boundary, const char **why);
