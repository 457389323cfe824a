/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Arithmetic on sizes and addresses.
 */
#ifndef MRP_BASE_ALIGN_H
#define MRP_BASE_ALIGN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

_Static_assert(sizeof(void *) == 8, "mrpool packs handles and indices into 64-bit words");

#define MRP_KIB ((size_t)1 << 10)
#define MRP_MIB ((size_t)1 << 20)
#define MRP_GIB ((size_t)1 << 30)

/** Bytes of a cache line, and the alignment of every region. */
#define MRP_LINE ((size_t)64)

static inline bool mrp_is_power_of_two(size_t value)
{
    return value != 0 && (value & (value - 1)) == 0;
}

/** Round down to a multiple of a power of two. */
static inline size_t mrp_align_down(size_t value, size_t alignment)
{
    return value & ~(alignment - 1);
}

/** Round up to a multiple of a power of two; the caller has excluded overflow. */
static inline size_t mrp_align_up(size_t value, size_t alignment)
{
    return (value + alignment - 1) & ~(alignment - 1);
}

static inline size_t mrp_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t mrp_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

static inline bool mrp_add_overflows(size_t a, size_t b, size_t *sum)
{
    return __builtin_add_overflow(a, b, sum);
}

#endif
