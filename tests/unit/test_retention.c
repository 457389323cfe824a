/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What is kept idle: at most so many and so much, the least recently used goes first.
 */
#include "retained_items.h"

#include <pthread.h>
#include <stdatomic.h>

/* The regression of the row L1: capacity 4, 10 layouts, 6 freed, none lost. */
static void add__keeps_4_of_10(void **unused)
{
    struct mrp_retention retention;
    (void)unused;

    start(&retention, 4, SIZE_MAX);
    for (int i = 0; i < 10; i++) {
        items[i].retained.size = 10 * ((size_t)i + 1);
    }
    add(&retention, 0, 9);
    assert_gone(0, 1, 2, 3, 4, 5);
    check_kept(&retention, alice, 4, 70 + 80 + 90 + 100);
    assert_int_equal(mrp_retention_evict(&retention, NULL, SIZE_MAX, NULL, NULL), 4);
    assert_int_equal(n_gone, 4);
    check_kept(&retention, NULL, 0, 0);
    mrp_retention_destroy(&retention);
}

static void add__keeps_so_many_bytes(void **unused)
{
    struct mrp_retention retention;
    (void)unused;

    start(&retention, 100, 35);
    add(&retention, 0, 2);
    check_gone(NULL, 0);
    items[3].retained.size = 5; /* exactly full */
    add(&retention, 3, 3);
    check_gone(NULL, 0);
    check_kept(&retention, NULL, 4, 35);
    items[4].retained.size = 16; /* two have to go for it */
    add(&retention, 4, 4);
    assert_int_equal(n_gone, 2);
    assert_int_equal(gone[0] + gone[1], 0 + 1);
    n_gone = 0;
    check_kept(&retention, NULL, 3, 31);
    mrp_retention_evict(&retention, NULL, SIZE_MAX, NULL, NULL);
    mrp_retention_destroy(&retention);
}

/* Then the list is empty: what is too large for it pushes everything else out before. */
static void add__what_alone_is_too_large_goes_itself(void **unused)
{
    struct mrp_retention retention;
    (void)unused;

    start(&retention, 100, 35);
    items[0].retained.size = 36;
    add(&retention, 0, 0);
    assert_gone(0);
    check_kept(&retention, NULL, 0, 0);
    mrp_retention_destroy(&retention);
    start(&retention, 0, SIZE_MAX); /* nothing is kept at all */
    add(&retention, 1, 1);
    assert_gone(1);
    check_kept(&retention, NULL, 0, 0);
    mrp_retention_destroy(&retention);
    start(&retention, 100, 0);
    add(&retention, 2, 2);
    assert_gone(2);
    mrp_retention_destroy(&retention);
}

static void take__the_most_recent_that_fits_its_owner(void **unused)
{
    struct mrp_retention retention;
    (void)unused;

    start(&retention, 100, SIZE_MAX);
    for (int i = 0; i < 8; i++) {
        items[i].retained.size = 10 * ((size_t)i % 4 + 1);
        items[i].retained.owner = i < 4 ? alice : bob;
    }
    add(&retention, 0, 7); /* alice 10 20 30 40, bob 10 20 30 40 */
    assert_int_equal(take(&retention, alice, 15, 30), 2);
    assert_int_equal(take(&retention, alice, 15, 30), 1);
    assert_int_equal(take(&retention, alice, 15, 30), -1);
    assert_int_equal(take(&retention, alice, 41, SIZE_MAX), -1);
    assert_int_equal(take(&retention, alice, 0, 9), -1);
    assert_int_equal(take(&retention, alice, 40, 40), 3);
    assert_int_equal(take(&retention, "nobody", 0, SIZE_MAX), -1);
    check_kept(&retention, alice, 1, 10);
    check_kept(&retention, bob, 4, 100);
    assert_int_equal(take(&retention, bob, 0, SIZE_MAX), 7); /* the newest */
    check_kept(&retention, NULL, 4, 70);
    check_gone(NULL, 0);
    mrp_retention_evict(&retention, NULL, SIZE_MAX, NULL, NULL);
    mrp_retention_destroy(&retention);
}

static bool has_number(const struct mrp_retained *retained, const void *wanted)
{
    return ((const struct item *)retained)->number == *(const int *)wanted;
}

static void take__what_the_asker_accepts(void **unused)
{
    struct mrp_retention retention;
    int wanted = 1;
    (void)unused;

    start(&retention, 100, SIZE_MAX);
    add(&retention, 0, 3);
    assert_ptr_equal(
        mrp_retention_take(&retention, alice, 0, SIZE_MAX, has_number, &wanted),
        &items[1].retained);
    assert_null(mrp_retention_take(&retention, alice, 0, SIZE_MAX, has_number, &wanted));
    check_kept(&retention, NULL, 3, 30);
    mrp_retention_evict(&retention, NULL, SIZE_MAX, NULL, NULL);
    mrp_retention_destroy(&retention);
}

/* Adding again makes it the most recent one. */
static void add__again_is_a_use(void **unused)
{
    struct mrp_retention retention;
    (void)unused;

    start(&retention, 3, SIZE_MAX);
    add(&retention, 0, 2);
    assert_int_equal(take(&retention, alice, 0, SIZE_MAX), 2);
    items[0].retained.size = 11;
    assert_ptr_equal(
        mrp_retention_take(&retention, alice, 10, 10, NULL, NULL), &items[1].retained);
    add(&retention, 2, 2);
    add(&retention, 1, 1); /* now 0, 2, 1 */
    add(&retention, 3, 3);
    assert_gone(0);
    add(&retention, 4, 4);
    assert_gone(2);
    mrp_retention_evict(&retention, NULL, SIZE_MAX, NULL, NULL);
    mrp_retention_destroy(&retention);
}

static void evict__oldest_of_an_owner_until_enough_has_gone(void **unused)
{
    struct mrp_retention retention;
    (void)unused;

    start(&retention, 100, SIZE_MAX);
    for (int i = 0; i < 8; i++) {
        items[i].retained.owner = i % 2 == 0 ? alice : bob;
    }
    add(&retention, 0, 7);
    assert_int_equal(mrp_retention_evict(&retention, alice, 0, NULL, NULL), 0);
    assert_int_equal(mrp_retention_evict(&retention, alice, 11, NULL, NULL), 2);
    assert_int_equal(n_gone, 2);
    assert_int_equal(gone[0] + gone[1], 0 + 2);
    n_gone = 0;
    assert_int_equal(mrp_retention_evict(&retention, NULL, 10, NULL, NULL), 1);
    assert_gone(1);
    assert_int_equal(mrp_retention_evict(&retention, bob, SIZE_MAX, NULL, NULL), 3);
    n_gone = 0;
    check_kept(&retention, bob, 0, 0);
    check_kept(&retention, alice, 2, 20);
    assert_int_equal(mrp_retention_evict(&retention, "nobody", SIZE_MAX, NULL, NULL), 0);
    assert_int_equal(mrp_retention_evict(&retention, NULL, SIZE_MAX, NULL, NULL), 2);
    assert_int_equal(mrp_retention_evict(&retention, NULL, SIZE_MAX, NULL, NULL), 0);
    mrp_retention_destroy(&retention);
}

static void evict__what_the_asker_accepts(void **unused)
{
    struct mrp_retention retention;
    size_t n_items, size;
    int wanted = 2;
    (void)unused;

    start(&retention, 100, SIZE_MAX);
    items[1].retained.is_kept = true;
    add(&retention, 0, 3);
    mrp_retention_count(&retention, NULL, has_number, &wanted, &n_items, &size);
    assert_int_equal(n_items, 1);
    assert_int_equal(size, 10);
    assert_int_equal(mrp_retention_evict(&retention, bob, 1, has_number, &wanted), 0);
    assert_int_equal(
        mrp_retention_evict(&retention, NULL, SIZE_MAX, has_number, &wanted), 1);
    assert_gone(2);
    wanted = 1;
    assert_int_equal(mrp_retention_evict(&retention, NULL, 1, has_number, &wanted), 0);
    assert_int_equal(mrp_retention_evict(&retention, alice, 1, has_number, &wanted), 1);
    assert_gone(1);
    check_kept(&retention, NULL, 2, 20);
    mrp_retention_evict(&retention, NULL, SIZE_MAX, NULL, NULL);
    mrp_retention_destroy(&retention);
}

static struct mrp_charge worth_its_size(const struct mrp_retained *item)
{
    return (struct mrp_charge){item->size, 0, 1};
}

static void relieve__takes_no_more_than_helps(void **unused)
{
    struct mrp_charge lacking = {15, 0, 0}, too_much = {51, 0, 0}, pinned = {0, 1, 0};
    struct mrp_retention retention;
    bool is_coming = true;
    (void)unused;

    start(&retention, 100, SIZE_MAX);
    for (int i = 0; i < 6; i++) {
        items[i].retained.worth = i == 0 ? NULL : worth_its_size;
    }
    items[2].is_used = true; /* another one in its stead, also of one alone */
    add(&retention, 0, 5);
    assert_int_equal(mrp_retention_relieve(&retention, &too_much, &is_coming), 0);
    assert_int_equal(mrp_retention_relieve(&retention, &pinned, &is_coming), 0);
    assert_int_equal(n_gone, 0);
    assert_int_equal(mrp_retention_relieve(&retention, &lacking, &is_coming), 2);
    assert_gone(1, 2, 3);
    items[4].is_used = true;
    lacking.bytes = 10;
    assert_int_equal(mrp_retention_relieve(&retention, &lacking, &is_coming), 1);
    assert_gone(4, 5);
    assert_false(is_coming);
    check_kept(&retention, NULL, 1, 10);
    mrp_retention_evict(&retention, NULL, SIZE_MAX, NULL, NULL);
    mrp_retention_destroy(&retention);
}

/* While one goes its network may have the next one evicted, or take it: it is on the list. */
static bool evict_that_looks(struct mrp_retained *item)
{
    size_t n_items, size;

    mrp_retention_count(present, NULL, NULL, NULL, &n_items, &size);
    assert_int_equal(n_items, 3 - (size_t)((struct item *)item)->number - 1);
    gone[n_gone++] = ((struct item *)item)->number;
    return true;
}

static void relieve__takes_one_by_one(void **unused)
{
    struct mrp_charge lacking = {30, 0, 0};
    struct mrp_retention retention;
    bool is_coming;
    (void)unused;

    start(&retention, 100, SIZE_MAX);
    for (int i = 0; i < 3; i++) {
        items[i].retained.worth = worth_its_size;
        items[i].retained.evict = evict_that_looks;
    }
    add(&retention, 0, 2);
    assert_int_equal(mrp_retention_relieve(&retention, &lacking, &is_coming), 3);
    assert_gone(0, 1, 2);
    mrp_retention_destroy(&retention);
}

/* What somebody is using goes when he has done: others go in its stead. */
static void evict__counts_what_has_gone(void **unused)
{
    struct mrp_retention retention;
    (void)unused;

    start(&retention, 100, SIZE_MAX);
    items[0].is_used = items[2].is_used = true;
    add(&retention, 0, 5);
    assert_int_equal(mrp_retention_evict(&retention, NULL, 20, NULL, NULL), 2);
    assert_gone(0, 1, 2, 3);
    check_kept(&retention, NULL, 2, 20);
    items[4].is_used = items[5].is_used = true;
    assert_int_equal(mrp_retention_evict(&retention, alice, SIZE_MAX, NULL, NULL), 0);
    check_kept(&retention, NULL, 0, 0);
    mrp_retention_destroy(&retention);
}

/* -- several threads -- */

struct shared {
    struct mrp_retention retention;
    atomic_size_t n_evicted;
};

struct counted {
    struct mrp_retained retained; /* first */
    struct shared *shared;
    atomic_bool is_kept;
};

static bool evict_counted(struct mrp_retained *retained)
{
    struct counted *item = (struct counted *)retained;

    item->is_kept = false;
    item->shared->n_evicted++;
    return true;
}

/* Each item is with its owner or in the list; the owner sees it come back by eviction. */
static void *keep_and_take(void *user)
{
    struct shared *shared = user;
    struct counted own[8];
    size_t n_wrong = 0;

    for (size_t i = 0; i < 8; i++) {
        own[i].retained =
            (struct mrp_retained){.size = 1 + i, .owner = own, .evict = evict_counted};
        own[i].shared = shared;
        own[i].is_kept = false;
    }
    for (size_t round = 0; round < 20000; round++) {
        struct counted *item = &own[round % 8];

        if (!item->is_kept) {
            item->is_kept = true;
            mrp_retention_add(&shared->retention, &item->retained);
        } else {
            item = (struct counted *)mrp_retention_take(
                &shared->retention, own, 1, 8, NULL, NULL);
            n_wrong += item != NULL && !item->is_kept;
            if (item != NULL) {
                item->is_kept = false;
            }
        }
    }
    mrp_retention_evict(&shared->retention, own, SIZE_MAX, NULL, NULL);
    for (size_t i = 0; i < 8; i++) {
        while (own[i].is_kept) { /* another thread is evicting it */
        }
    }
    return (void *)n_wrong;
}

static void all__by_several_threads(void **unused)
{
    struct shared shared;
    pthread_t threads[4];
    void *n_wrong;
    (void)unused;

    start(&shared.retention, 10, 60);
    shared.n_evicted = 0;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, keep_and_take, &shared), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], &n_wrong);
        assert_null(n_wrong);
    }
    check_kept(&shared.retention, NULL, 0, 0);
    assert_true(shared.n_evicted > 0);
    mrp_retention_destroy(&shared.retention);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup(function, begin)
    static const struct CMUnitTest tests[] = {
        TEST(add__keeps_4_of_10),
        TEST(add__keeps_so_many_bytes),
        TEST(add__what_alone_is_too_large_goes_itself),
        TEST(take__the_most_recent_that_fits_its_owner),
        TEST(take__what_the_asker_accepts),
        TEST(add__again_is_a_use),
        TEST(evict__oldest_of_an_owner_until_enough_has_gone),
        TEST(evict__what_the_asker_accepts),
        TEST(evict__counts_what_has_gone),
        TEST(relieve__takes_no_more_than_helps),
        TEST(relieve__takes_one_by_one),
        TEST(all__by_several_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
