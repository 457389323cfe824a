/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the tests of tracked blocks share: a context for each case, shorthands.
 */
#ifndef MEMORY_BLOCKS_H
#define MEMORY_BLOCKS_H

#include "mrpool/mrpool.h"
#include "refusal.h"

#define KIB ((size_t)1 << 10)
#define GIB ((size_t)1 << 30)

static inline int create(void **state)
{
    return mrp_context_create(NULL, (struct mrp_context **)state);
}

/* Whatever the case freed or not: nothing leaks from one into the next. */
static inline int destroy(void **state)
{
    return mrp_context_destroy(*state);
}

static inline struct mrp_memory_info info_of(size_t size)
{
    struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;

    info.size = size;
    return info;
}

static inline void *alloc(struct mrp_context *context, const struct mrp_memory_info *info)
{
    void *address = mrp_memory_alloc(context, info);

    if (address == NULL) {
        print_error("%s\n", mrp_error_last()->text);
    }
    assert_non_null(address);
    return address;
}

static inline struct mrp_memory_info query(
    struct mrp_context *context, const void *address)
{
    struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;

    assert_accepted(mrp_memory_query(context, address, &info));
    assert_ptr_equal(info.address, address);
    return info;
}

static inline struct mrp_context_stats stats_of(struct mrp_context *context)
{
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;

    assert_accepted(mrp_context_stats(context, &stats));
    return stats;
}

/* A case with a context as its state. */
#define MEMORY_TEST(function) cmocka_unit_test_setup_teardown(function, create, destroy)

#endif
