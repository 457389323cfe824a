/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The transports of a UCP context, which only ucp_context_print_info tells, and what is
 * known about them by name.
 */
#ifndef MRP_UCX_RESOURCES_H
#define MRP_UCX_RESOURCES_H

#include "mrpool/base.h"

#include <ucp/api/ucp.h>

#define MRP_UCX_RESOURCES_MAX 64

struct mrp_ucx_resource {
    char transport[32]; /* "rc_verbs" */
    char device[64]; /* "mlx5_0:1"; "memory" where there is none */
};

struct mrp_ucx_resources {
    size_t n;
    struct mrp_ucx_resource list[MRP_UCX_RESOURCES_MAX];
};

/* @return false without memory. */
bool mrp_ucx_resources_read(ucp_context_h context, struct mrp_ucx_resources *resources);

/* Whether registering with it pins pages. */
bool mrp_ucx_resource_pins(const struct mrp_ucx_resource *resource);

/* Whether the device is one of a network, with a name of its own. */
bool mrp_ucx_resource_has_device(const struct mrp_ucx_resource *resource);

/* MRP_NODE(n) of its device, 0 if nobody knows. Reads /sys. */
int mrp_ucx_resource_node(const struct mrp_ucx_resource *resource);

/* The value of a setting of a configuration, "" where this UCX has none of that name. */
void mrp_ucx_config_value(
    const ucp_config_t *config, const char *name, char *value, size_t size);

#endif
