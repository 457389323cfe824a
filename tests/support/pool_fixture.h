/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What every test of a pool begins and ends with.
 *
 *     static void alloc__does_something(void **state)
 *     {
 *         struct pool_fixture *f = *state;
 *         struct mrp_pool_params params = pool_fixture_params(f);
 *
 *         params.max_bytes = 4 * MRP_MIB;
 *         pool_fixture_create(f, &params);
 *         ...                                  mrp_region_alloc(f->pool, 100)
 *     }
 *     cmocka_unit_test_setup_teardown(
 *         alloc__does_something, pool_fixture_setup, pool_fixture_teardown)
 *
 * The teardown finds whatever the test left behind: a broken invariant, a live region, a
 * registration without a chunk, a provider called the wrong way.
 */
#ifndef POOL_FIXTURE_H
#define POOL_FIXTURE_H

#include "base/align.h"
#include "mrpool/context.h"
#include "mrpool/pool.h"
#include "test_providers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define POOL_FIXTURE_RAILS 3

struct pool_fixture {
    struct mrp_context *context;
    struct mrp_backend *backend; /* mmap on base pages, touched by nobody but the test */
    struct test_provider networks[POOL_FIXTURE_RAILS];
    struct mrp_provider *rails[POOL_FIXTURE_RAILS];
    struct mrp_pool *pool; /* NULL until pool_fixture_create; a test may destroy it and
                              set it to NULL */
};

/* A context, the backend and the rails; one fixture at a time. */
int pool_fixture_setup(void **state);

/* The pool holds together and nothing of it is live; everything goes without a leak. */
int pool_fixture_teardown(void **state);

/* Params of a pool over the backend and the first rail, all access. */
struct mrp_pool_params pool_fixture_params(struct pool_fixture *f);

/* f->pool, made so; NULL: of pool_fixture_params. */
void pool_fixture_create(struct pool_fixture *f, const struct mrp_pool_params *params);

struct mrp_pool_stats pool_fixture_stats(struct mrp_pool *pool);

struct mrp_region_info pool_fixture_query(const struct mrp_region *region);

/* Take a region, which must succeed and hold the size. */
struct mrp_region *pool_fixture_alloc(struct pool_fixture *f, size_t size);

/* Give a region back, which must succeed. */
void pool_fixture_free(struct mrp_region *region);

/* Registrations of every rail are those of the pool's chunks, no more and no less. */
void pool_fixture_check_registrations(struct pool_fixture *f, size_t n_rails);

/* The call returns the status, the record holds the same, and its text has the words. */
#define assert_refused(call, wanted, words) \
    do { \
        mrp_error_clear(); \
        assert_int_equal((call), (wanted)); \
        pool_fixture_check_error((wanted), (words), __FILE__, __LINE__); \
    } while (0)

/* The same for a call that returns an object. */
#define assert_none(call, wanted, words) \
    do { \
        mrp_error_clear(); \
        assert_null((call)); \
        pool_fixture_check_error((wanted), (words), __FILE__, __LINE__); \
    } while (0)

void pool_fixture_check_error(
    enum mrp_status wanted, const char *words, const char *file, int line);

/* A sequence that is the same in every run. */
static inline uint32_t pool_fixture_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

#define POOL_TEST(function) \
    cmocka_unit_test_setup_teardown(function, pool_fixture_setup, pool_fixture_teardown)

#endif
