/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fixed buffers: the slots of the ops table, see provider.h.
 */
#ifndef MRP_URING_REGISTER_H
#define MRP_URING_REGISTER_H

#include "mrpool/provider.h"

enum mrp_status mrp_uring_register_memory(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration);
enum mrp_status mrp_uring_deregister_memory(
    void *state, const struct mrp_registration *registration);

#endif
