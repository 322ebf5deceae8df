#pragma once
/*
 * Descriptors 0, 1 and 2 are there: what a program finds closed at its start leads to /dev/null from then on. Else a file or socket of its own gets such a number, takes what is meant for stderr, and libuv, which never closes
 * these three, ends the process when it is to close that. First thing in main.
 */
void tg_standard_open(void);
