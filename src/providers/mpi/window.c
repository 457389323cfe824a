/* SPDX-License-Identifier: BSD-3-Clause */
#include "window.h"

#include "limit.h"

#include <stdlib.h>

/* Of a pool's chunks. */
#define ALIGNMENT ((size_t)2 << 20)

static pthread_mutex_t windows_mutex = PTHREAD_MUTEX_INITIALIZER;

/* The attribute of a window that leads to our record of it; and one of MPI_COMM_SELF, which
 * MPI_Finalize frees before all else. */
static int key = MPI_KEYVAL_INVALID, self_key = MPI_KEYVAL_INVALID;

/* Windows of our own, latest first; under the mutex. */
static struct mrp_mpi_window *own_windows;

/* MPI_Win_free calls this, whoever called that. */
static int note_freed(MPI_Win win, int win_key, void *value, void *extra)
{
    struct mrp_mpi_window *window = value;

    (void)win;
    (void)win_key;
    (void)extra;
    atomic_store(&window->is_freed, true);
    return MPI_SUCCESS;
}

bool mrp_mpi_window_is_dead(const struct mrp_mpi_window *window)
{
    return atomic_load(&window->is_freed) || !mrp_mpi_is_up();
}

/* -- the record -- */

static enum mrp_status fail_open(const char *call, int code, const char *remedy)
{
    char words[160];

    mrp_mpi_error_text(code, words, sizeof(words));
    return mrp_fail(MRP_ERR_UNAVAILABLE, code, "%s: %s%s", call, words, remedy);
}

static struct mrp_mpi_window *allocate(void)
{
    struct mrp_mpi_window *window = calloc(1, sizeof(*window));

    if (window == NULL) {
        mrp_fail(MRP_ERR_MEMORY, 0, "malloc of %zu bytes for a window failed",
            sizeof(*window));
        return NULL;
    }
    window->win = MPI_WIN_NULL;
    window->comm = MPI_COMM_NULL;
    window->n_users = 1;
    pthread_mutex_init(&window->mutex, NULL);
    return window;
}

static void discard(struct mrp_mpi_window *window)
{
    mrp_mpi_forget_attachments(window);
    mrp_mpi_forget_pieces(window);
    pthread_mutex_destroy(&window->mutex);
    free(window);
}

/* One free piece: all of it. */
static enum mrp_status describe_memory(
    struct mrp_mpi_window *window, void *base, size_t size)
{
    if (base == NULL || size == 0) {
        return MRP_OK; /* a rank may bring nothing */
    }
    window->pieces = calloc(1, sizeof(*window->pieces));
    if (window->pieces == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "malloc of %zu bytes for a piece failed",
            sizeof(*window->pieces));
    }
    window->pieces->size = size;
    window->base = base;
    window->size = size;
    return MRP_OK;
}

/* What MPI says, or less: Open MPI that is asked for more than it takes never returns. */
static void set_limit(struct mrp_mpi_window *window, size_t wanted)
{
    size_t known = mrp_mpi_attach_limit();

    window->has_own_limit = wanted != 0 && (known == 0 || wanted < known);
    window->max_attachments = window->has_own_limit ? wanted : known;
}

/* Under the mutex of all windows. */
static enum mrp_status complete(
    struct mrp_mpi_window *window, const struct mrp_mpi_choice *choice)
{
    MPI_Group group;
    int code = MPI_SUCCESS;

    if (key == MPI_KEYVAL_INVALID) {
        code = MPI_Win_create_keyval(MPI_WIN_NULL_COPY_FN, note_freed, &key, NULL);
    }
    if (code == MPI_SUCCESS) {
        code = MPI_Win_set_attr(window->win, key, window);
    }
    if (code != MPI_SUCCESS) {
        return fail_open("MPI_Win_set_attr", code, "");
    }
    MPI_Win_get_group(window->win, &group);
    MPI_Group_rank(group, &window->rank);
    MPI_Group_size(group, &window->n_ranks);
    MPI_Group_free(&group);
    if (window->is_dynamic) {
        set_limit(window, choice->max_attachments);
    }
    return MRP_OK;
}

/* With its communicator; collective. A window that somebody else has freed was freed on
 * all ranks, and its communicator is left. */
static void free_window(struct mrp_mpi_window *window)
{
    if (window->win != MPI_WIN_NULL && !atomic_load(&window->is_freed)) {
        MPI_Win_free(&window->win);
    }
    if (window->comm != MPI_COMM_NULL) {
        MPI_Comm_free(&window->comm);
    }
}

/* -- windows of our own, which must not be left to MPI_Finalize: MPICH over UCX aborts
 *    when it finds memory still in use -- */

/* In the same order on all ranks: they were made in the same order, and all finalize. */
static int free_own_windows(MPI_Comm comm, int comm_key, void *value, void *extra)
{
    (void)comm;
    (void)comm_key;
    (void)value;
    (void)extra;
    pthread_mutex_lock(&windows_mutex);
    while (own_windows != NULL) {
        struct mrp_mpi_window *window = own_windows;

        own_windows = window->next;
        free_window(window);
        if (window->n_users == 0) { /* see leave_window */
            discard(window);
        }
    }
    pthread_mutex_unlock(&windows_mutex);
    return MPI_SUCCESS;
}

/* Under the mutex of all windows. */
static enum mrp_status list_own_window(struct mrp_mpi_window *window)
{
    int code = MPI_SUCCESS;

    if (self_key == MPI_KEYVAL_INVALID) {
        code = MPI_Comm_create_keyval(
            MPI_COMM_NULL_COPY_FN, free_own_windows, &self_key, NULL);
        if (code == MPI_SUCCESS) {
            code = MPI_Comm_set_attr(MPI_COMM_SELF, self_key, NULL);
        }
    }
    if (code != MPI_SUCCESS) {
        if (self_key != MPI_KEYVAL_INVALID) { /* the next one tries again */
            MPI_Comm_free_keyval(&self_key);
        }
        return fail_open("MPI_Comm_set_attr", code, "");
    }
    window->next = own_windows;
    own_windows = window;
    return MRP_OK;
}

static void delist_own_window(struct mrp_mpi_window *window)
{
    struct mrp_mpi_window **place = &own_windows;

    while (*place != NULL && *place != window) {
        place = &(*place)->next;
    }
    if (*place != NULL) {
        *place = window->next;
    }
}

/* -- a window of our own -- */

static enum mrp_status make_dynamic(struct mrp_mpi_window *window)
{
    int code = MPI_Win_create_dynamic(MPI_INFO_NULL, window->comm, &window->win);
    int n_ranks = 0;

    if (code == MPI_SUCCESS) {
        return MRP_OK;
    }
    MPI_Comm_size(window->comm, &n_ranks);
    return fail_open("MPI_Win_create_dynamic", code,
        n_ranks == 1
            ? ", with one rank alone, for which Open MPI has no dynamic windows: start "
              "two or more, or use a window of fixed memory (option window=allocated); "
              "with MPI_THREAD_SERIALIZED or less, mpirun --mca osc pt2pt has them"
            : "; a window of fixed memory may do (option window=allocated)");
}

/* Chunks are aligned to ALIGNMENT, what MPI gives is not: it is asked for as much more. */
static enum mrp_status make_allocated(struct mrp_mpi_window *window, size_t size)
{
    size_t whole = size + ALIGNMENT;
    void *base = NULL;
    int code = MPI_Win_allocate(
        (MPI_Aint)whole, 1, MPI_INFO_NULL, window->comm, &base, &window->win);
    enum mrp_status status;

    if (code != MPI_SUCCESS) {
        return fail_open(
            "MPI_Win_allocate", code, ": option size says how much each rank takes");
    }
    status = describe_memory(window, base, whole);
    if (status == MRP_OK) {
        window->pieces->offset = (size_t)(-(uintptr_t)base & (ALIGNMENT - 1));
        window->pieces->size = size;
    }
    return status;
}

static enum mrp_status duplicate(MPI_Comm comm, MPI_Comm *own)
{
    int is_inter = 0, code;

    MPI_Comm_test_inter(comm, &is_inter);
    if (is_inter != 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "mrp_mpi_wrap_params.comm is an intercommunicator, which windows are not "
            "made on: merge it with MPI_Intercomm_merge");
    }
    code = mrp_mpi_comm_dup(comm, own);
    return code == MPI_SUCCESS ? MRP_OK : fail_open("MPI_Comm_dup", code, "");
}

/* It was made on all ranks, and this one alone may have failed since: freeing it would wait
 * for the others, who go on. MPI_Finalize frees it on all. */
static void leave_window(struct mrp_mpi_window *window)
{
    struct mrp_error cause = *mrp_error_last();

    pthread_mutex_lock(&windows_mutex);
    window->n_users = 0;
    (void)list_own_window(window);
    pthread_mutex_unlock(&windows_mutex);
    mrp_fail_at(cause.function, cause.status, cause.native,
        "%s. The other ranks may have opened theirs: close it there", cause.text);
}

enum mrp_status mrp_mpi_window_create(
    MPI_Comm comm, const struct mrp_mpi_choice *choice, struct mrp_mpi_window **created)
{
    struct mrp_mpi_window *window = allocate();
    enum mrp_status status;

    if (window == NULL) {
        return MRP_ERR_MEMORY;
    }
    window->is_dynamic = choice->is_dynamic;
    status = duplicate(comm, &window->comm);
    if (status == MRP_OK) {
        status = window->is_dynamic ? make_dynamic(window)
                                    : make_allocated(window, choice->size);
    }
    if (status == MRP_OK) {
        /* not inherited from the communicator */
        MPI_Win_set_errhandler(window->win, MPI_ERRORS_RETURN);
        pthread_mutex_lock(&windows_mutex);
        status = complete(window, choice);
        if (status == MRP_OK) {
            status = list_own_window(window);
        }
        pthread_mutex_unlock(&windows_mutex);
    }
    if (status != MRP_OK && window->win != MPI_WIN_NULL) {
        leave_window(window);
        return status;
    }
    if (status != MRP_OK) {
        free_window(window);
        discard(window);
        return status;
    }
    *created = window;
    return MRP_OK;
}

/* -- the caller's -- */

static int int_attribute(MPI_Win win, int attribute, int otherwise)
{
    int is_set = 0, *value = NULL;

    MPI_Win_get_attr(win, attribute, &value, &is_set);
    return is_set != 0 ? *value : otherwise;
}

static enum mrp_status describe(struct mrp_mpi_window *window)
{
    int unit = int_attribute(window->win, MPI_WIN_DISP_UNIT, 1), has_base = 0,
        has_size = 0;
    MPI_Aint *size = NULL;
    void *base = NULL;

    window->is_dynamic =
        int_attribute(window->win, MPI_WIN_CREATE_FLAVOR, -1) == MPI_WIN_FLAVOR_DYNAMIC;
    if (window->is_dynamic) {
        return MRP_OK;
    }
    if (unit != 1) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "the window counts displacements in units of %d bytes, regions begin at any "
            "byte: make it with disp_unit 1",
            unit);
    }
    MPI_Win_get_attr(window->win, MPI_WIN_BASE, &base, &has_base);
    MPI_Win_get_attr(window->win, MPI_WIN_SIZE, &size, &has_size);
    return describe_memory(
        window, has_base != 0 ? base : NULL, has_size != 0 ? (size_t)*size : 0);
}

/* The record of a window that a provider has already; NULL: none. */
static struct mrp_mpi_window *find(MPI_Win win)
{
    struct mrp_mpi_window *window = NULL;
    int is_set = 0;

    if (key != MPI_KEYVAL_INVALID) {
        MPI_Win_get_attr(win, key, &window, &is_set);
    }
    return is_set != 0 ? window : NULL;
}

static enum mrp_status wrap_new(
    MPI_Win win, const struct mrp_mpi_choice *choice, struct mrp_mpi_window **wrapped)
{
    struct mrp_mpi_window *window = allocate();
    enum mrp_status status;

    if (window == NULL) {
        return MRP_ERR_MEMORY;
    }
    window->win = win;
    status = describe(window);
    if (status == MRP_OK) {
        status = complete(window, choice);
    }
    if (status != MRP_OK) {
        discard(window);
        return status;
    }
    *wrapped = window;
    return MRP_OK;
}

enum mrp_status mrp_mpi_window_wrap(
    MPI_Win win, const struct mrp_mpi_choice *choice, struct mrp_mpi_window **wrapped)
{
    struct mrp_mpi_window *window;
    enum mrp_status status = MRP_OK;

    pthread_mutex_lock(&windows_mutex);
    window = find(win);
    if (window != NULL) {
        window->n_users++;
        if (window->is_dynamic && choice->max_attachments != 0) {
            pthread_mutex_lock(&window->mutex);
            set_limit(window, choice->max_attachments);
            pthread_mutex_unlock(&window->mutex);
        }
        *wrapped = window;
    } else {
        status = wrap_new(win, choice, wrapped);
    }
    pthread_mutex_unlock(&windows_mutex);
    return status;
}

/* -- the end -- */

/* A record that cannot be taken off its window now stays: the window leads to it. */
void mrp_mpi_window_release(struct mrp_mpi_window *window, bool may_call)
{
    bool is_dead = mrp_mpi_window_is_dead(window), is_last;

    pthread_mutex_lock(&windows_mutex);
    is_last = --window->n_users == 0;
    if (is_last && !is_dead && may_call) {
        pthread_mutex_lock(&window->mutex);
        mrp_mpi_detach_owed(window);
        pthread_mutex_unlock(&window->mutex);
        if (window->comm == MPI_COMM_NULL) {
            MPI_Win_delete_attr(window->win, key);
        }
    }
    if (is_last && (is_dead || may_call)) {
        delist_own_window(window);
    }
    pthread_mutex_unlock(&windows_mutex);
    if (!is_last || (!is_dead && !may_call)) {
        return;
    }
    if (may_call && window->comm != MPI_COMM_NULL) {
        free_window(window); /* waits for the other ranks: under no lock of ours */
    }
    discard(window);
}
