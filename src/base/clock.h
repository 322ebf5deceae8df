#pragma once
/* Two clocks: monotonic for every limit, wait and measure; wall time only for what people read (RFC 3339, UTC). */
#include "base/buf.h"
#include <stdint.h>

uint64_t tg_mono_us(void); /* CLOCK_MONOTONIC, microseconds */
uint64_t tg_wall_us(void); /* CLOCK_REALTIME, microseconds since the epoch */
/* "2026-11-23T21:50:13.123Z" (24 bytes, no terminator). */
void tg_rfc3339_ms(uint64_t wall_us, char out[24]);
/* "2026-11-23T21:50:13Z" (20 bytes, no terminator). */
void tg_rfc3339_s(uint64_t wall_us, char out[20]);
