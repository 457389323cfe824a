/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef MRP_VERBS_NODE_H
#define MRP_VERBS_NODE_H

#include <infiniband/verbs.h>

/* MRP_NODE(n) of the device, 0 when the system does not say. */
int mrp_verbs_device_node(const struct ibv_device *device);

#endif
