/* SPDX-License-Identifier: BSD-3-Clause */
#include "limit.h"
#include "window.h"

#include <stdio.h>
#include <stdlib.h>

/* -- MPI's own calls: a failure on the caller's window would go to his error handler -- */

static int call_attach(struct mrp_mpi_window *window, uintptr_t first, size_t size)
{
    MPI_Errhandler before = MPI_ERRHANDLER_NULL;
    int code;

    MPI_Win_get_errhandler(window->win, &before);
    MPI_Win_set_errhandler(window->win, MPI_ERRORS_RETURN);
    /* the address is the caller's: MPI wants it without const */
    code = MPI_Win_attach(window->win, (void *)first, (MPI_Aint)size);
    MPI_Win_set_errhandler(window->win, before);
    MPI_Errhandler_free(&before);
    return code;
}

static int call_detach(struct mrp_mpi_window *window, uintptr_t first)
{
    MPI_Errhandler before = MPI_ERRHANDLER_NULL;
    int code;

    MPI_Win_get_errhandler(window->win, &before);
    MPI_Win_set_errhandler(window->win, MPI_ERRORS_RETURN);
    code = MPI_Win_detach(window->win, (const void *)first);
    MPI_Win_set_errhandler(window->win, before);
    MPI_Errhandler_free(&before);
    return code;
}

/* -- attach -- */

static enum mrp_status fail_attach(
    const struct mrp_mpi_window *window, uintptr_t first, size_t size, int code)
{
    char words[160];

    mrp_mpi_error_text(code, words, sizeof(words));
    return mrp_fail(MRP_ERR_REGISTER, code,
        "MPI_Win_attach of %zu bytes at %#zx, beside %zu attachments: %s. Use fewer and "
        "larger chunks (over UCX, Open MPI takes 48), and attach nothing of your own "
        "that overlaps them",
        size, (size_t)first, window->n_attachments, words);
}

/* Open MPI 4.1 that is asked for one more than the limit keeps a lock that all other calls
 * on the window then wait for: it must not be asked. */
static enum mrp_status check_limit(const struct mrp_mpi_window *window)
{
    char remedy[120] = "raise option max_attach, at most to what MPI takes";

    if (window->max_attachments == 0 || window->n_attachments < window->max_attachments) {
        return MRP_OK;
    }
    if (!window->has_own_limit) {
        snprintf(remedy, sizeof(remedy),
            "raise mpirun --mca " MRP_MPI_LIMIT_VARIABLE " to %zu",
            4 * window->max_attachments);
    }
    return mrp_fail(MRP_ERR_LIMIT, 0,
        "the window takes %zu attachments, %zu are made: use few large chunks "
        "(MRPOOL_CHUNK_MIN), %s, or use one window of fixed memory (option "
        "window=allocated)",
        window->max_attachments, window->n_attachments, remedy);
}

/* A new one, in front of *place. */
static enum mrp_status attach_one(struct mrp_mpi_window *window,
    struct mrp_mpi_attachment **place, uintptr_t first, uintptr_t end)
{
    struct mrp_mpi_attachment *attachment;
    enum mrp_status status = check_limit(window);
    int code;

    if (status != MRP_OK) {
        return status;
    }
    attachment = malloc(sizeof(*attachment));
    if (attachment == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "malloc of %zu bytes for an attachment failed",
            sizeof(*attachment));
    }
    code = call_attach(window, first, end - first);
    if (code != MPI_SUCCESS) {
        free(attachment);
        return fail_attach(window, first, end - first, code);
    }
    *attachment = (struct mrp_mpi_attachment){first, end, 1, *place};
    *place = attachment;
    window->n_attachments++;
    return MRP_OK;
}

static void count_user(
    struct mrp_mpi_window *window, struct mrp_mpi_attachment *attachment)
{
    window->n_owed -= attachment->n_users == 0;
    attachment->n_users++;
}

enum mrp_status mrp_mpi_attach(
    struct mrp_mpi_window *window, uintptr_t first, uintptr_t end)
{
    struct mrp_mpi_attachment **place = &window->attachments;
    uintptr_t next = first; /* what is before it, has been counted */
    enum mrp_status status = MRP_OK;

    while (*place != NULL && (*place)->end <= first) {
        place = &(*place)->next;
    }
    while (next < end && status == MRP_OK) {
        if (*place != NULL && (*place)->first <= next) {
            count_user(window, *place);
        } else {
            uintptr_t gap_end =
                *place != NULL && (*place)->first < end ? (*place)->first : end;

            status = attach_one(window, place, next, gap_end);
        }
        if (status == MRP_OK) {
            next = (*place)->end;
            place = &(*place)->next;
        }
    }
    if (status != MRP_OK && next > first) {
        struct mrp_error cause = *mrp_error_last();

        mrp_mpi_detach(window, first, next, true);
        mrp_fail_at(cause.function, cause.status, cause.native, "%s", cause.text);
    }
    return status;
}

/* -- detach -- */

/* The one at *place, which has no user; *place is then the next one. */
static enum mrp_status detach_one(
    struct mrp_mpi_window *window, struct mrp_mpi_attachment **place)
{
    struct mrp_mpi_attachment *attachment = *place;
    int code = mrp_mpi_window_is_dead(window) ? MPI_SUCCESS
                                              : call_detach(window, attachment->first);

    if (code != MPI_SUCCESS) {
        char words[160];

        mrp_mpi_error_text(code, words, sizeof(words));
        return mrp_fail(MRP_ERR_REGISTER, code, "MPI_Win_detach of %zu bytes at %#zx: %s",
            (size_t)(attachment->end - attachment->first), (size_t)attachment->first,
            words);
    }
    *place = attachment->next;
    window->n_attachments--;
    free(attachment);
    return MRP_OK;
}

enum mrp_status mrp_mpi_detach(
    struct mrp_mpi_window *window, uintptr_t first, uintptr_t end, bool may_call)
{
    struct mrp_mpi_attachment **place = &window->attachments;
    enum mrp_status status = MRP_OK;

    while (*place != NULL && (*place)->first < end) {
        struct mrp_mpi_attachment *attachment = *place;
        enum mrp_status detached = MRP_ERR_AGAIN;

        if (attachment->end <= first || --attachment->n_users > 0) {
            place = &attachment->next;
            continue;
        }
        if (may_call) {
            detached = detach_one(window, place);
        }
        if (detached != MRP_OK) {
            window->n_owed++;
            status = detached;
            place = &attachment->next;
        }
    }
    return status;
}

void mrp_mpi_detach_owed(struct mrp_mpi_window *window)
{
    struct mrp_mpi_attachment **place = &window->attachments;

    while (window->n_owed > 0 && *place != NULL) {
        if ((*place)->n_users == 0 && detach_one(window, place) == MRP_OK) {
            window->n_owed--;
        } else {
            place = &(*place)->next;
        }
    }
}

bool mrp_mpi_is_attached(
    const struct mrp_mpi_window *window, uintptr_t first, uintptr_t end)
{
    const struct mrp_mpi_attachment *attachment = window->attachments;

    while (attachment != NULL && attachment->end <= first) {
        attachment = attachment->next;
    }
    return attachment != NULL && attachment->first < end;
}

void mrp_mpi_forget_attachments(struct mrp_mpi_window *window)
{
    while (window->attachments != NULL) {
        struct mrp_mpi_attachment *attachment = window->attachments;

        window->attachments = attachment->next;
        free(attachment);
    }
    window->n_attachments = window->n_owed = 0;
}
