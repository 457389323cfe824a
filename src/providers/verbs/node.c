/* SPDX-License-Identifier: BSD-3-Clause */
#include "node.h"

#include "mrpool/provider.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Levels to look at: a virtual function or a virtio device lies one or two below the one
 * that has the file. */
#define LEVELS 3

/* /sys says -1 for a device of no node. */
static int read_node(const char *folder)
{
    char path[PATH_MAX + 16];
    FILE *file;
    int node = -1;

    snprintf(path, sizeof(path), "%s/numa_node", folder);
    file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    if (fscanf(file, "%d", &node) != 1) {
        node = -1;
    }
    fclose(file);
    return node >= 0 ? MRP_NODE(node) : 0;
}

/* Of the device that a link in /sys leads to, or of one that holds it. */
static int node_of_link(const char *link)
{
    char *folder = realpath(link, NULL);
    int node = 0;

    for (int level = 0; folder != NULL && node == 0 && level < LEVELS; level++) {
        char *end = strrchr(folder, '/');

        node = read_node(folder);
        if (end == NULL || end == folder) {
            break;
        }
        *end = '\0';
    }
    free(folder);
    return node;
}

/* A software device stands on a network interface, which its file "parent" names. */
static int node_of_parent(const char *ibdev_path)
{
    char path[IBV_SYSFS_PATH_MAX + 64], name[64] = "";
    FILE *file;

    snprintf(path, sizeof(path), "%s/parent", ibdev_path);
    file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    if (fscanf(file, "%63s", name) != 1 || strchr(name, '/') != NULL) {
        name[0] = '\0';
    }
    fclose(file);
    if (name[0] == '\0') {
        return 0;
    }
    snprintf(path, sizeof(path), "/sys/class/net/%s/device", name);
    return node_of_link(path);
}

int mrp_verbs_device_node(const struct ibv_device *device)
{
    char path[IBV_SYSFS_PATH_MAX + 16];
    int node;

    snprintf(path, sizeof(path), "%s/device", device->ibdev_path);
    node = node_of_link(path);
    return node != 0 ? node : node_of_parent(device->ibdev_path);
}
