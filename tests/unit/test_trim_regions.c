/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Trim and what it takes away: handles, tokens, addresses and user data of regions whose
 * slab has gone, and the books over many that came and went.
 */
#include "small_chunks.h"
#include "support/test_system.h"

#define PAGE 4096

static struct mrp_region *regions[4096];

/* -- handles -- */

/* Every call that takes a region. */
static void check_stale(struct mrp_region *region)
{
    struct mrp_region_info info = MRP_REGION_INFO_INIT;
    struct mrp_region *other = region;
    struct mrp_token token;
    size_t offset;
    uint64_t key;
    void *native;

    assert_refused(mrp_region_free(region), MRP_ERR_STALE, "");
    assert_refused(mrp_region_free_many(&region, 1, NULL), MRP_ERR_STALE, "");
    assert_refused(mrp_region_retain(region), MRP_ERR_STALE, "");
    assert_refused(mrp_region_release(region), MRP_ERR_STALE, "");
    assert_refused(mrp_region_set_length(region, 1), MRP_ERR_STALE, "");
    assert_refused(mrp_region_query(region, &info), MRP_ERR_STALE, "");
    assert_refused(mrp_region_slice(region, 0, 1, &other), MRP_ERR_STALE, "");
    assert_refused(mrp_region_token(region, &token), MRP_ERR_STALE, "");
    assert_refused(mrp_region_local_desc(region, 0, &native), MRP_ERR_STALE, "");
    assert_refused(mrp_region_remote_key(region, 0, &key), MRP_ERR_STALE, "");
    assert_refused(mrp_region_remote_addr(region, 0, &key), MRP_ERR_STALE, "");
    assert_refused(
        mrp_region_registration(region, 0, &native, &offset), MRP_ERR_STALE, "");
    assert_null(mrp_region_address(region));
    assert_int_equal(mrp_region_size(region), 0);
    assert_int_equal(mrp_region_capacity(region), 0);
    assert_int_equal(mrp_region_length(region), 0);
    assert_null(mrp_region_user(region));
    assert_null(mrp_region_pool(region));
    assert_ptr_equal(other, region);
}

static void retired__handles_are_stale_in_every_call(void **state)
{
    static const uint32_t checks[] = {MRP_CHECKS_NONE, MRP_CHECKS_STATE, MRP_CHECKS_FULL};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < 3; i++) {
        struct mrp_pool_params params = small_chunks_params(f, 8);

        params.checks = checks[i];
        params.user_size = 8;
        pool_fixture_create(f, &params);
        for (size_t j = 0; j < 40; j++) {
            regions[j] = mrp_region_alloc(f->pool, PAGE);
            assert_non_null(regions[j]);
        }
        give_all(f, regions + 1, 39); /* the chunk stays */
        trim(f, 0);
        for (size_t j = 4; j < 40; j++) {
            check_stale(regions[j]);
        }
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        give_all(f, regions, 1);
        trim(f, 0); /* and now it has gone */
        check_stale(regions[0]);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

static void retired__memory_is_not_found(void **state)
{
    struct pool_fixture *f = *state;
    char *kept, *gone[2];

    small_chunks_create(f, 8);
    take_all(f, regions, PAGES_OF(2), PAGE);
    kept = mrp_region_address(regions[0]);
    gone[0] = mrp_region_address(regions[100]); /* of the same chunk */
    gone[1] = mrp_region_address(regions[PAGES_OF(1) + 100]);
    give_all(f, regions + 1, PAGES_OF(2) - 1);
    trim(f, 0);
    assert_ptr_equal(mrp_region_find(f->pool, kept + 1), regions[0]);
    for (size_t i = 0; i < 2; i++) {
        struct mrp_wire wire = MRP_WIRE_INIT;

        assert_none(mrp_region_find(f->pool, gone[i]), MRP_ERR_NOT_FOUND, "");
        assert_refused(mrp_ptr_free(f->pool, gone[i]), MRP_ERR_STALE, "");
        if (i == 1) {
            assert_refused(
                mrp_resolve(f->pool, gone[i], 1, 0, &wire), MRP_ERR_NOT_FOUND, "");
        }
    }
    give_all(f, regions, 1);
}

/* -- tokens -- */

static void refuse_token(struct pool_fixture *f, const struct mrp_token *token)
{
    struct mrp_region *found = NULL;

    assert_refused(mrp_token_resolve(f->pool, token, &found), MRP_ERR_STALE, "token");
    assert_null(found);
}

/* Whatever comes to lie there: of the same class, with the same descriptor or another, of
 * another class, with as many owners before. */
static void retired__tokens_stay_stale(void **state)
{
    static const size_t sizes[] = {PAGE, 16 * MRP_KIB, 64, PAGE, 64 * MRP_KIB, 700};
    static struct mrp_token tokens[6 * PAGES_OF(1)];
    struct pool_fixture *f = *state;
    struct mrp_region *anchor;
    size_t n_tokens = 0;

    small_chunks_create(f, 1);
    anchor = pool_fixture_alloc(f, 2000); /* keeps chunk and chunk generation */
    for (size_t i = 0; i < 6; i++) {
        size_t n = mrp_min(CHUNK * 15 / 16 / sizes[i], 200);

        take_all(f, regions, n, sizes[i]);
        for (size_t j = 0; j < n_tokens; j++) {
            refuse_token(f, &tokens[j]);
        }
        for (size_t j = 0; j < n; j++) {
            struct mrp_region *found = NULL;

            assert_int_equal(mrp_region_token(regions[j], &tokens[n_tokens]), MRP_OK);
            assert_int_equal(
                mrp_token_resolve(f->pool, &tokens[n_tokens], &found), MRP_OK);
            assert_ptr_equal(found, regions[j]);
            n_tokens++;
        }
        give_all(f, regions, n);
        trim(f, 0);
        for (size_t j = 0; j < n_tokens; j++) {
            refuse_token(f, &tokens[j]);
        }
    }
    assert_int_equal(f->networks[0].n_register, 1);
    give_all(f, &anchor, 1);
}

/* -- user data -- */

struct initialiser {
    size_t n_calls, n_dirty, fail_at;
};

static enum mrp_status init_word(struct mrp_region *region, void *data, void *user)
{
    struct initialiser *init = user;

    (void)region;
    init->n_calls++;
    init->n_dirty += *(uint64_t *)data != 0;
    if (init->n_calls == init->fail_at) {
        *(uint64_t *)data = 77; /* half a job */
        return MRP_ERR_SYSTEM;
    }
    *(uint64_t *)data = init->n_calls;
    return MRP_OK;
}

static void create_with_user_data(struct pool_fixture *f, struct initialiser *init)
{
    struct mrp_pool_params params = small_chunks_params(f, 8);

    params.user_size = 8;
    params.region_init = init == NULL ? NULL : init_word;
    params.region_init_user = init;
    pool_fixture_create(f, &params);
}

static void recut__user_data_begins_as_zero(void **state)
{
    struct pool_fixture *f = *state;

    create_with_user_data(f, NULL);
    for (size_t round = 0; round < 3; round++) {
        take_all(f, regions, 100, PAGE);
        for (size_t i = 0; i < 100; i++) {
            assert_int_equal(*(uint64_t *)mrp_region_user(regions[i]), 0);
            *(uint64_t *)mrp_region_user(regions[i]) = UINT64_MAX;
        }
        give_all(f, regions, 100);
        trim(f, round == 1 ? 0 : SIZE_MAX);
    }
}

static void recut__runs_region_init_again(void **state)
{
    struct initialiser init = {0};
    struct pool_fixture *f = *state;

    create_with_user_data(f, &init);
    for (size_t round = 1; round < 4; round++) {
        take_all(f, regions, 100, PAGE);
        assert_int_equal(init.n_calls, round * 100);
        assert_int_equal(init.n_dirty, 0);
        give_all(f, regions, 100);
        trim(f, round == 1 ? 0 : SIZE_MAX);
    }
    /* what no trim took is not new */
    take_all(f, regions, 4, PAGE);
    give_all(f, regions, 4);
    take_all(f, regions, 4, PAGE);
    assert_int_equal(init.n_calls, 304);
    give_all(f, regions, 4);
}

static void trim__of_a_slab_that_region_init_left_half_way(void **state)
{
    struct pool_fixture *f = *state;

    for (size_t fail_at = 1; fail_at <= 9; fail_at++) {
        struct initialiser init = {.fail_at = fail_at};
        size_t n = 0;

        create_with_user_data(f, &init);
        while (n < 12 && (regions[n] = mrp_region_alloc(f->pool, PAGE)) != NULL) {
            n++;
        }
        assert_int_equal(
            n < 12 ? mrp_error_last()->status : MRP_ERR_SYSTEM, MRP_ERR_SYSTEM);
        if (fail_at % 2 == 0 && n > 0) { /* one of the slab that was begun, or before */
            give_all(f, regions, n - 1);
            trim(f, 0);
            regions[0] = regions[n - 1];
            n = 1;
        } else {
            give_all(f, regions, n);
            trim(f, 0);
            check_held(f, 0);
            n = 0;
        }
        init.n_dirty = 0;
        take_all(f, regions + n, 100, PAGE);
        for (size_t i = 0; i < 100 + n; i++) {
            assert_in_range(*(uint64_t *)mrp_region_user(regions[i]), 1, init.n_calls);
            assert_int_not_equal(*(uint64_t *)mrp_region_user(regions[i]), fail_at);
        }
        give_all(f, regions, 100 + n);
        trim(f, 0);
        check_held(f, 0);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

/* -- the books -- */

static uint64_t count_allocs(struct pool_fixture *f)
{
    struct mrp_pool_stats stats = pool_fixture_stats(f->pool);
    uint64_t n = 0;

    for (size_t tier = 0; tier < MRP_TIERS; tier++) {
        n += stats.tiers[tier].n_allocs;
    }
    return n;
}

static void stats__count_allocations_of_regions_that_have_gone(void **state)
{
    static const size_t sizes[] = {64, PAGE, 16 * MRP_KIB, 200 * MRP_KIB};
    struct pool_fixture *f = *state;
    uint64_t n_allocs = 0;

    small_chunks_create(f, 32);
    for (size_t round = 0; round < 12; round++) {
        size_t n = 10 + round * 7;

        take_all(f, regions, n, sizes[round % 4]);
        n_allocs += n;
        assert_int_equal(count_allocs(f), n_allocs);
        give_all(f, regions, n);
        assert_int_equal(count_allocs(f), n_allocs);
        trim(f, round % 3 == 0 ? SIZE_MAX : 0);
        assert_int_equal(count_allocs(f), n_allocs);
    }
}

/* Rounds of growth and trim: what the pool uses of its range is bounded. */
static void cycles__use_no_more_of_the_range(void **state)
{
    static const size_t sizes[] = {64, 100, 256, 700, 1024, 3000, PAGE, 5000,
        16 * MRP_KIB, 48 * MRP_KIB, 96 * MRP_KIB};
    size_t n_rounds = test_is_watched() ? 1000 : 10000;
    struct pool_fixture *f = *state;
    uint64_t seed = 1;
    uint32_t n_descriptors = 0, n_slabs = 0, n_chunk_ids = 0;
    size_t n_words = 0, magazines = 0;

    small_chunks_create(f, 2);
    for (size_t round = 0; round < n_rounds; round++) {
        size_t n = 1 + pool_fixture_random(&seed) % 16;

        for (size_t i = 0; i < n; i++) {
            regions[i] = pool_fixture_alloc(f, sizes[pool_fixture_random(&seed) % 11]);
        }
        assert_int_equal(mrp_region_free_many(regions, n, NULL), MRP_OK);
        assert_int_equal(mrp_thread_flush(f->pool), MRP_OK);
        assert_int_equal(mrp_pool_trim(f->pool, round % 3 * CHUNK, NULL), MRP_OK);
        if (round == n_rounds / 5) {
            n_descriptors = f->pool->n_descriptors;
            n_slabs = f->pool->n_slabs;
            n_chunk_ids = f->pool->n_chunk_ids;
            n_words = f->pool->n_granule_words;
            magazines = f->pool->magazines_used;
        }
    }
    print_message("%u descriptors, then %u; %u slabs, then %u; %zu words, then %zu; "
                  "%zu bytes of magazines, then %zu\n",
        n_descriptors, f->pool->n_descriptors, n_slabs, f->pool->n_slabs, n_words,
        f->pool->n_granule_words, magazines, f->pool->magazines_used);
    assert_in_range(f->pool->n_descriptors, 1, n_descriptors * 3 / 2);
    assert_in_range(f->pool->n_slabs, 1, n_slabs * 3 / 2);
    assert_int_equal(f->pool->n_chunk_ids, n_chunk_ids);
    assert_int_equal(f->pool->n_granule_words, n_words);
    assert_in_range(f->pool->magazines_used, 0, magazines + magazines / 8);
}

/* -- another pool of the context -- */

static void trim__takes_nothing_of_another_pool(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = small_chunks_params(f, 8);
    struct mrp_pool *mine, *other;

    pool_fixture_create(f, &params);
    mine = f->pool;
    pool_fixture_create(f, &params);
    other = f->pool;
    for (size_t i = 0; i < 2; i++) {
        f->pool = i == 0 ? mine : other;
        take_all(f, regions, PAGES_OF(2), PAGE);
        give_all(f, regions, PAGES_OF(2));
        assert_int_equal(trim(f, SIZE_MAX), 0);
    }
    assert_int_equal(context_stats(f).n_retained, 4);
    f->pool = mine;
    assert_int_equal(trim(f, 0), 2 * CHUNK);
    assert_int_equal(pool_fixture_stats(other).n_idle, 2);
    f->pool = other;
    take_all(f, regions, PAGES_OF(2), PAGE);
    assert_int_equal(f->networks[0].n_register, 4);
    give_all(f, regions, PAGES_OF(2));
    trim(f, SIZE_MAX);
    assert_int_equal(mrp_context_trim(f->context, CHUNK), MRP_OK);
    assert_int_equal(pool_fixture_stats(other).n_idle, 1);
    assert_int_equal(pool_fixture_stats(other).n_evictions, 1);
    assert_int_equal(mrp_pool_check(other), MRP_OK);
    assert_int_equal(mrp_pool_check(mine), MRP_OK);
    assert_int_equal(mrp_pool_destroy(mine), MRP_OK);
}

/* One pool's growth, refused by the context's budget, has the other's idle memory. */
static void growth__takes_idle_memory_of_another_pool(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_context_params context_params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_pool *pools[2];
    struct mrp_context *context;

    context_params.max_bytes = 4 * CHUNK;
    assert_int_equal(mrp_context_create(&context_params, &context), MRP_OK);
    params.chunk_min = params.chunk_max = CHUNK;
    params.max_bytes = 4 * CHUNK;
    params.decay_ms = UINT32_MAX;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(mrp_pool_create(context, &params, &pools[i]), MRP_OK);
    }
    for (size_t round = 0; round < 4; round++) {
        struct mrp_pool *pool = pools[round % 2];

        for (size_t i = 0; i < PAGES_OF(4); i++) {
            regions[i] = mrp_region_alloc(pool, PAGE);
            if (regions[i] == NULL) {
                fail_msg("round %zu, region %zu: %s", round, i, mrp_error_last()->text);
            }
        }
        assert_null(mrp_region_alloc(pools[1 - round % 2], PAGE));
        assert_int_equal(mrp_error_last()->status, MRP_ERR_LIMIT);
        assert_int_equal(mrp_region_free_many(regions, PAGES_OF(4), NULL), MRP_OK);
        assert_int_equal(mrp_thread_flush(pool), MRP_OK);
        assert_int_equal(mrp_pool_trim(pool, SIZE_MAX, NULL), MRP_OK);
    }
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
    small_chunks_create(f, 1);
}

/* Descriptors of blocks become those of slices: a thread's cache must not take them. */
static void retired__descriptors_serve_slices(void **state)
{
    static struct mrp_region *blocks[4096], *slices[4096];
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = small_chunks_params(f, 16);
    struct mrp_region *root;

    params.checks = MRP_CHECKS_STATE;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 4096; i++) {
        blocks[i] = pool_fixture_alloc(f, 256);
    }
    assert_int_equal(mrp_region_free_many(blocks, 4096, NULL), MRP_OK);
    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    assert_int_equal(mrp_pool_trim(f->pool, SIZE_MAX, NULL), MRP_OK);
    root = pool_fixture_alloc(f, 4096);
    pool_fixture_free(pool_fixture_alloc(f, 256)); /* the thread caches that class */
    for (size_t i = 0; i < 4096; i++) {
        assert_int_equal(mrp_region_slice(root, i, 1, &slices[i]), MRP_OK);
    }
    assert_int_equal(mrp_region_free_many(slices, 4096, NULL), MRP_OK);
    for (size_t i = 0; i < 4096; i++) {
        blocks[i] = pool_fixture_alloc(f, 256);
    }
    assert_int_equal(mrp_region_free_many(blocks, 4096, NULL), MRP_OK);
    pool_fixture_free(root);
    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(retired__handles_are_stale_in_every_call),
        POOL_TEST(retired__memory_is_not_found),
        POOL_TEST(retired__tokens_stay_stale),
        POOL_TEST(recut__user_data_begins_as_zero),
        POOL_TEST(recut__runs_region_init_again),
        POOL_TEST(trim__of_a_slab_that_region_init_left_half_way),
        POOL_TEST(stats__count_allocations_of_regions_that_have_gone),
        POOL_TEST(cycles__use_no_more_of_the_range),
        POOL_TEST(trim__takes_nothing_of_another_pool),
        POOL_TEST(growth__takes_idle_memory_of_another_pool),
        POOL_TEST(retired__descriptors_serve_slices),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
