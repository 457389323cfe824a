/* SPDX-License-Identifier: BSD-3-Clause */
#include "pool/place.h"

enum mrp_status mrp_place_check(struct mrp_pool *pool)
{
    if (pool->node < 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "node is %d: take MRP_NODE(n), or 0 for the node of the thread that grows",
            pool->node);
    }
    return pool->node == 0 ? MRP_OK : mrp_backend_check_node(pool->backend, pool->node);
}

static enum mrp_status refuse_lane(const struct mrp_pool *pool, int node)
{
    size_t n_base = pool->classes.n_base;

    return mrp_fail(MRP_ERR_LIMIT, 0,
        "pool %s has %zu size classes on each of %zu nodes, of %d in all, none for node "
        "%d: use a pool with that node in its params, or lower its largest tier "
        "(tiers[3].max_size, MRPOOL_HUGE_MAX)",
        pool->member.named.name, n_base, mrp_n_classes(&pool->classes) / n_base,
        MRP_CLASSES_MAX, node - 1);
}

enum mrp_status mrp_place_lane(
    struct mrp_pool *pool, int node, uint32_t flags, unsigned *first)
{
    enum mrp_status status;
    bool found;

    if (mrp_size_classes_find_lane(&pool->classes, node, first)) {
        return MRP_OK;
    }
    if ((flags & MRP_REQUEST_NOGROW) != 0) {
        return mrp_fail(MRP_ERR_AGAIN, 0,
            "pool %s has no memory of node %d yet and may not grow here",
            pool->member.named.name, node - 1);
    }
    status = mrp_backend_check_node(pool->backend, node);
    if (status != MRP_OK) {
        return status;
    }
    pthread_mutex_lock(&pool->mutex);
    found = mrp_size_classes_find_lane(&pool->classes, node, first) ||
        mrp_size_classes_extend(&pool->classes, node, first);
    pthread_mutex_unlock(&pool->mutex);
    return found ? MRP_OK : refuse_lane(pool, node);
}
