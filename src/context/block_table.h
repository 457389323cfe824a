/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The registry of tracked blocks: a hash table from address to record, open addressing
 * with linear probing, at most half full. O(1) insert, find and remove, nothing allocated
 * at remove.
 */
#ifndef MRP_CONTEXT_BLOCK_TABLE_H
#define MRP_CONTEXT_BLOCK_TABLE_H

#include "mrpool/base.h"

#include <stddef.h>
#include <stdint.h>

struct mrp_block;

struct mrp_block_slot {
    uintptr_t address; /* 0: empty */
    struct mrp_block *block;
};

struct mrp_block_table {
    struct mrp_block_slot *slots; /* capacity of them, a power of two */
    size_t capacity, n_blocks;
};

/** All calls: under the owner's lock. */
void mrp_block_table_destroy(struct mrp_block_table *table);

/** The address must not be in the table. MRP_ERR_MEMORY. */
enum mrp_status mrp_block_table_insert(
    struct mrp_block_table *table, uintptr_t address, struct mrp_block *block);

struct mrp_block *mrp_block_table_find(
    const struct mrp_block_table *table, uintptr_t address);

/** Take the record of an address out; NULL when there is none. */
struct mrp_block *mrp_block_table_remove(
    struct mrp_block_table *table, uintptr_t address);

#endif
