/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Counters against a model that counts along, over a random workload.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"
#include "support/test_system.h"

#define N_SLOTS 500

struct slot {
    struct mrp_region *region;
    struct mrp_region *slice;
    size_t size;
    bool is_user;
};

struct model {
    struct slot slots[N_SLOTS];
    uint64_t n_allocs[MRP_TIERS];
    uint64_t seed;
};

static char memory[100000];

static int tier_of(size_t size)
{
    return size <= MRP_KIB ? 0 : size <= 16 * MRP_KIB ? 1 : size <= 64 * MRP_KIB ? 2 : 3;
}

static size_t random_size(struct model *model)
{
    size_t most = (size_t)1 << pool_fixture_random(&model->seed) % 22;

    return pool_fixture_random(&model->seed) % (most + 1);
}

static void fill_slot(struct pool_fixture *f, struct model *model, struct slot *slot)
{
    slot->is_user = pool_fixture_random(&model->seed) % 10 == 0;
    if (slot->is_user) {
        slot->size = 1 + pool_fixture_random(&model->seed) % sizeof memory;
        assert_int_equal(
            mrp_region_register(f->pool, memory, slot->size, NULL, &slot->region),
            MRP_OK);
    } else {
        slot->size = random_size(model);
        slot->region = pool_fixture_alloc(f, slot->size);
        if (slot->size <= MRP_MIB) {
            model->n_allocs[tier_of(slot->size)]++;
        }
    }
    if (pool_fixture_random(&model->seed) % 5 == 0) {
        assert_int_equal(
            mrp_region_slice(slot->region, 0, slot->size, &slot->slice), MRP_OK);
    }
}

static void empty_slot(struct slot *slot)
{
    if (slot->slice != NULL) {
        pool_fixture_free(slot->slice);
    }
    pool_fixture_free(slot->region);
    *slot = (struct slot){.region = NULL};
}

static void check_tiers(const struct model *model, const struct mrp_pool_stats *stats)
{
    size_t n_live[MRP_TIERS] = {0}, live_size[MRP_TIERS] = {0};

    for (size_t i = 0; i < N_SLOTS; i++) {
        const struct slot *slot = &model->slots[i];

        if (slot->region != NULL && !slot->is_user && slot->size <= MRP_MIB) {
            n_live[tier_of(slot->size)]++;
            live_size[tier_of(slot->size)] += slot->size;
        }
    }
    for (size_t tier = 0; tier < MRP_TIERS; tier++) {
        const struct mrp_tier_stats *found = &stats->tiers[tier];

        assert_int_equal(found->n_live, n_live[tier]);
        assert_int_equal(found->live_size, live_size[tier]);
        assert_int_equal(found->n_allocs, model->n_allocs[tier]);
        assert_in_range(found->block_live_size,
            live_size[tier], /* 64 B, else a quarter */
            live_size[tier] + live_size[tier] / 4 + 64 * n_live[tier]);
        assert_int_equal(found->n_live + found->n_free, found->n_regions);
        assert_true(found->slab_size <= stats->chunk_size);
    }
}

static void check_others(const struct model *model, const struct mrp_pool_stats *stats)
{
    size_t n_large = 0, large_size = 0, n_user = 0, user_size = 0, n_slices = 0;

    for (size_t i = 0; i < N_SLOTS; i++) {
        const struct slot *slot = &model->slots[i];

        n_slices += slot->slice != NULL;
        if (slot->region != NULL && slot->is_user) {
            n_user++;
            user_size += slot->size;
        } else if (slot->region != NULL && slot->size > MRP_MIB) {
            n_large++;
            large_size += slot->size;
        }
    }
    assert_int_equal(stats->n_large, n_large);
    assert_int_equal(stats->large_size, large_size);
    assert_int_equal(stats->n_user, n_user);
    assert_int_equal(stats->user_size, user_size);
    assert_int_equal(stats->n_slices, n_slices);
    assert_int_equal(
        stats->n_registrations, stats->n_chunks + n_large + stats->n_idle + n_user);
}

static void check_model(struct pool_fixture *f, const struct model *model)
{
    struct mrp_pool_stats stats = pool_fixture_stats(f->pool);
    struct mrp_context_stats context = MRP_CONTEXT_STATS_INIT;

    check_tiers(model, &stats);
    check_others(model, &stats);
    assert_int_equal(mrp_context_stats(f->context, &context), MRP_OK);
    assert_int_equal(context.n_chunks, stats.n_registrations);
    assert_int_equal(context.chunk_size, stats.mapped_size + stats.user_size);
    assert_int_equal(context.n_registrations, 2 * stats.n_registrations);
    assert_int_equal(context.n_retained, stats.n_idle);
    assert_int_equal(context.retained_size, stats.idle_size);
    assert_int_equal(f->networks[0].n_live, stats.n_registrations);
    assert_int_equal(f->networks[1].live_size, stats.mapped_size + stats.user_size);
    assert_int_equal(stats.n_growths, stats.n_chunks);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
}

static void stats__agree_with_a_model(void **state)
{
    static struct model model;
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    size_t n_steps = test_is_watched() ? 3000 : 30000;

    model = (struct model){.seed = 11};
    params.n_rails = 2;
    params.max_bytes = 2 * MRP_GIB;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < n_steps; i++) {
        struct slot *slot = &model.slots[pool_fixture_random(&model.seed) % N_SLOTS];

        if (slot->region == NULL) {
            fill_slot(f, &model, slot);
        } else {
            empty_slot(slot);
        }
        if (i % 500 == 0) {
            check_model(f, &model);
        }
    }
    for (size_t i = 0; i < N_SLOTS; i++) {
        if (model.slots[i].region != NULL) {
            empty_slot(&model.slots[i]);
        }
    }
    check_model(f, &model);
}

struct visitor {
    const struct mrp_pool *pool;
    size_t n_visits, size, n_wrong;
};

static void count_registration(const struct mrp_registration_info *info, void *user)
{
    struct visitor *visitor = user;

    visitor->n_visits++;
    visitor->size += info->size;
    visitor->n_wrong += info->pool != visitor->pool || info->native.native == NULL;
}

static void stats__agree_with_the_registry(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[30];
    struct visitor visitor = {0};
    struct mrp_pool_stats stats;

    params.n_rails = 3;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 30; i++) {
        regions[i] = pool_fixture_alloc(f, (size_t)1 << i % 22);
    }
    stats = pool_fixture_stats(f->pool);
    visitor.pool = f->pool;
    assert_int_equal(
        mrp_registration_visit(f->context, count_registration, &visitor), MRP_OK);
    assert_int_equal(visitor.n_visits, 3 * stats.n_registrations);
    assert_int_equal(visitor.size, 3 * stats.mapped_size);
    assert_int_equal(visitor.n_wrong, 0);
    assert_int_equal(mrp_region_free_many(regions, 30, NULL), MRP_OK);
}

static void stats__describe_the_pool(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_pool_stats stats;

    params.name = "described";
    params.n_rails = 2;
    params.max_bytes = 10 * MRP_MIB;
    params.max_registrations = 9;
    params.tiers[MRP_TIER_LARGE].reserve = 3 * MRP_MIB;
    pool_fixture_create(f, &params);
    stats = pool_fixture_stats(f->pool);
    assert_string_equal(stats.name, "described");
    assert_int_equal(stats.n_rails, 2);
    assert_int_equal(stats.max_bytes, 10 * MRP_MIB);
    assert_int_equal(stats.max_registrations, 9);
    assert_int_equal(stats.tiers[0].max_size, MRP_KIB);
    assert_int_equal(stats.tiers[3].max_size, MRP_MIB);
    assert_int_equal(stats.tiers[2].reserve, 3 * MRP_MIB);
    assert_int_equal(stats.tiers[3].reserve, 0);
    assert_int_equal(stats.tiers[0].n_classes, 12);
    assert_int_equal(stats.tiers[1].n_classes, 16);
    assert_int_equal(stats.tiers[2].n_classes, 8);
    assert_int_equal(stats.tiers[3].n_classes, 16);
    assert_int_equal(stats.n_chunks + stats.mapped_size + stats.n_growths, 0);
    assert_refused(mrp_pool_stats(f->pool, NULL), MRP_ERR_INVALID, "NULL");
    stats.struct_size = 3;
    assert_refused(mrp_pool_stats(f->pool, &stats), MRP_ERR_INVALID, "struct_size is 3");
    stats.struct_size = offsetof(struct mrp_pool_stats, n_chunks);
    stats.n_chunks = 77;
    assert_int_equal(mrp_pool_stats(f->pool, &stats), MRP_OK);
    assert_int_equal(stats.n_chunks, 77); /* beyond what an older program knows */
    assert_refused(mrp_pool_stats(NULL, &stats), MRP_ERR_STALE, "NULL");
}

static struct mrp_provider_info query_provider(struct mrp_provider *provider)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;

    assert_int_equal(mrp_provider_query(provider, &info), MRP_OK);
    return info;
}

/* What is mapped and registered, and what only served again; ever, so that nothing that came
 * and went goes unseen. */
static void stats__tell_what_is_made_from_what_is_taken_up(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_provider_info info;

    pool_fixture_create(f, NULL);
    test_provider_fail_next(&f->networks[0], 1, 2, MRP_ERR_REGISTER);
    assert_none(mrp_region_alloc(f->pool, 100), MRP_ERR_REGISTER, "fails as told");
    for (uint64_t i = 0; i < 3; i++) {
        pool_fixture_free(pool_fixture_alloc(f, 100));
        assert_int_equal(pool_fixture_stats(f->pool).n_growths, 1);
        assert_int_equal(pool_fixture_stats(f->pool).n_taken_up, i);
        assert_int_equal(mrp_thread_flush(f->pool), MRP_OK);
        assert_int_equal(mrp_pool_trim(f->pool, SIZE_MAX, NULL), MRP_OK); /* now idle */
        assert_int_equal(pool_fixture_stats(f->pool).n_idle, 1);
    }
    info = query_provider(f->rails[0]);
    assert_int_equal(info.n_registered, 1); /* of what was refused there was none */
    assert_int_equal(info.n_deregistered, 0);
    assert_int_equal(mrp_pool_trim(f->pool, 0, NULL), MRP_OK);
    pool_fixture_free(pool_fixture_alloc(f, 100));
    assert_int_equal(pool_fixture_stats(f->pool).n_growths, 2);
    info = query_provider(f->rails[0]);
    assert_int_equal(info.n_registered, 2);
    assert_int_equal(info.n_deregistered, 1);
    assert_int_equal(info.n_registrations, 1);
    info.struct_size = offsetof(struct mrp_provider_info, n_registered);
    info.n_registered = 77;
    assert_int_equal(mrp_provider_query(f->rails[0], &info), MRP_OK);
    assert_int_equal(info.n_registered, 77); /* beyond what an older program knows */
}

static void check_registrations(struct pool_fixture *f, size_t n, size_t most)
{
    struct mrp_pool_stats stats = pool_fixture_stats(f->pool);

    assert_int_equal(stats.n_registrations, n);
    assert_int_equal(stats.max_registrations, most);
}

/* Both figures are of one rail: of the one that growth is refused for first. */
static void stats__tell_of_the_rail_that_has_least_left(void **state)
{
    static const char *const names[] = {"twelve", "four"};
    static const size_t most[] = {12, 4};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[10];
    struct mrp_provider *providers[2];
    struct test_provider narrow[2];
    unsigned rail;

    for (size_t i = 0; i < 2; i++) {
        test_provider_init(&narrow[i]);
        narrow[i].max_registrations = most[i];
        assert_int_equal(mrp_provider_create(f->context, names[i], test_provider_ops(),
                             &narrow[i], &providers[i]),
            MRP_OK);
    }
    params.rails = providers;
    pool_fixture_create(f, &params);
    check_registrations(f, 0, 12);
    assert_int_equal(
        mrp_pool_rail_add(f->pool, providers[1], MRP_RAIL_LAZY, &rail), MRP_OK);
    for (size_t i = 0; i < 10; i++) {
        regions[i] = pool_fixture_alloc(f, 2 * MRP_MIB);
        if (i == 6) {
            check_registrations(f, 0, 4); /* 4 left, and 5 of the other */
        }
    }
    check_registrations(f, 10, 12);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(mrp_region_ensure(regions[i], (uint64_t)1 << rail), MRP_OK);
    }
    check_registrations(f, 3, 4);
    for (size_t i = 0; i < 10; i++) {
        pool_fixture_free(regions[i]);
    }
    assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
    f->pool = NULL;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(mrp_provider_close(providers[i]), MRP_OK);
        assert_string_equal(narrow[i].first_error, "");
        test_provider_fini(&narrow[i]);
    }
}

/* Blocks, with what stands before and after the payload; also where no descriptor tells
 * which regions are live. */
static void stats__count_the_blocks_of_live_regions(void **state)
{
    static const enum mrp_checks checks[] = {
        MRP_CHECKS_NONE, MRP_CHECKS_STATE, MRP_CHECKS_FULL};
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < 3; i++) {
        struct mrp_pool_params params = pool_fixture_params(f);
        struct mrp_region *small, *medium[2];
        struct mrp_pool_stats stats;

        params.checks = checks[i];
        params.headroom = 64;
        params.tailroom = 64;
        assert_int_equal(mrp_pool_create(f->context, &params, &f->pool), MRP_OK);
        small = mrp_region_alloc(f->pool, 100);
        medium[0] = mrp_region_alloc(f->pool, 5000);
        medium[1] = mrp_region_alloc(f->pool, 5000);
        pool_fixture_free(medium[1]);
        stats = pool_fixture_stats(f->pool);
        assert_int_equal(stats.tiers[0].block_live_size,
            f->pool->classes.classes[mrp_class_of(&f->pool->classes, 100)].block_size);
        assert_int_equal(stats.tiers[1].block_live_size,
            f->pool->classes.classes[mrp_class_of(&f->pool->classes, 5000)].block_size);
        assert_true(stats.tiers[0].block_live_size >= 100 + 128);
        pool_fixture_free(small);
        pool_fixture_free(medium[0]);
        assert_int_equal(pool_fixture_stats(f->pool).tiers[1].block_live_size, 0);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(stats__agree_with_a_model),
        POOL_TEST(stats__agree_with_the_registry),
        POOL_TEST(stats__describe_the_pool),
        POOL_TEST(stats__tell_what_is_made_from_what_is_taken_up),
        POOL_TEST(stats__tell_of_the_rail_that_has_least_left),
        POOL_TEST(stats__count_the_blocks_of_live_regions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
