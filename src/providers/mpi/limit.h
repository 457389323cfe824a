/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How many attachments a dynamic window takes.
 */
#ifndef MRP_MPI_LIMIT_H
#define MRP_MPI_LIMIT_H

#include <stddef.h>

/* The control variable of Open MPI's one-sided component that says so. */
#define MRP_MPI_LIMIT_VARIABLE "osc_rdma_max_attach"

/* Its value; 0 where there is none (MPICH, or a component without a limit). */
size_t mrp_mpi_attach_limit(void);

#endif
