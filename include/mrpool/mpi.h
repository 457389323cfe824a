/* SPDX-License-Identifier: BSD-3-Clause
 *
 * MPI: a provider on the caller's communicator or window. Over MPI_COMM_WORLD and with
 * the settings' defaults, mrp_provider_open(context, MRP_MPI_MODULE, ...) does the same;
 * that needs no header but provider.h.
 *
 * MPI is the caller's: initialised before the provider is opened, and finalized after it
 * is closed. What the provider makes itself, it makes and frees with all ranks together:
 * opening and closing are then collective, and block.
 */
#ifndef MRPOOL_MPI_H
#define MRPOOL_MPI_H

#include "mrpool/provider.h"

#include <mpi.h>

#ifdef __cplusplus
extern "C" {
#endif

/** The module for the MPI whose header this program was compiled with: MPI has no common
 *  ABI. Everything that is not Open MPI is taken to have that of MPICH (MVAPICH, Intel
 *  MPI, Cray MPI). */
#ifdef OPEN_MPI
#define MRP_MPI_MODULE "mpi"
#else
#define MRP_MPI_MODULE "mpich"
#endif

/** The caller's communicator or window.
 *
 *  A window of MPI_Win_create_dynamic: registered memory is attached to it, and peers
 *  address it by virtual address, as MPI_Get_address gives it. Several providers may wrap
 *  one window; they share its attachments. What the caller attaches itself has to be
 *  taken off the limit with the option max_attach.
 *
 *  A window with memory of its own, of displacement unit 1: only memory inside it can be
 *  registered for remote access, and peers address it by displacement. mrp_provider_backend
 *  carves the whole of it, so its memory must not be used otherwise.
 *
 *  A remote key is the rank, in the window's group, of who registered. MPI knows no rights
 *  below those of the window: memory registered for remote reading can be written, too.
 *  Synchronisation of the window (MPI_Win_lock_all, MPI_Win_flush, ...) is the caller's.
 *
 *  Threads: with MPI_THREAD_MULTIPLE, any. With MPI_THREAD_SERIALIZED any, given the lock
 *  pair that all of the process' MPI calls are made under, or else only the thread that
 *  opened the provider. With FUNNELED and SINGLE only the main thread. Elsewhere
 *  registering is MRP_ERR_AGAIN; deregistering fails, and is made good by the next call on
 *  a thread that may. The lock is not taken recursively: do not call the pool with it held. */
struct mrp_mpi_wrap_params {
    size_t struct_size;
    /** with win MPI_WIN_NULL: the provider duplicates it and makes its own window on that.
     *  MPI_COMM_NULL: MPI_COMM_WORLD. Ignored with a window. Zero is as good as null */
    MPI_Comm comm;
    MPI_Win win; /**< stays the caller's; outlives the provider */
    const char *options; /**< as mrp_provider_params.options: "window=allocated" */
    void (*lock)(void *lock_arg); /**< taken round every MPI call; both or none */
    void (*unlock)(void *lock_arg);
    void *lock_arg;
};
#define MRP_MPI_WRAP_PARAMS_INIT \
    { \
        sizeof(struct mrp_mpi_wrap_params), MPI_COMM_NULL, MPI_WIN_NULL, NULL, NULL, \
            NULL, NULL \
    }

/** What mrp_provider_native gives for this module: where to send MPI_Put, MPI_Get and the
 *  accumulates. */
struct mrp_mpi_native {
    size_t struct_size;
    MPI_Comm comm; /**< the provider's duplicate; MPI_COMM_NULL for a wrapped window */
    /** of the provider's own: with MPI_ERRORS_RETURN, so check what MPI_Put and
     *  MPI_Win_flush return; it is the provider's to free */
    MPI_Win win;
    int rank, n_ranks; /**< of this process in the window's group, and its size */
    bool is_dynamic; /**< addresses are virtual; otherwise displacements */
    void *base; /**< of the window's own memory; NULL for a dynamic one */
    size_t size; /**< bytes of it in this process */
};

/** A provider on the caller's communicator or window.
 *  @return as mrp_provider_open; MRP_ERR_INVALID for params that do not fit (a lock without
 *  unlock, an intercommunicator), MRP_ERR_UNSUPPORTED for a window whose displacement unit
 *  is not 1. Collective over the communicator without a window, local with one. */
static inline enum mrp_status mrp_mpi_provider_wrap(struct mrp_context *context,
    const char *name, const struct mrp_mpi_wrap_params *params,
    struct mrp_provider **provider)
{
    struct mrp_provider_params open_params = MRP_PROVIDER_PARAMS_INIT;

    if (params == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "params is NULL: pass a communicator or a window in a mrp_mpi_wrap_params");
    }
    open_params.name = name;
    open_params.options = params->options;
    open_params.native = params;
    return mrp_provider_open(context, MRP_MPI_MODULE, &open_params, provider);
}

#ifdef __cplusplus
}
#endif
#endif
