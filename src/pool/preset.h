/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Presets: settings that go together, by one name.
 */
#ifndef MRP_POOL_PRESET_H
#define MRP_POOL_PRESET_H

#include "mrpool/pool.h"

/** Settle which preset it is, and fill what neither the caller nor the environment has
 *  set: a member of params wins over its MRPOOL_ variable, that over the preset, that over
 *  the default. */
enum mrp_status mrp_preset_apply(struct mrp_pool_params *params);

/** A pool of the preset could not be made, as the error record says: have the record name
 *  the preset too, whose settings nobody wrote down. */
enum mrp_status mrp_preset_explain(
    const struct mrp_pool_params *params, enum mrp_status status);

#endif
