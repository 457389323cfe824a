/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrp_device_node: which NUMA node a device is next to, as /sys says.
 */
#include "mrpool/provider.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The first word of a small file. */
static bool read_word(const char *folder, const char *name, char word[64])
{
    char path[PATH_MAX + 16];
    FILE *file;
    bool ok;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    ok = fscanf(file, "%63s", word) == 1;
    fclose(file);
    return ok;
}

/* Of the nearest folder at or above the place that knows: the device's name leads below
 * it, and a virtual function or a virtio device says -1 where what it is part of knows. */
static int node_at(const char *place)
{
    char *folder = realpath(place, NULL), *end, word[64];
    int node = 0;

    while (folder != NULL && node == 0 && (end = strrchr(folder, '/')) != NULL) {
        if (read_word(folder, "numa_node", word)) {
            node = MRP_NODE(atoi(word));
        }
        *end = '\0';
    }
    free(folder);
    return node;
}

int mrp_device_node(const char *folder, const char *name)
{
    char place[PATH_MAX], parent[64];
    int node;

    if (folder == NULL || name == NULL || *name == '\0' || strchr(name, '/') != NULL) {
        return 0;
    }
    snprintf(place, sizeof place, "%s/%s", folder, name);
    node = node_at(place);
    if (node == 0 && read_word(place, "parent", parent) && strchr(parent, '/') == NULL) {
        snprintf(place, sizeof place, "%s/../net/%s", folder, parent);
        node = node_at(place);
    }
    return node;
}
