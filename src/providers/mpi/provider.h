/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One open provider: who may call MPI, the window, and what MPI_Alloc_mem gave.
 */
#ifndef MRP_MPI_PROVIDER_H
#define MRP_MPI_PROVIDER_H

#include "window.h"

/* Memory of MPI_Alloc_mem; under the window's mutex. */
struct mrp_mpi_allocation {
    void *start; /* what MPI gave */
    void *address; /* the first aligned byte of it */
    size_t size; /* bytes from there */
    bool is_owed; /* unmapped when MPI could not be called, or while attached */
    struct mrp_mpi_allocation *next;
};

struct mrp_mpi_provider {
    struct mrp_mpi_calls calls;
    struct mrp_mpi_window *window;
    struct mrp_mpi_allocation *allocations;
    size_t n_owed; /* allocations */
    char device[112];
    struct mrp_mpi_native native;
};

/* MPI and the window are there; `what` begins the sentence if the window is not. */
enum mrp_status mrp_mpi_check_window(
    const struct mrp_mpi_window *window, const char *what);

/* The calling thread may call MPI and holds what that takes: the caller's lock and the
 * window's mutex. What was owed to MPI is made good first. */
enum mrp_status mrp_mpi_enter(struct mrp_mpi_provider *provider, const char *what);

/* The same where MPI may be gone or the thread may not call it: *may_call says. Of what
 * was owed only memory that is attached is detached. */
void mrp_mpi_enter_anyway(struct mrp_mpi_provider *provider, bool *may_call);
void mrp_mpi_leave(struct mrp_mpi_provider *provider, bool may_call);

/* register.c: slots of the ops table */
enum mrp_status mrp_mpi_register_memory(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration);
enum mrp_status mrp_mpi_deregister_memory(
    void *state, const struct mrp_registration *registration);

/* memory.c: what the pool's memory can come from */
extern const struct mrp_backend_ops mrp_mpi_backend;

/* Free what is owed; under the window's mutex, on a thread that may call MPI. */
void mrp_mpi_free_owed(struct mrp_mpi_provider *provider);

/* Free, or forget, all of it. */
void mrp_mpi_free_all(struct mrp_mpi_provider *provider, bool may_call);

#endif
