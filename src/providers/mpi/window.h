/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A window that memory is registered with: the provider's own or the caller's. Providers
 * that wrap the same one share it, found by an attribute of the MPI window.
 *
 *   window.c  make, wrap and free        attach.c  what a dynamic window has attached
 *   carve.c   the memory of one that has its own
 */
#ifndef MRP_MPI_WINDOW_H
#define MRP_MPI_WINDOW_H

#include "calls.h"

#include <stdatomic.h>

/* Bytes attached once, however many registrations cover them: MPI refuses overlaps. */
struct mrp_mpi_attachment {
    uintptr_t first, end;
    size_t n_users; /* 0: released on a thread that could not detach, or refused by MPI */
    struct mrp_mpi_attachment *next; /* in the order of addresses */
};

/* Part of a window's own memory, handed out or free. */
struct mrp_mpi_piece {
    size_t offset, size;
    bool is_taken;
    struct mrp_mpi_piece *next; /* in the order of offsets, without gaps */
};

struct mrp_mpi_window {
    MPI_Win win;
    MPI_Comm comm; /* MPI_COMM_NULL: the window is the caller's */
    bool is_dynamic;
    _Atomic bool is_freed; /* by MPI_Win_free: nothing of it is left */
    size_t n_users; /* providers; under the mutex of window.c */
    int rank, n_ranks;
    struct mrp_mpi_window *next; /* of our own ones */

    pthread_mutex_t mutex; /* of what follows, and of MPI_Win_attach and detach */
    struct mrp_mpi_attachment *attachments;
    size_t n_attachments, n_owed; /* owed: those without a user */
    size_t max_attachments; /* 0: no limit known */
    bool has_own_limit; /* that is of the option */
    unsigned char *base; /* of its own memory */
    size_t size;
    struct mrp_mpi_piece *pieces;
};

/* What the settings say of a window of our own. */
struct mrp_mpi_choice {
    bool is_dynamic;
    size_t size; /* bytes of each rank, when it is not */
    size_t max_attachments; /* 0: as many as MPI takes */
};

/* Make one, collectively over a duplicate of `comm`. */
enum mrp_status mrp_mpi_window_create(
    MPI_Comm comm, const struct mrp_mpi_choice *choice, struct mrp_mpi_window **window);

/* Use the caller's. */
enum mrp_status mrp_mpi_window_wrap(
    MPI_Win win, const struct mrp_mpi_choice *choice, struct mrp_mpi_window **window);

/* One user less. The last one frees a window of our own, collectively, if `may_call`. */
void mrp_mpi_window_release(struct mrp_mpi_window *window, bool may_call);

/* Neither MPI nor the window is there any more. */
bool mrp_mpi_window_is_dead(const struct mrp_mpi_window *window);

/* -- attach.c: under the window's mutex -- */

/* Attach what of these bytes is not attached, and count a user of all of them. */
enum mrp_status mrp_mpi_attach(
    struct mrp_mpi_window *window, uintptr_t first, uintptr_t end);

/* One user of them less; what has none is detached if `may_call`, or owed. */
enum mrp_status mrp_mpi_detach(
    struct mrp_mpi_window *window, uintptr_t first, uintptr_t end, bool may_call);

/* Detach what is owed. */
void mrp_mpi_detach_owed(struct mrp_mpi_window *window);

/* Some of these bytes are attached. */
bool mrp_mpi_is_attached(
    const struct mrp_mpi_window *window, uintptr_t first, uintptr_t end);

/* Forget all, without a call of MPI. */
void mrp_mpi_forget_attachments(struct mrp_mpi_window *window);

/* -- carve.c: under the window's mutex -- */

enum mrp_status mrp_mpi_carve(struct mrp_mpi_window *window, size_t size,
    size_t alignment, struct mrp_mpi_piece **piece);
void mrp_mpi_give_back(struct mrp_mpi_window *window, struct mrp_mpi_piece *piece);
void mrp_mpi_forget_pieces(struct mrp_mpi_window *window);

#endif
