/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef MRP_OFI_NODE_H
#define MRP_OFI_NODE_H

#include <rdma/fabric.h>

/* MRP_NODE(n) of the device behind a domain, 0 if nobody knows. Reads /sys. */
int mrp_ofi_device_node(const struct fi_info *info);

#endif
