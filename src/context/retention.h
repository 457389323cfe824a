/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Retention: what is expensive to make and idle now, least recently used last, bounded by
 * bytes and count. One list in the context serves every owner.
 */
#ifndef MRP_CONTEXT_RETENTION_H
#define MRP_CONTEXT_RETENTION_H

#include "mrpool/base.h"

#include <pthread.h>

struct mrp_retained {
    struct mrp_retained *newer, *older;
    size_t size; /* bytes it holds */
    const void *owner; /* whose it is: a pool */
    /** Give the memory up. Called under no lock, once the item is off the list. */
    void (*evict)(struct mrp_retained *item);
};

struct mrp_retention {
    pthread_mutex_t mutex; /* leaf lock */
    struct mrp_retained *newest, *oldest;
    size_t n_items, size;
    size_t max_items, max_size;
};

void mrp_retention_create(
    struct mrp_retention *retention, size_t max_items, size_t max_size);
void mrp_retention_destroy(struct mrp_retention *retention);

/** Keep an item; the oldest beyond the bounds are evicted before this returns, the item
 * itself if it alone is too large. */
void mrp_retention_add(struct mrp_retention *retention, struct mrp_retained *item);

/** Take the most recent item of `owner` that holds at least `size` bytes and no more than
 *  `max_size`, and satisfies `accepts` (NULL: any), off the list; NULL when there is
 *  none. */
struct mrp_retained *mrp_retention_take(struct mrp_retention *retention,
    const void *owner, size_t size, size_t max_size,
    bool (*accepts)(const struct mrp_retained *, const void *), const void *accepts_user);

/** Evict the oldest items of `owner` (NULL: of anybody) until `size` bytes have gone.
 *  @return how many items went. */
size_t mrp_retention_evict(
    struct mrp_retention *retention, const void *owner, size_t size);

/** Count what `owner` keeps (NULL: everybody). */
void mrp_retention_count(
    struct mrp_retention *retention, const void *owner, size_t *n_items, size_t *size);

#endif
