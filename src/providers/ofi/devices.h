/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef MRP_OFI_DEVICES_H
#define MRP_OFI_DEVICES_H

#include "mrpool/provider.h"

/* Slot of the ops table: every pair of provider and domain that could be opened, once. */
enum mrp_status mrp_ofi_devices(mrp_device_visitor *visit, void *user);

#endif
