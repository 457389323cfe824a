/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Backend array: memory the caller owns already, handed out in runs, first fit.
 *
 *   caller's memory   |#### a ####|  gap  |## b ##|      gap      |# c #|  gap  |
 *   runs (our heap)    a ----------------> b ---------------------> c -> NULL
 *
 * Only the runs in use are kept, sorted by offset; a gap is what lies between two of
 * them, so that giving a run back joins its neighbours by itself. The runs are not inside
 * the memory: once registered, it may be written by peers.
 */
#include "mrpool/backend.h"
#include "mrpool/base.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A cache line: regions begin on one, and no two mappings share one. */
#define GRANULARITY ((size_t)64)

struct run {
    struct run *next;
    size_t offset, size; /* bytes, multiples of GRANULARITY */
};

struct array {
    char *base;
    size_t size; /* whole granules of the caller's memory */
    pthread_mutex_t mutex;
    /* under the mutex */
    struct run *runs;
    size_t n_runs, used_size;
};

/* -- create -- */

static enum mrp_status params_check(const struct mrp_backend_params *params)
{
    const char *unused = params->pages ? "pages"
        : params->node                 ? "node"
        : params->prefault             ? "prefault"
        : params->prefault_threads     ? "prefault_threads"
                                       : NULL;
    if (unused) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "backend array has no use for '%s', its memory is there already: leave it "
            "zero",
            unused);
    }
    uintptr_t address = (uintptr_t)params->address;
    if (!address || address % GRANULARITY) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "backend array needs 'address' aligned to %zu bytes, not %p: take the memory "
            "from aligned_alloc or declare it _Alignas(%zu)",
            GRANULARITY, params->address, GRANULARITY);
    }
    if (params->size < GRANULARITY || params->size > UINTPTR_MAX - address) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "backend array needs 'size' from %zu to the %zu bytes above address %p, not "
            "%zu",
            GRANULARITY, (size_t)(UINTPTR_MAX - address), params->address, params->size);
    }
    return MRP_OK;
}

static enum mrp_status array_create(const struct mrp_backend_params *params, void **state)
{
    enum mrp_status status = params_check(params);
    if (status) {
        return status;
    }
    struct array *array = calloc(1, sizeof *array);
    int native = array ? pthread_mutex_init(&array->mutex, NULL) : ENOMEM;
    if (native) {
        free(array);
        return mrp_fail(MRP_ERR_MEMORY, native,
            "no %zu bytes of heap for the record of an array: free memory first",
            sizeof *array);
    }
    array->base = params->address;
    array->size = params->size - params->size % GRANULARITY;
    *state = array;
    return MRP_OK;
}

static void array_destroy(void *state)
{
    struct array *array = state;
    while (array->runs) {
        struct run *run = array->runs;
        array->runs = run->next;
        free(run);
    }
    pthread_mutex_destroy(&array->mutex);
    free(array);
}

/* -- map -- */

/* The first offset in [begin, end) whose address is aligned and which has `size` bytes
 * before `end`. Alignment counts for real addresses: the array itself may be less
 * aligned. */
static bool gap_fits(const struct array *array, size_t begin, size_t end,
    const struct mrp_map_request *request, size_t size, size_t *offset)
{
    uintptr_t address = (uintptr_t)array->base + begin;
    size_t skipped = (size_t)(-address & (request->alignment - 1));
    if (skipped > end - begin || size > end - begin - skipped) {
        return false;
    }
    *offset = begin + skipped;
    return true;
}

/* The link before which a run of `size` bytes fits, or NULL. */
static struct run **first_fit(struct array *array, const struct mrp_map_request *request,
    size_t size, size_t *offset)
{
    size_t begin = 0;
    struct run **link = &array->runs;
    for (;;) {
        size_t end = *link ? (*link)->offset : array->size;
        if (gap_fits(array, begin, end, request, size, offset)) {
            return link;
        }
        if (!*link) {
            return NULL;
        }
        begin = (*link)->offset + (*link)->size;
        link = &(*link)->next;
    }
}

static size_t largest_gap(const struct array *array)
{
    size_t begin = 0;
    size_t largest = 0;
    for (const struct run *run = array->runs; run; run = run->next) {
        size_t gap = run->offset - begin;
        largest = gap > largest ? gap : largest;
        begin = run->offset + run->size;
    }
    size_t gap = array->size - begin;
    return gap > largest ? gap : largest;
}

/* Freeing helps only where the request would fit into the empty array. */
static enum mrp_status report_no_fit(
    const struct array *array, const struct mrp_map_request *request, size_t size)
{
    size_t offset = 0;
    if (size <= array->size && !gap_fits(array, 0, array->size, request, size, &offset)) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "the array of %zu bytes at %p has no address aligned to %zu with %zu bytes "
            "behind it: align the array to %zu, or ask for less alignment",
            array->size, (void *)array->base, request->alignment, request->size,
            request->alignment);
    }
    return mrp_fail(MRP_ERR_LIMIT, 0,
        "the array is exhausted: %zu bytes aligned to %zu wanted, %zu of %zu bytes used "
        "by %zu mappings, largest gap %zu: free some, or give a larger array",
        request->size, request->alignment, array->used_size, array->size, array->n_runs,
        largest_gap(array));
}

static enum mrp_status request_check(const struct mrp_map_request *request)
{
    if (request->node) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "backend array cannot bind to node %ld, its memory is there already: bind "
            "the array before, or use backend mmap",
            (long)request->node - 1);
    }
    if (request->pages > MRP_PAGES_AUTO) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "backend array cannot choose pages (kind %d asked for), its memory is there "
            "already: use backend mmap",
            (int)request->pages);
    }
    return MRP_OK;
}

/* Enter `run` where it fits, or report why it does not. */
static enum mrp_status run_place(
    struct array *array, const struct mrp_map_request *request, struct run *run)
{
    struct run **link = first_fit(array, request, run->size, &run->offset);
    if (!link) {
        return report_no_fit(array, request, run->size);
    }
    run->next = *link;
    *link = run;
    array->n_runs++;
    array->used_size += run->size;
    return MRP_OK;
}

static enum mrp_status array_map(
    void *state, const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    struct array *array = state;
    enum mrp_status status = request_check(request);
    if (status) {
        return status;
    }
    struct run *run = malloc(sizeof *run);
    if (!run) {
        return mrp_fail(MRP_ERR_MEMORY, errno,
            "no %zu bytes of heap for the record of a mapping: free memory first",
            sizeof *run);
    }
    /* Rounding a size near SIZE_MAX would wrap; unrounded it fits nowhere either. */
    run->size = request->size;
    if (run->size <= array->size) {
        run->size = (run->size + GRANULARITY - 1) / GRANULARITY * GRANULARITY;
    }
    pthread_mutex_lock(&array->mutex);
    status = run_place(array, request, run);
    pthread_mutex_unlock(&array->mutex);
    if (status) {
        free(run);
        return status;
    }
    *mapping = (struct mrp_mapping){
        .struct_size = sizeof *mapping,
        .address = array->base + run->offset,
        .size = run->size,
        /* Whatever the caller's pages are, they are at least these. */
        .page_size = (size_t)sysconf(_SC_PAGESIZE),
        .pages = MRP_PAGES_4K,
        .pages_wanted = MRP_PAGES_4K,
        .handle = run,
    };
    return MRP_OK;
}

/* -- unmap -- */

/* The handle is only compared: one that was given back before must not be followed. */
static enum mrp_status run_take(
    struct array *array, const struct mrp_mapping *mapping, struct run **taken)
{
    struct run **link = &array->runs;
    while (*link && *link != mapping->handle) {
        link = &(*link)->next;
    }
    struct run *run = *link;
    if (!run || array->base + run->offset != mapping->address) {
        return mrp_fail(MRP_ERR_STALE, 0,
            "no mapping at %p among the %zu of the array of %zu bytes at %p: it was "
            "given back before, or is another backend's",
            mapping->address, array->n_runs, array->size, (void *)array->base);
    }
    *link = run->next;
    array->n_runs--;
    array->used_size -= run->size;
    *taken = run;
    return MRP_OK;
}

static enum mrp_status array_unmap(void *state, const struct mrp_mapping *mapping)
{
    struct array *array = state;
    struct run *run = NULL;
    pthread_mutex_lock(&array->mutex);
    enum mrp_status status = run_take(array, mapping, &run);
    pthread_mutex_unlock(&array->mutex);
    free(run);
    return status;
}

static void array_query(void *state, struct mrp_backend_info *info)
{
    const struct array *array = state;
    info->granularity = GRANULARITY;
    info->max_size = array->size;
}

const struct mrp_backend_ops mrp_backend_array = {
    .struct_size = sizeof(struct mrp_backend_ops),
    .kind = "array",
    .purpose = "memory of fixed size that the caller owns",
    .memory_kind = MRP_MEMORY_HOST,
    .map = array_map,
    .unmap = array_unmap,
    .create = array_create,
    .destroy = array_destroy,
    .query = array_query,
};
