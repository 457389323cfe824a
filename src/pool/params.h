/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Validation of mrp_pool_params: every default resolved, every conflict refused by name.
 */
#ifndef MRP_POOL_PARAMS_H
#define MRP_POOL_PARAMS_H

#include "pool/pool.h"

/** Settle what does not need the pool yet; `pool->rails` and `pool->backend` are set
 * already. */
enum mrp_status mrp_pool_params_resolve(
    struct mrp_pool *pool, const struct mrp_pool_params *params);

#endif
