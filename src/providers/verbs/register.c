/* SPDX-License-Identifier: BSD-3-Clause */
#include "register.h"

#include "device.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint32_t remote_rights = MRP_ACCESS_REMOTE | MRP_ACCESS_REMOTE_ATOMIC;

/* -- what is refused before the device sees it -- */

/* Of flags the caller may add what enum mrp_access has no word for. An address that is an
 * offset would not be the one that remote_base promises. */
static enum mrp_status check_flags(
    const struct mrp_verbs_device *device, const struct mrp_register_request *request)
{
    if (request->native_flags > INT32_MAX ||
        (request->native_flags & IBV_ACCESS_ZERO_BASED) != 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "native_flags %#llx on %s: bits of enum ibv_access_flags, without "
            "IBV_ACCESS_ZERO_BASED",
            (unsigned long long)request->native_flags, device->name);
    }
    return MRP_OK;
}

static enum mrp_status check_kind(
    const struct mrp_verbs_device *device, const struct mrp_register_request *request)
{
    if (request->has_dmabuf && !device->has_dmabuf) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "dma-buf on %s: its driver does not register any (ibv_reg_dmabuf_mr, Linux "
            "5.12 and later, mlx5, irdma, efa); register the address instead",
            device->name);
    }
    if (request->has_dmabuf && device->on_demand) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "dma-buf with on-demand paging on %s: open a second provider without odp=on",
            device->name);
    }
    if (request->kind != MRP_MEMORY_HOST && !request->has_dmabuf) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "device memory of kind %d on %s: registered through a dma-buf only",
            (int)request->kind, device->name);
    }
    return MRP_OK;
}

static enum mrp_status check_request(
    const struct mrp_verbs_device *device, const struct mrp_register_request *request)
{
    enum mrp_status status;

    if (atomic_load(&device->is_lost)) {
        return mrp_fail(MRP_ERR_UNAVAILABLE, ENODEV,
            "%s is lost: it failed or was taken out; close its provider and open another",
            device->name);
    }
    status = check_flags(device, request);
    return status == MRP_OK ? check_kind(device, request) : status;
}

/* -- one registration -- */

/* No right more than was asked for, except where verbs has none without the other: a
 * device that writes for a peer writes locally, ibv_reg_mr(3). What is read by RDMA over
 * iWARP arrives as the peer's write, RFC 5040. Local reading is always granted. */
static unsigned native_access(
    const struct mrp_verbs_device *device, const struct mrp_register_request *request)
{
    uint32_t access = request->access;
    unsigned native = (unsigned)request->native_flags;

    if ((access &
            (MRP_ACCESS_LOCAL_WRITE | MRP_ACCESS_REMOTE_WRITE |
                MRP_ACCESS_REMOTE_ATOMIC)) != 0) {
        native |= IBV_ACCESS_LOCAL_WRITE;
    }
    if ((access & MRP_ACCESS_REMOTE_READ) != 0) {
        native |= IBV_ACCESS_REMOTE_READ;
    }
    if ((access & MRP_ACCESS_REMOTE_WRITE) != 0 ||
        (device->is_iwarp && (access & MRP_ACCESS_LOCAL_WRITE) != 0)) {
        native |= IBV_ACCESS_REMOTE_WRITE;
    }
    if ((access & MRP_ACCESS_REMOTE_ATOMIC) != 0) {
        native |= IBV_ACCESS_REMOTE_ATOMIC;
    }
    if (device->relaxed_ordering) {
        native |= IBV_ACCESS_RELAXED_ORDERING; /* dropped where the kernel knows none */
    }
    if (device->on_demand) {
        native |= IBV_ACCESS_ON_DEMAND;
    }
    return native;
}

static struct ibv_mr *make_mr(
    const struct mrp_verbs_device *device, const struct mrp_register_request *request)
{
    unsigned access = native_access(device, request);

    errno = 0;
    return request->has_dmabuf
        ? ibv_reg_dmabuf_mr(device->native.pd, request->dmabuf_offset, request->size,
              (uintptr_t)request->address, request->dmabuf_fd, (int)access)
        : ibv_reg_mr(device->native.pd, request->address, request->size, access);
}

/* A local key of 0 is a key like any other to verbs, but as a local descriptor it reads
 * "none needed". Keys differ while they live, so a second one is not 0. */
static struct ibv_mr *make_mr_with_key(
    const struct mrp_verbs_device *device, const struct mrp_register_request *request)
{
    struct ibv_mr *mr = make_mr(device, request), *second;
    int code;

    if (mr == NULL || mr->lkey != 0) {
        return mr;
    }
    second = make_mr(device, request);
    code = errno;
    ibv_dereg_mr(mr);
    errno = code;
    return second;
}

/* -- what went wrong -- */

/* The reason behind a code, as text, and the status it comes to. */
static enum mrp_status explain(char *text, size_t size,
    const struct mrp_verbs_device *device, const struct mrp_register_request *request,
    int code)
{
    struct mrp_system system = MRP_SYSTEM_INIT;
    size_t n_live = atomic_load(&device->n_live), pinned, limit;

    text[0] = '\0';
    if (code == EAGAIN) {
        snprintf(text, size,
            ": the rdma cgroup (rdma.max, hca_object) or the device allows no more, %zu "
            "registrations here; free some, or raise it",
            n_live);
        return MRP_ERR_LIMIT;
    }
    if (code != ENOMEM) {
        return MRP_ERR_REGISTER;
    }
    limit = mrp_system_query(&system) == MRP_OK ? system.memlock_limit : MRP_UNLIMITED;
    pinned = system.pinned_size;
    if (!device->on_demand && !request->has_dmabuf && limit != MRP_UNLIMITED &&
        request->size > limit - (pinned < limit ? pinned : limit)) {
        snprintf(text, size,
            ": %zu bytes of %zu pinned, no room for more; register less, or raise "
            "memlock (ulimit -l, LimitMEMLOCK=)",
            pinned, limit);
        return MRP_ERR_LIMIT;
    }
    snprintf(text, size,
        ": %zu bytes pinned, %zu registrations here, the device has %zu for all (0: "
        "unknown); register less, in larger pieces",
        pinned, n_live, device->max_mr);
    return MRP_ERR_MEMORY;
}

static enum mrp_status fail_register(
    struct mrp_verbs_device *device, const struct mrp_register_request *request, int code)
{
    const char *call = request->has_dmabuf ? "ibv_reg_dmabuf_mr" : "ibv_reg_mr";
    enum mrp_status status;
    char more[256];

    if (mrp_verbs_device_is_lost(device, code)) {
        return mrp_fail(MRP_ERR_UNAVAILABLE, code,
            "%s on %s: %s; the device failed or was taken out: close its provider and "
            "open another",
            call, device->name, strerror(code));
    }
    status = explain(more, sizeof(more), device, request, code);
    return mrp_fail(status, code, "%s on %s: %zu bytes at %p, access %#x: %s%s", call,
        device->name, request->size, request->address, request->access, strerror(code),
        more);
}

/* -- the slots -- */

enum mrp_status mrp_verbs_register_memory(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    struct mrp_verbs_device *device = state;
    enum mrp_status status = check_request(device, request);
    struct ibv_mr *mr;

    if (status != MRP_OK) {
        return status;
    }
    mr = make_mr_with_key(device, request);
    if (mr == NULL) {
        return fail_register(device, request, errno);
    }
    atomic_fetch_add(&device->n_live, 1);
    registration->native = mr;
    registration->local_desc = (void *)(uintptr_t)mr->lkey;
    registration->key_blob = NULL;
    registration->remote_key = 0;
    registration->key_size = 0;
    registration->remote_base = 0;
    if ((request->access & remote_rights) != 0) {
        registration->remote_key = mr->rkey;
        registration->key_size = sizeof(mr->rkey);
        registration->remote_base = (uintptr_t)request->address;
    }
    return MRP_OK;
}

/* Without memory for the note it stays until its context closes. */
static void keep_refused(struct mrp_verbs_device *device, struct ibv_mr *mr)
{
    struct mrp_verbs_refused *refused = malloc(sizeof(*refused));

    if (refused == NULL) {
        return;
    }
    refused->mr = mr;
    pthread_mutex_lock(&device->mutex);
    refused->next = device->refused;
    device->refused = refused;
    pthread_mutex_unlock(&device->mutex);
}

enum mrp_status mrp_verbs_deregister_memory(
    void *state, const struct mrp_registration *registration)
{
    struct mrp_verbs_device *device = state;
    int code = ibv_dereg_mr(registration->native);

    atomic_fetch_sub(&device->n_live, 1);
    if (code == 0) {
        return MRP_OK;
    }
    keep_refused(device, registration->native);
    if (mrp_verbs_device_is_lost(device, code)) {
        return mrp_fail(MRP_ERR_REGISTER, code,
            "ibv_dereg_mr on %s: %s; the device failed or was taken out: the memory "
            "stays until its provider is closed",
            device->name, strerror(code));
    }
    return mrp_fail(MRP_ERR_REGISTER, code, "ibv_dereg_mr on %s: %s%s", device->name,
        strerror(code),
        code == EBUSY || code == EINVAL
            ? "; a memory window may still be bound to it: unbind it first"
            : "");
}
