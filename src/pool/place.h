/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Placement: which NUMA node a pool's memory, and one request's, is on.
 */
#ifndef MRP_POOL_PLACE_H
#define MRP_POOL_PLACE_H

#include "pool/pool.h"

/** The pool's own node is one its backend can bind to. */
enum mrp_status mrp_place_check(struct mrp_pool *pool);

/** The node that a request means; flags as in mrp_region_request. A request that names
 *  the pool's own names none. */
static inline int mrp_place_node(const struct mrp_pool *pool, int node)
{
    return node != 0 ? node : pool->node;
}

/** Where the classes of the node begin in the pool's table; the node's first request adds
 *  them, unless flags forbid growth. Maps a page of it first, so that a node that cannot
 *  be had takes no room. */
enum mrp_status mrp_place_lane(
    struct mrp_pool *pool, int node, uint32_t flags, unsigned *first);

#endif
