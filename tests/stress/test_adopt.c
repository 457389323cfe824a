/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Memory that comes and goes whole: adopted, given back, taken by another thread,
 * forgotten, evicted by a third, while the bounds of what is kept change.
 */
#include "stress.h"

#include <sys/mman.h>

struct load {
    struct stress_world world;
    size_t rounds;
    atomic_size_t n_working;
    atomic_size_t n_outside; /* mappings of the test's own: adopted ones included */
    atomic_size_t n_refused;
};

static void unmap_outside(void *address, size_t size, void *user)
{
    struct load *load = user;

    munmap(address, size);
    atomic_fetch_sub(&load->n_outside, 1);
}

static struct mrp_region *adopt_new(struct load *load, size_t size)
{
    struct mrp_region_adopt_params params = MRP_REGION_ADOPT_PARAMS_INIT;
    struct mrp_region *region = NULL;
    void *address =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    params.release = unmap_outside;
    params.user = load;
    if (!STRESS_CHECK(address != MAP_FAILED)) {
        return NULL;
    }
    atomic_fetch_add(&load->n_outside, 1);
    if (mrp_region_adopt(load->world.pool, address, size, &params, &region) != MRP_OK) {
        STRESS_CHECK(mrp_error_last()->status == MRP_ERR_LIMIT);
        atomic_fetch_add(&load->n_refused, 1);
        unmap_outside(address, size, load); /* it is the caller's still */
    }
    return region;
}

/* Whose memory it is tells its kind. */
static void forget(struct load *load, struct mrp_region *region)
{
    struct mrp_region_info info = MRP_REGION_INFO_INIT;
    void *address = NULL;
    size_t size = 0;

    STRESS_CHECK(mrp_region_query(region, &info) == MRP_OK);
    if (!STRESS_CHECK(mrp_region_forget(region, &address, &size) == MRP_OK)) {
        return;
    }
    memset(address, 0, 64);
    if (info.kind == MRP_REGION_ADOPTED) {
        unmap_outside(address, size, load);
    } else {
        STRESS_CHECK(mrp_memory_free(load->world.context, address) == MRP_OK);
    }
}

static void work(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        size_t size = (2 + stress_random(thread) % 3) * MRP_MIB;
        struct mrp_region *region = stress_random(thread) % 3 == 0
            ? adopt_new(load, size)
            : mrp_region_alloc(load->world.pool, size);

        if (region == NULL) {
            continue;
        }
        stress_fill(region, thread->number);
        STRESS_CHECK(
            mrp_region_find(load->world.pool, mrp_region_address(region)) == region);
        STRESS_CHECK(stress_is_intact(region, thread->number));
        if (stress_random(thread) % 4 == 0) {
            STRESS_CHECK(mrp_region_realloc(region, size / 2 * 3, &region) == MRP_OK ||
                mrp_error_last()->status == MRP_ERR_LIMIT);
            STRESS_CHECK(*(const uint64_t *)mrp_region_address(region) == thread->number);
        }
        if (stress_random(thread) % 4 == 0) {
            forget(load, region);
        } else {
            STRESS_CHECK(mrp_region_free(region) == MRP_OK);
        }
    }
    atomic_fetch_sub(&load->n_working, 1);
}

/* Evicts, and moves the bounds. */
static void change_bounds(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_retention_params params = MRP_RETENTION_PARAMS_INIT;

    while (atomic_load(&load->n_working) > 0 && stress_goes_on()) {
        params.max_count = stress_random(thread) % 6;
        params.max_size = stress_random(thread) % 16 * MRP_MIB;
        STRESS_CHECK(mrp_context_retain(load->world.context, &params) == MRP_OK);
        STRESS_CHECK(mrp_context_trim(load->world.context, 4 * MRP_MIB) == MRP_OK);
    }
}

static void work_or_change_bounds(struct stress_thread *thread)
{
    if (thread->number == 0) {
        change_bounds(thread);
    } else {
        work(thread);
    }
}

static void run(size_t max_bytes, size_t n_changers)
{
    struct load load = {.rounds = stress_rounds(100)};
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    size_t n_workers = STRESS_THREADS - n_changers;

    params.max_bytes = max_bytes;
    stress_create(&load.world, &params);
    atomic_init(&load.n_working, n_workers);
    stress_run(STRESS_THREADS, n_changers > 0 ? work_or_change_bounds : work, &load);
    stress_check_rest(load.world.pool);
    stress_destroy(&load.world);
    assert_int_equal(atomic_load(&load.n_outside), 0);
}

static void adopt__beside_free_forget_and_resize(void **state)
{
    (void)state;
    run(0, 0);
}

static void adopt__beside_new_bounds_and_trims(void **state)
{
    (void)state;
    run(0, 1);
}

static void adopt__beside_the_cap(void **state)
{
    (void)state;
    run(20 * MRP_MIB, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adopt__beside_free_forget_and_resize),
        cmocka_unit_test(adopt__beside_new_bounds_and_trims),
        cmocka_unit_test(adopt__beside_the_cap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
