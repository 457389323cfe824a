/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Slots of the ops table: one fid_mr per registration.
 */
#ifndef MRP_OFI_REGISTER_H
#define MRP_OFI_REGISTER_H

#include "mrpool/provider.h"

enum mrp_status mrp_ofi_register_memory(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration);
enum mrp_status mrp_ofi_deregister_memory(
    void *state, const struct mrp_registration *registration);

#endif
