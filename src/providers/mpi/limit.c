/* SPDX-License-Identifier: BSD-3-Clause */
#include "limit.h"

#include <mpi.h>

static size_t read_count(int index)
{
    MPI_T_cvar_handle handle;
    unsigned value = 0;
    int count = 0;

    if (MPI_T_cvar_handle_alloc(index, NULL, &handle, &count) != MPI_SUCCESS) {
        return 0;
    }
    if (count != 1 || MPI_T_cvar_read(handle, &value) != MPI_SUCCESS) {
        value = 0;
    }
    MPI_T_cvar_handle_free(&handle);
    return value;
}

static int has_type(int index, MPI_Datatype wanted)
{
    int verbosity, bind, scope, name_size = 0, text_size = 0;
    MPI_Datatype type = MPI_DATATYPE_NULL;

    return MPI_T_cvar_get_info(index, NULL, &name_size, &verbosity, &type, NULL, NULL,
               &text_size, &bind, &scope) == MPI_SUCCESS &&
        type == wanted;
}

/* The tools' interface is counted: it may be up already, and stays so for others. The
 * level asked for is MPI's own, because Open MPI 4.1 takes it for that of MPI from then on:
 * a lower one would end its locking. */
size_t mrp_mpi_attach_limit(void)
{
    int wanted = MPI_THREAD_SINGLE, level, index;
    size_t limit = 0;

    MPI_Query_thread(&wanted);
    if (MPI_T_init_thread(wanted, &level) != MPI_SUCCESS) {
        return 0;
    }
    if (MPI_T_cvar_get_index(MRP_MPI_LIMIT_VARIABLE, &index) == MPI_SUCCESS &&
        has_type(index, MPI_UNSIGNED)) {
        limit = read_count(index);
    }
    MPI_T_finalize();
    return limit;
}
