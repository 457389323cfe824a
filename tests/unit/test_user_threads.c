/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A pool used by user-level threads that move between OS threads wherever they yield: in
 * a provider, in region_init, while they wait for another's growth. On one OS thread a
 * wait that blocked would be the end.
 */
#include "base/align.h"
#include "support/test_providers.h"
#include "thread_child.h"

#define HELD 12

struct load {
    struct test_provider network;
    struct mrp_context *context;
    struct mrp_provider *rail;
    struct mrp_pool *pool;
    size_t rounds;
    atomic_size_t n_init;
};

static void yield_often(struct test_provider *provider, void *address, size_t size)
{
    (void)provider;
    (void)address;
    (void)size;
    for (int i = 0; i < 50; i++) {
        test_user_threads.yield();
    }
}

static enum mrp_status yield_at_times(
    struct mrp_region *region, void *user_data, void *init_user)
{
    struct load *load = init_user;

    EXPECT(mrp_region_address(region) != NULL);
    EXPECT(++*(uint64_t *)user_data == 1);
    if (atomic_fetch_add(&load->n_init, 1) % 64 == 0) {
        test_user_threads.yield();
    }
    return MRP_OK;
}

static size_t size_of(size_t seed)
{
    return (size_t)64 << seed * 7 % 13;
}

/* A chunk of its own, which is kept idle until others need the room. */
static void use_large(struct load *load, size_t size)
{
    struct mrp_region *region = mrp_region_alloc(load->pool, size);

    if (region == NULL) {
        EXPECT(mrp_error_last()->status == MRP_ERR_LIMIT);
        return;
    }
    test_user_threads.yield();
    EXPECT(mrp_region_free(region) == MRP_OK);
}

static void churn(void *shared, size_t number)
{
    struct load *load = shared;
    struct mrp_region *held[HELD];
    struct mrp_thread_slot *slot;
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;

    EXPECT(mrp_thread_slot_create(&slot) == MRP_OK);
    request.slot = number % 2 == 0 ? slot : NULL;
    for (size_t round = 0; round < load->rounds; round++) {
        if (round % 8 == number % 8) {
            use_large(load, (5 + number % 3) * MRP_MIB);
        }
        for (size_t i = 0; i < HELD; i++) {
            held[i] =
                mrp_region_alloc_with(load->pool, size_of(round + number + i), &request);
            EXPECT(held[i] != NULL);
            memset(mrp_region_address(held[i]), (int)(number + i), 64);
            if ((round + i) % 4 == 0) {
                test_user_threads.yield();
            }
        }
        for (size_t i = 0; i < HELD; i++) {
            const unsigned char *bytes = mrp_region_address(held[i]);

            EXPECT(bytes[0] == (unsigned char)(number + i));
            EXPECT(bytes[63] == (unsigned char)(number + i));
            EXPECT(mrp_region_free(held[i]) == MRP_OK);
            if ((round + i) % 8 == 0) {
                test_user_threads.yield();
            }
        }
    }
    EXPECT(mrp_thread_slot_destroy(slot) == MRP_OK);
}

static void use_pool(size_t n_workers)
{
    struct load load = {.rounds = test_is_watched() ? 20 : 200};
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    test_provider_init(&load.network);
    load.network.on_register = yield_often;
    load.network.on_deregister = yield_often;
    EXPECT(mrp_context_create(NULL, &load.context) == MRP_OK);
    EXPECT(mrp_provider_create(load.context, "network", test_provider_ops(),
               &load.network, &load.rail) == MRP_OK);
    params.rails = &load.rail;
    params.n_rails = 1;
    params.chunk_min = params.chunk_max = MRP_MIB;
    params.max_bytes = 64 * MRP_MIB;
    params.user_size = sizeof(uint64_t);
    params.region_init = yield_at_times;
    params.region_init_user = &load;
    EXPECT(mrp_pool_create(load.context, &params, &load.pool) == MRP_OK);
    test_user_threads_run(n_workers, 16, churn, &load);
    EXPECT(atomic_load(&load.network.n_register) > 1);
    EXPECT(mrp_pool_check(load.pool) == MRP_OK);
    EXPECT(mrp_pool_destroy(load.pool) == MRP_OK);
    EXPECT(mrp_context_destroy(load.context) == MRP_OK);
    EXPECT(load.network.first_error[0] == '\0');
    test_provider_fini(&load.network);
}

static void use_pools(const struct mrp_thread_model *unused)
{
    (void)unused;
    for (size_t n_workers = 1; n_workers <= 4; n_workers *= 2) {
        use_pool(n_workers);
    }
    EXPECT(is_refused(mrp_thread_model_set(NULL), MRP_ERR_BUSY,
        "thread model pthreads: user threads is in use already"));
}

static void pool__waits_by_yielding(void **state)
{
    (void)state;
    if (test_lacks_user_threads()) {
        test_skip(
            "pool__waits_by_yielding", "the watching tool cannot follow user threads");
        return;
    }
    in_child(use_pools, &test_user_threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool__waits_by_yielding),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
