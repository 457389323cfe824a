/* SPDX-License-Identifier: BSD-3-Clause */
#include "device.h"

#include "ports.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- one domain -- */

struct mrp_verbs_device *mrp_verbs_device_create(
    struct ibv_pd *pd, uint8_t port, int gid_index)
{
    struct mrp_verbs_device *device = calloc(1, sizeof(*device));

    if (device == NULL) {
        mrp_fail(MRP_ERR_MEMORY, 0, "no memory for a verbs device");
        return NULL;
    }
    device->native = (struct mrp_verbs_native){sizeof(device->native), pd->context, pd,
        port, gid_index, ibv_is_fork_initialized() != IBV_FORK_DISABLED};
    atomic_init(&device->n_live, 0);
    atomic_init(&device->is_lost, false);
    pthread_mutex_init(&device->mutex, NULL);
    if (port > 0) {
        snprintf(device->name, sizeof(device->name), "%s port %u",
            ibv_get_device_name(pd->context->device), port);
    } else {
        snprintf(device->name, sizeof(device->name), "%s",
            ibv_get_device_name(pd->context->device));
    }
    return device;
}

/* The core unmaps what was parked for them after this. */
static void close_refused(struct mrp_verbs_device *device)
{
    while (device->refused != NULL) {
        struct mrp_verbs_refused *refused = device->refused;

        device->refused = refused->next;
        ibv_dereg_mr(refused->mr);
        free(refused);
    }
}

void mrp_verbs_device_close(struct mrp_verbs_device *device)
{
    close_refused(device);
    if (device->is_own) {
        /* The kernel ends with the context what was still made in the domain. */
        ibv_dealloc_pd(device->native.pd);
        ibv_close_device(device->native.context);
    }
    pthread_mutex_destroy(&device->mutex);
    free(device);
}

/* -- what the device can do -- */

/* A device without dma-buf says so before it looks at the file; one with it finds none. */
static bool has_dmabuf(struct ibv_pd *pd)
{
    struct ibv_mr *mr = ibv_reg_dmabuf_mr(pd, 0, 4096, 0, -1, IBV_ACCESS_LOCAL_WRITE);

    if (mr != NULL) {
        ibv_dereg_mr(mr);
        return true;
    }
    return errno == EBADF;
}

static uint32_t grantable(const struct ibv_device_attr_ex *attr, bool on_demand)
{
    uint32_t access = MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE;
    uint32_t odp = attr->odp_caps.per_transport_caps.rc_odp_caps;

    if (attr->orig_attr.atomic_cap != IBV_ATOMIC_NONE) {
        access |= MRP_ACCESS_REMOTE_ATOMIC;
    }
    if (on_demand) {
        access &= ~((odp & IBV_ODP_SUPPORT_READ) == 0 ? MRP_ACCESS_REMOTE_READ : 0u);
        access &= ~((odp & IBV_ODP_SUPPORT_WRITE) == 0 ? MRP_ACCESS_REMOTE_WRITE : 0u);
        access &= ~((odp & IBV_ODP_SUPPORT_ATOMIC) == 0 ? MRP_ACCESS_REMOTE_ATOMIC : 0u);
    }
    return access;
}

/* All ones, or what no process can have, is what devices without a limit say. */
static size_t limit_of(uint64_t value)
{
    return value >= UINT64_C(1) << 62 ? 0 : (size_t)value;
}

enum mrp_status mrp_verbs_device_describe(
    struct mrp_verbs_device *device, const struct mrp_verbs_choice *choice)
{
    struct ibv_context *context = device->native.context;
    struct ibv_device_attr_ex attr = {0};
    int code = ibv_query_device_ex(context, NULL, &attr);

    if (code != 0) {
        return mrp_fail(MRP_ERR_UNAVAILABLE, code, "ibv_query_device on %s: %s",
            device->name, strerror(code));
    }
    if (choice->on_demand && (attr.odp_caps.general_caps & IBV_ODP_SUPPORT) == 0) {
        return mrp_fail(MRP_ERR_UNAVAILABLE, 0,
            "%s has no on-demand paging: leave MRPOOL_VERBS_ODP (odp=) off",
            device->name);
    }
    device->relaxed_ordering = choice->relaxed_ordering;
    device->on_demand = choice->on_demand;
    device->is_iwarp = context->device->transport_type == IBV_TRANSPORT_IWARP;
    device->access = grantable(&attr, choice->on_demand);
    device->max_mr = attr.orig_attr.max_mr > 0 ? (size_t)attr.orig_attr.max_mr : 0;
    device->max_mr_size = limit_of(attr.orig_attr.max_mr_size);
    device->has_dmabuf = has_dmabuf(device->native.pd);
    device->node = mrp_device_node("/sys/class/infiniband", context->device->name);
    return MRP_OK;
}

/* -- what may happen to it -- */

/* Events of a context that is ours. Read only after a call has failed for no reason of its
 * own: else they stay for whoever uses the context through mrp_provider_native. That one may
 * take an event between our looking and our reading, which must not block then. */
static bool has_fatal_event(struct mrp_verbs_device *device)
{
    struct ibv_context *context = device->native.context;
    struct ibv_async_event event;
    bool is_fatal = false;
    int flags;

    pthread_mutex_lock(&device->mutex);
    flags = fcntl(context->async_fd, F_GETFL);
    if (flags >= 0 && fcntl(context->async_fd, F_SETFL, flags | O_NONBLOCK) == 0) {
        while (ibv_get_async_event(context, &event) == 0) {
            is_fatal = is_fatal || event.event_type == IBV_EVENT_DEVICE_FATAL;
            ibv_ack_async_event(&event);
        }
        (void)fcntl(context->async_fd, F_SETFL, flags);
    }
    pthread_mutex_unlock(&device->mutex);
    return is_fatal;
}

/* EIO is said of a device that was taken out, and of one command that failed in it. */
static bool is_gone(const struct mrp_verbs_device *device, int code)
{
    struct ibv_device_attr attr;

    return code == ENODEV ||
        (code == EIO && ibv_query_device(device->native.context, &attr) != 0);
}

/* What is said of a request, a limit or a right, by devices that are well. */
static bool is_of_request(int code)
{
    return code == ENOMEM || code == EAGAIN || code == EINVAL || code == EFAULT ||
        code == EPERM || code == EOPNOTSUPP || code == EBUSY;
}

bool mrp_verbs_device_is_lost(struct mrp_verbs_device *device, int code)
{
    if (is_gone(device, code) ||
        (device->is_own && !is_of_request(code) && has_fatal_event(device))) {
        atomic_store(&device->is_lost, true);
    }
    return atomic_load(&device->is_lost);
}

enum mrp_status mrp_verbs_fork_prepare(bool wanted)
{
    int code =
        wanted && ibv_is_fork_initialized() == IBV_FORK_DISABLED ? ibv_fork_init() : 0;

    if (code != 0) {
        return mrp_fail(MRP_ERR_UNAVAILABLE, code, "ibv_fork_init: %s: %s",
            strerror(code),
            code == EINVAL
                ? "this process has registered memory already; open the provider before "
                  "that, set RDMAV_FORK_SAFE=1, or use Linux 5.12, which needs neither"
                : "MRPOOL_VERBS_FORK=on (fork=on) cannot be kept");
    }
    return MRP_OK;
}

/* -- a device of our own -- */

/* The port asked for, or the first active one; 0 with the reason recorded. */
static unsigned choose_port(
    struct ibv_context *context, const struct mrp_verbs_choice *choice)
{
    const char *name = ibv_get_device_name(context->device);
    struct ibv_port_attr port;
    struct ibv_device_attr attr;
    int code = ibv_query_device(context, &attr);
    unsigned n_ports = code == 0 ? attr.phys_port_cnt : 0;

    if (choice->port > 0) {
        if (choice->port <= n_ports) {
            return choice->port;
        }
        mrp_fail(MRP_ERR_UNAVAILABLE, code, "%s has %u ports, no port %u", name, n_ports,
            choice->port);
        return 0;
    }
    for (unsigned i = 1; i <= n_ports; i++) {
        if (ibv_query_port(context, (uint8_t)i, &port) == 0 &&
            port.state == IBV_PORT_ACTIVE) {
            return i;
        }
    }
    mrp_fail(MRP_ERR_UNAVAILABLE, code,
        "%s has no active port of %u (`rdma link`, ibv_devinfo): bring its link up, or "
        "name the port to open it all the same (MRPOOL_VERBS_PORT, port=)",
        name, n_ports);
    return 0;
}

static enum mrp_status open_port(struct ibv_context *context,
    const struct mrp_verbs_choice *choice, struct mrp_verbs_device **opened)
{
    struct mrp_verbs_device *device;
    unsigned port = choose_port(context, choice);
    enum mrp_status status;
    struct ibv_pd *pd;
    int gid_index = 0;

    if (port == 0) {
        return MRP_ERR_UNAVAILABLE;
    }
    status = mrp_verbs_gid_choose(context, port, choice->gid_index, &gid_index);
    if (status != MRP_OK) {
        return status;
    }
    pd = ibv_alloc_pd(context);
    if (pd == NULL) {
        return mrp_fail(MRP_ERR_UNAVAILABLE, errno, "ibv_alloc_pd on %s: %s",
            ibv_get_device_name(context->device), strerror(errno));
    }
    device = mrp_verbs_device_create(pd, (uint8_t)port, gid_index);
    status = device == NULL ? MRP_ERR_MEMORY : mrp_verbs_device_describe(device, choice);
    if (status != MRP_OK) {
        if (device != NULL) {
            mrp_verbs_device_close(device); /* is_own is not set yet */
        }
        ibv_dealloc_pd(pd);
        return status;
    }
    device->is_own = true;
    *opened = device;
    return MRP_OK;
}

static enum mrp_status open_one(struct ibv_device *found,
    const struct mrp_verbs_choice *choice, struct mrp_verbs_device **opened)
{
    struct ibv_context *context = ibv_open_device(found);
    enum mrp_status status;

    if (context == NULL) {
        return mrp_fail(MRP_ERR_UNAVAILABLE, errno,
            "ibv_open_device %s: %s; is /dev/infiniband/%s there, and yours to read and "
            "write?",
            ibv_get_device_name(found), strerror(errno), found->dev_name);
    }
    status = open_port(context, choice, opened);
    if (status != MRP_OK) {
        ibv_close_device(context);
    }
    return status;
}

enum mrp_status mrp_verbs_device_open(
    const struct mrp_verbs_choice *choice, struct mrp_verbs_device **opened)
{
    enum mrp_status status = mrp_verbs_fork_prepare(choice->fork);
    struct ibv_device **list;
    bool is_named = choice->device[0] != '\0', is_found = false;

    if (status != MRP_OK) {
        return status;
    }
    status = mrp_verbs_device_list(&list);
    if (status != MRP_OK) {
        return status;
    }
    for (size_t i = 0; list[i] != NULL && *opened == NULL; i++) {
        if (!is_named || strcmp(ibv_get_device_name(list[i]), choice->device) == 0) {
            is_found = true;
            status = open_one(list[i], choice, opened);
        }
    }
    if (!is_found) {
        status = mrp_verbs_fail_unknown(choice->device, list);
    }
    ibv_free_device_list(list);
    return status;
}
