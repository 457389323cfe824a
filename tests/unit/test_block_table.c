/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The registry of blocks: every answer is right, and near.
 */
#include "context/block_table.h"
#include "refusal.h"

#include <stdlib.h>

/* Never looked into by the table. */
static struct mrp_block *block_of(uintptr_t address)
{
    return (struct mrp_block *)(address ^ 0x5555);
}

static void insert(struct mrp_block_table *table, uintptr_t address)
{
    assert_int_equal(mrp_block_table_insert(table, address, block_of(address)), MRP_OK);
}

/* As in block_table.c: a probe count is about how addresses hash. */
static size_t home_of(const struct mrp_block_table *table, uintptr_t address)
{
    return (size_t)((uint64_t)address * 0x9e3779b97f4a7c15U >> 32) % table->capacity;
}

/* Slots looked at to find an address that is there. */
static size_t probes_for(const struct mrp_block_table *table, uintptr_t address)
{
    size_t home = home_of(table, address), n_probes = 1;

    while (table->slots[(home + n_probes - 1) % table->capacity].address != address) {
        assert_int_not_equal(
            table->slots[(home + n_probes - 1) % table->capacity].address, 0);
        n_probes++;
    }
    return n_probes;
}

static void find__in_an_empty_table(void **unused)
{
    struct mrp_block_table table = {NULL, 0, 0};
    (void)unused;

    assert_null(mrp_block_table_find(&table, 0));
    assert_null(mrp_block_table_find(&table, 64));
    assert_null(mrp_block_table_remove(&table, 64));
    mrp_block_table_destroy(&table);
}

static void remove__leaves_the_others(void **unused)
{
    struct mrp_block_table table = {NULL, 0, 0};
    (void)unused;

    insert(&table, 64);
    insert(&table, 128);
    assert_ptr_equal(mrp_block_table_remove(&table, 64), block_of(64));
    assert_null(mrp_block_table_remove(&table, 64));
    assert_null(mrp_block_table_find(&table, 64));
    assert_null(mrp_block_table_find(&table, 0));
    assert_ptr_equal(mrp_block_table_find(&table, 128), block_of(128));
    assert_int_equal(table.n_blocks, 1);
    mrp_block_table_destroy(&table);
    assert_null(mrp_block_table_find(&table, 128));
}

/* -- against a plain array -- */

#define MODEL 4096

struct model {
    struct mrp_block_table table;
    uintptr_t addresses[MODEL]; /* 0: not in the table */
    size_t n_live;
    uint64_t random;
};

static uint64_t next_random(uint64_t *random)
{
    *random = *random * 6364136223846793005U + 1442695040888963407U;
    return *random >> 33;
}

static void check_all(const struct model *model)
{
    assert_int_equal(model->table.n_blocks, model->n_live);
    assert_true(model->n_live * 2 <= model->table.capacity);
    for (size_t i = 0; i < MODEL; i++) {
        if (model->addresses[i] != 0) {
            assert_ptr_equal(mrp_block_table_find(&model->table, model->addresses[i]),
                block_of(model->addresses[i]));
        }
    }
}

/* Entry i of the model owns the addresses with i in their low bits: no two are alike. */
static void step(struct model *model)
{
    size_t i = next_random(&model->random) % MODEL;
    uintptr_t address = model->addresses[i];

    if (address != 0) {
        assert_ptr_equal(
            mrp_block_table_remove(&model->table, address), block_of(address));
        assert_null(mrp_block_table_find(&model->table, address));
        model->addresses[i] = 0;
        model->n_live--;
    } else {
        model->addresses[i] = (next_random(&model->random) * MODEL + i + MODEL) * 64;
        insert(&model->table, model->addresses[i]);
        model->n_live++;
    }
}

static void all__agree_with_a_plain_array(void **unused)
{
    struct model *model = calloc(1, sizeof *model);
    (void)unused;

    assert_non_null(model);
    for (uint64_t seed = 1; seed <= 8; seed++) {
        model->random = seed;
        for (size_t i = 0; i < 20000; i++) {
            step(model);
            if (i % 1000 == 0) {
                check_all(model);
            }
        }
        check_all(model);
    }
    mrp_block_table_destroy(&model->table);
    free(model);
}

/* Runs of colliding addresses that wrap round the table's end: closing a gap must neither
 * lose one nor move one before its home. */
static void remove__closes_gaps_across_the_end(void **unused)
{
    struct mrp_block_table table = {NULL, 0, 0};
    uintptr_t colliding[24];
    size_t n_found = 0;
    (void)unused;

    for (uintptr_t address = 64; n_found < 24; address += 64) {
        struct mrp_block_table sized = {NULL, 64, 0};
        size_t home = home_of(&sized, address);

        if (home >= 60 || home < 2) {
            colliding[n_found++] = address;
        }
    }
    for (size_t gap = 0; gap < 24; gap++) {
        for (size_t i = 0; i < 24; i++) {
            insert(&table, colliding[i]);
        }
        assert_int_equal(table.capacity, 64);
        assert_ptr_equal(
            mrp_block_table_remove(&table, colliding[gap]), block_of(colliding[gap]));
        for (size_t i = 0; i < 24; i++) {
            if (i != gap) {
                assert_ptr_equal(
                    mrp_block_table_find(&table, colliding[i]), block_of(colliding[i]));
                assert_ptr_equal(
                    mrp_block_table_remove(&table, colliding[i]), block_of(colliding[i]));
            }
        }
        assert_int_equal(table.n_blocks, 0);
    }
    mrp_block_table_destroy(&table);
}

/* -- O(1) -- */

#define MANY ((size_t)64 << 10)

static void check_probes(size_t count, uintptr_t stride, uintptr_t start)
{
    struct mrp_block_table table = {NULL, 0, 0};
    size_t n_probes = 0, longest = 0;

    for (size_t i = 0; i < count; i++) {
        insert(&table, start + i * stride);
    }
    for (size_t i = 0; i < count; i++) {
        size_t probes = probes_for(&table, start + i * stride);

        n_probes += probes;
        longest = probes > longest ? probes : longest;
    }
    if (n_probes > 3 * count || longest > 32) {
        print_error("%zu blocks of stride %#zx: %zu probes, at most %zu for one\n", count,
            (size_t)stride, n_probes, longest);
    }
    /* 1.5 on average for random addresses in a half-full table (Knuth, 6.4); a stride
     * may fall on every second slot, or on every fifth five times */
    assert_true(n_probes <= 3 * count);
    assert_true(longest <= 32);
    mrp_block_table_destroy(&table);
}

/* Strides that allocators produce: lines, heap chunks, pages, huge pages, gigabytes. */
static void find__takes_few_probes_at_1k_and_at_64k_blocks(void **unused)
{
    static const uintptr_t strides[] = {64, 80, 128, 192, 4096, 4096 + 64, 65536,
        (uintptr_t)2 << 20, ((uintptr_t)2 << 20) + 4096, (uintptr_t)1 << 30};
    (void)unused;

    for (size_t i = 0; i < sizeof strides / sizeof strides[0]; i++) {
        check_probes(1024, strides[i], 0x7f0000000000);
        check_probes(MANY, strides[i], 0x55550000 + 64);
    }
}

/* Removal leaves no tombstones behind: a table that has seen a lot is as good as new. */
static void remove__does_not_wear_the_table_out(void **unused)
{
    struct mrp_block_table table = {NULL, 0, 0};
    size_t capacity, n_probes = 0;
    (void)unused;

    for (uintptr_t i = 1; i <= 1000; i++) {
        insert(&table, i * 64);
    }
    capacity = table.capacity;
    for (uintptr_t i = 1; i <= 100000; i++) {
        assert_non_null(mrp_block_table_remove(&table, i * 64));
        insert(&table, (i + 1000) * 64);
    }
    assert_int_equal(table.capacity, capacity);
    for (uintptr_t i = 100001; i <= 101000; i++) {
        n_probes += probes_for(&table, i * 64);
    }
    assert_true(n_probes <= 2000);
    mrp_block_table_destroy(&table);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(find__in_an_empty_table),
        cmocka_unit_test(remove__leaves_the_others),
        cmocka_unit_test(all__agree_with_a_plain_array),
        cmocka_unit_test(remove__closes_gaps_across_the_end),
        cmocka_unit_test(find__takes_few_probes_at_1k_and_at_64k_blocks),
        cmocka_unit_test(remove__does_not_wear_the_table_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
