/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A thread's caches as an object: whoever names it takes from them.
 */
#include "thread_cache.h"

#include <sys/wait.h>
#include <unistd.h>

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))
#define SIZE 200

static struct mrp_thread_slot *create_slot(void)
{
    struct mrp_thread_slot *slot = NULL;

    assert_int_equal(mrp_thread_slot_create(&slot), MRP_OK);
    assert_non_null(slot);
    return slot;
}

static struct mrp_region *take_from(
    struct mrp_pool *pool, struct mrp_thread_slot *slot, size_t size)
{
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;

    request.slot = slot;
    return mrp_region_alloc_with(pool, size, &request);
}

/* Free regions of the class in all caches, and threads and slots that have any. */
static size_t count_cached(struct mrp_pool *pool)
{
    size_t n = 0;
    struct mrp_pool_stats stats = pool_fixture_stats(pool);

    for (size_t tier = 0; tier < MRP_TIERS; tier++) {
        n += stats.tiers[tier].n_cached;
    }
    return n;
}

/* Magazines in the depot, for slots to load. */
static void stock(struct pool_fixture *f)
{
    pool_fixture_free(pool_fixture_alloc(f, SIZE));
    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    assert_true(cache_n_full(f->pool, SIZE) > 2);
    assert_int_equal(pool_fixture_stats(f->pool).n_threads, 0);
}

/* A slot's caches are its own: the calling thread's are not touched, and come back. */
static void alloc_with__a_slot_takes_from_its_caches(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_thread_slot *slot = create_slot();
    struct mrp_cache_arena *own;
    struct mrp_region *region;
    size_t capacity;

    for (int checks = MRP_CHECKS_NONE; checks <= MRP_CHECKS_STATE; checks++) {
        cache_create(f, (enum mrp_checks)checks, 0);
        pool_fixture_free(mrp_region_alloc(f->pool, SIZE));
        assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
        own = mrp_bins_v1;
        capacity = cache_class(f->pool, SIZE)->magazine_capacity;
        region = take_from(f->pool, slot, SIZE);
        assert_non_null(region);
        assert_ptr_equal(mrp_bins_v1, own);
        assert_int_equal(cache_count(f->pool, SIZE), 0);
        assert_int_equal(count_cached(f->pool), capacity - 1);
        assert_int_equal(pool_fixture_stats(f->pool).n_threads, 1);
        assert_int_equal(mrp_region_free(region), MRP_OK); /* to the thread's own */
        assert_int_equal(cache_count(f->pool, SIZE), 1);
        assert_int_equal(pool_fixture_stats(f->pool).n_threads, 2);
        assert_int_equal(mrp_thread_flush(NULL), MRP_OK); /* and not the slot's */
        assert_int_equal(count_cached(f->pool), capacity - 1);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
    assert_int_equal(mrp_thread_slot_destroy(slot), MRP_OK);
}

/* The other wishes of a request hold as well. */
static void alloc_with__a_slot_and_other_wishes(void **state)
{
    static const size_t sizes[] = {0, 1, SIZE, 70000, 3 * MRP_MIB};
    struct pool_fixture *f = *state;
    struct mrp_thread_slot *slot = create_slot();

    for (int checks = MRP_CHECKS_NONE; checks <= MRP_CHECKS_FULL; checks++) {
        cache_create(f, (enum mrp_checks)checks, 0);
        for (size_t i = 0; i < 4 * N_OF(sizes); i++) {
            struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
            size_t size = sizes[i % N_OF(sizes)];
            struct mrp_region *region;
            unsigned char *bytes;

            request.slot = slot;
            request.flags = MRP_REQUEST_ZERO;
            request.alignment = i % 2 == 0 ? 0 : 4096;
            region = mrp_region_alloc_with(f->pool, size, &request);
            assert_non_null(region);
            bytes = mrp_region_address(region);
            assert_int_equal((uintptr_t)bytes % (i % 2 == 0 ? 64 : 4096), 0);
            for (size_t j = 0; j < size; j += 61) {
                assert_int_equal(bytes[j], 0);
                bytes[j] = 0xff;
            }
            assert_int_equal(mrp_region_free(region), MRP_OK);
        }
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
    assert_int_equal(mrp_thread_slot_destroy(slot), MRP_OK);
}

struct turn {
    struct mrp_pool *pool;
    struct mrp_thread_slot *slot;
    struct mrp_region *regions[300];
    size_t n;
};

static void take_turn(void *argument)
{
    struct turn *turn = argument;

    for (size_t i = 0; i < 60; i++) {
        struct mrp_region *region = take_from(turn->pool, turn->slot, SIZE);

        if (CHECK(region != NULL)) {
            memset(mrp_region_address(region), (int)turn->n, SIZE);
            turn->regions[turn->n++] = region;
        }
    }
}

/* A task that moves from thread to thread finds what it left; the slot outlives them. */
static void slot__serves_several_threads_in_turn(void **state)
{
    struct pool_fixture *f = *state;
    struct turn turn = {.slot = create_slot()};

    cache_create(f, MRP_CHECKS_STATE, 0);
    stock(f);
    turn.pool = f->pool;
    for (size_t i = 0; i < 5; i++) {
        struct partner partner;
        size_t before = count_cached(f->pool);

        partner_start(&partner);
        partner_do(&partner, take_turn, &turn);
        assert_int_equal(pool_fixture_stats(f->pool).n_threads, 1);
        assert_true(before < 60 || count_cached(f->pool) == before - 60);
        before = count_cached(f->pool);
        partner_stop(&partner); /* takes nothing of the slot's with it */
        assert_int_equal(count_cached(f->pool), before);
    }
    for (size_t i = 0; i < turn.n; i++) {
        const unsigned char *bytes = mrp_region_address(turn.regions[i]);

        assert_int_equal(bytes[0], (unsigned char)i);
        assert_int_equal(bytes[SIZE - 1], (unsigned char)i);
    }
    assert_int_equal(mrp_region_free_many(turn.regions, turn.n, NULL), MRP_OK);
    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    assert_int_equal(mrp_thread_slot_destroy(turn.slot), MRP_OK);
    assert_int_equal(pool_fixture_stats(f->pool).n_threads, 0);
}

/* All that is cached goes back, live regions stay what they are. */
static void destroy__gives_back_what_is_cached(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_thread_slot *slot = create_slot();
    struct mrp_pool *pools[3];
    struct mrp_region *live[3];

    for (size_t i = 0; i < N_OF(pools); i++) {
        cache_create(f, i == 0 ? MRP_CHECKS_NONE : MRP_CHECKS_STATE, 0);
        pools[i] = f->pool;
        pool_fixture_free(mrp_region_alloc(pools[i], SIZE));
        assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
        live[i] = take_from(pools[i], slot, SIZE);
        assert_non_null(live[i]);
        assert_true(count_cached(pools[i]) > 0);
    }
    assert_int_equal(mrp_thread_slot_destroy(slot), MRP_OK);
    for (size_t i = 0; i < N_OF(pools); i++) {
        assert_int_equal(count_cached(pools[i]), 0);
        assert_int_equal(pool_fixture_stats(pools[i]).n_threads, 0);
        assert_int_equal(pool_fixture_stats(pools[i]).tiers[0].n_live, 1);
        assert_int_equal(mrp_pool_check(pools[i]), MRP_OK);
        assert_int_equal(mrp_region_free(live[i]), MRP_OK);
        assert_int_equal(mrp_pool_destroy(pools[i]), MRP_OK);
    }
    f->pool = NULL;
    assert_int_equal(mrp_thread_slot_destroy(create_slot()), MRP_OK); /* never used */
}

/* The pool goes first: a slot knows nothing of it afterwards. */
static void slot__outlives_pools(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_thread_slot *slot = create_slot();

    for (size_t i = 0; i < 5; i++) {
        struct mrp_region *region;

        cache_create(f, MRP_CHECKS_STATE, 0);
        stock(f);
        region = take_from(f->pool, slot, SIZE);
        assert_int_equal(pool_fixture_stats(f->pool).n_threads, 1);
        pool_fixture_free(region);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        assert_none(take_from(f->pool, slot, SIZE), MRP_ERR_STALE, "destroyed");
        f->pool = NULL;
    }
    assert_int_equal(mrp_thread_slot_destroy(slot), MRP_OK);
}

/* A pool at its end, max_bytes: a slot keeps some regions, others have all the rest. */
struct end {
    struct mrp_region *regions[2000];
    size_t n, n_cached;
};

static void reach_end(
    struct pool_fixture *f, struct mrp_thread_slot *slot, struct end *end)
{
    struct mrp_pool_params params = pool_fixture_params(f);

    params.max_bytes = MRP_MIB;
    params.checks = MRP_CHECKS_STATE;
    params.thread_cache_size = MRP_GIB;
    pool_fixture_create(f, &params);
    assert_int_equal(mrp_region_alloc_many(f->pool, 1000, 100, end->regions), 100);
    assert_int_equal(mrp_region_free_many(end->regions, 100, NULL), MRP_OK);
    assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
    end->regions[0] = take_from(f->pool, slot, 1000);
    end->n = 1;
    end->n_cached = count_cached(f->pool);
    assert_true(end->n_cached > 1);
    while ((end->regions[end->n] = mrp_region_alloc(f->pool, 1000)) != NULL) {
        end->n++;
    }
    assert_int_equal(mrp_error_last()->status, MRP_ERR_LIMIT);
}

/* So many more are to be had, and then none. */
static void take_rest(struct pool_fixture *f, struct end *end, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        end->regions[end->n++] = pool_fixture_alloc(f, 1000);
    }
    assert_none(mrp_region_alloc(f->pool, 1000), MRP_ERR_LIMIT, "max_bytes");
    assert_int_equal(mrp_region_free_many(end->regions, end->n, NULL), MRP_OK);
}

static void destroy__serves_who_was_refused(void **state)
{
    struct mrp_thread_slot *slot = create_slot();
    struct end end;

    reach_end(*state, slot, &end);
    assert_int_equal(mrp_thread_slot_destroy(slot), MRP_OK);
    take_rest(*state, &end, end.n_cached);
}

/* Nobody frees through a slot: it gives up what others ask for as it takes one itself. */
static void slot__gives_up_what_others_ask_for(void **state)
{
    struct mrp_thread_slot *slot = create_slot();
    struct pool_fixture *f = *state;
    struct end end;

    reach_end(f, slot, &end);
    end.regions[end.n] = take_from(f->pool, slot, 1000);
    assert_non_null(end.regions[end.n++]);
    assert_int_equal(count_cached(f->pool), 0);
    take_rest(f, &end, end.n_cached - 1);
    assert_int_equal(mrp_thread_slot_destroy(slot), MRP_OK);
}

/* -- wrong handles -- */

static void refuse(struct mrp_pool *pool, struct mrp_thread_slot *slot)
{
    assert_refused(mrp_thread_slot_destroy(slot), MRP_ERR_STALE, "");
    mrp_error_clear();
    assert_null(take_from(pool, slot, SIZE));
    assert_int_equal(mrp_error_last()->status, MRP_ERR_STALE);
}

static void handles__that_are_no_slot_are_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_thread_slot *slot = create_slot(), *second;
    _Alignas(64) char garbage[64] = {0};

    cache_create(f, MRP_CHECKS_STATE, 0);
    assert_refused(mrp_thread_slot_create(NULL), MRP_ERR_INVALID, "slot is NULL");
    refuse(f->pool, (struct mrp_thread_slot *)(void *)garbage);
    refuse(f->pool, (struct mrp_thread_slot *)(void *)f->pool);
    refuse(f->pool, (struct mrp_thread_slot *)(void *)f->context);
    refuse(f->pool, (struct mrp_thread_slot *)(void *)f->rails[0]);
    refuse(f->pool, (struct mrp_thread_slot *)((char *)slot + 1));
    assert_refused(mrp_thread_slot_destroy(NULL), MRP_ERR_STALE, "NULL");
    assert_int_equal(mrp_thread_slot_destroy(slot), MRP_OK);
    refuse(f->pool, slot);
    second = create_slot();
    assert_ptr_not_equal(second, slot); /* not so soon */
    refuse(f->pool, slot);
    assert_int_equal(mrp_thread_slot_destroy(second), MRP_OK);
}

/* Slots by the thousand, all alive: each has its own arena; later ones use it again. */
static void create__many(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_thread_slot *slots[300];
    struct mrp_region *regions[N_OF(slots)];
    size_t n_slots = test_is_watched() ? 50 : N_OF(slots);

    cache_create(f, MRP_CHECKS_STATE, 0);
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < n_slots; i++) {
            slots[i] = create_slot();
            regions[i] = take_from(f->pool, slots[i], SIZE);
            assert_non_null(regions[i]);
            assert_int_equal(pool_fixture_stats(f->pool).n_threads, i + 1);
        }
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        for (size_t i = 0; i < n_slots; i++) {
            assert_int_equal(mrp_thread_slot_destroy(slots[i]), MRP_OK);
        }
        assert_int_equal(mrp_region_free_many(regions, n_slots, NULL), MRP_OK);
        assert_int_equal(mrp_thread_flush(NULL), MRP_OK);
        assert_int_equal(pool_fixture_stats(f->pool).n_threads, 0);
    }
}

/* -- fork -- */

static int use_in_child(struct mrp_pool *pool, struct mrp_thread_slot *slot)
{
    struct mrp_thread_slot *own;
    struct mrp_context *context;
    struct mrp_region *region;
    struct mrp_pool *other;

    if (take_from(pool, slot, SIZE) != NULL ||
        mrp_error_last()->status != MRP_ERR_FORKED) {
        return 1;
    }
    if (mrp_thread_slot_destroy(slot) != MRP_ERR_FORKED) {
        return 2;
    }
    if (mrp_context_create(NULL, &context) != MRP_OK ||
        mrp_pool_create(context, NULL, &other) != MRP_OK) {
        return 3;
    }
    if (take_from(other, slot, SIZE) != NULL ||
        mrp_error_last()->status != MRP_ERR_FORKED) {
        return 4;
    }
    if (mrp_thread_slot_create(&own) != MRP_OK) {
        return 5;
    }
    region = take_from(other, own, SIZE);
    if (region == NULL || mrp_region_free(region) != MRP_OK ||
        mrp_thread_slot_destroy(own) != MRP_OK || mrp_pool_check(other) != MRP_OK ||
        mrp_context_destroy(context) != MRP_OK) {
        return 6;
    }
    return 0;
}

static void fork__the_child_is_refused_the_parents_slots(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_thread_slot *slot = create_slot();
    struct mrp_region *region;
    size_t n_cached;
    pid_t child;
    int status;

    cache_create(f, MRP_CHECKS_STATE, 0);
    stock(f);
    region = take_from(f->pool, slot, SIZE);
    n_cached = count_cached(f->pool);
    fflush(NULL);
    child = fork();
    if (child == 0) {
        alarm(60);
        _exit(use_in_child(f->pool, slot));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(count_cached(f->pool), n_cached);
    pool_fixture_free(region);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    assert_int_equal(mrp_thread_slot_destroy(slot), MRP_OK);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(alloc_with__a_slot_takes_from_its_caches),
        POOL_TEST(alloc_with__a_slot_and_other_wishes),
        POOL_TEST(slot__serves_several_threads_in_turn),
        POOL_TEST(destroy__gives_back_what_is_cached),
        POOL_TEST(slot__outlives_pools),
        POOL_TEST(destroy__serves_who_was_refused),
        POOL_TEST(slot__gives_up_what_others_ask_for),
        POOL_TEST(handles__that_are_no_slot_are_refused),
        POOL_TEST(create__many),
        POOL_TEST(fork__the_child_is_refused_the_parents_slots),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
