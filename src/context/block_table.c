/* SPDX-License-Identifier: BSD-3-Clause */
#include "context/block_table.h"

#include <stdlib.h>

#define INITIAL_CAPACITY 64

/* Fibonacci hashing: the high bits of address * 2^64 / golden ratio (Knuth, TAOCP
 * 3, 6.4). */
static size_t home_of(const struct mrp_block_table *table, uintptr_t address)
{
    return (size_t)((uint64_t)address * 0x9e3779b97f4a7c15u >> 32) &
        (table->capacity - 1);
}

static size_t next_of(const struct mrp_block_table *table, size_t index)
{
    return (index + 1) & (table->capacity - 1);
}

static void put(struct mrp_block_table *table, uintptr_t address, struct mrp_block *block)
{
    size_t index = home_of(table, address);

    while (table->slots[index].address != 0) {
        index = next_of(table, index);
    }
    table->slots[index] = (struct mrp_block_slot){address, block};
}

static enum mrp_status grow(struct mrp_block_table *table)
{
    struct mrp_block_table larger = {
        .capacity = table->capacity == 0 ? INITIAL_CAPACITY : table->capacity * 2,
        .n_blocks = table->n_blocks,
    };

    larger.slots = calloc(larger.capacity, sizeof *larger.slots);
    if (larger.slots == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0,
            "malloc of %zu bytes for %zu tracked blocks failed",
            larger.capacity * sizeof *larger.slots, table->n_blocks);
    }
    for (size_t i = 0; i < table->capacity; i++) {
        if (table->slots[i].address != 0) {
            put(&larger, table->slots[i].address, table->slots[i].block);
        }
    }
    free(table->slots);
    *table = larger;
    return MRP_OK;
}

void mrp_block_table_destroy(struct mrp_block_table *table)
{
    free(table->slots);
    *table = (struct mrp_block_table){NULL, 0, 0};
}

enum mrp_status mrp_block_table_insert(
    struct mrp_block_table *table, uintptr_t address, struct mrp_block *block)
{
    if (table->n_blocks * 2 >= table->capacity) {
        enum mrp_status status = grow(table);

        if (status != MRP_OK) {
            return status;
        }
    }
    put(table, address, block);
    table->n_blocks++;
    return MRP_OK;
}

static struct mrp_block_slot *find_slot(
    const struct mrp_block_table *table, uintptr_t address)
{
    if (table->capacity == 0 || address == 0) {
        return NULL;
    }
    for (size_t i = home_of(table, address); table->slots[i].address != 0;
         i = next_of(table, i)) {
        if (table->slots[i].address == address) {
            return &table->slots[i];
        }
    }
    return NULL;
}

struct mrp_block *mrp_block_table_find(
    const struct mrp_block_table *table, uintptr_t address)
{
    struct mrp_block_slot *slot = find_slot(table, address);

    return slot == NULL ? NULL : slot->block;
}

/* Close the gap by moving back what would not be found across it (Knuth, 6.4, algorithm
 * R). */
static void close_gap(struct mrp_block_table *table, size_t gap)
{
    for (size_t i = next_of(table, gap); table->slots[i].address != 0;
         i = next_of(table, i)) {
        size_t home = home_of(table, table->slots[i].address);
        size_t from_home = (i - home) & (table->capacity - 1);
        size_t from_gap = (i - gap) & (table->capacity - 1);

        if (from_home >= from_gap) {
            table->slots[gap] = table->slots[i];
            gap = i;
        }
    }
    table->slots[gap] = (struct mrp_block_slot){0, NULL};
}

struct mrp_block *mrp_block_table_remove(struct mrp_block_table *table, uintptr_t address)
{
    struct mrp_block_slot *slot = find_slot(table, address);
    struct mrp_block *block;

    if (slot == NULL) {
        return NULL;
    }
    block = slot->block;
    close_gap(table, (size_t)(slot - table->slots));
    table->n_blocks--;
    return block;
}
