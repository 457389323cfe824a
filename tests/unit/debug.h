/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the tests of debugging at run time share.
 */
#ifndef DEBUG_TEST_H
#define DEBUG_TEST_H

#include "pool/debug.h"
#include "support/child.h"
#include "support/pool_fixture.h"
#include "support/test_system.h"

#include <stdlib.h>

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

/* f->pool over the fixture's backend, with these flags. */
static inline void debug_create(struct pool_fixture *f, uint32_t debug)
{
    struct mrp_pool_params params = pool_fixture_params(f);

    params.debug = debug;
    pool_fixture_create(f, &params);
}

static inline void debug_destroy(struct pool_fixture *f)
{
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
    f->pool = NULL;
}

/* A region's block is touched although it is free: as a network would, unnoticed by
 * memory checkers, which these pools tell nothing. */
static inline void write_late(void *address, size_t offset, unsigned char value)
{
    ((volatile unsigned char *)address)[offset] = value;
}

#endif
