/* SPDX-License-Identifier: BSD-3-Clause */
#include "devices.h"

#include "context.h"
#include "resources.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A transport's name as UCX_TLS wants it: that of a device leaves out the transport that
 * makes its connections, the alias does not. */
static const char *alias(const char *transport)
{
    static const char *const aliases[][2] = {{"rc_verbs", "rc_v"}, {"rc_mlx5", "rc_x"},
        {"ud_verbs", "ud_v"}, {"ud_mlx5", "ud_x"}, {"dc_mlx5", "dc_x"}};

    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++) {
        if (strcmp(transport, aliases[i][0]) == 0) {
            return aliases[i][1];
        }
    }
    return transport;
}

static const char *describe(const struct mrp_ucx_resource *resource)
{
    static const char *const texts[][2] = {
        {"tcp", "sockets; copies, and looks at no key"},
        {"self", "within one process"},
        {"sysv", "shared memory; reaches what UCX allocates (mrp_provider_backend)"},
        {"posix", "shared memory; reaches what UCX allocates (mrp_provider_backend)"},
        {"cma", "reads and writes another process through the kernel"},
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(resource->transport, texts[i][0]) == 0) {
            return texts[i][1];
        }
    }
    return mrp_ucx_resource_pins(resource) ? "registering pins pages" : "";
}

/* Options are separated by commas, so a name with one cannot be written in them. */
static void write_options(
    char *text, size_t size, const struct mrp_ucx_resource *resource)
{
    bool has_device = mrp_ucx_resource_has_device(resource);

    text[0] = '\0';
    if (strchr(resource->device, ',') == NULL) {
        snprintf(text, size, "tls=%s%s%s", alias(resource->transport),
            has_device ? ",devices=" : "", has_device ? resource->device : "");
    }
}

static void visit_resource(const struct mrp_ucx_resource *resource,
    const struct mrp_ucx_context *context, mrp_device_visitor *visit, void *user)
{
    bool is_kept = context->is_keeping && mrp_ucx_resource_pins(resource);
    struct mrp_device device = {sizeof device, NULL, NULL, NULL, NULL};
    char options[160], detail[224];

    write_options(options, sizeof options, resource);
    snprintf(detail, sizeof detail, "%s%s%s%s", describe(resource),
        context->cache[0] == '\0' ? ""
                                  : "; UCX's registration cache (UCX_RCACHE_ENABLE): ",
        context->cache,
        is_kept ? "; UCX keeps what was deregistered pinned (UCX_IB_REG_METHODS=direct: "
                  "it does not)"
                : "");
    device.name = resource->transport;
    device.domain = mrp_ucx_resource_has_device(resource) ? resource->device : "";
    device.options = options;
    device.detail = detail;
    visit(&device, user);
}

enum mrp_status mrp_ucx_devices(mrp_device_visitor *visit, void *user)
{
    const struct mrp_ucx_choice any = {.features = UCP_FEATURE_RMA};
    struct mrp_ucx_resources *resources;
    struct mrp_ucx_context *context;
    enum mrp_status status = mrp_ucx_context_open(&any, &context);

    if (status != MRP_OK) {
        return status;
    }
    resources = malloc(sizeof *resources);
    if (resources != NULL && mrp_ucx_resources_read(context->context, resources)) {
        for (size_t i = 0; i < resources->n; i++) {
            visit_resource(&resources->list[i], context, visit, user);
        }
    } else {
        status = mrp_fail(MRP_ERR_MEMORY, 0, "no memory to list UCX's transports");
    }
    free(resources);
    mrp_ucx_context_destroy(context);
    return status;
}
