/* SPDX-License-Identifier: BSD-3-Clause
 *
 * An aligned mapping is had by reserving address space, aligned, and letting UCX put its
 * memory exactly there (UCP_MEM_MAP_FIXED), which costs nothing; what cannot do that (the
 * heap, transparent huge pages), or has failed to once, allocates more than is needed.
 */
#include "memory.h"

#include "log.h"
#include "register.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static uintptr_t align_up(uintptr_t value, size_t alignment)
{
    return (value + alignment - 1) & ~(uintptr_t)(alignment - 1);
}

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* -- blocks -- */

bool mrp_ucx_block_retain(struct mrp_ucx_context *context,
    const struct mrp_register_request *request, void **memh)
{
    uintptr_t address = (uintptr_t)request->address;
    bool is_ours = false;

    pthread_mutex_lock(&context->blocks_mutex);
    for (struct mrp_ucx_block *block = context->blocks; block != NULL && !is_ours;
         block = block->next) {
        size_t offset = address - (uintptr_t)block->address;

        if (offset < block->size && request->size <= block->size - offset) {
            block->n_registrations++;
            *memh = block->memh;
            is_ours = true;
        }
    }
    pthread_mutex_unlock(&context->blocks_mutex);
    return is_ours;
}

bool mrp_ucx_block_release(struct mrp_ucx_context *context, void *memh)
{
    struct mrp_ucx_block *block;

    pthread_mutex_lock(&context->blocks_mutex);
    block = context->blocks;
    while (block != NULL && block->memh != memh) {
        block = block->next;
    }
    if (block != NULL) {
        block->n_registrations--;
    }
    pthread_mutex_unlock(&context->blocks_mutex);
    return block != NULL;
}

static void enlist(struct mrp_ucx_context *context, struct mrp_ucx_block *block)
{
    pthread_mutex_lock(&context->blocks_mutex);
    block->next = context->blocks;
    context->blocks = block;
    pthread_mutex_unlock(&context->blocks_mutex);
}

/* @return whether nobody has it registered: then it is off the list. */
static bool delist(
    struct mrp_ucx_context *context, struct mrp_ucx_block *block, size_t *n_registrations)
{
    struct mrp_ucx_block **link = &context->blocks;

    pthread_mutex_lock(&context->blocks_mutex);
    *n_registrations = block->n_registrations;
    if (block->n_registrations == 0) {
        while (*link != block) {
            link = &(*link)->next;
        }
        *link = block->next;
    }
    pthread_mutex_unlock(&context->blocks_mutex);
    return *n_registrations == 0;
}

/* -- UCX's calls -- */

/* Without rights (prot), which means all: who will register it, and for what, is not known
 * yet, and the registration is this handle. */
static ucs_status_t allocate(struct mrp_ucx_context *context, void *address, size_t size,
    struct mrp_ucx_block *block)
{
    const ucp_mem_map_params_t params = {
        .field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH |
            UCP_MEM_MAP_PARAM_FIELD_FLAGS | UCP_MEM_MAP_PARAM_FIELD_MEMORY_TYPE,
        .address = address,
        .length = size,
        .flags = UCP_MEM_MAP_ALLOCATE | (address != NULL ? UCP_MEM_MAP_FIXED : 0u),
        .memory_type = UCS_MEMORY_TYPE_HOST,
    };
    ucp_mem_attr_t attr = {
        .field_mask = UCP_MEM_ATTR_FIELD_ADDRESS | UCP_MEM_ATTR_FIELD_LENGTH};
    ucs_status_t code;

    mrp_ucx_lock(context);
    code = ucp_mem_map(context->context, &params, &block->memh);
    if (code == UCS_OK) {
        code = ucp_mem_query(block->memh, &attr);
        if (code != UCS_OK) {
            ucp_mem_unmap(context->context, block->memh);
        }
    }
    mrp_ucx_unlock(context);
    if (code == UCS_OK) {
        block->address = attr.address;
        block->size = attr.length;
    }
    return code;
}

static void release(struct mrp_ucx_context *context, struct mrp_ucx_block *block)
{
    mrp_ucx_lock(context);
    ucp_mem_unmap(context->context, block->memh);
    mrp_ucx_unlock(context);
    free(block);
}

/* UCX rounds up to huge pages where it gets some: so much has to be ours to overwrite. */
static size_t reserve_unit(void)
{
    struct mrp_system system = MRP_SYSTEM_INIT;

    return mrp_system_query(&system) == MRP_OK && system.huge_page_size > page_size()
        ? system.huge_page_size
        : page_size();
}

static void unreserve(unsigned char *from, unsigned char *to)
{
    if (from < to) {
        munmap(from, (size_t)(to - from));
    }
}

/* At an aligned address of our choice. */
static ucs_status_t allocate_fixed(struct mrp_ucx_context *context,
    const struct mrp_map_request *request, struct mrp_ucx_block *block)
{
    size_t unit = reserve_unit();
    size_t size = align_up(request->size, unit);
    size_t alignment = request->alignment > unit ? request->alignment : unit;
    unsigned char *reserved =
        mmap(NULL, size + alignment, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *aligned;
    ucs_status_t code;

    if (reserved == MAP_FAILED) {
        return UCS_ERR_NO_MEMORY;
    }
    aligned = (unsigned char *)align_up((uintptr_t)reserved, alignment);
    code = allocate(context, aligned, request->size, block);
    if (code == UCS_OK && block->address == aligned && block->size <= size) {
        unreserve(reserved, aligned);
        unreserve(aligned + block->size, reserved + size + alignment);
        return UCS_OK;
    }
    if (code == UCS_OK) { /* it did as it pleased: that hides what we have reserved */
        mrp_ucx_lock(context);
        ucp_mem_unmap(context->context, block->memh);
        mrp_ucx_unlock(context);
        code = UCS_ERR_UNSUPPORTED;
    }
    /* A registration that fails after UCX has allocated unmaps, and so does what we undo:
     * in the hole there may be another thread's memory by now. What UCX may have used is
     * not unmapped, and for that not tried again. */
    unreserve(reserved, aligned);
    unreserve(aligned + size, reserved + size + alignment);
    atomic_store(&context->has_no_fixed, true);
    return code;
}

static ucs_status_t allocate_aligned(struct mrp_ucx_context *context,
    const struct mrp_map_request *request, struct mrp_ucx_block *block)
{
    ucs_status_t code = atomic_load(&context->has_no_fixed)
        ? UCS_ERR_UNSUPPORTED
        : allocate_fixed(context, request, block);

    return code == UCS_OK
        ? UCS_OK
        : allocate(context, NULL, request->size + request->alignment, block);
}

/* -- the slots -- */

static enum mrp_status check_map(const struct mrp_map_request *request)
{
    if (request->node != 0) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "UCX cannot bind what it allocates to node %d: use backend mmap, whose "
            "memory goes through UCX's other transports",
            request->node - 1);
    }
    if (request->pages > MRP_PAGES_AUTO) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "UCX chooses pages itself (kind %d asked for): see UCX_SYSV_HUGETLB_MODE and "
            "UCX_POSIX_HUGETLB_MODE, or use backend mmap",
            (int)request->pages);
    }
    return MRP_OK;
}

static enum mrp_status map(
    void *state, const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    struct mrp_ucx_context *context = state;
    struct mrp_ucx_block *block;
    struct mrp_ucx_log log;
    enum mrp_status status = check_map(request);
    ucs_status_t code;

    if (status != MRP_OK) {
        return status;
    }
    block = calloc(1, sizeof *block);
    if (block == NULL) {
        return mrp_fail(
            MRP_ERR_MEMORY, 0, "malloc of %zu bytes for a block failed", sizeof *block);
    }
    mrp_ucx_log_begin(&log);
    code = allocate_aligned(context, request, block);
    mrp_ucx_log_end(&log, code != UCS_OK);
    if (code != UCS_OK) {
        free(block);
        return mrp_fail(MRP_ERR_MEMORY, code,
            "ucp_mem_map on %s: cannot allocate %zu bytes aligned to %zu: %s%s; make "
            "room in /dev/shm, raise kernel.shmmax, or use backend mmap",
            context->device, request->size, request->alignment, ucs_status_string(code),
            log.text);
    }
    enlist(context, block);
    *mapping = (struct mrp_mapping){.struct_size = mapping->struct_size,
        .address = (void *)align_up((uintptr_t)block->address, request->alignment),
        .page_size = page_size(),
        .pages = MRP_PAGES_4K,
        .pages_wanted = MRP_PAGES_4K,
        .handle = block};
    mapping->size =
        (size_t)(block->address + block->size - (unsigned char *)mapping->address);
    return MRP_OK;
}

static enum mrp_status unmap(void *state, const struct mrp_mapping *mapping)
{
    struct mrp_ucx_context *context = state;
    size_t n_registrations;

    if (!delist(context, mapping->handle, &n_registrations)) {
        return mrp_fail(MRP_ERR_BUSY, 0,
            "%zu bytes at %p that UCX allocated are registered %zu times: deregister "
            "first",
            mapping->size, mapping->address, n_registrations);
    }
    release(context, mapping->handle);
    return MRP_OK;
}

void mrp_ucx_blocks_free(struct mrp_ucx_context *context)
{
    while (context->blocks != NULL) {
        struct mrp_ucx_block *block = context->blocks;

        context->blocks = block->next;
        release(context, block);
    }
}

static void query(void *state, struct mrp_backend_info *info)
{
    (void)state;
    info->granularity = page_size();
    info->max_size = 0;
}

const struct mrp_backend_ops mrp_ucx_backend = {
    .struct_size = sizeof(struct mrp_backend_ops),
    .kind = "ucx",
    .purpose = "memory that UCX allocates, which its shared memory transports share",
    .memory_kind = MRP_MEMORY_HOST,
    .map = map,
    .unmap = unmap,
    .query = query,
};
