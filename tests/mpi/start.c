/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Makes a rank of MPI of a program that knows nothing of it: linked into the conformance
 * suites for tests/conformance/test_mpi.sh. MPI is up before main and down after it.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static void stop(void)
{
    MPI_Finalize();
}

__attribute__((constructor)) static void start(void)
{
    int level;

    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &level) != MPI_SUCCESS ||
        level != MPI_THREAD_MULTIPLE || atexit(stop) != 0) {
        fputs("MPI does not start with MPI_THREAD_MULTIPLE\n", stderr);
        exit(1);
    }
}
