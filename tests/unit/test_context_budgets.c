/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The context's budgets, shared by all its pools: bytes, pinned bytes, registrations. What
 * is refused says which, how much is used, and what helps; what goes is lifted to the byte.
 */
#include "waiting.h"

#define PAGE 4096

static struct mrp_region *regions[3][4 * PAGES_OF(1)];

struct scene {
    struct mrp_context *context;
    struct test_provider network;
    struct mrp_provider *rails[2];
    struct mrp_pool *pools[2];
};

static void create(
    struct scene *scene, const struct mrp_context_params *context_params, uint32_t traits)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    memset(scene, 0, sizeof *scene);
    assert_int_equal(mrp_context_create(context_params, &scene->context), MRP_OK);
    test_provider_init(&scene->network);
    scene->network.traits |= traits;
    assert_int_equal(mrp_provider_create(scene->context, "network", test_provider_ops(),
                         &scene->network, &scene->rails[0]),
        MRP_OK);
    params.chunk_min = params.chunk_max = CHUNK;
    params.max_bytes = 64 * CHUNK;
    params.rails = scene->rails;
    params.n_rails = 1;
    params.decay_ms = UINT32_MAX;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(
            mrp_pool_create(scene->context, &params, &scene->pools[i]), MRP_OK);
    }
}

static struct mrp_context_stats stats_of(const struct scene *scene)
{
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;

    assert_int_equal(mrp_context_stats(scene->context, &stats), MRP_OK);
    return stats;
}

/* Nothing is charged once nothing is mapped. */
static void destroy(struct scene *scene)
{
    for (size_t i = 0; i < 2; i++) {
        if (scene->pools[i] != NULL) {
            assert_int_equal(mrp_pool_check(scene->pools[i]), MRP_OK);
            assert_int_equal(mrp_pool_destroy(scene->pools[i]), MRP_OK);
        }
    }
    assert_int_equal(stats_of(scene).charged_size, 0);
    assert_int_equal(stats_of(scene).pinned_size, 0);
    assert_int_equal(stats_of(scene).n_charged, 0);
    assert_int_equal(scene->network.n_live, 0);
    assert_int_equal(mrp_context_destroy(scene->context), MRP_OK);
    assert_string_equal(scene->network.first_error, "");
    test_provider_fini(&scene->network);
}

static size_t take_all_of(struct scene *scene, size_t pool, size_t n, size_t size)
{
    size_t i = 0;

    while (i < n &&
        (regions[pool][i] = mrp_region_alloc(scene->pools[pool], size)) != NULL) {
        i++;
    }
    return i;
}

static void give_all_of(struct scene *scene, size_t pool, size_t n)
{
    assert_int_equal(mrp_region_free_many(regions[pool], n, NULL), MRP_OK);
    assert_int_equal(mrp_thread_flush(scene->pools[pool]), MRP_OK);
}

/* -- refused -- */

static void budget__of_bytes_is_shared_by_the_pools(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct scene scene;

    (void)state;
    params.max_bytes = 4 * CHUNK;
    create(&scene, &params, 0);
    assert_int_equal(take_all_of(&scene, 0, PAGES_OF(3), PAGE), PAGES_OF(3));
    assert_int_equal(take_all_of(&scene, 1, PAGES_OF(2), PAGE), PAGES_OF(1));
    assert_none(mrp_region_alloc(scene.pools[1], PAGE), MRP_ERR_LIMIT,
        "mapped 4194304 of at most 4194304 bytes");
    assert_non_null(strstr(mrp_error_last()->text, "MRPOOL_CONTEXT_MAX_BYTES"));
    assert_none(mrp_region_alloc(scene.pools[1], 2 * CHUNK), MRP_ERR_LIMIT, "context's");
    assert_int_equal(stats_of(&scene).charged_size, 4 * CHUNK);
    assert_int_equal(stats_of(&scene).max_bytes, 4 * CHUNK);
    give_all_of(&scene, 0, PAGES_OF(3));
    assert_int_equal(mrp_pool_trim(scene.pools[0], 0, NULL), MRP_OK);
    assert_int_equal(stats_of(&scene).charged_size, CHUNK);
    give_all_of(&scene, 1, PAGES_OF(1));
    destroy(&scene);
}

static void budget__of_pinned_bytes_counts_rails_that_pin(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params pool_params = MRP_POOL_PARAMS_INIT;
    static char memory[300000];
    struct scene scene;
    struct mrp_region *own, *other;
    struct mrp_pool *unpinned;

    (void)state;
    params.max_pinned = 2 * CHUNK;
    create(&scene, &params, MRP_PROVIDER_PINS);
    pool_params.chunk_min = pool_params.chunk_max = CHUNK;
    pool_params.max_bytes = 8 * CHUNK;
    assert_int_equal(mrp_pool_create(scene.context, &pool_params, &unpinned), MRP_OK);
    other = mrp_region_alloc(unpinned, PAGE);
    assert_non_null(other);
    assert_int_equal(stats_of(&scene).pinned_size, 0); /* no rail pins it */
    assert_int_equal(mrp_region_free(other), MRP_OK);
    assert_int_equal(mrp_pool_destroy(unpinned), MRP_OK);
    assert_int_equal(
        mrp_region_register(scene.pools[0], memory, sizeof memory, NULL, &own), MRP_OK);
    assert_int_equal(stats_of(&scene).pinned_size, sizeof memory);
    assert_int_equal(stats_of(&scene).charged_size, 0); /* the caller's own */
    assert_int_equal(take_all_of(&scene, 1, PAGES_OF(3), PAGE), PAGES_OF(1));
    assert_none(mrp_region_alloc(scene.pools[1], PAGE), MRP_ERR_LIMIT, "pinned");
    assert_non_null(strstr(mrp_error_last()->text, "max_pinned"));
    assert_int_equal(mrp_region_free(own), MRP_OK);
    assert_int_equal(stats_of(&scene).pinned_size, CHUNK);
    other = mrp_region_alloc(scene.pools[1], PAGE);
    assert_non_null(other);
    assert_int_equal(mrp_region_free(other), MRP_OK);
    give_all_of(&scene, 1, PAGES_OF(1));
    destroy(&scene);
}

static void budget__of_registrations_counts_each_rail(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params pool_params = MRP_POOL_PARAMS_INIT;
    struct test_provider second;
    struct mrp_pool *both;
    struct mrp_region *region;
    struct scene scene;

    (void)state;
    params.max_registrations = 5;
    create(&scene, &params, 0);
    test_provider_init(&second);
    assert_int_equal(mrp_provider_create(scene.context, "second", test_provider_ops(),
                         &second, &scene.rails[1]),
        MRP_OK);
    pool_params.rails = scene.rails;
    pool_params.n_rails = 2;
    pool_params.max_bytes = 8 * CHUNK;
    pool_params.chunk_min = pool_params.chunk_max = CHUNK;
    assert_int_equal(mrp_pool_create(scene.context, &pool_params, &both), MRP_OK);
    region = mrp_region_alloc(both, PAGE);
    assert_non_null(region);
    assert_int_equal(stats_of(&scene).n_charged, 2);
    assert_int_equal(take_all_of(&scene, 0, PAGES_OF(2), PAGE), PAGES_OF(2));
    assert_int_equal(stats_of(&scene).n_charged, 4);
    assert_none(mrp_region_alloc(both, 2 * CHUNK), MRP_ERR_LIMIT,
        "4 of at most 5 registrations, and 2 more");
    assert_int_equal(take_all_of(&scene, 1, 1, PAGE), 1);
    assert_none(mrp_region_alloc(scene.pools[0], PAGE), MRP_ERR_LIMIT,
        "MRPOOL_CONTEXT_MAX_REGISTRATIONS");
    give_all_of(&scene, 0, PAGES_OF(2));
    give_all_of(&scene, 1, 1);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(mrp_pool_destroy(both), MRP_OK);
    destroy(&scene);
    assert_string_equal(second.first_error, "");
    test_provider_fini(&second);
}

/* Growth wants twice what there is, and takes as little as it needs where the context has no
 * more left: then all of it is used. */
static void budget__that_is_nearly_used_up_gives_a_smaller_chunk(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params pool_params = MRP_POOL_PARAMS_INIT;
    struct mrp_pool_stats stats = MRP_POOL_STATS_INIT;
    struct scene scene;

    (void)state;
    params.max_bytes = 4 * CHUNK;
    create(&scene, &params, 0);
    assert_int_equal(mrp_pool_destroy(scene.pools[0]), MRP_OK);
    pool_params.chunk_min = CHUNK;
    pool_params.chunk_max = 8 * CHUNK;
    pool_params.max_bytes = 64 * CHUNK;
    assert_int_equal(
        mrp_pool_create(scene.context, &pool_params, &scene.pools[0]), MRP_OK);
    assert_int_equal(take_all_of(&scene, 0, 4 * PAGES_OF(1), PAGE), PAGES_OF(4));
    assert_int_equal(mrp_pool_stats(scene.pools[0], &stats), MRP_OK);
    assert_int_equal(stats.n_chunks, 3); /* of 1, 2 and 1 */
    give_all_of(&scene, 0, PAGES_OF(4));
    destroy(&scene);
}

/* -- lifted -- */

/* Whatever fails on the way, what remains charged is what is mapped. */
static void budget__is_lifted_whatever_fails(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    static char memory[5000];
    struct scene scene;
    struct mrp_region *own;

    (void)state;
    params.max_bytes = 8 * CHUNK;
    create(&scene, &params, MRP_PROVIDER_PINS);
    for (size_t i = 0; i < 12; i++) {
        struct mrp_context_stats stats;

        test_provider_fail_next(&scene.network, 1, 2, MRP_ERR_REGISTER);
        if (i % 3 == 0) {
            assert_null(mrp_region_alloc(scene.pools[0], PAGE));
        } else if (i % 3 == 1) {
            assert_null(mrp_region_alloc(scene.pools[1], 2 * CHUNK));
        } else {
            assert_int_not_equal(
                mrp_region_register(scene.pools[0], memory, 5000, NULL, &own), MRP_OK);
        }
        stats = stats_of(&scene);
        assert_int_equal(stats.charged_size, 0);
        assert_int_equal(stats.pinned_size, 0);
        assert_int_equal(stats.n_charged, 0);
        scene.network.fail_at = SIZE_MAX;
    }
    destroy(&scene);
}

/* One pool waits for what the other has: its trim, its large ones, its end. */
static void budget__wakes_who_waits_in_another_pool(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    static struct request request;
    struct pool_fixture seen = {0};
    struct scene scene;

    (void)state;
    params.max_bytes = 4 * CHUNK;
    for (size_t how = 0; how < 3; how++) {
        create(&scene, &params, 0);
        seen.pool = scene.pools[1];
        if (how == 1) {
            assert_int_equal(take_all_of(&scene, 0, 1, 4 * CHUNK), 1);
        } else {
            assert_int_equal(take_all_of(&scene, 0, PAGES_OF(4), PAGE), PAGES_OF(4));
        }
        request_begin(&request, &seen, PAGE, LONG_MS);
        give_all_of(&scene, 0, how == 1 ? 1 : PAGES_OF(4));
        if (how == 0) {
            assert_int_equal(mrp_pool_trim(scene.pools[0], 0, NULL), MRP_OK);
        } else if (how == 2) {
            assert_int_equal(mrp_pool_destroy(scene.pools[0]), MRP_OK);
            scene.pools[0] = NULL;
        }
        assert_int_equal(mrp_region_free(request_get(&request)), MRP_OK);
        destroy(&scene);
    }
}

static void count_call(
    struct mrp_waiter *waiter, struct mrp_region *region, enum mrp_status status)
{
    assert_null(region);
    assert_int_equal(status, MRP_ERR_AGAIN); /* room that only growth can use */
    ++*(size_t *)waiter->user;
}

/* The same for who does not sleep, and so cannot look again: by the very call that makes the
 * room. A region larger than huge is idle after its free, and can be evicted. */
static void budget__calls_who_waits_in_another_pool(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct scene scene;
    size_t n_calls;

    (void)state;
    params.max_bytes = 4 * CHUNK;
    for (size_t how = 0; how < 4; how++) {
        struct mrp_waiter waiter = MRP_WAITER_INIT(count_call, &n_calls);
        size_t n = how == 3 ? 1 : PAGES_OF(3), rest = PAGES_OF(how == 3 ? 2 : 1);
        struct mrp_region *region;

        create(&scene, &params, 0);
        n_calls = 0;
        assert_int_equal(take_all_of(&scene, 0, n, how == 3 ? 2 * CHUNK : PAGE), n);
        assert_int_equal(take_all_of(&scene, 1, rest, PAGE), rest);
        assert_int_equal(mrp_region_alloc_async(scene.pools[1], PAGE, &waiter, &region),
            MRP_ERR_AGAIN);
        give_all_of(&scene, 0, n);
        assert_int_equal(n_calls, how == 3); /* what is in the depot is the pool's */
        if (how == 0) {
            assert_int_equal(mrp_pool_trim(scene.pools[0], 0, NULL), MRP_OK);
        } else if (how == 1) { /* which may be evicted */
            assert_int_equal(mrp_pool_trim(scene.pools[0], 3 * CHUNK, NULL), MRP_OK);
        } else if (how == 2) {
            assert_int_equal(mrp_pool_destroy(scene.pools[0]), MRP_OK);
            scene.pools[0] = NULL;
        }
        assert_int_equal(n_calls, 1);
        assert_int_equal(
            mrp_region_alloc_async(scene.pools[1], PAGE, &waiter, &region), MRP_OK);
        assert_int_equal(mrp_region_free(region), MRP_OK);
        give_all_of(&scene, 1, rest);
        destroy(&scene);
    }
}

/* -- contradictions -- */

static void budget__that_contradicts_itself_is_refused(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params pool_params = MRP_POOL_PARAMS_INIT;
    struct mrp_context *context = NULL;
    struct mrp_pool *pool = NULL;

    (void)state;
    params.max_bytes = 4 * MRP_MIB;
    params.max_pinned = 5 * MRP_MIB;
    assert_refused(mrp_context_create(&params, &context), MRP_ERR_INVALID, "max_pinned");
    assert_null(context);
    params.max_pinned = 0;
    assert_int_equal(mrp_context_create(&params, &context), MRP_OK);
    pool_params.max_bytes = 1000; /* below one chunk */
    assert_refused(
        mrp_pool_create(context, &pool_params, &pool), MRP_ERR_INVALID, "max_bytes");
    pool_params.max_bytes = 2 * MRP_MIB;
    pool_params.reserve = 3 * MRP_MIB;
    assert_refused(
        mrp_pool_create(context, &pool_params, &pool), MRP_ERR_INVALID, "reserve");
    pool_params.reserve = 0;
    pool_params.at_limit = 77;
    assert_refused(
        mrp_pool_create(context, &pool_params, &pool), MRP_ERR_INVALID, "at_limit");
    assert_null(pool);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
}

/* A context that allows less than one chunk: every request says so, at once. */
static void budget__below_one_chunk(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params pool_params = MRP_POOL_PARAMS_INIT;
    struct mrp_context *context = NULL;
    struct mrp_pool *pool = NULL;
    enum mrp_status status;

    (void)state;
    params.max_bytes = 4096;
    mrp_error_clear();
    status = mrp_context_create(&params, &context);
    if (status == MRP_OK) {
        status = mrp_pool_create(context, &pool_params, &pool);
    }
    if (status == MRP_OK) {
        assert_none(mrp_region_alloc(pool, 1), MRP_ERR_LIMIT, "max_bytes");
        assert_int_equal(mrp_pool_check(pool), MRP_OK);
    } else {
        assert_int_equal(status, MRP_ERR_INVALID);
        assert_non_null(strstr(mrp_error_last()->text, "4096"));
    }
    if (context != NULL) {
        assert_int_equal(mrp_context_destroy(context), MRP_OK);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(budget__of_bytes_is_shared_by_the_pools),
        cmocka_unit_test(budget__of_pinned_bytes_counts_rails_that_pin),
        cmocka_unit_test(budget__of_registrations_counts_each_rail),
        cmocka_unit_test(budget__that_is_nearly_used_up_gives_a_smaller_chunk),
        cmocka_unit_test(budget__is_lifted_whatever_fails),
        cmocka_unit_test(budget__wakes_who_waits_in_another_pool),
        cmocka_unit_test(budget__calls_who_waits_in_another_pool),
        cmocka_unit_test(budget__that_contradicts_itself_is_refused),
        cmocka_unit_test(budget__below_one_chunk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
