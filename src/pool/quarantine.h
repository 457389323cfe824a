/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The regions of a pool that were abandoned and whose fence has not drained, in lists by
 * fence, linked through the link words of their descriptors: to abandon one takes no
 * memory. While a region is here, its descriptor's
 *
 *     state     is MRP_STATE_QUARANTINED, which no handle check takes for live or free
 *     length    is the fence
 *     size      is when it was abandoned, mrp_clock_coarse()
 */
#ifndef MRP_POOL_QUARANTINE_H
#define MRP_POOL_QUARANTINE_H

#include "mrpool/base.h"

#include <pthread.h>

#define MRP_QUARANTINE_LISTS 256 /* power of two */

struct mrp_pool;
struct mrp_region;

struct mrp_quarantine {
    pthread_mutex_t mutex; /* leaf lock; no allocation takes it */
    uint32_t lists[MRP_QUARANTINE_LISTS]; /* index + 1 of the latest; 0: none */
    /* Written under the mutex. */
    _Atomic size_t n_regions;
    size_t size; /* bytes of their capacities */
    uint64_t n_revoked;
    _Atomic uint64_t last_tick; /* when somebody last looked for old ones */
};

void mrp_quarantine_create(struct mrp_quarantine *quarantine);
void mrp_quarantine_destroy(struct mrp_quarantine *quarantine);

/** The list that regions of a fence are on. */
unsigned mrp_quarantine_list(uint64_t fence);

/** How many there are, their bytes, and how many were ever revoked. */
void mrp_quarantine_count(struct mrp_quarantine *quarantine, size_t *n_regions,
    size_t *size, uint64_t *n_revoked);

/** Deregister and unmap regions with a registration of their own that were abandoned at
 *  least `age` nanoseconds ago, where that stops the network: their keys mean nothing
 *  any more, whoever has them. Nothing in pools whose quarantine_ms is UINT32_MAX. The
 *  error record stays; memory that a rail refuses to deregister is parked, and not
 *  counted. No lock may be held. @return how many were revoked. */
size_t mrp_quarantine_revoke(struct mrp_pool *pool, uint64_t age);

/** Revoke what has been here for the pool's quarantine_ms: now, or only when it is time to
 *  look again. No lock may be held. */
size_t mrp_quarantine_expire(struct mrp_pool *pool);
void mrp_quarantine_tick(struct mrp_pool *pool);

/** "abandoned 12 s ago, fence 7 never drained", of a region in quarantine. */
void mrp_quarantine_describe(const struct mrp_region *region, char *text, size_t size);

#endif
