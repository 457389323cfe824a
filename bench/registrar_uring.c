/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Registration per message with io_uring alone: a fixed buffer is put into the ring's
 * table and taken out again, as a program with zero-copy sends would without mrpool. It
 * pins for real, so it stands for a NIC where there is none.
 */
#ifdef HAVE_URING
#include "registrar.h"

#include "units.h"

#include <liburing.h>
#include <stdlib.h>
#include <string.h>

/* Buffers at once: a batch of the benchmark is smaller. */
#define N_BUFFERS 1024

struct uring_state {
    struct io_uring ring;
    unsigned free_slots[N_BUFFERS];
    size_t n_free;
};

static enum mrp_status fail_uring(const char *call, int code)
{
    return mrp_fail(MRP_ERR_UNAVAILABLE, -code, "%s: %s", call, strerror(-code));
}

static enum mrp_status uring_open(const char *options, void **opened)
{
    struct uring_state *state = calloc(1, sizeof *state);
    int code;

    (void)options;
    if (state == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "no memory for a ring");
    }
    code = io_uring_queue_init(8, &state->ring, 0);
    if (code != 0) {
        free(state);
        return fail_uring("io_uring_queue_init", code);
    }
    code = io_uring_register_buffers_sparse(&state->ring, N_BUFFERS);
    if (code != 0) {
        io_uring_queue_exit(&state->ring);
        free(state);
        return fail_uring("io_uring_register_buffers_sparse", code);
    }
    for (unsigned i = 0; i < N_BUFFERS; i++) {
        state->free_slots[state->n_free++] = i;
    }
    *opened = state;
    return MRP_OK;
}

static void uring_close(void *opaque)
{
    struct uring_state *state = opaque;

    io_uring_queue_exit(&state->ring);
    free(state);
}

static int put(struct uring_state *state, unsigned slot, void *address, size_t size)
{
    const struct iovec buffer = {address, size};

    return io_uring_register_buffers_update_tag(&state->ring, slot, &buffer, NULL, 1);
}

static enum mrp_status uring_register(
    void *opaque, void *address, size_t size, void **handle)
{
    struct uring_state *state = opaque;
    unsigned *slot;
    int code;

    if (state->n_free == 0) {
        return mrp_fail(MRP_ERR_LIMIT, 0, "all %d fixed buffers are taken", N_BUFFERS);
    }
    slot = &state->free_slots[state->n_free - 1];
    code = put(state, *slot, address, size);
    if (code < 0) {
        return mrp_fail(MRP_ERR_REGISTER, -code, "a fixed buffer of %s: %s",
            bench_size_text(size).text, strerror(-code));
    }
    *handle = (void *)(uintptr_t)*slot;
    state->n_free--;
    return MRP_OK;
}

static enum mrp_status uring_deregister(
    void *opaque, void *address, size_t size, void *handle)
{
    struct uring_state *state = opaque;
    unsigned slot = (unsigned)(uintptr_t)handle;
    int code = put(state, slot, NULL, 0);

    (void)address;
    if (code < 0) {
        return mrp_fail(MRP_ERR_REGISTER, -code, "taking out a fixed buffer of %s: %s",
            bench_size_text(size).text, strerror(-code));
    }
    state->free_slots[state->n_free++] = slot;
    return MRP_OK;
}

const struct bench_registrar bench_registrar_uring = {"uring",
    "io_uring_register_buffers_update_tag", uring_open, uring_close, uring_register,
    uring_deregister};
#else
typedef int bench_registrar_uring_not_built; /* ISO C wants something in a file */
#endif
