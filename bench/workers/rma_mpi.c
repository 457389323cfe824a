/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench rma over MPI, whose launcher starts both processes. The window is dynamic:
 * registering a buffer is attaching it. Buffers that messages are sent from need not be;
 * a program that lets its peers reach them as well attaches them.
 */
#include "rma.h"

#include "mrpool/mpi.h"

static const struct mrp_mpi_native *native;
static bool is_locked;

static bool mpi_check(const char *call, int code)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length;

    if (code != MPI_SUCCESS) {
        MPI_Error_string(code, text, &length);
    }
    return code == MPI_SUCCESS || complain("%s: %s", call, text);
}

static bool begin(struct rma *rma, int *argc, char ***argv)
{
    int level, rank, n_ranks;

    if (!mpi_check("MPI_Init_thread",
            MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &level)) ||
        !mpi_check("MPI_Comm_rank", MPI_Comm_rank(MPI_COMM_WORLD, &rank)) ||
        !mpi_check("MPI_Comm_size", MPI_Comm_size(MPI_COMM_WORLD, &n_ranks))) {
        return false;
    }
    rma->is_server = rank == 0;
    return n_ranks == 2 || complain("%d ranks: start 2", n_ranks);
}

static bool share_port(struct rma *rma, unsigned *port)
{
    (void)rma;
    return mpi_check("MPI_Bcast", MPI_Bcast(port, 1, MPI_UNSIGNED, 0, MPI_COMM_WORLD));
}

/* MPI serves the peer's messages in calls of its own. */
static void progress(void *unused)
{
    int is_there;

    (void)unused;
    MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &is_there, MPI_STATUS_IGNORE);
}

static const char *unregistered(void)
{
    return "sends from any buffer";
}

static bool open_mpi(struct rma *rma)
{
    struct mrp_mpi_wrap_params params = MRP_MPI_WRAP_PARAMS_INIT;
    const void *found = NULL;

    params.comm = MPI_COMM_WORLD;
    if (mrp_mpi_provider_wrap(rma->context, NULL, &params, &rma->provider) != MRP_OK ||
        mrp_provider_native(rma->provider, &found) != MRP_OK) {
        return complain("provider: %s", mrp_error_last()->text);
    }
    native = found;
    rma->peer.progress = progress;
    is_locked = mpi_check("MPI_Win_lock_all", MPI_Win_lock_all(0, native->win));
    return is_locked;
}

static bool post(
    struct rma *rma, bool is_get, const struct rma_buffer *buffer, size_t size)
{
    MPI_Aint displacement = (MPI_Aint)rma->target.address;
    int rank = (int)rma->target.key, n = (int)size;

    return is_get ? mpi_check("MPI_Get",
                        MPI_Get(buffer->address, n, MPI_BYTE, rank, displacement, n,
                            MPI_BYTE, native->win))
                  : mpi_check("MPI_Put",
                        MPI_Put(buffer->address, n, MPI_BYTE, rank, displacement, n,
                            MPI_BYTE, native->win));
}

static bool finish(struct rma *rma, size_t n_posted, bool is_get)
{
    (void)n_posted;
    (void)is_get;
    return mpi_check("MPI_Win_flush", MPI_Win_flush((int)rma->target.key, native->win));
}

static bool register_buffer(struct rma *rma, struct rma_buffer *buffer, size_t size)
{
    (void)rma;
    return mpi_check(
        "MPI_Win_attach", MPI_Win_attach(native->win, buffer->address, (MPI_Aint)size));
}

static bool deregister_buffer(struct rma *rma, struct rma_buffer *buffer)
{
    (void)rma;
    return mpi_check("MPI_Win_detach", MPI_Win_detach(native->win, buffer->address));
}

static void quiet(struct rma *rma)
{
    (void)rma;
    if (is_locked) {
        (void)mpi_check("MPI_Win_unlock_all", MPI_Win_unlock_all(native->win));
    }
}

static void close_mpi(struct rma *rma)
{
    (void)rma;
    MPI_Finalize();
}

static void describe(char *text, size_t size)
{
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int length;

    MPI_Get_library_version(version, &length);
    for (char *next = version; *next != '\0'; next++) {
        *next = *next == '\t' ? ' ' : *next; /* MPICH's: a table of lines */
    }
    snprintf(text, size, "%.*s, dynamic window", (int)strcspn(version, ",\n"), version);
}

static const struct rma_network rma_network = {
    .unregistered = unregistered,
    .begin = begin,
    .share_port = share_port,
    .open = open_mpi,
    .post = post,
    .finish = finish,
    .register_buffer = register_buffer,
    .deregister_buffer = deregister_buffer,
    .quiet = quiet,
    .close = close_mpi,
    .describe = describe,
};

#include "rma_main.h"
