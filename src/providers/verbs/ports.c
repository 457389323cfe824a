/* SPDX-License-Identifier: BSD-3-Clause */
#include "ports.h"

#include "mrpool/provider.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- devices -- */

enum mrp_status mrp_verbs_device_list(struct ibv_device ***list)
{
    int n_devices = 0;
    struct ibv_device **found = ibv_get_device_list(&n_devices);
    int code = found == NULL ? errno : 0;

    if (n_devices > 0) {
        *list = found;
        return MRP_OK;
    }
    if (found != NULL) {
        ibv_free_device_list(found);
    }
    return mrp_fail(MRP_ERR_UNAVAILABLE, code,
        "no verbs device: %s%s. Install rdma-core and ibverbs-providers, load the "
        "device's kernel modules (ib_uverbs, and mlx5_ib, irdma, ...), and look with "
        "`rdma link`. Without hardware: `modprobe rdma_rxe; rdma link add rxe0 type rxe "
        "netdev eth0`",
        found == NULL ? "ibv_get_device_list: " : "libibverbs finds none",
        found == NULL ? strerror(code) : "");
}

enum mrp_status mrp_verbs_fail_unknown(const char *name, struct ibv_device *const *list)
{
    char names[256] = "";
    size_t used = 0;

    for (size_t i = 0; list[i] != NULL && used < sizeof(names) - IBV_SYSFS_NAME_MAX;
         i++) {
        used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%.63s",
            used > 0 ? ", " : "", ibv_get_device_name(list[i]));
    }
    return mrp_fail(MRP_ERR_UNAVAILABLE, 0,
        "no verbs device '%s': there are %s (`rdma link`). Choose one with "
        "MRPOOL_VERBS_DEVICE (device=)",
        name, names);
}

/* -- addresses -- */

/* Filled entries of the whole device, to be freed. Empty ones are left out, so that
 * tables of 1,024 cost one call. */
static struct ibv_gid_entry *read_gids(struct ibv_context *context, size_t *n_gids)
{
    size_t n_room = 0;
    struct ibv_gid_entry *gids;
    struct ibv_device_attr attr;
    struct ibv_port_attr port;
    ssize_t n_read;

    *n_gids = 0;
    if (ibv_query_device(context, &attr) != 0) {
        return NULL;
    }
    for (unsigned i = 1; i <= attr.phys_port_cnt; i++) {
        if (ibv_query_port(context, (uint8_t)i, &port) == 0 && port.gid_tbl_len > 0) {
            n_room += (size_t)port.gid_tbl_len;
        }
    }
    gids = calloc(n_room + 1, sizeof(*gids));
    n_read = gids != NULL ? ibv_query_gid_table(context, gids, n_room, 0) : 0;
    *n_gids = n_read > 0 ? (size_t)n_read : 0;
    return gids;
}

static bool is_ipv4(const struct ibv_gid_entry *entry)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

    return memcmp(entry->gid.raw, mapped, sizeof(mapped)) == 0;
}

/* RoCE v2 is routed and what everyone has; of its addresses the IPv4 one is the one that
 * an administrator chose. On InfiniBand there is mostly one. */
static int rank_of(const struct ibv_gid_entry *entry)
{
    return entry->gid_type != IBV_GID_TYPE_ROCE_V2 ? 1 : is_ipv4(entry) ? 3 : 2;
}

enum mrp_status mrp_verbs_gid_choose(
    struct ibv_context *context, unsigned port, int wanted, int *index)
{
    size_t n_gids;
    struct ibv_gid_entry *gids = read_gids(context, &n_gids);
    const struct ibv_gid_entry *best = NULL;
    enum mrp_status status = MRP_OK;

    for (size_t i = 0; i < n_gids; i++) {
        if (gids[i].port_num != port) {
            continue;
        }
        if (wanted >= 0 ? (uint32_t)wanted == gids[i].gid_index
                        : best == NULL || rank_of(&gids[i]) > rank_of(best)) {
            best = &gids[i];
        }
    }
    if (wanted >= 0 && best == NULL) {
        status = mrp_fail(MRP_ERR_UNAVAILABLE, 0,
            "%s port %u has no GID at index %d: `mrpool info providers -v` lists them",
            ibv_get_device_name(context->device), port, wanted);
    } else {
        *index = best != NULL ? (int)best->gid_index : 0;
    }
    free(gids);
    return status;
}

/* -- listing -- */

static const char *gid_type_name(uint32_t type)
{
    return type == IBV_GID_TYPE_ROCE_V2 ? "RoCE v2"
        : type == IBV_GID_TYPE_ROCE_V1  ? "RoCE v1"
                                        : "IB";
}

static const char *link_name(uint8_t link_layer)
{
    return link_layer == IBV_LINK_LAYER_ETHERNET  ? "Ethernet"
        : link_layer == IBV_LINK_LAYER_INFINIBAND ? "InfiniBand"
                                                  : "unknown link";
}

/* GIDs beyond these are counted only. */
#define GIDS_SHOWN 8

static void write_gids(char *text, size_t size, const struct ibv_gid_entry *gids,
    size_t n_gids, unsigned port)
{
    size_t used = 0, n_found = 0;

    text[0] = '\0';
    for (size_t i = 0; i < n_gids; i++) {
        char address[INET6_ADDRSTRLEN];

        if (gids[i].port_num != port || ++n_found > GIDS_SHOWN) {
            continue;
        }
        inet_ntop(AF_INET6, gids[i].gid.raw, address, sizeof(address));
        used +=
            (size_t)snprintf(text + used, size - used, "%s%u %s %s", used > 0 ? ", " : "",
                gids[i].gid_index, address, gid_type_name(gids[i].gid_type));
    }
    if (n_found > GIDS_SHOWN) {
        snprintf(text + used, size - used, ", and %zu more", n_found - GIDS_SHOWN);
    }
}

/* MTUs are numbered: 1 is 256 bytes, 5 is 4096. */
static unsigned mtu_bytes(enum ibv_mtu mtu)
{
    return mtu >= IBV_MTU_256 && mtu <= IBV_MTU_4096 ? 128u << mtu : 0;
}

static void visit_port(struct ibv_context *context, unsigned port,
    const struct ibv_gid_entry *gids, size_t n_gids, mrp_device_visitor *visit,
    void *user)
{
    struct mrp_device device = {sizeof(device), NULL, NULL, NULL, NULL};
    struct ibv_port_attr attr;
    char domain[32], options[IBV_SYSFS_NAME_MAX + 32], list[80 * (GIDS_SHOWN + 1)];
    char detail[sizeof(list) + 160], node_text[24] = "no node";
    int node = mrp_device_node("/sys/class/infiniband", context->device->name);

    if (ibv_query_port(context, (uint8_t)port, &attr) != 0) {
        return;
    }
    write_gids(list, sizeof(list), gids, n_gids, port);
    if (node > 0) {
        snprintf(node_text, sizeof(node_text), "node %d", node - 1);
    }
    snprintf(domain, sizeof(domain), "port %u", port);
    snprintf(options, sizeof(options), "device=%s,port=%u",
        ibv_get_device_name(context->device), port);
    snprintf(detail, sizeof(detail), "%s, %s, MTU %u, %s, %s; GIDs: %s",
        link_name(attr.link_layer), ibv_port_state_str(attr.state),
        mtu_bytes(attr.active_mtu), node_text,
        ibv_is_fork_initialized() != IBV_FORK_DISABLED ? "fork is safe"
                                                       : "fork is not safe (fork=on)",
        list[0] != '\0' ? list : "none");
    device.name = ibv_get_device_name(context->device);
    device.domain = domain;
    device.options = options;
    device.detail = detail;
    visit(&device, user);
}

static void visit_device(
    struct ibv_context *context, mrp_device_visitor *visit, void *user)
{
    struct ibv_device_attr attr;
    size_t n_gids;
    struct ibv_gid_entry *gids = read_gids(context, &n_gids);

    if (ibv_query_device(context, &attr) == 0) {
        for (unsigned i = 1; i <= attr.phys_port_cnt; i++) {
            visit_port(context, i, gids, n_gids, visit, user);
        }
    }
    free(gids);
}

enum mrp_status mrp_verbs_devices(mrp_device_visitor *visit, void *user)
{
    struct ibv_device **list = NULL;
    enum mrp_status status = mrp_verbs_device_list(&list);
    size_t n_opened = 0;

    if (status != MRP_OK) {
        return status;
    }
    for (size_t i = 0; list[i] != NULL; i++) {
        struct ibv_context *context = ibv_open_device(list[i]);

        if (context == NULL) {
            status = mrp_fail(MRP_ERR_UNAVAILABLE, errno,
                "ibv_open_device %s: %s; is /dev/infiniband/%s there, and yours to read "
                "and write?",
                ibv_get_device_name(list[i]), strerror(errno), list[i]->dev_name);
            continue;
        }
        n_opened++;
        visit_device(context, visit, user);
        ibv_close_device(context);
    }
    ibv_free_device_list(list);
    return n_opened > 0 ? MRP_OK : status;
}
