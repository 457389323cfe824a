/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Validation of mrp_pool_params: every default resolved, every conflict refused by name.
 */
#ifndef MRP_POOL_PARAMS_H
#define MRP_POOL_PARAMS_H

#include "pool/pool.h"

/** What decides where the pool's range lies. */
struct mrp_cache_params {
    enum mrp_checks checks;
    uint32_t debug; /* enum mrp_debug_flag, without OFF */
    size_t thread_cache_size; /* 0: a share of max_bytes */
    enum mrp_range_place place;
};
enum mrp_status mrp_pool_params_caches(
    const struct mrp_pool_params *params, struct mrp_cache_params *caches);

/** Settle what does not need the pool yet; `pool->rails` and `pool->backend` are set
 * already. */
enum mrp_status mrp_pool_params_resolve(
    struct mrp_pool *pool, const struct mrp_pool_params *params);

#endif
