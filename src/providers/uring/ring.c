/* SPDX-License-Identifier: BSD-3-Clause */
#include "ring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

/* -- calls of the kernel --
 *
 * Not through liburing: since 2.4 it registers by an index that belongs to one thread, if
 * the caller has registered the ring's descriptor, and then other threads' calls fail. */

static bool is_open(const struct mrp_uring_ring *ring)
{
    struct stat file;

    return fstat(ring->fd, &file) == 0 && file.st_dev == ring->device_number &&
        file.st_ino == ring->inode;
}

/* What the kernel returns, entries updated for one, or -errno. */
static int call_register(struct mrp_uring_ring *ring, unsigned operation,
    const void *argument, unsigned n_arguments)
{
    long result;
    int code;

    if (!is_open(ring)) {
        return -EBADF;
    }
    if (ring->lock != NULL) {
        ring->lock(ring->lock_arg);
    }
    result = syscall(SYS_io_uring_register, ring->fd, operation, argument, n_arguments);
    code = result >= 0 ? (int)result : -errno;
    if (ring->unlock != NULL) {
        ring->unlock(ring->lock_arg);
    }
    return code;
}

int mrp_uring_buffer_update(
    struct mrp_uring_ring *ring, unsigned slot, const struct iovec *buffer)
{
    const struct io_uring_rsrc_update2 update = {
        .offset = slot, .data = (uintptr_t)buffer, .nr = 1};
    int code = call_register(
        ring, IORING_REGISTER_BUFFERS_UPDATE, &update, (unsigned)sizeof(update));

    return code > 0 ? 0 : code;
}

/* What kernels before 5.19 have instead of a sparse table. */
static int make_table_of_nothing(struct mrp_uring_ring *ring, unsigned count)
{
    struct iovec *nothing = calloc(count, sizeof(*nothing));
    int code;

    if (nothing == NULL) {
        return -ENOMEM;
    }
    code = call_register(ring, IORING_REGISTER_BUFFERS, nothing, count);
    free(nothing);
    return code;
}

static int make_table(struct mrp_uring_ring *ring, unsigned count)
{
    const struct io_uring_rsrc_register table = {
        .nr = count, .flags = IORING_RSRC_REGISTER_SPARSE};
    int code =
        call_register(ring, IORING_REGISTER_BUFFERS2, &table, (unsigned)sizeof(table));

    return code == -EINVAL ? make_table_of_nothing(ring, count) : code;
}

static int empty_entries(struct mrp_uring_ring *ring, unsigned first, unsigned count)
{
    struct iovec *nothing = calloc(count, sizeof(*nothing));
    struct io_uring_rsrc_update2 update = {
        .offset = first, .data = (uintptr_t)nothing, .nr = count};
    int code = 0;

    if (nothing == NULL) {
        return -ENOMEM;
    }
    while (update.nr > 0) { /* the kernel may stop in the middle, and says where */
        code = call_register(
            ring, IORING_REGISTER_BUFFERS_UPDATE, &update, (unsigned)sizeof(update));
        if (code <= 0) {
            break;
        }
        update.offset += (unsigned)code;
        update.nr -= (unsigned)code;
    }
    free(nothing);
    return code > 0 ? 0 : code;
}

/* -- failures -- */

static int read_disabled(void)
{
    FILE *file = fopen("/proc/sys/kernel/io_uring_disabled", "re");
    int value = 0;

    if (file != NULL) {
        if (fscanf(file, "%d", &value) != 1) {
            value = 0;
        }
        fclose(file);
    }
    return value;
}

enum mrp_status mrp_uring_fail_setup(int code)
{
    struct utsname kernel = {.release = "?"};
    int disabled = read_disabled();

    uname(&kernel);
    if (code == -ENOSYS) {
        return mrp_fail(MRP_ERR_UNAVAILABLE, -code,
            "io_uring_setup: kernel %s has no io_uring, or a seccomp filter (a "
            "container's profile) hides it: allow io_uring_setup, io_uring_enter and "
            "io_uring_register there",
            kernel.release);
    }
    if (code == -EPERM && disabled != 0) {
        return mrp_fail(MRP_ERR_UNAVAILABLE, -code,
            "io_uring_setup: switched off by the sysctl kernel.io_uring_disabled = %d: "
            "set it to 0%s",
            disabled,
            disabled == 1 ? ", or join the group of kernel.io_uring_group" : "");
    }
    if (code == -EPERM || code == -EACCES) {
        return mrp_fail(MRP_ERR_UNAVAILABLE, -code,
            "io_uring_setup: %s, although kernel.io_uring_disabled is 0: a seccomp "
            "filter (a container's profile) or a security module forbids it",
            strerror(-code));
    }
    if (code == -EMFILE || code == -ENFILE) {
        return mrp_fail(MRP_ERR_LIMIT, -code,
            "io_uring_setup: %s: close some, or raise `ulimit -n`", strerror(-code));
    }
    return mrp_fail(MRP_ERR_UNAVAILABLE, -code, "io_uring_setup on kernel %s: %s%s",
        kernel.release, strerror(-code),
        code == -ENOMEM ? ": some kernels count the ring against memlock (ulimit -l): "
                          "raise it, or take fewer entries (MRPOOL_URING_ENTRIES)"
                        : "");
}

static enum mrp_status fail_table(
    const struct mrp_uring_ring *ring, unsigned count, int code)
{
    if (code == -EBUSY) {
        return mrp_fail(MRP_ERR_INVALID, -code,
            "ring fd %d has a table of fixed buffers already: leave a part of it empty "
            "and pass has_table, first and count",
            ring->fd);
    }
    if (code == -EEXIST) {
        return mrp_fail(MRP_ERR_AGAIN, -code,
            "ring fd %d has IORING_SETUP_SINGLE_ISSUER and belongs to another thread: "
            "wrap it in the thread that uses it",
            ring->fd);
    }
    return mrp_fail(code == -ENOMEM ? MRP_ERR_MEMORY : MRP_ERR_UNAVAILABLE, -code,
        "io_uring_register on ring fd %d: no table of %u fixed buffers: %s", ring->fd,
        count, strerror(-code));
}

static enum mrp_status fail_take(
    const struct mrp_uring_ring *ring, unsigned first, unsigned count, int code)
{
    if (code == -ENXIO) {
        return mrp_fail(MRP_ERR_INVALID, -code,
            "ring fd %d has no table of fixed buffers: register one "
            "(io_uring_register_buffers_sparse), or leave has_table false",
            ring->fd);
    }
    if (code == -EINVAL) {
        return mrp_fail(MRP_ERR_INVALID, -code,
            "ring fd %d: entries %u to %u are not all in its table of fixed buffers",
            ring->fd, first, first + count - 1);
    }
    return fail_table(ring, count, code);
}

/* -- the table -- */

enum mrp_status mrp_uring_table_make(struct mrp_uring_ring *ring, unsigned count)
{
    int code = make_table(ring, count);

    if (code != 0) {
        return fail_table(ring, count, code);
    }
    ring->made_table = true;
    return MRP_OK;
}

enum mrp_status mrp_uring_table_take(
    struct mrp_uring_ring *ring, unsigned first, unsigned count)
{
    int code = empty_entries(ring, first, count);

    if (code != 0) {
        return fail_take(ring, first, count, code);
    }
    ring->free_slots = calloc(count, sizeof(*ring->free_slots));
    ring->late_slots = calloc(count, sizeof(*ring->late_slots));
    if (ring->free_slots == NULL || ring->late_slots == NULL) {
        return mrp_fail(
            MRP_ERR_MEMORY, ENOMEM, "no memory for a list of %u fixed buffers", count);
    }
    for (unsigned i = 0; i < count; i++) {
        ring->free_slots[i] = first + i;
    }
    ring->n_free = count;
    ring->first = first;
    ring->count = count;
    ring->native =
        (struct mrp_uring_native){sizeof(ring->native), ring->ring, first, count};
    snprintf(ring->device, sizeof(ring->device), "io_uring fd %d, %u buffers", ring->fd,
        count);
    return MRP_OK;
}

/* -- the ring -- */

struct mrp_uring_ring *mrp_uring_ring_create(void)
{
    struct mrp_uring_ring *ring = calloc(1, sizeof(*ring));

    if (ring == NULL) {
        mrp_fail(MRP_ERR_MEMORY, ENOMEM, "no memory for a ring's record");
        return NULL;
    }
    pthread_mutex_init(&ring->mutex, NULL);
    ring->fd = -1;
    return ring;
}

enum mrp_status mrp_uring_ring_attach(struct mrp_uring_ring *ring, struct io_uring *made)
{
    struct utsname kernel = {.release = "?"};
    struct stat file;

    if (fstat(made->ring_fd, &file) != 0) {
        return mrp_fail(MRP_ERR_INVALID, errno,
            "ring fd %d is not open: pass a ring that io_uring_queue_init has set up",
            made->ring_fd);
    }
    if ((made->features & IORING_FEAT_RSRC_TAGS) == 0) {
        uname(&kernel);
        return mrp_fail(MRP_ERR_UNAVAILABLE, 0,
            "kernel %s cannot replace single fixed buffers of a ring (features %#x "
            "without IORING_FEAT_RSRC_TAGS): Linux 5.13 can",
            kernel.release, made->features);
    }
    ring->ring = made;
    ring->fd = made->ring_fd;
    ring->device_number = file.st_dev;
    ring->inode = file.st_ino;
    return MRP_OK;
}

enum mrp_status mrp_uring_ring_open(
    unsigned n_entries, unsigned n_buffers, struct mrp_uring_ring **opened)
{
    struct mrp_uring_ring *ring = mrp_uring_ring_create();
    enum mrp_status status;
    int code;

    if (ring == NULL) {
        return MRP_ERR_MEMORY;
    }
    code = io_uring_queue_init(n_entries, &ring->own, 0);
    if (code != 0) {
        mrp_uring_ring_destroy(ring);
        return mrp_uring_fail_setup(code);
    }
    ring->is_own = true;
    status = mrp_uring_ring_attach(ring, &ring->own);
    if (status == MRP_OK) {
        status = mrp_uring_table_make(ring, n_buffers);
    }
    if (status == MRP_OK) {
        status = mrp_uring_table_take(ring, 0, n_buffers);
    }
    if (status != MRP_OK) {
        mrp_uring_ring_destroy(ring);
        return status;
    }
    *opened = ring;
    return MRP_OK;
}

/* A caller's table stays, with our entries empty. */
static void leave_table(struct mrp_uring_ring *ring)
{
    const struct iovec nothing = {NULL, 0};

    if (ring->made_table) {
        (void)call_register(ring, IORING_UNREGISTER_BUFFERS, NULL, 0);
        return;
    }
    for (unsigned i = 0; i < ring->n_late; i++) {
        (void)mrp_uring_buffer_update(ring, ring->late_slots[i], &nothing);
    }
}

void mrp_uring_ring_destroy(struct mrp_uring_ring *ring)
{
    if (ring->is_own) {
        io_uring_queue_exit(&ring->own);
    } else if (ring->ring != NULL) {
        leave_table(ring);
    }
    free(ring->free_slots);
    free(ring->late_slots);
    pthread_mutex_destroy(&ring->mutex);
    free(ring);
}
