#pragma once
/*
 * What training and prediction need of the control thread: the model store, the runner of durable jobs, the threads that /train and /predict wait for, the models that wait for their bucket. [ml] engine = false, no database or no folder for
 * models: there is no runner, and $train and $predict answer 503; everything else goes on. All functions: control thread.
 */
#include "gate/gate.h"

struct tg_learning {
	struct tg_gate *gate;
	uv_work_t work;
	bool uploading;       /* models that wait for the bucket are being tried again, on the job pool */
	uint64_t uploaded_ms; /* when that was last begun */
	bool stopping;
};
/* warn: sentences for people. False: no memory. */
bool tg_learning_open(struct tg_learning *l, struct tg_gate *g, const struct tg_config *c, void (*warn)(void *ctx, const char *text), void *ctx);
void tg_learning_start(struct tg_learning *l); /* the loops run: what an earlier process left is looked at */
void tg_learning_look(struct tg_learning *l);  /* now and then */
/* The gate ends: no job is begun any more, what runs is left and pending again, and nobody waits for a bucket. Idempotent. */
void tg_learning_stop(struct tg_learning *l);
/* After the job pool has nothing of ours. False: a thread of the runner is still there, and nothing it uses may be freed: the process must end under it. */
bool tg_learning_close(struct tg_learning *l);
