/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Slots of the ops table: one ucp_mem_h per registration.
 */
#ifndef MRP_UCX_REGISTER_H
#define MRP_UCX_REGISTER_H

#include "mrpool/provider.h"

#include <ucs/type/status.h>

enum mrp_status mrp_ucx_register_memory(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration);
enum mrp_status mrp_ucx_deregister_memory(
    void *state, const struct mrp_registration *registration);

/* What the caller can do about a code of UCX. */
enum mrp_status mrp_ucx_status(ucs_status_t code);

#endif
