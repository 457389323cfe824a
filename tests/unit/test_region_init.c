/* SPDX-License-Identifier: BSD-3-Clause
 *
 * User data and region_init: once per region, before anybody sees it, with keys that are
 * valid; and a failure of any call costs a request, never memory.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"

/* What region_init writes, and what it found wrong (assertions do not belong there). */
struct note {
    uint64_t serial;
    void *address;
    uint64_t remote_key;
};

struct initialiser {
    size_t n_calls, n_wrong;
    size_t fail_at; /* 0: never */
    enum mrp_status fail_status;
    bool explain; /* leave a record, as a good callback does */
};

static enum mrp_status init_note(struct mrp_region *region, void *data, void *user)
{
    struct initialiser *init = user;
    struct note *note = data;
    void *native = NULL;
    size_t offset;

    init->n_calls++;
    if (note->serial != 0 || note != mrp_region_user(region) ||
        mrp_region_remote_key(region, 0, &note->remote_key) != MRP_OK ||
        mrp_region_registration(region, 0, &native, &offset) != MRP_OK ||
        native == NULL || mrp_region_pool(region) == NULL) {
        init->n_wrong++;
    }
    if (init->n_calls == init->fail_at) {
        note->remote_key = 0;
        return init->explain ? mrp_fail(init->fail_status, 7, "the callback says no")
                             : init->fail_status;
    }
    note->serial = init->n_calls;
    note->address = mrp_region_address(region);
    return MRP_OK;
}

static struct mrp_pool_params params_with(
    struct pool_fixture *f, struct initialiser *init)
{
    struct mrp_pool_params params = pool_fixture_params(f);

    params.user_size = sizeof(struct note);
    params.region_init = init_note;
    params.region_init_user = init;
    return params;
}

static void check_note(const struct mrp_region *region)
{
    const struct note *note = mrp_region_user(region);
    uint64_t key;

    assert_int_equal((uintptr_t)note % 64, 0);
    assert_true(note->serial > 0);
    assert_ptr_equal(note->address, mrp_region_address(region));
    assert_int_equal(mrp_region_remote_key(region, 0, &key), MRP_OK);
    assert_int_equal(note->remote_key, key);
}

static void init__once_per_region_before_its_first_owner(void **state)
{
    static const size_t sizes[] = {10, 3000, 64 * MRP_KIB, MRP_MIB, 2 * MRP_MIB};
    struct initialiser init = {0};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_with(f, &init);
    struct mrp_region *regions[50];
    struct mrp_pool_stats stats;
    size_t n_regions = 0, n_calls = 0;

    pool_fixture_create(f, &params);
    assert_int_equal(init.n_calls, 0);
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < 50; i++) {
            regions[i] = pool_fixture_alloc(f, sizes[i % 5]);
            check_note(regions[i]);
        }
        assert_int_equal(mrp_region_free_many(regions, 50, NULL), MRP_OK);
        assert_true(round == 0 || init.n_calls == n_calls);
        n_calls = init.n_calls;
    }
    stats = pool_fixture_stats(f->pool);
    for (size_t tier = 0; tier < MRP_TIERS; tier++) {
        n_regions += stats.tiers[tier].n_regions;
    }
    assert_int_equal(init.n_calls, n_regions + stats.n_idle);
    assert_int_equal(init.n_wrong, 0);
}

static void init__also_for_registered_memory_and_no_slice(void **state)
{
    static char memory[5000];
    struct initialiser init = {0};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_with(f, &init);
    struct mrp_region *region, *slice;

    pool_fixture_create(f, &params);
    assert_int_equal(
        mrp_region_register(f->pool, memory, sizeof memory, NULL, &region), MRP_OK);
    check_note(region);
    assert_int_equal(init.n_calls, 1);
    assert_int_equal(mrp_region_slice(region, 10, 10, &slice), MRP_OK);
    assert_null(mrp_region_user(slice));
    assert_int_equal(init.n_calls, 1);
    assert_int_equal(mrp_region_free(slice), MRP_OK);
    assert_null(mrp_region_user(slice));
    pool_fixture_free(region);
    assert_int_equal(init.n_wrong, 0);
}

static void user__is_zero_at_first_and_kept(void **state)
{
    static const size_t user_sizes[] = {1, 64, 65, 64 * MRP_KIB};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < 4; i++) {
        struct mrp_pool_params params = pool_fixture_params(f);
        struct mrp_region *regions[3];

        params.user_size = user_sizes[i];
        pool_fixture_create(f, &params);
        for (size_t j = 0; j < 3; j++) {
            unsigned char *data;

            regions[j] = pool_fixture_alloc(f, j == 2 ? 2 * MRP_MIB : 100);
            data = mrp_region_user(regions[j]);
            assert_int_equal((uintptr_t)data % 64, 0);
            for (size_t k = 0; k < user_sizes[i]; k++) {
                assert_int_equal(data[k], 0);
            }
            memset(data, (int)j + 1, user_sizes[i]);
        }
        for (size_t j = 0; j < 3; j++) { /* the last freed is the next taken */
            pool_fixture_free(regions[j]);
            regions[j] = pool_fixture_alloc(f, j == 2 ? 2 * MRP_MIB : 100);
            assert_int_equal(
                ((unsigned char *)mrp_region_user(regions[j]))[user_sizes[i] - 1], j + 1);
        }
        assert_int_equal(mrp_region_free_many(regions, 3, NULL), MRP_OK);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

/* A registration is a new region, even where its descriptor has served before. */
static void user__of_the_next_registration_is_zero_again(void **state)
{
    static char memory[128];
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region;

    params.user_size = 8;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 200; i++) {
        assert_int_equal(
            mrp_region_register(f->pool, memory, 128, NULL, &region), MRP_OK);
        assert_int_equal(*(uint64_t *)mrp_region_user(region), 0);
        *(uint64_t *)mrp_region_user(region) = 1;
        pool_fixture_free(region);
    }
}

static void user__is_null_in_a_pool_without(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 1);
    assert_null(mrp_region_user(region));
    pool_fixture_free(region);
    assert_null(mrp_region_user(region));
    assert_null(mrp_region_user(NULL));
}

/* Take all of a pool of 256 KiB; a request may fail once. Returns how many there were. */
static size_t take_all(struct pool_fixture *f, struct initialiser *init, size_t size,
    struct mrp_region **regions, size_t *n_failed)
{
    size_t n = 0;

    *n_failed = 0;
    for (;;) {
        mrp_error_clear();
        regions[n] = mrp_region_alloc(f->pool, size);
        if (regions[n] != NULL) {
            check_note(regions[n++]);
        } else if (mrp_error_last()->status == init->fail_status) {
            (*n_failed)++;
            assert_non_null(strstr(mrp_error_last()->text,
                init->explain ? "the callback says no" : "region_init failed"));
            assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        } else {
            assert_int_equal(mrp_error_last()->status, MRP_ERR_LIMIT);
            return n;
        }
    }
}

static void check_failing_calls(struct pool_fixture *f, size_t size, size_t wanted)
{
    static struct mrp_region *regions[5000];
    size_t n_failed;

    for (size_t n = 0; n <= wanted; n += n < 70 ? 1 : 13) {
        struct initialiser init = {0, 0, n, MRP_ERR_SYSTEM, n % 2 == 0};
        struct mrp_pool_params params = params_with(f, &init);

        params.max_bytes = 256 * MRP_KIB;
        pool_fixture_create(f, &params);
        assert_int_equal(take_all(f, &init, size, regions, &n_failed), wanted);
        assert_true(n_failed <= 1); /* 0 where another region of the slab served */
        assert_true(n != 1 || n_failed == 1);
        assert_int_equal(init.n_calls, wanted + (n > 0));
        assert_int_equal(init.n_wrong, 0);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        assert_int_equal(mrp_region_free_many(regions, wanted, NULL), MRP_OK);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        assert_int_equal(f->networks[0].n_live, 0);
        f->pool = NULL;
    }
}

static void init__failing_at_every_call_loses_no_block(void **state)
{
    check_failing_calls(*state, 1000, 256);
    check_failing_calls(*state, 16 * MRP_KIB, 16);
    check_failing_calls(*state, 64 * MRP_KIB, 4);
}

static void init__failing_for_a_large_region_is_told(void **state)
{
    struct initialiser init = {0, 0, 1, MRP_ERR_SYSTEM, false};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_with(f, &init);
    struct mrp_region *region;
    static char memory[100];

    pool_fixture_create(f, &params);
    assert_none(mrp_region_alloc(f->pool, 2 * MRP_MIB), MRP_ERR_SYSTEM, "region_init");
    init.explain = true;
    init.fail_at = 2;
    assert_none(mrp_region_alloc(f->pool, 2 * MRP_MIB), MRP_ERR_SYSTEM, "says no");
    assert_int_equal(f->networks[0].n_live, 0);
    assert_int_equal(pool_fixture_stats(f->pool).mapped_size, 0);
    init.fail_at = 3;
    region = NULL;
    assert_refused(mrp_region_register(f->pool, memory, 100, NULL, &region),
        MRP_ERR_SYSTEM, "says no");
    assert_null(region);
    pool_fixture_check_registrations(f, 1);
    region = pool_fixture_alloc(f, 2 * MRP_MIB);
    check_note(region);
    pool_fixture_free(region);
    assert_int_equal(init.n_wrong, 0);
}

struct greedy {
    struct mrp_pool *pool; /* NULL: not now */
    enum mrp_status own_class, other_class;
};

static enum mrp_status take_and_free(struct mrp_pool *pool, size_t size)
{
    struct mrp_region *region = mrp_region_alloc(pool, size);

    return region == NULL ? mrp_error_last()->status : mrp_region_free(region);
}

static enum mrp_status init_greedily(struct mrp_region *region, void *data, void *user)
{
    struct greedy *greedy = user;
    struct mrp_pool *pool = greedy->pool;
    (void)region;
    (void)data;

    greedy->pool = NULL;
    if (pool != NULL) {
        greedy->own_class = take_and_free(pool, 100);
        greedy->other_class = take_and_free(pool, 5000);
    }
    return MRP_OK;
}

/* A callback that allocates from the pool it works for does not wait for itself. */
static void init__allocating_from_its_own_pool_is_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct greedy greedy = {NULL, MRP_OK, MRP_ERR_BUSY};
    struct mrp_pool_params params = pool_fixture_params(f);

    params.user_size = 64;
    params.region_init = init_greedily;
    params.region_init_user = &greedy;
    pool_fixture_create(f, &params);
    greedy.pool = f->pool;
    pool_fixture_free(pool_fixture_alloc(f, 100));
    assert_int_equal(greedy.own_class, MRP_ERR_BUSY);
    assert_int_equal(greedy.other_class, MRP_OK);
}

static void init__failing_in_preallocation_fails_the_pool(void **state)
{
    struct initialiser init = {0, 0, 1, MRP_ERR_SYSTEM, true};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = params_with(f, &init);

    params.tiers[MRP_TIER_LARGE].preallocate = 40;
    assert_refused(mrp_pool_create(f->context, &params, &f->pool), MRP_ERR_SYSTEM,
        "the callback says no");
    assert_null(f->pool);
    assert_int_equal(f->networks[0].n_live, 0);
    init.fail_at = 0;
    init.n_calls = 0;
    pool_fixture_create(f, &params);
    assert_true(init.n_calls >= 40);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(init__once_per_region_before_its_first_owner),
        POOL_TEST(init__also_for_registered_memory_and_no_slice),
        POOL_TEST(user__is_zero_at_first_and_kept),
        POOL_TEST(user__of_the_next_registration_is_zero_again),
        POOL_TEST(user__is_null_in_a_pool_without),
        POOL_TEST(init__failing_at_every_call_loses_no_block),
        POOL_TEST(init__failing_for_a_large_region_is_told),
        POOL_TEST(init__allocating_from_its_own_pool_is_refused),
        POOL_TEST(init__failing_in_preallocation_fails_the_pool),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
