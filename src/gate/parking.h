#pragma once
/* What an exchange waits for outside of its loop's own stages: told when the client leaves, so that what comes back later finds nobody. Embedded by its owner. */
struct tg_parking {
	void (*left)(struct tg_parking *p); /* on the loop's thread; the exchange is about to be freed */
};
