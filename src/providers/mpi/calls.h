/* SPDX-License-Identifier: BSD-3-Clause
 *
 * When MPI may be called: which library it is, whether it is up, on which threads, under
 * which lock, and what becomes of its errors.
 */
#ifndef MRP_MPI_CALLS_H
#define MRP_MPI_CALLS_H

#include "mrpool/mpi.h"

#include <pthread.h>

#ifdef OPEN_MPI
#define MRP_MPI_SETTING(key) "MRPOOL_MPI_" key
#else
#define MRP_MPI_SETTING(key) "MRPOOL_MPICH_" key
#endif

/* Who may call MPI, and under what. */
struct mrp_mpi_calls {
    int level; /* as MPI_Query_thread says */
    pthread_t opener;
    void (*lock)(void *lock_arg); /* NULL: none */
    void (*unlock)(void *lock_arg);
    void *lock_arg;
};

/* "Open MPI v4.1.4": of the library whose functions this module has been bound to. */
void mrp_mpi_library_name(char *name, size_t size);

/* That library is of the kind this module was compiled for. */
enum mrp_status mrp_mpi_check_library(void);

/* MPI is initialised, and not finalized. */
bool mrp_mpi_is_up(void);
enum mrp_status mrp_mpi_check_up(void);

/* The thread level, and the calling thread as the opener. */
void mrp_mpi_calls_init(struct mrp_mpi_calls *calls);

/* The calling thread may call MPI; `what` begins the sentence if not. */
bool mrp_mpi_is_allowed(const struct mrp_mpi_calls *calls);
enum mrp_status mrp_mpi_check_thread(const struct mrp_mpi_calls *calls, const char *what);

static inline void mrp_mpi_lock(const struct mrp_mpi_calls *calls)
{
    if (calls->lock != NULL) {
        calls->lock(calls->lock_arg);
    }
}

static inline void mrp_mpi_unlock(const struct mrp_mpi_calls *calls)
{
    if (calls->unlock != NULL) {
        calls->unlock(calls->lock_arg);
    }
}

/* MPI's words for a code of its own, in one line. */
void mrp_mpi_error_text(int code, char *text, size_t size);

/* Calls that report to an error handler of the caller's, which aborts unless it was
 * changed: for the time of the call it is MPI_ERRORS_RETURN. */
int mrp_mpi_alloc_mem(size_t size, void **address);
int mrp_mpi_free_mem(void *address);
int mrp_mpi_comm_dup(MPI_Comm comm, MPI_Comm *duplicate);

#endif
