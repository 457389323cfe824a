/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Devices, their ports, and the addresses (GIDs) of those.
 */
#ifndef MRP_VERBS_PORTS_H
#define MRP_VERBS_PORTS_H

#include "mrpool/provider.h"

#include <infiniband/verbs.h>

/* All devices, for ibv_free_device_list; at least one. */
enum mrp_status mrp_verbs_device_list(struct ibv_device ***list);

/* No device of that name, with those there are. */
enum mrp_status mrp_verbs_fail_unknown(const char *name, struct ibv_device *const *list);

/* An index into the port's table: `wanted`, or the best one when it is -1. */
enum mrp_status mrp_verbs_gid_choose(
    struct ibv_context *context, unsigned port, int wanted, int *index);

/* Slot of the ops table: every port of every device. */
enum mrp_status mrp_verbs_devices(mrp_device_visitor *visit, void *user);

#endif
