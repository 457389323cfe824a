/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Who has taken a region. It stands in the descriptor's cookie:
 *
 *     bits 0..46    a tag's address, or that of an interned backtrace (context/origin.h)
 *     bit 47        set for a backtrace
 *     bits 48..63   the region's generation, its low bits
 *
 * Takes from a thread's cache do not write it. They do count the generation, which tells
 * that what stands there is an earlier owner's.
 */
#include "pool/debug.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IS_BACKTRACE (UINT64_C(1) << 47)
#define ADDRESS_MASK (IS_BACKTRACE - 1)
#define GENERATION_SHIFT 48

/* -- cookies -- */

static uint64_t generation_bits(const struct mrp_region *region)
{
    return (uint64_t)mrp_load_relaxed(&region->generation) << GENERATION_SHIFT;
}

void mrp_debug_note(
    struct mrp_pool *pool, struct mrp_region *region, const char *tag, const void *caller)
{
    const struct mrp_origin *origin = NULL;
    uint64_t address = (uintptr_t)tag;

    if (mrp_is_unchecked(pool, region)) {
        return; /* no generation would tell that it is out of date */
    }
    if (tag == NULL && (pool->debug & MRP_DEBUG_ORIGINS) != 0) {
        origin = mrp_origin_capture(caller);
        address = (uintptr_t)origin;
    }
    if (address == 0 || (address & ~ADDRESS_MASK) != 0) {
        mrp_store_relaxed(&region->cookie, 0);
        return;
    }
    mrp_store_relaxed(&region->cookie,
        address | (origin != NULL ? IS_BACKTRACE : 0) | generation_bits(region));
}

/* Bits 0..47 of the cookie; 0: not known. */
static uint64_t origin_of(const struct mrp_region *region)
{
    uint64_t cookie = mrp_load_relaxed(&region->cookie);

    return (cookie ^ generation_bits(region)) >> GENERATION_SHIFT == 0
        ? cookie & (IS_BACKTRACE | ADDRESS_MASK)
        : 0;
}

void mrp_debug_inherit(struct mrp_region *heir, const struct mrp_region *region)
{
    uint64_t origin = origin_of(region);

    mrp_store_relaxed(&heir->cookie, origin == 0 ? 0 : origin | generation_bits(heir));
}

static bool is_tag(uint64_t origin)
{
    return origin != 0 && (origin & IS_BACKTRACE) == 0;
}

static const char *tag_of(uint64_t origin)
{
    return (const char *)(uintptr_t)origin; /* NOLINT */
}

static void describe(uint64_t origin, char *text, size_t size)
{
    if (is_tag(origin)) {
        snprintf(text, size, "%s", tag_of(origin));
    } else if (origin != 0) {
        mrp_origin_describe(
            (const struct mrp_origin *)(uintptr_t)(origin & ADDRESS_MASK), /* NOLINT */
            text, size);
    } else {
        text[0] = '\0';
    }
}

bool mrp_region_origin(
    const struct mrp_pool *pool, const struct mrp_region *region, char *text, size_t size)
{
    uint64_t origin = mrp_is_unchecked(pool, region) ? 0 : origin_of(region);

    if (origin != 0) {
        describe(origin, text, size);
    }
    return origin != 0;
}

/* -- totals -- */

struct total {
    uint64_t origin;
    size_t n_regions, size; /* n_regions 0: a free place */
};

/* Open addressing; at most half of it is taken. */
struct table {
    struct total *totals;
    size_t n_places, n_totals;
};

/* FNV-1a, of a tag's text and of a backtrace's address. */
static size_t hash_of(uint64_t origin)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    if (!is_tag(origin)) {
        return (size_t)((hash ^ origin) * UINT64_C(0x9e3779b97f4a7c15) >> 16);
    }
    for (const char *c = tag_of(origin); *c != '\0'; c++) {
        hash = (hash ^ (unsigned char)*c) * UINT64_C(0x100000001b3);
    }
    return (size_t)(hash ^ hash >> 32);
}

static bool is_same(uint64_t one, uint64_t other)
{
    return one == other ||
        (is_tag(one) && is_tag(other) && strcmp(tag_of(one), tag_of(other)) == 0);
}

/* Where the origin stands, or would. */
static struct total *find(const struct table *table, uint64_t origin)
{
    size_t place = hash_of(origin) % table->n_places;

    while (table->totals[place].n_regions != 0 &&
        !is_same(table->totals[place].origin, origin)) {
        place = (place + 1) % table->n_places;
    }
    return &table->totals[place];
}

static bool grow(struct table *table)
{
    struct table larger = {NULL, 2 * table->n_places + 64, table->n_totals};

    larger.totals = calloc(larger.n_places, sizeof *larger.totals);
    if (larger.totals == NULL) {
        return false;
    }
    for (size_t i = 0; i < table->n_places; i++) {
        if (table->totals[i].n_regions != 0) {
            *find(&larger, table->totals[i].origin) = table->totals[i];
        }
    }
    free(table->totals);
    *table = larger;
    return true;
}

static bool count(struct table *table, const struct mrp_region *region)
{
    struct total *total;
    uint64_t origin = origin_of(region);

    if (2 * table->n_totals >= table->n_places && !grow(table)) {
        return false;
    }
    total = find(table, origin);
    table->n_totals += total->n_regions == 0;
    total->origin = origin;
    total->n_regions++;
    if (mrp_kind_of(region) != MRP_REGION_SLICE) {
        total->size += mrp_load_relaxed(&region->size);
    }
    return true;
}

static int by_size(const void *one, const void *other)
{
    const struct total *a = one, *b = other;

    return a->size != b->size
        ? (a->size < b->size) - (a->size > b->size)
        : (a->n_regions < b->n_regions) - (a->n_regions > b->n_regions);
}

size_t mrp_pool_origins(
    struct mrp_pool *pool, struct mrp_origin_total *totals, size_t n_totals)
{
    uint32_t n_descriptors = mrp_load_relaxed(&pool->n_descriptors);
    struct table table = {NULL, 0, 0};
    bool is_counted = true;

    for (uint32_t i = 0; i < n_descriptors && is_counted; i++) {
        const struct mrp_region *region = mrp_region_at(pool, i);

        if (mrp_state_is_live(mrp_load_relaxed(&region->state)) &&
            !mrp_is_unchecked(pool, region)) {
            is_counted = count(&table, region);
        }
    }
    if (!is_counted || table.n_totals == 0) {
        free(table.totals);
        return 0;
    }
    /* free places count no bytes and no regions: they come last */
    qsort(table.totals, table.n_places, sizeof *table.totals, by_size);
    for (size_t i = 0; i < mrp_min(n_totals, table.n_totals); i++) {
        totals[i].is_known = table.totals[i].origin != 0;
        totals[i].n_regions = table.totals[i].n_regions;
        totals[i].size = table.totals[i].size;
        describe(table.totals[i].origin, totals[i].text, sizeof totals[i].text);
    }
    free(table.totals);
    return table.n_totals;
}
