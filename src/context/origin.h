/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Origins: who asked for something, as reports name it. Backtraces are interned: each
 * distinct one is kept once, until the process ends, so that a pointer to it can be read
 * at any time, however late.
 */
#ifndef MRP_CONTEXT_ORIGIN_H
#define MRP_CONTEXT_ORIGIN_H

#include <stddef.h>

#define MRP_ORIGIN_FRAMES 16
#define MRP_ORIGIN_TEXT 1024 /* bytes that hold most of them as text */

struct mrp_origin;

/** The calling thread's backtrace from `caller` on: the return address of a function of
 *  the library's API. NULL when there is no memory for one, or 65,536 are known. Not
 *  under a mutex: the first one in a process loads a library. */
const struct mrp_origin *mrp_origin_capture(const void *caller);

/** "send_request+0x12 (program) < main+0x45 (program)" */
void mrp_origin_describe(const struct mrp_origin *origin, char *text, size_t size);

/** "send_request+0x12 (program)" of a return address; an offset into the file where no
 *  symbol is known. */
void mrp_caller_describe(const void *caller, char *text, size_t size);

#endif
