/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Clocks: one for deadlines, and one for ages that takes a few nanoseconds to read and is
 * a few milliseconds fine.
 */
#ifndef MRP_BASE_CLOCK_H
#define MRP_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define MRP_SECOND UINT64_C(1000000000)

/** Nanoseconds of CLOCK_MONOTONIC: for deadlines. */
static inline uint64_t mrp_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * MRP_SECOND + (uint64_t)now.tv_nsec;
}

/** Nanoseconds since some moment before the process began; never goes back. */
static inline uint64_t mrp_clock_coarse(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * MRP_SECOND + (uint64_t)now.tv_nsec;
}

#endif
