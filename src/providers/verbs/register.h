/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Slots of the ops table: one ibv_mr per registration.
 */
#ifndef MRP_VERBS_REGISTER_H
#define MRP_VERBS_REGISTER_H

#include "mrpool/provider.h"

enum mrp_status mrp_verbs_register_memory(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration);
enum mrp_status mrp_verbs_deregister_memory(
    void *state, const struct mrp_registration *registration);

#endif
