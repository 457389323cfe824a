/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A ring whose fixed buffers are registrations: one of our own (ring.c) or the caller's
 * (wrap.c).
 */
#ifndef MRP_URING_RING_H
#define MRP_URING_RING_H

#include "mrpool/provider.h"
#include "mrpool/uring.h"

#include <liburing.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/uio.h>

/* Limits of the kernel: IORING_MAX_REG_BUFFERS, and SZ_1G in io_buffer_validate. */
#define MRP_URING_BUFFERS_MAX 16384
#define MRP_URING_BUFFER_SIZE_MAX ((size_t)1 << 30)
#define MRP_URING_BUFFERS_DEFAULT 1024

struct mrp_uring_ring {
    struct io_uring own; /* when is_own */
    struct io_uring *ring; /* &own or the caller's */
    bool is_own;
    bool made_table;
    /* Copies, so that a ring which the caller has closed is noticed: the number may be
     * another file's by then, which the inode tells. */
    int fd;
    dev_t device_number;
    ino_t inode;

    void (*lock)(void *lock_arg); /* NULL: none */
    void (*unlock)(void *lock_arg);
    void *lock_arg;

    unsigned first, count; /* our entries of the table */

    /* Under `mutex`, indices of our entries. The free ones are a queue: one that was
     * given back is the last to be used again, so that a request which still names it
     * fails rather than finds other memory. */
    pthread_mutex_t mutex;
    unsigned *free_slots; /* room for count */
    unsigned free_first, n_free;
    /* Given back by a thread that the kernel lets register nothing: still pinned. */
    unsigned *late_slots;
    unsigned n_late;

    char device[96]; /* "io_uring fd 5, 1024 buffers" */
    struct mrp_uring_native native;
};

/* Set up a ring of our own with a table of `n_buffers`. */
enum mrp_status mrp_uring_ring_open(
    unsigned n_entries, unsigned n_buffers, struct mrp_uring_ring **ring);

/* Use the caller's. */
enum mrp_status mrp_uring_ring_wrap(
    const struct mrp_uring_wrap_params *params, struct mrp_uring_ring **ring);

/* Frees what open, wrap and attach made; a wrapped ring stays open. */
void mrp_uring_ring_destroy(struct mrp_uring_ring *ring);

/* For open and wrap: a state around a ring that is set up, without entries yet; NULL
 * with the reason recorded. */
struct mrp_uring_ring *mrp_uring_ring_create(void);
enum mrp_status mrp_uring_ring_attach(struct mrp_uring_ring *ring, struct io_uring *made);

/* Register an empty table of `count` entries. */
enum mrp_status mrp_uring_table_make(struct mrp_uring_ring *ring, unsigned count);

/* Entries first to first + count - 1 of the table are ours from now on, and empty. */
enum mrp_status mrp_uring_table_take(
    struct mrp_uring_ring *ring, unsigned first, unsigned count);

/* Put a buffer into an entry, or nothing (base NULL, length 0); 0 or -errno, -EBADF when
 * the ring has been closed. */
int mrp_uring_buffer_update(
    struct mrp_uring_ring *ring, unsigned slot, const struct iovec *buffer);

/* Why io_uring_setup(2) failed with that -errno. */
enum mrp_status mrp_uring_fail_setup(int code);

#endif
