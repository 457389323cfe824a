/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What is kept idle, per place: bounds of their own, changed at run time; what is kept
 * for good; what goes because it is old.
 */
#include "retained_items.h"

#include "base/clock.h"
#include "mrpool/context.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

static const struct mrp_place host = {MRP_MEMORY_HOST, 0, 0};
static const struct mrp_place node_0 = {MRP_MEMORY_HOST, 0, MRP_NODE(0)};
static const struct mrp_place node_1 = {MRP_MEMORY_HOST, 0, MRP_NODE(1)};
static const struct mrp_place cuda_0 = {MRP_MEMORY_CUDA, 0, 0};
static const struct mrp_place cuda_1 = {MRP_MEMORY_CUDA, 1, 0};

static void place(int from, int to, const struct mrp_place *where)
{
    for (int i = from; i <= to; i++) {
        items[i].retained.place = *where;
    }
}

static void limit(struct mrp_retention *retention, const struct mrp_place *where,
    size_t max_size, size_t max_items)
{
    assert_int_equal(mrp_retention_limit(retention, where, max_size, max_items), MRP_OK);
}

static void finish(struct mrp_retention *retention)
{
    mrp_retention_evict(retention, NULL, SIZE_MAX, NULL, NULL);
    check_kept(retention, NULL, 0, 0);
    mrp_retention_destroy(retention);
}

/* -- bounds of a place -- */

static void limit__is_of_one_place(void **unused)
{
    struct mrp_retention retention;
    (void)unused;

    start(&retention, 3, SIZE_MAX);
    limit(&retention, &node_1, 25, 100);
    limit(&retention, &cuda_1, SIZE_MAX, 1);
    place(0, 3, &node_0);
    place(4, 6, &node_1);
    place(7, 9, &cuda_0);
    place(10, 11, &cuda_1);
    add(&retention, 0, 2);
    check_gone(NULL, 0); /* the bounds of all, which it does not share */
    add(&retention, 3, 3);
    assert_gone(0);
    add(&retention, 4, 6); /* 25 bytes of its own */
    assert_gone(4);
    add(&retention, 7, 9);
    check_gone(NULL, 0);
    add(&retention, 10, 11); /* one of its own */
    assert_gone(10);
    check_kept(&retention, NULL, 3 + 2 + 3 + 1, 90);
    finish(&retention);
}

static void limit__changes_both_ways_at_run_time(void **unused)
{
    struct mrp_retention retention;
    (void)unused;

    start(&retention, 2, SIZE_MAX);
    limit(&retention, &host, SIZE_MAX, 4);
    add(&retention, 0, 3);
    limit(&retention, &host, SIZE_MAX, 6); /* more of them */
    check_gone(NULL, 0);
    add(&retention, 4, 6);
    assert_gone(0);
    limit(&retention, &host, SIZE_MAX, 3); /* fewer: what is beyond goes now */
    assert_gone(1, 2, 3);
    limit(&retention, &host, 15, 3); /* less */
    assert_gone(4, 5);
    limit(&retention, &host, 0, 3); /* nothing */
    assert_gone(6);
    add(&retention, 7, 7);
    assert_gone(7);
    limit(&retention, &host, 100, 0);
    add(&retention, 8, 8);
    assert_gone(8);
    limit(&retention, &host, 100, 100);
    add(&retention, 9, 15);
    check_gone(NULL, 0);
    check_kept(&retention, alice, 7, 70);
    finish(&retention);
}

/* A place with bounds set when there is something there already. */
static void limit__evicts_what_is_there(void **unused)
{
    struct mrp_retention retention;
    (void)unused;

    start(&retention, 10, SIZE_MAX);
    place(0, 3, &cuda_0);
    add(&retention, 0, 7);
    limit(&retention, &cuda_0, 20, 10);
    assert_gone(0, 1);
    check_kept(&retention, NULL, 6, 60);
    finish(&retention);
}

/* Pressure takes the oldest, wherever it lies. */
static void evict__takes_the_oldest_of_all_places(void **unused)
{
    struct mrp_retention retention;
    (void)unused;

    start(&retention, 10, SIZE_MAX);
    for (int i = 0; i < 9; i++) {
        items[i].retained.place = i % 3 == 0 ? host : i % 3 == 1 ? cuda_0 : node_1;
    }
    add(&retention, 0, 8);
    assert_int_equal(mrp_retention_evict(&retention, NULL, 40, NULL, NULL), 4);
    assert_gone(0, 1, 2, 3);
    finish(&retention);
}

static bool lies_at(const struct mrp_retained *item, const void *where)
{
    const struct mrp_place *place = where;

    return item->place.kind == place->kind && item->place.device == place->device;
}

static int take_at(struct mrp_retention *retention, const struct mrp_place *where)
{
    struct item *item =
        (struct item *)mrp_retention_take(retention, alice, 0, SIZE_MAX, lies_at, where);

    return item == NULL ? -1 : item->number;
}

/* -- more places than records -- */

static struct mrp_place device(int number)
{
    return (struct mrp_place){MRP_MEMORY_CUDA, number, 0};
}

static void count_place(const struct mrp_retention_place *visited, void *user)
{
    size_t *n_places = user;

    n_places[visited->is_shared]++;
    assert_null(visited->items.newest);
}

static void check_places(struct mrp_retention *retention, size_t n_own, size_t n_shared)
{
    size_t n_places[2] = {0, 0};

    mrp_retention_visit(retention, count_place, n_places);
    assert_int_equal(n_places[false], n_own);
    assert_int_equal(n_places[true], n_shared);
}

static void limit__of_65_places_is_refused(void **unused)
{
    struct mrp_retention retention;
    struct mrp_place where = device(64);
    (void)unused;

    start(&retention, 1, SIZE_MAX);
    for (int i = 0; i < 64; i++) {
        where = device(i);
        limit(&retention, &where, 100, 2);
    }
    check_places(&retention, 64, 0);
    where = device(64);
    assert_refused(mrp_retention_limit(&retention, &where, 100, 2), MRP_ERR_LIMIT,
        "64 places have retention bounds");
    where = device(7);
    limit(&retention, &where, 100, 3); /* but one that has some may have others */
    place(0, 1, &node_0); /* shares the bounds of all with others that have no record */
    place(2, 2, &node_1);
    add(&retention, 0, 2);
    assert_gone(0, 1);
    check_places(&retention, 64, 1);
    finish(&retention);
}

/* 64 places are in use without bounds: one of them has to share. */
static void limit__of_a_place_finds_room_for_it(void **unused)
{
    static struct item many[130];
    struct mrp_retention retention;
    struct mrp_place where;
    (void)unused;

    start(&retention, 2, SIZE_MAX);
    for (int i = 0; i < 130; i++) {
        many[i] = (struct item){.retained = items[0].retained, .number = i};
        many[i].retained.place = device(i % 65);
        mrp_retention_add(&retention, &many[i].retained);
    }
    check_places(&retention, 64, 1);
    check_gone(NULL, 0);
    where = device(64); /* its two share with none yet; then those of another do */
    limit(&retention, &where, SIZE_MAX, 1);
    assert_gone(64);
    check_places(&retention, 64, 1);
    check_kept(&retention, NULL, 129, 1290);
    where = device(0); /* the one that had to share */
    assert_int_equal(take_at(&retention, &where), 65);
    assert_int_equal(take_at(&retention, &where), 0);
    check_places(&retention, 64, 0);
    assert_int_equal(mrp_retention_evict(&retention, NULL, 20, NULL, NULL), 2);
    assert_gone(1, 2); /* in the order of their use as before */
    while (mrp_retention_evict(&retention, NULL, 10, NULL, NULL) > 0) {
        n_gone = 0;
    }
    finish(&retention);
}

/* Those that share are in the order of their use, whoever had a record before. */
static void limit__of_a_new_place_lets_the_oldest_go(void **unused)
{
    static struct item many[66];
    struct mrp_retention retention;
    struct mrp_place where = device(66);
    (void)unused;

    start(&retention, 2, SIZE_MAX);
    for (int i = 0; i < 66; i++) {
        many[i] = (struct item){.retained = items[0].retained, .number = i};
        many[i].retained.place = device(i);
        mrp_retention_add(&retention, &many[i].retained);
    }
    limit(&retention, &where, 100, 1); /* 0 has to share with 64 and 65 */
    assert_gone(0);
    while (mrp_retention_evict(&retention, NULL, 10, NULL, NULL) > 0) {
        n_gone = 0;
    }
    finish(&retention);
}

/* Who came when all records were in use is collected when one is free. */
static void add__joins_what_had_to_share(void **unused)
{
    static struct item many[64];
    struct mrp_retention retention;
    (void)unused;

    start(&retention, 3, SIZE_MAX);
    for (int i = 0; i < 64; i++) {
        many[i] = (struct item){.retained = items[0].retained, .number = 100 + i};
        many[i].retained.place = device(i);
        mrp_retention_add(&retention, &many[i].retained);
    }
    place(0, 5, &host);
    place(2, 2, &node_1);
    add(&retention, 0, 2); /* both share */
    check_places(&retention, 64, 1);
    assert_int_equal(mrp_retention_evict(&retention, NULL, 10, NULL, NULL), 1);
    assert_gone(100);
    add(&retention, 3, 3); /* finds the record that became free */
    check_places(&retention, 64, 1); /* node 1 shares with none */
    add(&retention, 4, 4); /* 0, 1, 3, 4 are of one place */
    assert_gone(0);
    while (mrp_retention_evict(&retention, NULL, 10, NULL, NULL) > 0) {
        n_gone = 0;
    }
    finish(&retention);
}

/* -- kept -- */

static void kept__goes_only_by_its_owner(void **unused)
{
    struct mrp_retention retention;
    (void)unused;

    start(&retention, 2, SIZE_MAX);
    for (int i = 0; i < 8; i += 2) {
        items[i].retained.is_kept = true;
    }
    items[6].retained.owner = bob;
    add(&retention, 0, 7); /* 1 3 5 7 count, of which two may stay */
    assert_gone(1, 3);
    check_kept(&retention, alice, 5, 50);
    assert_int_equal(mrp_retention_evict(&retention, NULL, SIZE_MAX, NULL, NULL), 2);
    assert_gone(5, 7);
    limit(&retention, &host, 0, 0);
    check_gone(NULL, 0);
    assert_int_equal(
        mrp_retention_evict_aged(&retention, alice, UINT64_MAX, 0, SIZE_MAX), 0);
    assert_int_equal(take(&retention, alice, 0, SIZE_MAX), 4); /* is reused */
    add(&retention, 4, 4);
    assert_int_equal(mrp_retention_evict(&retention, alice, SIZE_MAX, NULL, NULL), 3);
    assert_gone(0, 2, 4);
    check_kept(&retention, bob, 1, 10);
    assert_int_equal(mrp_retention_evict(&retention, bob, 1, NULL, NULL), 1);
    mrp_retention_destroy(&retention);
}

static void kept__is_taken_in_the_order_of_use(void **unused)
{
    struct mrp_retention retention;
    (void)unused;

    start(&retention, 10, SIZE_MAX);
    for (int i = 0; i < 6; i++) {
        items[i].retained.is_kept = i % 3 == 0;
    }
    add(&retention, 0, 5);
    for (int i = 5; i >= 3; i--) {
        assert_int_equal(take(&retention, alice, 0, SIZE_MAX), i);
    }
    assert_int_equal(mrp_retention_evict(&retention, alice, 20, NULL, NULL), 2);
    assert_gone(0, 1);
    finish(&retention);
}

/* -- age -- */

/* Until the coarse clock, by which items are dated, has moved. */
static uint64_t wait_for_clock(void)
{
    uint64_t now, before = mrp_clock_coarse();

    do {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        now = mrp_clock_coarse();
    } while (now == before);
    return now;
}

static void evict_aged__takes_the_owners_oldest(void **unused)
{
    struct mrp_retention retention;
    uint64_t middle;
    (void)unused;

    start(&retention, 100, SIZE_MAX);
    items[1].retained.owner = bob;
    items[2].retained.is_kept = true;
    add(&retention, 0, 5);
    middle = wait_for_clock();
    add(&retention, 6, 9);
    assert_true(items[5].retained.since < middle && items[6].retained.since >= middle);
    assert_int_equal(mrp_retention_evict_aged(&retention, alice, middle, 0, 1), 1);
    assert_gone(0);
    assert_int_equal(
        mrp_retention_evict_aged(&retention, alice, middle, 60, SIZE_MAX), 1);
    assert_gone(3); /* of 70 */
    assert_int_equal(
        mrp_retention_evict_aged(&retention, alice, middle, 60, SIZE_MAX), 0);
    assert_int_equal(mrp_retention_evict_aged(&retention, alice, middle, 0, SIZE_MAX), 2);
    assert_gone(4, 5);
    assert_int_equal(mrp_retention_evict_aged(&retention, NULL, middle, 0, SIZE_MAX), 1);
    assert_gone(1);
    check_kept(&retention, alice, 5, 50);
    mrp_retention_evict(&retention, alice, SIZE_MAX, NULL, NULL);
    mrp_retention_destroy(&retention);
}

/* What is larger than there is to give does not keep what is smaller. */
static void evict_aged__passes_over_what_keep_needs(void **unused)
{
    struct mrp_retention retention;
    (void)unused;

    start(&retention, 100, SIZE_MAX);
    items[0].retained.size = 60;
    add(&retention, 0, 3); /* 90 */
    assert_int_equal(
        mrp_retention_evict_aged(&retention, alice, UINT64_MAX, 65, SIZE_MAX), 2);
    assert_gone(1, 2);
    assert_int_equal(
        mrp_retention_evict_aged(&retention, alice, UINT64_MAX, 10, SIZE_MAX), 1);
    assert_gone(0);
    finish(&retention);
}

static void add__dates_its_item(void **unused)
{
    struct mrp_retention retention;
    uint64_t before = mrp_clock_coarse();
    (void)unused;

    start(&retention, 100, SIZE_MAX);
    add(&retention, 0, 0);
    assert_in_range(items[0].retained.since, before, mrp_clock_coarse());
    before = wait_for_clock();
    add(&retention, 1, 1);
    assert_true(items[1].retained.since >= before);
    finish(&retention);
}

/* -- reports -- */

static void note_place(const struct mrp_retention_place *visited, void *user)
{
    struct mrp_retention_place **next = user;

    *(*next)++ = *visited;
}

static void visit__tells_each_places_items_and_bounds(void **unused)
{
    struct mrp_retention_place seen[4], *next = seen;
    struct mrp_retention retention;
    (void)unused;

    start(&retention, 5, 500);
    mrp_retention_visit(&retention, note_place, &next);
    assert_ptr_equal(next, seen);
    limit(&retention, &cuda_1, 700, 7);
    items[2].retained.is_kept = true;
    add(&retention, 0, 2);
    mrp_retention_visit(&retention, note_place, &next);
    assert_ptr_equal(next, seen + 2);
    assert_int_equal(seen[0].place.kind, MRP_MEMORY_CUDA);
    assert_int_equal(seen[0].place.device, 1);
    assert_int_equal(seen[0].n_items, 0);
    assert_int_equal(seen[0].max_size, 700);
    assert_int_equal(seen[0].max_items, 7);
    assert_int_equal(seen[1].place.kind, MRP_MEMORY_HOST);
    assert_int_equal(seen[1].n_items, 2);
    assert_int_equal(seen[1].size, 20);
    assert_int_equal(seen[1].n_kept, 1);
    assert_int_equal(seen[1].kept_size, 10);
    assert_int_equal(seen[1].max_size, 500);
    assert_int_equal(seen[1].max_items, 5);
    mrp_retention_evict(&retention, alice, SIZE_MAX, NULL, NULL);
    mrp_retention_destroy(&retention);
}

/* -- by several threads -- */

struct shared {
    struct mrp_retention retention;
    atomic_bool is_over;
    atomic_size_t n_evicted;
};

struct counted {
    struct mrp_retained retained; /* first */
    struct shared *shared;
    atomic_bool is_idle;
};

static bool evict_counted(struct mrp_retained *retained)
{
    struct counted *item = (struct counted *)retained;
    struct shared *shared = item->shared;

    atomic_fetch_add(&shared->n_evicted, 1);
    atomic_store(&item->is_idle, false);
    return true;
}

static struct mrp_retained *take_own(struct shared *shared, const struct counted *own)
{
    return mrp_retention_take(&shared->retention, own, 1, 8, NULL, NULL);
}

/* Each item is with its owner or idle; the owner sees it come back by eviction. */
static void *add_and_take(void *user)
{
    struct shared *shared = user;
    struct counted own[8];
    size_t n_wrong = 0;

    for (size_t i = 0; i < 8; i++) {
        own[i].retained = (struct mrp_retained){.size = 1 + i,
            .owner = own,
            .place = i % 2 == 0 ? node_0 : node_1,
            .is_kept = i % 4 == 0,
            .evict = evict_counted};
        own[i].shared = shared;
        atomic_init(&own[i].is_idle, false);
    }
    for (size_t round = 0; round < 20000; round++) {
        struct counted *item = &own[round % 8];

        if (!atomic_load(&item->is_idle)) {
            atomic_store(&item->is_idle, true);
            mrp_retention_add(&shared->retention, &item->retained);
        } else if ((item = (struct counted *)take_own(shared, own)) != NULL) {
            n_wrong += !atomic_load(&item->is_idle);
            atomic_store(&item->is_idle, false);
        }
    }
    mrp_retention_evict(&shared->retention, own, SIZE_MAX, NULL, NULL);
    for (size_t i = 0; i < 8; i++) {
        while (atomic_load(&own[i].is_idle)) { /* another thread is evicting it */
        }
    }
    return (void *)n_wrong;
}

static void *change_bounds(void *user)
{
    struct shared *shared = user;

    for (size_t round = 0; !atomic_load(&shared->is_over); round++) {
        size_t n_items, size;

        limit(&shared->retention, round % 2 == 0 ? &node_0 : &node_1, round % 40,
            round % 13);
        if (round % 7 == 0) {
            mrp_retention_evict(&shared->retention, NULL, 10, NULL, NULL);
        }
        mrp_retention_evict_aged(&shared->retention, NULL, UINT64_MAX, 5, round % 3);
        mrp_retention_count(&shared->retention, NULL, NULL, NULL, &n_items, &size);
    }
    return NULL;
}

static void limit__beside_threads_that_add_and_take(void **unused)
{
    static struct shared shared;
    pthread_t threads[3], changer;
    void *n_wrong;
    (void)unused;

    start(&shared.retention, 4, 20);
    assert_int_equal(pthread_create(&changer, NULL, change_bounds, &shared), 0);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, add_and_take, &shared), 0);
    }
    for (size_t i = 0; i < 3; i++) {
        pthread_join(threads[i], &n_wrong);
        assert_null(n_wrong);
    }
    atomic_store(&shared.is_over, true);
    pthread_join(changer, NULL);
    check_kept(&shared.retention, NULL, 0, 0);
    assert_true(atomic_load(&shared.n_evicted) > 0);
    mrp_retention_destroy(&shared.retention);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup(function, begin)
    static const struct CMUnitTest tests[] = {
        TEST(limit__is_of_one_place),
        TEST(limit__changes_both_ways_at_run_time),
        TEST(limit__evicts_what_is_there),
        TEST(evict__takes_the_oldest_of_all_places),
        TEST(limit__of_65_places_is_refused),
        TEST(limit__of_a_place_finds_room_for_it),
        TEST(limit__of_a_new_place_lets_the_oldest_go),
        TEST(add__joins_what_had_to_share),
        TEST(kept__goes_only_by_its_owner),
        TEST(kept__is_taken_in_the_order_of_use),
        TEST(evict_aged__takes_the_owners_oldest),
        TEST(evict_aged__passes_over_what_keep_needs),
        TEST(add__dates_its_item),
        TEST(visit__tells_each_places_items_and_bounds),
        TEST(limit__beside_threads_that_add_and_take),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
