/* SPDX-License-Identifier: BSD-3-Clause */
#include "calls.h"

#include <stdio.h>
#include <string.h>

/* Of either implementation: MPICH's text is longer than Open MPI's header has room for. */
#define LIBRARY_TEXT_SIZE 16384

#ifdef OPEN_MPI
static const char own_library[] = "Open MPI", other_library[] = "MPICH";
static const char other_module[] = "mpich";
#else
static const char own_library[] = "MPICH", other_library[] = "Open MPI";
static const char other_module[] = "mpi";
#endif

/* -- the library -- */

static bool is_own(const char *text)
{
    bool is_open_mpi = strncmp(text, "Open MPI", strlen("Open MPI")) == 0;

#ifdef OPEN_MPI
    return is_open_mpi;
#else
    return !is_open_mpi; /* several have the ABI of MPICH, under names of their own */
#endif
}

/* "Open MPI v4.1.4, package: ...", "MPICH Version:      4.0.2\nMPICH Release date ..." */
static void shorten(char *text)
{
    char *to = text;

    for (const char *from = text; *from != '\0' && *from != ',' && *from != '\n';
         from++) {
        if ((*from != '\t' && *from != ' ') || (to > text && to[-1] != ' ')) {
            *to++ = *from == '\t' ? ' ' : *from;
        }
    }
    *to = '\0';
}

/* "Open MPI v4.1.4", "MPICH 4.0.2". May be called before MPI_Init, and after MPI_Finalize. */
void mrp_mpi_library_name(char *name, size_t size)
{
    char text[LIBRARY_TEXT_SIZE] = "", *version;
    int length = 0;

    MPI_Get_library_version(text, &length);
    shorten(text);
    version = strstr(text, " Version:");
    if (version != NULL) {
        memmove(version, version + strlen(" Version:"),
            strlen(version + strlen(" Version:")) + 1);
    }
    snprintf(name, size, "%.64s", text);
}

enum mrp_status mrp_mpi_check_library(void)
{
    char name[80];

    mrp_mpi_library_name(name, sizeof(name));
    return is_own(name)
        ? MRP_OK
        : mrp_fail(MRP_ERR_UNAVAILABLE, 0,
              "this process runs %s, and module \"%s\" speaks the ABI of %s: open module "
              "\"%s\"",
              name, MRP_MPI_MODULE, own_library, other_module);
}

bool mrp_mpi_is_up(void)
{
    int is_initialised = 0, is_finalized = 0;

    MPI_Initialized(&is_initialised);
    if (is_initialised != 0) {
        MPI_Finalized(&is_finalized);
    }
    return is_initialised != 0 && is_finalized == 0;
}

enum mrp_status mrp_mpi_check_up(void)
{
    int is_initialised = 0;

    if (mrp_mpi_is_up()) {
        return MRP_OK;
    }
    MPI_Initialized(&is_initialised);
    return is_initialised != 0
        ? mrp_fail(MRP_ERR_UNAVAILABLE, 0,
              "MPI has been finalized: nothing can be registered with it any more")
        : mrp_fail(MRP_ERR_UNAVAILABLE, 0,
              "%s is not initialised in this process: call MPI_Init_thread first, with "
              "MPI_THREAD_MULTIPLE if several threads use the pool (a program of %s "
              "opens module \"%s\")",
              own_library, other_library, other_module);
}

/* -- threads -- */

void mrp_mpi_calls_init(struct mrp_mpi_calls *calls)
{
    memset(calls, 0, sizeof(*calls));
    MPI_Query_thread(&calls->level);
    calls->opener = pthread_self();
}

static const char *level_name(int level)
{
    return level == MPI_THREAD_SERIALIZED ? "MPI_THREAD_SERIALIZED"
        : level == MPI_THREAD_FUNNELED    ? "MPI_THREAD_FUNNELED"
                                          : "MPI_THREAD_SINGLE";
}

bool mrp_mpi_is_allowed(const struct mrp_mpi_calls *calls)
{
    int is_main = 0;

    if (calls->level == MPI_THREAD_MULTIPLE) {
        return true;
    }
    if (calls->level == MPI_THREAD_SERIALIZED) {
        return calls->lock != NULL || pthread_equal(calls->opener, pthread_self()) != 0;
    }
    MPI_Is_thread_main(&is_main);
    return is_main != 0;
}

enum mrp_status mrp_mpi_check_thread(const struct mrp_mpi_calls *calls, const char *what)
{
    bool is_serialized = calls->level == MPI_THREAD_SERIALIZED;

    if (mrp_mpi_is_allowed(calls)) {
        return MRP_OK;
    }
    return mrp_fail(MRP_ERR_AGAIN, 0,
        "%s on a thread that may not call MPI: it was initialised with %s, which leaves "
        "that to the %s. Let that thread fill the pool, initialise MPI with "
        "MPI_THREAD_MULTIPLE%s",
        what, level_name(calls->level),
        is_serialized ? "thread that opened the provider" : "main thread",
        is_serialized ? ", or pass the lock of your MPI calls in mrp_mpi_wrap_params"
                      : "");
}

/* -- errors -- */

void mrp_mpi_error_text(int code, char *text, size_t size)
{
    char words[MPI_MAX_ERROR_STRING] = "";
    int length = 0;

    if (MPI_Error_string(code, words, &length) != MPI_SUCCESS) {
        snprintf(text, size, "code %d", code);
        return;
    }
    for (char *next = words; (next = strpbrk(next, "\n\t")) != NULL;) {
        *next = ' ';
    }
    snprintf(text, size, "%s", words);
}

/* The handler of MPI_COMM_WORLD, to which calls about no communicator report, is one for
 * all threads: the first to come changes it, the last to go puts it back. The mutex is held
 * for neither's call, which may wait for another rank. */
static pthread_mutex_t handler_mutex = PTHREAD_MUTEX_INITIALIZER;
static MPI_Errhandler world_before = MPI_ERRHANDLER_NULL; /* while n_quiet > 0 */
static size_t n_quiet;

static MPI_Errhandler quieten(MPI_Comm comm)
{
    MPI_Errhandler before = MPI_ERRHANDLER_NULL;

    MPI_Comm_get_errhandler(comm, &before);
    MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
    return before;
}

static void restore(MPI_Comm comm, MPI_Errhandler *before)
{
    MPI_Comm_set_errhandler(comm, *before);
    MPI_Errhandler_free(before);
}

static void quieten_world(void)
{
    pthread_mutex_lock(&handler_mutex);
    if (n_quiet++ == 0) {
        world_before = quieten(MPI_COMM_WORLD);
    }
    pthread_mutex_unlock(&handler_mutex);
}

static void restore_world(void)
{
    pthread_mutex_lock(&handler_mutex);
    if (--n_quiet == 0) {
        restore(MPI_COMM_WORLD, &world_before);
    }
    pthread_mutex_unlock(&handler_mutex);
}

int mrp_mpi_alloc_mem(size_t size, void **address)
{
    int code;

    quieten_world();
    code = MPI_Alloc_mem((MPI_Aint)size, MPI_INFO_NULL, address);
    restore_world();
    return code;
}

int mrp_mpi_free_mem(void *address)
{
    int code;

    quieten_world();
    code = MPI_Free_mem(address);
    restore_world();
    return code;
}

/* The duplicate keeps MPI_ERRORS_RETURN. Any other communicator has one thread at a time
 * here: MPI forbids two collective calls on one at once. */
int mrp_mpi_comm_dup(MPI_Comm comm, MPI_Comm *duplicate)
{
    MPI_Errhandler before = MPI_ERRHANDLER_NULL;
    bool is_world = comm == MPI_COMM_WORLD;
    int code;

    if (is_world) {
        quieten_world();
    } else {
        before = quieten(comm);
    }
    code = MPI_Comm_dup(comm, duplicate);
    if (code == MPI_SUCCESS) {
        MPI_Comm_set_errhandler(*duplicate, MPI_ERRORS_RETURN);
    }
    if (is_world) {
        restore_world();
    } else {
        restore(comm, &before);
    }
    return code;
}
