/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The sections of mrpool-bench memory that are about mrpool alone, and what they share:
 * pools made for one purpose, a rail that counts.
 */
#ifndef BENCH_WORKERS_MEMORY_MRPOOL_H
#define BENCH_WORKERS_MEMORY_MRPOOL_H

#include "memory_load.h"

#include "mrpool/mrpool.h"

#include <stdatomic.h>

#define LIST_MAX ((size_t)1 << 20) /* regions in a list */

/** What a rail that registers nothing was asked to do. */
struct counting_rail {
    atomic_size_t n_registered, n_deregistered;
};

enum mrp_status counting_rail_create(struct mrp_context *context,
    struct counting_rail *counts, struct mrp_provider **provider);

/** Destroy the context, if there is one, and tell of the failure. */
bool sections_fail(struct mrp_context *context, const char *what);

/** Take regions until the pool refuses, or until there are `max` of them. */
size_t sections_fill(
    struct mrp_pool *pool, size_t size, size_t max, struct mrp_region **regions);

bool section_trim(const struct memory_arguments *arguments);
bool section_latency(const struct memory_arguments *arguments);
bool section_missed(const struct memory_arguments *arguments);
bool section_limit(const struct memory_arguments *arguments);
bool section_waiting(const struct memory_arguments *arguments);
bool section_counts(const struct memory_arguments *arguments);

/* Bounds of a chunk: what "two chunks" are. Of the context's registrations the largest. */
size_t sections_largest_chunk(struct mrp_context *context);

#endif
