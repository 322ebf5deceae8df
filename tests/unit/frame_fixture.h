#pragma once
/* Frames by hand, for tests of what is done with them: static arrays behind it, nothing to free but the frame of tests that ask for one. */
#include "engine/frame.h"
#include <math.h>

#define NUMBERS(name_, ...) { .name = (name_), .type = TG_COLUMN_NUMBER, .number = (double[]){ __VA_ARGS__ } }
#define TEXTS(name_, words_, ...) { .name = (name_), .type = TG_COLUMN_TEXT, .word = (uint32_t[]){ __VA_ARGS__ }, .words = (words_), .nwords = sizeof(words_) / sizeof *(words_) }
#define NOTHING(name_) { .name = (name_), .type = TG_COLUMN_EMPTY }
#define FRAME(rows_, columns_) (struct tg_frame){ .rows = (rows_), .ncolumns = sizeof(columns_) / sizeof *(columns_), .columns = (columns_) }
#define NONE TG_FRAME_NO_WORD
