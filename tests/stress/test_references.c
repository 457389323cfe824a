/* SPDX-License-Identifier: BSD-3-Clause
 *
 * References: the last one dropped by several threads at once, slices made and given back
 * beside it. Of every kind of root: pooled, a chunk of its own, the caller's memory.
 */
#include "stress.h"

#define ROOTS 4096 /* enough work for the threads to meet */
#define SLICES 8

struct load {
    struct stress_world world;
    struct mrp_region *roots[ROOTS];
    size_t n_roots, rounds;
};

/* Each root has a reference for each thread. */
static void release_all(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    for (size_t i = 0; i < load->n_roots; i++) {
        char *bytes = mrp_region_address(load->roots[i]);

        if (STRESS_CHECK(bytes != NULL)) {
            bytes[thread->number] = (char)(thread->number + 1);
        }
        STRESS_CHECK(mrp_region_release(load->roots[i]) == MRP_OK);
    }
}

static void retain_for_threads(struct load *load)
{
    for (size_t i = 0; i < load->n_roots; i++) {
        assert_non_null(load->roots[i]);
        for (size_t n = 1; n < STRESS_THREADS; n++) {
            assert_int_equal(mrp_region_retain(load->roots[i]), MRP_OK);
        }
        assert_int_equal(mrp_region_free(load->roots[i]), MRP_ERR_BUSY);
    }
}

static void release__last_ones_together(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    static struct load load = {.n_roots = ROOTS};

    (void)state;
    params.chunk_min = 64 * MRP_MIB;
    stress_create(&load.world, &params);
    for (size_t round = 0; round < stress_rounds(100); round++) {
        for (size_t i = 0; i < ROOTS; i++) {
            load.roots[i] = mrp_region_alloc(load.world.pool, i % 2 == 0 ? 64 : 5000);
        }
        retain_for_threads(&load);
        stress_run(STRESS_THREADS, release_all, &load);
        for (size_t i = 0; i < ROOTS; i++) {
            assert_int_equal(mrp_region_release(load.roots[i]), MRP_ERR_STALE);
        }
    }
    assert_int_equal(stress_stats(load.world.pool).n_growths, 1);
    stress_destroy(&load.world);
}

/* The last release retires a chunk: kept idle, evicted at once, or deregistered. */
static void release__last_ones_of_whole_chunks(void **state)
{
    static char buffer[8][4096];
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_context_params context_params = MRP_CONTEXT_PARAMS_INIT;
    static struct load load = {.n_roots = 16};

    (void)state;
    context_params.retained_count = 3;
    stress_create_context(&load.world, &context_params);
    params.chunk_min = MRP_MIB;
    load.world.pool = stress_add_pool(&load.world, &params);
    assert_non_null(load.world.pool);
    for (size_t round = 0; round < stress_rounds(400); round++) {
        for (size_t i = 0; i < 8; i++) {
            load.roots[i] =
                mrp_region_alloc(load.world.pool, 2 * MRP_MIB + i * 100 * MRP_KIB);
            assert_int_equal(mrp_region_register(load.world.pool, buffer[i],
                                 sizeof buffer[i], NULL, &load.roots[8 + i]),
                MRP_OK);
        }
        retain_for_threads(&load);
        stress_run(STRESS_THREADS, release_all, &load);
        assert_in_range(stress_stats(load.world.pool).n_idle, 0, 3);
        assert_int_equal(stress_stats(load.world.pool).n_user, 0);
    }
    stress_destroy(&load.world);
}

/* -- slices -- */

/* Cut slices off the root or off other slices; what a slice holds stays put. */
static void cut_and_drop(struct stress_thread *thread)
{
    struct load *load = thread->shared;
    struct mrp_region *root = load->roots[0], *slices[SLICES] = {NULL};
    size_t part = mrp_region_size(root) / STRESS_THREADS;

    STRESS_CHECK(
        mrp_region_slice(root, thread->number * part, part, &slices[0]) == MRP_OK);
    STRESS_CHECK(mrp_region_release(root) == MRP_OK); /* slices[0] holds the root now */
    if (stress_goes_on()) {
        stress_fill(slices[0], thread->number);
    }
    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        size_t i = 1 + stress_random(thread) % (SLICES - 1), from = i - 1;

        if (slices[i] != NULL) {
            STRESS_CHECK(stress_is_intact(slices[i], thread->number));
            STRESS_CHECK((round % 2 == 0 ? mrp_region_free(slices[i])
                                         : mrp_region_release(slices[i])) == MRP_OK);
            slices[i] = NULL;
        } else if (slices[from] != NULL) {
            STRESS_CHECK(mrp_region_slice(slices[from], 0, mrp_region_size(slices[from]),
                             &slices[i]) == MRP_OK);
        }
    }
    for (size_t i = SLICES; i > 0; i--) {
        if (slices[i - 1] != NULL) {
            STRESS_CHECK(stress_is_intact(slices[i - 1], thread->number));
            STRESS_CHECK(mrp_region_free(slices[i - 1]) == MRP_OK);
        }
    }
}

static void slice__root_goes_with_the_last_one(void **state)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    static struct load load = {.n_roots = 1, .rounds = 200};

    (void)state;
    params.chunk_min = MRP_MIB;
    stress_create(&load.world, &params);
    for (size_t round = 0; round < stress_rounds(1000); round++) {
        load.roots[0] = mrp_region_alloc(
            load.world.pool, round % 4 == 0 ? 2 * MRP_MIB : STRESS_THREADS * 512);
        retain_for_threads(&load);
        stress_run(STRESS_THREADS, cut_and_drop, &load);
        assert_null(mrp_region_address(load.roots[0]));
        assert_int_equal(stress_stats(load.world.pool).n_slices, 0);
    }
    stress_destroy(&load.world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(release__last_ones_together),
        cmocka_unit_test(release__last_ones_of_whole_chunks),
        cmocka_unit_test(slice__root_goes_with_the_last_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
