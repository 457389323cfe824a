/* SPDX-License-Identifier: BSD-3-Clause */
#include "register.h"

#include "ring.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

static const struct iovec nothing = {NULL, 0};

/* -- what is refused before the kernel sees it -- */

static enum mrp_status check_request(
    const struct mrp_uring_ring *ring, const struct mrp_register_request *request)
{
    if (request->has_dmabuf) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "%s: fixed buffers are host memory, not a dma-buf", ring->device);
    }
    if (request->native_flags != 0) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "%s: native_flags %#llx, but fixed buffers know none", ring->device,
            (unsigned long long)request->native_flags);
    }
    return MRP_OK;
}

/* -- entries of the table -- */

static bool slot_take(struct mrp_uring_ring *ring, unsigned *slot)
{
    bool has_free;

    pthread_mutex_lock(&ring->mutex);
    has_free = ring->n_free > 0;
    if (has_free) {
        *slot = ring->free_slots[ring->free_first];
        ring->free_first = (ring->free_first + 1) % ring->count;
        ring->n_free--;
    }
    pthread_mutex_unlock(&ring->mutex);
    return has_free;
}

static void slot_give(struct mrp_uring_ring *ring, unsigned slot, bool is_late)
{
    pthread_mutex_lock(&ring->mutex);
    if (is_late) {
        ring->late_slots[ring->n_late++] = slot;
    } else {
        ring->free_slots[(ring->free_first + ring->n_free++) % ring->count] = slot;
    }
    pthread_mutex_unlock(&ring->mutex);
}

static bool late_take(struct mrp_uring_ring *ring, unsigned *slot)
{
    bool has_late;

    pthread_mutex_lock(&ring->mutex);
    has_late = ring->n_late > 0;
    if (has_late) {
        *slot = ring->late_slots[--ring->n_late];
    }
    pthread_mutex_unlock(&ring->mutex);
    return has_late;
}

/* The ring was closed, or its table taken away: the buffers went with it. */
static bool is_given_up(int code)
{
    return code == -EBADF || code == -ENXIO;
}

/* Empty what stayed when it was given back; 0, or why the kernel refuses: we are not the
 * thread that may, or it has no memory. The caller's lock is taken in here, so ours is
 * not held: whoever waits for ours may hold the caller's. */
static int release_late(struct mrp_uring_ring *ring)
{
    unsigned slot;

    while (late_take(ring, &slot)) {
        int code = mrp_uring_buffer_update(ring, slot, &nothing);
        bool stays = code != 0 && !is_given_up(code);

        slot_give(ring, slot, stays);
        if (stays) {
            return code;
        }
    }
    return 0;
}

/* -- what went wrong -- */

/* io_uring counts against RLIMIT_MEMLOCK what all rings of the user pin, in every
 * process, and with some kernels the rings themselves, unless the process had
 * CAP_IPC_LOCK when it set the ring up. */
static enum mrp_status fail_memory(
    const struct mrp_uring_ring *ring, const struct mrp_register_request *request)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    struct mrp_system system = MRP_SYSTEM_INIT;
    char text[24] = "unlimited";

    (void)mrp_system_query(&system);
    getrlimit(RLIMIT_MEMLOCK, &limit);
    if (limit.rlim_cur != RLIM_INFINITY) {
        snprintf(text, sizeof(text), "%llu", (unsigned long long)limit.rlim_cur);
    }
    return mrp_fail(limit.rlim_cur != RLIM_INFINITY ? MRP_ERR_LIMIT : MRP_ERR_MEMORY,
        ENOMEM,
        "%s: no memory to pin %zu bytes at %p; %zu pinned by this process (VmPin), "
        "RLIMIT_MEMLOCK is %s for the rings of all processes of the user together. "
        "Register less, or raise it: `ulimit -l`, LimitMEMLOCK= of the systemd unit, "
        "--ulimit memlock= of the container; or set the ring up with CAP_IPC_LOCK",
        ring->device, request->size, request->address, system.pinned_size, text);
}

static enum mrp_status fail_update(const struct mrp_uring_ring *ring,
    const struct mrp_register_request *request, int code)
{
    switch (code) {
    case -ENOMEM:
        return fail_memory(ring, request);
    case -EBADF:
        return mrp_fail(MRP_ERR_UNAVAILABLE, -code,
            "%s: the ring has been closed: close the provider before it", ring->device);
    case -ENXIO:
        return mrp_fail(MRP_ERR_UNAVAILABLE, -code,
            "%s: the ring's table of fixed buffers has been taken away: call "
            "io_uring_unregister_buffers after the provider is closed",
            ring->device);
    case -EEXIST:
        return mrp_fail(MRP_ERR_AGAIN, -code,
            "%s: %zu bytes at %p: the ring has IORING_SETUP_SINGLE_ISSUER, so only the "
            "thread it belongs to may register: grow the pool there (preallocation), or "
            "set the ring up without that flag",
            ring->device, request->size, request->address);
    case -EFAULT:
        return mrp_fail(MRP_ERR_INVALID, -code,
            "%s: %zu bytes at %p are not all mapped, writable and pinnable: fixed "
            "buffers are pinned for writing, whatever access is asked for",
            ring->device, request->size, request->address);
    case -EOPNOTSUPP:
        return mrp_fail(MRP_ERR_UNSUPPORTED, -code,
            "%s: %zu bytes at %p are memory of a file: the kernel pins anonymous and "
            "shared memory and huge pages",
            ring->device, request->size, request->address);
    default:
        return mrp_fail(MRP_ERR_REGISTER, -code,
            "io_uring_register on %s: %zu bytes at %p: %s", ring->device, request->size,
            request->address, strerror(-code));
    }
}

/* -- the slots -- */

enum mrp_status mrp_uring_register_memory(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    const struct iovec buffer = {request->address, request->size};
    struct mrp_uring_ring *ring = state;
    enum mrp_status status = check_request(ring, request);
    unsigned slot = 0;
    int code;

    if (status != MRP_OK) {
        return status;
    }
    code = release_late(ring);
    if (!slot_take(ring, &slot)) {
        if (code == -EEXIST) { /* there are some, for the ring's thread to empty */
            return fail_update(ring, request, code);
        }
        return mrp_fail(MRP_ERR_LIMIT, 0,
            "%s: all %u entries of the buffer table are taken: deregister some, or give "
            "the provider more (MRPOOL_URING_BUFFERS, count of the wrap; the kernel's "
            "limit is %d)",
            ring->device, ring->count, MRP_URING_BUFFERS_MAX);
    }
    code = mrp_uring_buffer_update(ring, slot, &buffer);
    if (code != 0) {
        slot_give(ring, slot, false);
        return fail_update(ring, request, code);
    }
    *registration = (struct mrp_registration){
        .struct_size = registration->struct_size,
        .native = (void *)((uintptr_t)slot + 1),
        .local_desc = (void *)((uintptr_t)slot + 1),
    };
    return MRP_OK;
}

/* An entry that could not be emptied is tried again, by close at the latest. */
enum mrp_status mrp_uring_deregister_memory(
    void *state, const struct mrp_registration *registration)
{
    struct mrp_uring_ring *ring = state;
    unsigned slot = (unsigned)((uintptr_t)registration->native - 1);
    int code = mrp_uring_buffer_update(ring, slot, &nothing);

    slot_give(ring, slot, code != 0 && !is_given_up(code));
    if (code == 0) {
        (void)release_late(ring);
    }
    if (code == 0 || code == -EEXIST || is_given_up(code)) {
        return MRP_OK;
    }
    return mrp_fail(MRP_ERR_REGISTER, -code,
        "io_uring_register on %s: buffer %u stays registered: %s", ring->device, slot,
        strerror(-code));
}
