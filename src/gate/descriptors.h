#pragma once
/* How many descriptors this process may have, and what follows from it. */
void tg_descriptors_raise(void);           /* the soft limit to the hard one */
unsigned tg_descriptors_connections(void); /* clients at once: half of them, less a few for files and listeners, since each client may need a worker's connection */
