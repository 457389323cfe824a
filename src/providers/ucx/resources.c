/* SPDX-License-Identifier: BSD-3-Clause */
#include "resources.h"

#include "mrpool/provider.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "#      resource 1  :  md 0  dev 1  flags -- tcp/eth0", the same from UCX 1.13 to 1.20 */
static bool read_line(const char *line, struct mrp_ucx_resource *resource)
{
    const char *flags;

    if (strstr(line, " resource ") == NULL || (flags = strstr(line, " flags ")) == NULL) {
        return false;
    }
    return sscanf(flags, " flags %*s %31[^/ ]/%63s", resource->transport,
               resource->device) == 2;
}

static void add(
    struct mrp_ucx_resources *resources, const struct mrp_ucx_resource *resource)
{
    if (resources->n < MRP_UCX_RESOURCES_MAX) {
        resources->list[resources->n++] = *resource;
    }
}

bool mrp_ucx_resources_read(ucp_context_h context, struct mrp_ucx_resources *resources)
{
    char *text = NULL, *rest = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);

    resources->n = 0;
    if (stream == NULL) {
        return false;
    }
    ucp_context_print_info(context, stream);
    if (fclose(stream) != 0) {
        free(text);
        return false;
    }
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        struct mrp_ucx_resource resource;

        if (read_line(line, &resource)) {
            add(resources, &resource);
        }
    }
    free(text);
    return true;
}

/* UCX does not say whether registering pins, so this goes by name: these copy, or let the
 * kernel copy when the data moves. All others are taken to pin, the safe side for a
 * budget. */
bool mrp_ucx_resource_pins(const struct mrp_ucx_resource *resource)
{
    static const char *const software[] = {
        "tcp", "self", "sysv", "posix", "cma", "knem", "xpmem", "sockcm"};

    for (size_t i = 0; i < sizeof software / sizeof software[0]; i++) {
        if (strcmp(resource->transport, software[i]) == 0) {
            return false;
        }
    }
    return true;
}

bool mrp_ucx_resource_has_device(const struct mrp_ucx_resource *resource)
{
    return strncmp(resource->device, "memory", strlen("memory")) != 0;
}

int mrp_ucx_resource_node(const struct mrp_ucx_resource *resource)
{
    char name[sizeof resource->device];
    int node;

    if (!mrp_ucx_resource_has_device(resource)) {
        return 0;
    }
    /* the port stands behind it */
    snprintf(
        name, sizeof name, "%.*s", (int)strcspn(resource->device, ":"), resource->device);
    node = mrp_device_node("/sys/class/infiniband", name);
    return node != 0 ? node : mrp_device_node("/sys/class/net", name);
}

void mrp_ucx_config_value(
    const ucp_config_t *config, const char *name, char *value, size_t size)
{
    char *text = NULL, *rest = NULL;
    size_t text_size = 0, length = strlen(name);
    FILE *stream = open_memstream(&text, &text_size);

    value[0] = '\0';
    if (stream == NULL) {
        return;
    }
    ucp_config_print(config, stream, NULL, UCS_CONFIG_PRINT_CONFIG);
    if (fclose(stream) != 0) {
        free(text);
        return;
    }
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "UCX_", 4) == 0 && strncmp(line + 4, name, length) == 0 &&
            line[4 + length] == '=') {
            snprintf(value, size, "%s", line + 4 + length + 1);
        }
    }
    free(text);
}
