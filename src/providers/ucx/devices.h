/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef MRP_UCX_DEVICES_H
#define MRP_UCX_DEVICES_H

#include "mrpool/provider.h"

/* Slot of the ops table: every transport and device that UCX finds with its present
 * settings. */
enum mrp_status mrp_ucx_devices(mrp_device_visitor *visit, void *user);

#endif
