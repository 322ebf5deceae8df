#pragma once
/* The engine's server: accepts, gives each connection a thread, and ends it all. */
#include "engine/service.h"

#define TG_CONNECTIONS_MAX 256 /* the runner's (64 trainings, 64 predictions at the most), the gate's loops', probes */

/* Serves until SIGTERM or SIGINT comes (0), or until the zygote ends or nothing can be accepted any more (1). Nothing of it runs when it returns; *left: some thread does, and the process is to end
 * under it. Takes `listening` over. */
int tg_serve(struct tg_service *s, int listening, bool *left);
