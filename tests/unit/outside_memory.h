/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Memory for tests to hand over, and what becomes of it: release unmaps it, so that a
 * network that is asked to deregister too late notices.
 */
#ifndef OUTSIDE_MEMORY_H
#define OUTSIDE_MEMORY_H

#include "pool/pool.h"
#include "support/pool_fixture.h"

#include <sys/mman.h>

struct outside {
    char *address;
    size_t size;
    struct pool_fixture *fixture; /* whose locks have to be free at release; or NULL */
    size_t n_released;
    size_t n_live; /* registrations of the first network then */
};

/* `size` bytes that begin `offset` bytes after a page. */
static inline struct outside outside_map(
    struct pool_fixture *f, size_t size, size_t offset)
{
    char *all = mmap(
        NULL, size + offset, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(all, MAP_FAILED);
    return (struct outside){.address = all + offset, .size = size, .fixture = f};
}

static inline void outside_unmap(struct outside *outside)
{
    uintptr_t page = (uintptr_t)outside->address & ~(uintptr_t)4095;
    size_t offset = (uintptr_t)outside->address - page;

    assert_int_equal(munmap(outside->address - offset, outside->size + offset), 0);
}

static inline void outside_check_free(pthread_mutex_t *mutex)
{
    assert_int_equal(pthread_mutex_trylock(mutex), 0);
    pthread_mutex_unlock(mutex);
}

static inline void outside_release(void *address, size_t size, void *user)
{
    struct outside *outside = user;

    assert_ptr_equal(address, outside->address);
    assert_int_equal(size, outside->size);
    outside->n_released++;
    if (outside->fixture != NULL) {
        struct mrp_pool *pool = outside->fixture->pool;

        outside->n_live = outside->fixture->networks[0].n_live;
        if (pool != NULL) {
            outside_check_free(&pool->mutex);
            outside_check_free(&pool->context->mutex);
            outside_check_free(&pool->context->chunks.mutex);
            outside_check_free(&pool->context->retention.mutex);
            outside_check_free(&pool->context->map.mutex);
        }
        mrp_process_lock(); /* would wait for itself */
        mrp_process_unlock();
    }
    outside_unmap(outside);
}

static inline enum mrp_status outside_try(
    struct mrp_pool *pool, struct outside *outside, struct mrp_region **region)
{
    struct mrp_region_adopt_params params = MRP_REGION_ADOPT_PARAMS_INIT;

    params.release = outside_release;
    params.user = outside;
    return mrp_region_adopt(pool, outside->address, outside->size, &params, region);
}

static inline struct mrp_region *outside_adopt(
    struct pool_fixture *f, struct outside *outside)
{
    struct mrp_region *region = NULL;

    if (outside_try(f->pool, outside, &region) != MRP_OK) {
        fail_msg("mrp_region_adopt: %s", mrp_error_last()->text);
    }
    return region;
}

/* Before the memory's record goes with the test's stack. */
static inline void outside_destroy_pool(struct pool_fixture *f)
{
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
    f->pool = NULL;
}

#endif
