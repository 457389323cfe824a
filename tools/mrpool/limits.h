/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The limits of the machine, judged: is there room for pinning, and what to change if
 * not.
 */
#ifndef TOOL_LIMITS_H
#define TOOL_LIMITS_H

#include "mrpool/mrpool.h"

enum tool_level {
    TOOL_LEVEL_OK,
    TOOL_LEVEL_NOTE, /* works; there is something to gain */
    TOOL_LEVEL_SMALL /* too small for pinning */
};

struct tool_limit {
    const char *key; /* stable, for JSON */
    const char *label; /* for people */
    size_t value; /* bytes or a count; MRP_UNLIMITED */
    char text[48]; /* the value with its unit */
    enum tool_level level;
    const char *remark; /* "" if there is nothing to say */
    const char *remedy; /* what to do; "" if nothing */
};

#define TOOL_LIMITS_MAX 12

/** Judge every limit. @return how many. */
size_t tool_limits_judge(
    const struct mrp_system *system, struct tool_limit limits[TOOL_LIMITS_MAX]);

/** "64 KiB", "unlimited". */
void tool_size_write(char *text, size_t text_size, size_t size);

/** Whether pinning comes to an end before it has begun to pay. */
bool tool_memlock_is_small(size_t memlock_limit);

const char *tool_level_name(enum tool_level level);

#endif
