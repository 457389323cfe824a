/* SPDX-License-Identifier: BSD-3-Clause
 *
 * io_uring: a provider whose registrations are fixed buffers of the caller's ring. To let
 * mrpool set up a ring of its own, use mrp_provider_open(context, "uring", ...) instead;
 * mrp_provider_native then shows it, for requests that use the buffers.
 *
 * A request names a region by its address and its buffer index:
 *
 *     mrp_region_local_desc(region, rail, &desc);
 *     io_uring_prep_send_zc_fixed(sqe, socket, mrp_region_address(region), size, 0, 0,
 *         mrp_uring_index(desc));
 *
 * Free a region when its request is over, not before: for a zero-copy send that is the
 * second completion, the one with IORING_CQE_F_NOTIF.
 */
#ifndef MRPOOL_URING_H
#define MRPOOL_URING_H

#include "mrpool/provider.h"

#ifdef __cplusplus
extern "C" {
#endif

struct io_uring; /* of <liburing.h>, which not every includer of this header needs */

/** The caller's ring, and the part of its table of fixed buffers that is the provider's.
 *
 *  Threads: the kernel lets any thread register, at any time, beside requests, so no lock
 *  is needed. Not so a ring with IORING_SETUP_SINGLE_ISSUER: registering from a thread
 *  other than the ring's is MRP_ERR_AGAIN (pools grow in the thread that runs dry,
 *  so let only that thread allocate, or preallocate there); what other threads deregister
 *  stays pinned until the ring's thread next registers or deregisters.
 *
 *  Close the ring after the provider, and end the requests that use its buffers before:
 *  closing takes a table of the provider's own away, for which kernels before 6.13 wait
 *  until the last of them is over. A ring that is closed before gives up its buffers by
 *  itself, as does one whose table the caller takes away; registering with either is
 *  MRP_ERR_UNAVAILABLE from then on. */
struct mrp_uring_wrap_params {
    size_t struct_size;
    struct io_uring *ring; /**< stays the caller's; outlives the provider */
    /** has_table: the caller has registered a table (io_uring_register_buffers_sparse),
     *  and entries first to first + count - 1 are the provider's alone: it empties them.
     *  Otherwise the provider registers one, and takes it away when it closes */
    bool has_table;
    unsigned first; /**< 0 without has_table */
    unsigned count; /**< 1 to 16384; 0 without has_table: 1024 */
    /** taken round every registering call, not recursively: do not call the pool with it
     *  held. Both or none */
    void (*lock)(void *lock_arg);
    void (*unlock)(void *lock_arg);
    void *lock_arg;
};
#define MRP_URING_WRAP_PARAMS_INIT \
    { \
        sizeof(struct mrp_uring_wrap_params), NULL, false, 0, 0, NULL, NULL, NULL \
    }

/** What mrp_provider_native gives for this module. Of a ring that the provider has set up
 *  the caller may use everything but the buffer table, from one thread at a time. */
struct mrp_uring_native {
    size_t struct_size;
    struct io_uring *ring;
    unsigned first, count; /**< the provider's entries of the buffer table */
};

/** The buffer index (buf_index of a request) in a local descriptor of this module, which
 *  is the index plus one, so that it is never NULL. */
static inline int mrp_uring_index(const void *local_desc)
{
    return (int)((uintptr_t)local_desc - 1);
}

/** A provider on the caller's ring. The only calls made on it are io_uring_register(2)
 *  with IORING_REGISTER_BUFFERS2 (before Linux 5.19 then IORING_REGISTER_BUFFERS),
 *  IORING_REGISTER_BUFFERS_UPDATE and IORING_UNREGISTER_BUFFERS; nothing is submitted, and no completion comes of it.
 *  @return as mrp_provider_open; MRP_ERR_INVALID for params that do not fit the ring. */
static inline enum mrp_status mrp_uring_provider_wrap(struct mrp_context *context,
    const char *name, const struct mrp_uring_wrap_params *params,
    struct mrp_provider **provider)
{
    struct mrp_provider_params open_params = MRP_PROVIDER_PARAMS_INIT;

    if (params == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "params is NULL: pass the ring in a mrp_uring_wrap_params");
    }
    open_params.name = name;
    open_params.native = params;
    return mrp_provider_open(context, "uring", &open_params, provider);
}

#ifdef __cplusplus
}
#endif
#endif
