/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Items for tests of retention: numbered, of 10 bytes and Alice's unless the test says
 * otherwise; what has gone is noted in its order.
 */
#ifndef RETAINED_ITEMS_H
#define RETAINED_ITEMS_H

#include "context/retention.h"
#include "refusal.h"

static const char *const alice = "alice", *const bob = "bob";

/* An item of the test, and the order in which items have gone. */
struct item {
    struct mrp_retained retained; /* first */
    int number;
    bool is_used; /* so that it goes later */
};

static struct mrp_retention *present; /* whose items are evicted */
static int gone[32];
static size_t n_gone;

/* Under no lock, and off the list: it may ask the list anything. */
static bool evict(struct mrp_retained *retained)
{
    struct item *item = (struct item *)retained;
    size_t n_items, size;

    assert_null(item->retained.newer);
    assert_null(item->retained.older);
    mrp_retention_count(present, NULL, NULL, NULL, &n_items, &size);
    gone[n_gone++] = item->number;
    return !item->is_used;
}

static struct item items[16];

static inline int begin(void **unused)
{
    (void)unused;
    n_gone = 0;
    for (int i = 0; i < 16; i++) {
        items[i] =
            (struct item){{.size = 10, .owner = alice, .evict = evict}, .number = i};
    }
    return 0;
}

static inline void start(
    struct mrp_retention *retention, size_t max_items, size_t max_size)
{
    mrp_retention_create(retention, max_items, max_size);
    present = retention;
}

static inline void add(struct mrp_retention *retention, int from, int to)
{
    for (int i = from; i <= to; i++) {
        mrp_retention_add(retention, &items[i].retained);
    }
}

static inline void check_gone(const int *numbers, size_t count)
{
    assert_int_equal(n_gone, count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(gone[i], numbers[i]);
    }
    n_gone = 0;
}

#define assert_gone(...) \
    check_gone((const int[]){__VA_ARGS__}, sizeof((int[]){__VA_ARGS__}) / sizeof(int))

static inline void check_kept(
    struct mrp_retention *retention, const char *owner, size_t wanted, size_t size)
{
    size_t n_items = 99, found = 99;

    mrp_retention_count(retention, owner, NULL, NULL, &n_items, &found);
    assert_int_equal(n_items, wanted);
    assert_int_equal(found, size);
}

static inline int take(
    struct mrp_retention *retention, const char *owner, size_t size, size_t max)
{
    struct item *item =
        (struct item *)mrp_retention_take(retention, owner, size, max, NULL, NULL);

    return item == NULL ? -1 : item->number;
}

#endif
