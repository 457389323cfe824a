/* SPDX-License-Identifier: BSD-3-Clause */
#include "node.h"

#include "mrpool/provider.h"

#include <stdio.h>
#include <string.h>

/* /sys says -1 for a device of no node. */
static int read_node(const char *path)
{
    FILE *file = fopen(path, "re");
    int node = -1;

    if (file == NULL) {
        return 0;
    }
    if (fscanf(file, "%d", &node) != 1) {
        node = -1;
    }
    fclose(file);
    return node >= 0 ? MRP_NODE(node) : 0;
}

static int node_of_pci(const struct fi_pci_attr *pci)
{
    char path[128];

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%04x:%02x:%02x.%x/numa_node",
        pci->domain_id, pci->bus_id, pci->device_id, pci->function_id);
    return read_node(path);
}

/* Names come from libfabric, but a '/' would lead elsewhere. */
static int node_of_name(const char *class_name, const char *name)
{
    char path[256];

    if (name == NULL || name[0] == '\0' || strchr(name, '/') != NULL) {
        return 0;
    }
    snprintf(path, sizeof(path), "/sys/class/%s/%s/device/numa_node", class_name, name);
    return read_node(path);
}

int mrp_ofi_device_node(const struct fi_info *info)
{
    const struct fid_nic *nic = info->nic;
    int node = 0;

    if (nic != NULL && nic->bus_attr != NULL && nic->bus_attr->bus_type == FI_BUS_PCI) {
        node = node_of_pci(&nic->bus_attr->attr.pci);
    }
    if (node == 0 && nic != NULL && nic->device_attr != NULL) {
        node = node_of_name("infiniband", nic->device_attr->name);
    }
    /* tcp and its like name the domain after the network interface. */
    return node != 0 ? node : node_of_name("net", info->domain_attr->name);
}
