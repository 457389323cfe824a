/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How debugging is set: by the pool, else by the environment; what is wrong, or what the
 * backend cannot do, is refused by name.
 */
#include "base/memcheck.h"
#include "debug.h"

#define ALL_OTHERS \
    (MRP_DEBUG_POISON | MRP_DEBUG_GUARD | MRP_DEBUG_ORIGINS | MRP_DEBUG_MEMCHECK)

static int setup(void **state)
{
    unsetenv("MRPOOL_DEBUG");
    return pool_fixture_setup(state);
}

static int teardown(void **state)
{
    unsetenv("MRPOOL_DEBUG");
    return pool_fixture_teardown(state);
}

/* What is left of flags where nobody listens. */
static uint32_t heard(uint32_t flags)
{
    return mrp_memcheck_is_present() ? flags : flags & ~(uint32_t)MRP_DEBUG_MEMCHECK;
}

static enum mrp_status create(struct pool_fixture *f, uint32_t debug)
{
    struct mrp_pool_params params = pool_fixture_params(f);

    params.debug = debug;
    return mrp_pool_create(f->context, &params, &f->pool);
}

static void debug__is_memcheck_where_somebody_listens(void **state)
{
    struct pool_fixture *f = *state;

    assert_int_equal(create(f, 0), MRP_OK);
    assert_int_equal(f->pool->debug, heard(MRP_DEBUG_MEMCHECK));
    assert_int_equal(f->pool->cache_slot == MRP_NO_SLOT, mrp_memcheck_is_present());
}

static void debug__of_the_environment(void **state)
{
    static const struct {
        const char *text;
        uint32_t debug;
    } cases[] = {{"off", 0}, {"poison", MRP_DEBUG_POISON}, {"guard", MRP_DEBUG_GUARD},
        {"origins", MRP_DEBUG_ORIGINS}, {"memcheck", MRP_DEBUG_MEMCHECK},
        {"memcheck,poison,guard,origins", ALL_OTHERS}};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < N_OF(cases); i++) {
        setenv("MRPOOL_DEBUG", cases[i].text, 1);
        assert_int_equal(create(f, 0), MRP_OK);
        assert_int_equal(f->pool->debug, heard(cases[i].debug));
        assert_int_equal(f->pool->cache_slot == MRP_NO_SLOT, heard(cases[i].debug) != 0);
        debug_destroy(f);
        assert_int_equal(create(f, MRP_DEBUG_OFF), MRP_OK); /* the pool's comes first */
        assert_int_equal(f->pool->debug, 0);
        assert_int_not_equal(f->pool->cache_slot, MRP_NO_SLOT);
        debug_destroy(f);
        assert_int_equal(create(f, MRP_DEBUG_POISON), MRP_OK);
        assert_int_equal(f->pool->debug, MRP_DEBUG_POISON);
        debug_destroy(f);
    }
}

static void debug__wrong_ones_are_refused(void **state)
{
    struct pool_fixture *f = *state;

    assert_refused(create(f, 1 << 5), MRP_ERR_INVALID, "debug is 0x20: unknown bits");
    assert_refused(create(f, UINT32_MAX), MRP_ERR_INVALID, "unknown bits");
    for (uint32_t flag = MRP_DEBUG_POISON; flag <= MRP_DEBUG_MEMCHECK; flag <<= 1) {
        assert_refused(
            create(f, MRP_DEBUG_OFF | flag), MRP_ERR_INVALID, "MRP_DEBUG_OFF means none");
    }
    setenv("MRPOOL_DEBUG", "poison,guards", 1);
    assert_refused(create(f, 0), MRP_ERR_INVALID,
        "MRPOOL_DEBUG=poison,guards: \"guards\" is none of off|poison|guard|origins");
    assert_null(f->pool);
    assert_int_equal(create(f, MRP_DEBUG_POISON), MRP_OK); /* not asked for */
}

static void debug__makes_no_checks_state(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region;

    for (uint32_t checks = MRP_CHECKS_NONE; checks <= MRP_CHECKS_FULL; checks++) {
        params.checks = checks;
        params.debug = MRP_DEBUG_ORIGINS;
        pool_fixture_create(f, &params);
        assert_int_equal(
            f->pool->checks, checks == MRP_CHECKS_NONE ? MRP_CHECKS_STATE : checks);
        region = pool_fixture_alloc(f, 100);
        pool_fixture_free(region);
        assert_refused(mrp_region_free(region), MRP_ERR_STALE, "is free");
        debug_destroy(f);
    }
}

/* Every mixture on every check, with every way in and out. */
static void debug__combines(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *held[40] = {NULL};

    for (uint32_t i = 0; i < 3 * 16; i++) {
        struct mrp_pool_params params = pool_fixture_params(f);
        uint64_t seed = i;

        params.debug = i % 16 == 0 ? MRP_DEBUG_OFF : i % 16 * MRP_DEBUG_POISON;
        params.checks = MRP_CHECKS_NONE + i / 16;
        params.headroom = i % 3 * 50;
        params.tailroom = i % 2 * 30;
        params.user_size = i % 5 * 8;
        params.n_rails = i % 3;
        pool_fixture_create(f, &params);
        for (int round = 0; round < 400; round++) {
            struct mrp_region **place = &held[pool_fixture_random(&seed) % N_OF(held)];
            size_t size =
                pool_fixture_random(&seed) % (round % 50 == 0 ? 2 * MRP_MIB : 9000);

            if (*place != NULL) {
                assert_int_equal(mrp_region_free(*place), MRP_OK);
            }
            *place = mrp_region_alloc(f->pool, size);
            assert_non_null(*place);
            memset((char *)mrp_region_address(*place) - f->pool->classes.lead, 1,
                f->pool->classes.lead + mrp_region_capacity(*place) +
                    f->pool->classes.tailroom);
        }
        for (size_t n = 0; n < N_OF(held); n++) {
            if (held[n] != NULL) {
                pool_fixture_free(held[n]);
                held[n] = NULL;
            }
        }
        pool_fixture_check_registrations(f, params.n_rails);
        debug_destroy(f);
    }
}

/* -- what a backend cannot -- */

static enum mrp_status no_map(
    void *state, const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    (void)state;
    (void)request;
    (void)mapping;
    return mrp_fail(MRP_ERR_MEMORY, 0, "none here");
}

static enum mrp_status no_unmap(void *state, const struct mrp_mapping *mapping)
{
    (void)state;
    (void)mapping;
    return MRP_OK;
}

static void debug__of_device_memory(void **state)
{
    static const struct mrp_backend_ops ops = {
        .struct_size = sizeof ops,
        .kind = "device",
        .purpose = "none",
        .memory_kind = MRP_MEMORY_CUDA,
        .map = no_map,
        .unmap = no_unmap,
    };
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    assert_int_equal(
        mrp_backend_create_custom(f->context, "gpu", &ops, NULL, &params.backend),
        MRP_OK);
    params.debug = MRP_DEBUG_POISON;
    assert_refused(mrp_pool_create(f->context, &params, &f->pool), MRP_ERR_UNSUPPORTED,
        "that of backend gpu is not the host's");
    params.debug = MRP_DEBUG_GUARD;
    assert_refused(mrp_pool_create(f->context, &params, &f->pool), MRP_ERR_UNSUPPORTED,
        "gpu is of kind device");
    params.debug = MRP_DEBUG_MEMCHECK | MRP_DEBUG_ORIGINS;
    pool_fixture_create(f, &params);
    assert_int_equal(f->pool->debug, MRP_DEBUG_ORIGINS);
}

static void guard__needs_mmap(void **state)
{
    static _Alignas(64) char memory[1 << 20];
    struct pool_fixture *f = *state;
    struct mrp_backend_params array = MRP_BACKEND_PARAMS_INIT;
    struct mrp_pool_params params = pool_fixture_params(f);

    params.debug = MRP_DEBUG_GUARD;
    assert_int_equal(
        mrp_backend_create(f->context, "malloc", NULL, &params.backend), MRP_OK);
    assert_refused(mrp_pool_create(f->context, &params, &f->pool), MRP_ERR_UNSUPPORTED,
        "is of kind malloc: leave MRP_DEBUG_GUARD");
    array.address = memory;
    array.size = sizeof memory;
    assert_int_equal(
        mrp_backend_create(f->context, "array", &array, &params.backend), MRP_OK);
    setenv("MRPOOL_DEBUG", "guard", 1);
    params.debug = 0;
    assert_refused(mrp_pool_create(f->context, &params, &f->pool), MRP_ERR_UNSUPPORTED,
        "is of kind array: leave");
    params.debug = MRP_DEBUG_POISON | MRP_DEBUG_MEMCHECK; /* these are for all */
    pool_fixture_create(f, &params);
    pool_fixture_free(pool_fixture_alloc(f, 1000));
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    static const struct CMUnitTest tests[] = {
        TEST(debug__is_memcheck_where_somebody_listens),
        TEST(debug__of_the_environment),
        TEST(debug__wrong_ones_are_refused),
        TEST(debug__makes_no_checks_state),
        TEST(debug__combines),
        TEST(debug__of_device_memory),
        TEST(guard__needs_mmap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
