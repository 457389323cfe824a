/* SPDX-License-Identifier: BSD-3-Clause */
#include "window.h"

#include <stdlib.h>

/* Pieces cut off, for the next to be cut from, must not be smaller than this: regions are
 * aligned to it, and a few hundred bytes are worth no record. */
#define REST_MIN ((size_t)4096)

static size_t padding(const struct mrp_mpi_window *window,
    const struct mrp_mpi_piece *piece, size_t alignment)
{
    uintptr_t address = (uintptr_t)window->base + piece->offset;

    return (size_t)(-address & (alignment - 1));
}

static bool fits(const struct mrp_mpi_window *window, const struct mrp_mpi_piece *piece,
    size_t size, size_t alignment)
{
    size_t lead = padding(window, piece, alignment);

    return !piece->is_taken && lead <= piece->size && size <= piece->size - lead;
}

static size_t largest_free(const struct mrp_mpi_window *window)
{
    size_t largest = 0;

    for (const struct mrp_mpi_piece *piece = window->pieces; piece != NULL;
         piece = piece->next) {
        if (!piece->is_taken && piece->size > largest) {
            largest = piece->size;
        }
    }
    return largest;
}

/* Cut `piece` in two; the second part follows it. */
static bool split(struct mrp_mpi_piece *piece, size_t size)
{
    struct mrp_mpi_piece *rest = malloc(sizeof(*rest));

    if (rest == NULL) {
        return false;
    }
    *rest = (struct mrp_mpi_piece){
        piece->offset + size, piece->size - size, false, piece->next};
    piece->size = size;
    piece->next = rest;
    return true;
}

static void join_next(struct mrp_mpi_piece *piece)
{
    struct mrp_mpi_piece *next = piece->next;

    piece->size += next->size;
    piece->next = next->next;
    free(next);
}

/* First fit: chunks are few, and most are of the same size. */
enum mrp_status mrp_mpi_carve(struct mrp_mpi_window *window, size_t size,
    size_t alignment, struct mrp_mpi_piece **carved)
{
    struct mrp_mpi_piece *piece = window->pieces, *before;
    size_t lead;

    while (piece != NULL && !fits(window, piece, size, alignment)) {
        piece = piece->next;
    }
    if (piece == NULL) {
        return mrp_fail(MRP_ERR_LIMIT, 0,
            "the window of %zu bytes has no %zu bytes left in one piece, aligned to %zu; "
            "the largest is of %zu: open the provider with a larger option size",
            window->size, size, alignment, largest_free(window));
    }
    lead = padding(window, piece, alignment);
    before = piece;
    if (lead > 0) {
        if (!split(piece, lead)) {
            goto fail_memory;
        }
        piece = piece->next;
    }
    if (piece->size - size >= REST_MIN && !split(piece, size)) {
        if (lead > 0) {
            join_next(before);
        }
        goto fail_memory;
    }
    piece->is_taken = true;
    *carved = piece;
    return MRP_OK;

fail_memory:
    return mrp_fail(MRP_ERR_MEMORY, 0,
        "malloc of %zu bytes for a piece of the window failed", sizeof(*piece));
}

void mrp_mpi_give_back(struct mrp_mpi_window *window, struct mrp_mpi_piece *piece)
{
    struct mrp_mpi_piece *before = window->pieces;

    piece->is_taken = false;
    if (piece->next != NULL && !piece->next->is_taken) {
        join_next(piece);
    }
    while (before != piece && before->next != piece) {
        before = before->next;
    }
    if (before != piece && !before->is_taken) {
        join_next(before);
    }
}

void mrp_mpi_forget_pieces(struct mrp_mpi_window *window)
{
    while (window->pieces != NULL) {
        struct mrp_mpi_piece *piece = window->pieces;

        window->pieces = piece->next;
        free(piece);
    }
}
