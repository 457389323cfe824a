/* SPDX-License-Identifier: BSD-3-Clause */
#include "context/chunk.h"

#include "base/align.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/memcheck.h"
#include "base/process.h"
#include "context/adopted.h"
#include "context/context.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHUNKS_PER_BLOCK 32

/* Records nobody uses, of all contexts; lookups may still read them. Under the process
 * lock. */
static struct mrp_chunk *unused;

void mrp_chunk_store_create(struct mrp_chunk_store *store)
{
    *store = (struct mrp_chunk_store){.mutex = PTHREAD_MUTEX_INITIALIZER};
}

void mrp_chunk_store_destroy(struct mrp_chunk_store *store)
{
    pthread_mutex_destroy(&store->mutex);
}

/* Under the process lock. */
static void provide_records(void)
{
    struct mrp_chunk *chunks =
        aligned_alloc(_Alignof(struct mrp_chunk), CHUNKS_PER_BLOCK * sizeof *chunks);

    if (chunks == NULL) {
        return;
    }
    memset(chunks, 0, CHUNKS_PER_BLOCK * sizeof *chunks);
    for (size_t i = 0; i < CHUNKS_PER_BLOCK; i++) {
        chunks[i].next = unused;
        unused = &chunks[i];
    }
}

static struct mrp_chunk *take_record(void)
{
    struct mrp_chunk *chunk;

    mrp_process_lock();
    if (unused == NULL) {
        provide_records();
    }
    chunk = unused;
    if (chunk != NULL) {
        unused = chunk->next;
    }
    mrp_process_unlock();
    if (chunk == NULL) {
        mrp_fail(MRP_ERR_MEMORY, 0, "malloc of %zu bytes for chunk records failed",
            CHUNKS_PER_BLOCK * sizeof *chunk);
    }
    return chunk;
}

static void return_record(struct mrp_chunk *chunk)
{
    free(chunk->rails);
    free(chunk->registrations);
    chunk->rails = NULL;
    chunk->registrations = NULL;
    chunk->n_rails = 0;
    mrp_process_lock();
    chunk->next = unused;
    unused = chunk;
    mrp_process_unlock();
}

/* Only whole chunks are on the live list. */
static void enlist(struct mrp_chunk_store *store, struct mrp_chunk *chunk)
{
    pthread_mutex_lock(&store->mutex);
    chunk->previous = NULL;
    chunk->next = store->live;
    if (store->live != NULL) {
        store->live->previous = chunk;
    }
    store->live = chunk;
    store->n_live++;
    store->live_size += chunk->mapping.size;
    pthread_mutex_unlock(&store->mutex);
}

static void delist(struct mrp_chunk_store *store, struct mrp_chunk *chunk)
{
    pthread_mutex_lock(&store->mutex);
    *(chunk->previous != NULL ? &chunk->previous->next : &store->live) = chunk->next;
    if (chunk->next != NULL) {
        chunk->next->previous = chunk->previous;
    }
    store->n_live--;
    store->live_size -= chunk->mapping.size;
    pthread_mutex_unlock(&store->mutex);
}

/* -- guard pages -- */

/* What the backend gave, of which the chunk uses what lies between its guards. */
static struct mrp_mapping whole_mapping(struct mrp_mapping mapping, size_t guard)
{
    mapping.address = (char *)mapping.address - guard;
    mapping.size += 2 * guard;
    return mapping;
}

/* Close the first and the last page of a mapping, and leave what is between them. */
static enum mrp_status close_ends(struct mrp_mapping *mapping, size_t page)
{
    char *first = mapping->address, *last = first + mapping->size - page;
    int native = 0;

    if (mapping->page_size != page || mapping->size <= 2 * page) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "guard pages need base pages of %zu bytes, not %zu: use backend mmap", page,
            mapping->page_size);
    }
    /* what prefaulting has put there goes back first */
    if (madvise(first, page, MADV_DONTNEED) != 0 ||
        mprotect(first, page, PROT_NONE) != 0 ||
        madvise(last, page, MADV_DONTNEED) != 0 || mprotect(last, page, PROT_NONE) != 0) {
        native = errno;
    }
    if (native != 0) {
        return mrp_fail(native == ENOMEM ? MRP_ERR_LIMIT : MRP_ERR_SYSTEM, native,
            "mprotect of the guard pages of %zu bytes failed with errno %d: a guarded "
            "region takes three mappings of the process: raise vm.max_map_count",
            mapping->size, native);
    }
    mapping->address = first + page;
    mapping->size -= 2 * page;
    return MRP_OK;
}

static enum mrp_status map_guarded(
    const struct mrp_chunk_request *request, struct mrp_mapping *mapping, size_t *guard)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    struct mrp_map_request map_request = {.struct_size = sizeof map_request,
        .alignment = page,
        .node = request->node,
        .pages = MRP_PAGES_4K};
    enum mrp_status status;

    if (mrp_add_overflows(request->size, 2 * page, &map_request.size)) {
        return mrp_fail(MRP_ERR_INVALID, 0, "cannot map %zu bytes", request->size);
    }
    status = mrp_backend_map(request->backend, &map_request, mapping);
    if (status == MRP_OK) {
        struct mrp_mapping whole = *mapping;

        status = close_ends(mapping, page);
        if (status != MRP_OK) {
            struct mrp_error cause = *mrp_error_last();

            mrp_backend_unmap(request->backend, &whole);
            mrp_error_restore(&cause);
        }
    }
    *guard = page;
    return status;
}

/* -- create -- */

static enum mrp_status map_memory(const struct mrp_chunk_request *request,
    struct mrp_mapping *mapping, bool *aligned, size_t *guard)
{
    struct mrp_map_request map_request = {.struct_size = sizeof map_request};
    enum mrp_status status;

    *guard = 0;
    if (request->adopted != NULL && request->backend != NULL) {
        mrp_adopted_map(request->backend, request->adopted, request->size, mapping);
        *aligned = false;
        return MRP_OK;
    }
    if (request->backend == NULL) {
        mapping->struct_size = sizeof *mapping;
        mapping->address = request->adopted;
        mapping->size = request->size;
        *aligned = false;
        return MRP_OK;
    }
    if (request->guarded) {
        *aligned = false;
        return map_guarded(request, mapping, guard);
    }
    /* a backend of fixed memory cannot spare 2 MiB for alignment: its chunks are ranges
     */
    *aligned = request->backend->max_size == 0;
    map_request.size = request->size;
    map_request.node = request->node;
    map_request.alignment =
        *aligned ? mrp_max(request->alignment, MRP_MAP_GRANULE) : request->alignment;
    status = mrp_backend_map(request->backend, &map_request, mapping);
    return status;
}

/* Then unmap, unless the memory is wanted, or parked. What its provider keeps cannot be
 * anybody else's. */
static enum mrp_status release_memory(
    struct mrp_chunk *chunk, bool is_wanted, uint64_t *refused)
{
    struct mrp_mapping whole = whole_mapping(chunk->mapping, chunk->guard);
    enum mrp_status status, unmapped;
    bool is_parked;

    if (chunk->hidden) { /* what comes to lie there next is for others to tell */
        mrp_memcheck_show(chunk->mapping.address, chunk->mapping.size);
        chunk->hidden = false;
    }
    status = mrp_chunk_deregister(chunk, &whole, refused, &is_parked);
    if (chunk->backend != NULL && !is_parked && (!is_wanted || status != MRP_OK)) {
        unmapped = mrp_backend_unmap(chunk->backend, &whole);
        status = status != MRP_OK ? status : unmapped;
    }
    return status;
}

enum mrp_status mrp_chunk_create(struct mrp_context_state *context,
    const struct mrp_chunk_request *request, struct mrp_chunk **created)
{
    struct mrp_mapping mapping = {.struct_size = sizeof mapping};
    struct mrp_error first;
    struct mrp_chunk *chunk;
    enum mrp_status status;
    size_t guard;
    bool aligned;

    status = map_memory(request, &mapping, &aligned, &guard);
    if (status != MRP_OK) {
        return status;
    }
    chunk = take_record();
    if (chunk == NULL) {
        if (request->backend != NULL) {
            mapping = whole_mapping(mapping, guard);
            mrp_backend_unmap(request->backend, &mapping);
        }
        return MRP_ERR_MEMORY;
    }
    chunk->context = context;
    chunk->backend = request->backend;
    chunk->mapping = mapping;
    chunk->aligned = aligned;
    chunk->guard = guard;
    chunk->hidden = false;
    chunk->access = request->access;
    chunk->native_flags = request->native_flags;
    chunk->born = mrp_clock_coarse();
    chunk->node = request->node;
    chunk->pool = request->pool;
    chunk->is_held = chunk->is_evicted = false;
    chunk->is_restricted = request->only != 0;
    chunk->passage = 0;
    status = mrp_chunk_register(chunk, request);
    if (status != MRP_OK) {
        first = *mrp_error_last(); /* the cause, not what undoing it may add */
        release_memory(chunk, false, NULL);
        return_record(chunk);
        return mrp_fail_at(first.function, first.status, first.native, "%s", first.text);
    }
    enlist(&context->chunks, chunk);
    *created = chunk;
    return MRP_OK;
}

/* -- publish, withdraw, destroy -- */

static void end_view(struct mrp_chunk_view *view)
{
    mrp_store_release(&view->generation, mrp_load_relaxed(&view->generation) + 1);
    mrp_store_release(&view->n_granules, 0);
}

enum mrp_status mrp_chunk_publish(struct mrp_chunk *chunk)
{
    struct mrp_chunk_view *view = &chunk->view;
    uintptr_t base = (uintptr_t)chunk->mapping.address;
    enum mrp_status status;

    /* The generation is even. Each store is a release: a lookup that still holds this
     * record from its former life and reads a new value also sees the generation moved.
     */
    mrp_store_release(&view->id, chunk->id);
    mrp_store_release(&view->base, base);
    mrp_store_release(&view->size, chunk->mapping.size);
    mrp_store_release(&view->pool, chunk->pool);
    mrp_store_release(&view->granules, chunk->granules);
    mrp_store_release(&view->region, chunk->region);
    mrp_store_release(&view->granule_shift, chunk->granule_shift);
    mrp_store_release(&view->n_granules, chunk->granules == NULL ? 0 : chunk->n_granules);
    mrp_store_release(&view->generation, mrp_load_relaxed(&view->generation) + 1);
    status = mrp_address_map_insert(
        &chunk->context->map, chunk, base, chunk->mapping.size, chunk->aligned);
    if (status != MRP_OK) {
        end_view(view);
    }
    return status;
}

void mrp_chunk_withdraw(struct mrp_chunk *chunk)
{
    mrp_address_map_remove(&chunk->context->map, chunk, (uintptr_t)chunk->mapping.address,
        chunk->mapping.size, chunk->aligned);
    end_view(&chunk->view);
}

struct mrp_place mrp_chunk_place(const struct mrp_chunk *chunk)
{
    return (struct mrp_place){
        .kind =
            chunk->backend == NULL ? MRP_MEMORY_HOST : chunk->backend->ops.memory_kind,
        .device = chunk->mapping.device,
        .node = chunk->mapping.node,
    };
}

static enum mrp_status end_chunk(
    struct mrp_chunk *chunk, bool is_wanted, uint64_t *refused)
{
    struct mrp_context_state *context = chunk->context;
    enum mrp_status status;

    delist(&context->chunks, chunk);
    status = release_memory(chunk, is_wanted, refused);
    return_record(chunk);
    return status;
}

enum mrp_status mrp_chunk_end(struct mrp_chunk *chunk, uint64_t *refused)
{
    return end_chunk(chunk, false, refused);
}

enum mrp_status mrp_chunk_destroy(struct mrp_chunk *chunk)
{
    return end_chunk(chunk, false, NULL);
}

enum mrp_status mrp_chunk_forget(struct mrp_chunk *chunk, uint64_t *refused)
{
    return end_chunk(chunk, true, refused);
}

bool mrp_chunk_find_overlap(struct mrp_chunk_store *store, const void *address,
    size_t size, struct mrp_mapping *found)
{
    uintptr_t begin = (uintptr_t)address;
    bool is_found = false;

    pthread_mutex_lock(&store->mutex);
    for (struct mrp_chunk *chunk = store->live; chunk != NULL && !is_found;
         chunk = chunk->next) {
        uintptr_t base = (uintptr_t)chunk->mapping.address;

        if (chunk->backend != NULL && begin < base + chunk->mapping.size &&
            base < begin + size) {
            *found = chunk->mapping;
            is_found = true;
        }
    }
    pthread_mutex_unlock(&store->mutex);
    return is_found;
}
