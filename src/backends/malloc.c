/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Backend malloc: memory of the C library's heap, for tests and for programs whose heap
 * is somebody else's (a tool, a debugger, an allocator with huge pages of its own).
 */
#include "mrpool/backend.h"
#include "mrpool/base.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static size_t base_page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static enum mrp_status malloc_create(
    const struct mrp_backend_params *params, void **state)
{
    const char *unused = params->address ? "address"
        : params->size                   ? "size"
        : params->pages                  ? "pages"
        : params->node                   ? "node"
        : params->prefault               ? "prefault"
        : params->prefault_threads       ? "prefault_threads"
                                         : NULL;
    if (unused) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "backend malloc has no use for '%s': leave it zero, or use backend mmap",
            unused);
    }
    *state = NULL;
    return MRP_OK;
}

static enum mrp_status malloc_map(
    void *state, const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    (void)state;
    if (request->node) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "backend malloc cannot bind to node %ld: use backend mmap",
            (long)request->node - 1);
    }
    if (request->pages > MRP_PAGES_AUTO) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "backend malloc cannot choose pages (kind %d asked for): use backend mmap",
            (int)request->pages);
    }
    size_t alignment = request->alignment;
    if (alignment < sizeof(void *)) {
        alignment = sizeof(void *); /* the least posix_memalign takes */
    }
    void *address = NULL;
    int native = posix_memalign(&address, alignment, request->size);
    if (native) {
        return mrp_fail(MRP_ERR_MEMORY, native,
            "posix_memalign: the heap has no %zu bytes aligned to %zu: ask for less, or "
            "raise RLIMIT_AS or RLIMIT_DATA where one is set",
            request->size, alignment);
    }
    *mapping = (struct mrp_mapping){
        .struct_size = sizeof *mapping,
        .address = address,
        .size = request->size,
        .page_size = base_page_size(),
        .pages = MRP_PAGES_4K,
        .pages_wanted = MRP_PAGES_4K,
    };
    return MRP_OK;
}

static enum mrp_status malloc_unmap(void *state, const struct mrp_mapping *mapping)
{
    (void)state;
    free(mapping->address);
    return MRP_OK;
}

static void malloc_query(void *state, struct mrp_backend_info *info)
{
    (void)state;
    info->granularity = 1;
    info->max_size = 0;
}

const struct mrp_backend_ops mrp_backend_malloc = {
    .struct_size = sizeof(struct mrp_backend_ops),
    .kind = "malloc",
    .purpose = "the C library's heap",
    .memory_kind = MRP_MEMORY_HOST,
    .map = malloc_map,
    .unmap = malloc_unmap,
    .create = malloc_create,
    .query = malloc_query,
};
