/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Backends: where memory comes from.
 *
 * For users: mrp_backend_create. For authors of one: struct mrp_backend_ops, a const
 * table at the end of one file; CONTRIBUTING.md has the steps. A backend sees only this
 * header and base.h.
 */
#ifndef MRPOOL_BACKEND_H
#define MRPOOL_BACKEND_H

#include "mrpool/base.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mrp_context;
struct mrp_backend;

/** What a mapping's memory is. */
enum mrp_memory_kind {
    MRP_MEMORY_HOST = 0,
    MRP_MEMORY_CUDA = 1,
    MRP_MEMORY_ROCM = 2
};

/** Which pages to ask for. Each falls back to the next smaller one; what was got is
 *  recorded in the mapping. */
enum mrp_pages {
    MRP_PAGES_DEFAULT = 0, /**< as MRPOOL_PAGES says, else AUTO */
    MRP_PAGES_AUTO, /**< 2 MiB where the system has some free, else transparent huge */
    MRP_PAGES_4K, /**< base pages, transparent huge pages refused */
    MRP_PAGES_THP, /**< transparent huge pages */
    MRP_PAGES_2M, /**< hugetlbfs 2 MiB -> THP -> base */
    MRP_PAGES_1G /**< hugetlbfs 1 GiB -> 2 MiB -> THP -> base */
};

/** NUMA node n, for members where 0 has to mean "the default". */
#define MRP_NODE(n) ((n) + 1)

/** Parameters of mrp_backend_create; a member the backend has no use for must be zero. */
struct mrp_backend_params {
    size_t struct_size;
    const char *name; /**< unique in the context; NULL: "<kind>-<number>" */
    void *address; /**< array: the caller's memory, kept alive until the backend goes */
    size_t size; /**< array: its bytes */
    enum mrp_pages pages; /**< mmap */
    int node; /**< mmap: MRP_NODE(n) binds to node n; 0: where first touched */
    /** mmap: 0 as MRPOOL_PREFAULT says, 1 on, -1 off (hugetlb pages are always
     *  populated: a later touch could raise SIGBUS) */
    int prefault;
    /** mmap: threads that prefault a mapping together, each at least 32 MiB of it, 1 to
     *  64; they have ended when the mapping is there. 0: MRPOOL_PREFAULT_THREADS, else
     *  the processors the calling thread may use, at most 8 */
    uint32_t prefault_threads;
};
#define MRP_BACKEND_PARAMS_INIT \
    { \
        sizeof(struct mrp_backend_params), NULL, NULL, 0, MRP_PAGES_DEFAULT, 0, 0, 0 \
    }

/** Create a backend of the context: kind is "array", "malloc" or "mmap".
 *  @return MRP_ERR_NOT_FOUND for an unknown kind (the text lists the known ones),
 *  MRP_ERR_EXISTS, MRP_ERR_INVALID, MRP_ERR_MEMORY. Thread-safe; may block. */
MRP_API enum mrp_status mrp_backend_create(struct mrp_context *context, const char *kind,
    const struct mrp_backend_params *params, struct mrp_backend **backend);

struct mrp_backend_ops;

/** A backend of the caller's own making; `ops` must outlive it, `state` is passed to
 *  each op. */
MRP_API enum mrp_status mrp_backend_create_custom(struct mrp_context *context,
    const char *name, const struct mrp_backend_ops *ops, void *state,
    struct mrp_backend **backend);

/** No other thread may be using or destroying it. MRP_ERR_BUSY while a pool or a block
 *  still uses it; NULL is MRP_ERR_STALE. */
MRP_API enum mrp_status mrp_backend_destroy(struct mrp_backend *backend);

/** The context's backend of that name; MRP_ERR_NOT_FOUND. */
MRP_API enum mrp_status mrp_backend_find(
    struct mrp_context *context, const char *name, struct mrp_backend **backend);

struct mrp_backend_info {
    size_t struct_size;
    const char *name, *kind; /**< valid as long as the backend */
    enum mrp_memory_kind memory_kind;
    size_t granularity; /**< mappings are multiples of it, bytes */
    size_t max_size; /**< bytes it can give in all; 0: no limit of its own */
    size_t n_mappings; /**< live now */
    size_t mapped_size; /**< bytes of them */
};
#define MRP_BACKEND_INFO_INIT \
    { \
        sizeof(struct mrp_backend_info), NULL, NULL, MRP_MEMORY_HOST, 0, 0, 0, 0 \
    }

MRP_API enum mrp_status mrp_backend_query(
    struct mrp_backend *backend, struct mrp_backend_info *info);

typedef void mrp_backend_visitor(const char *kind, const char *purpose, void *user);

/** The kinds this library has built in. */
MRP_API void mrp_backend_kinds(mrp_backend_visitor *visit, void *user);

/* -- the contract -- */

/** One mapping wanted. */
struct mrp_map_request {
    size_t struct_size;
    size_t size; /**< bytes, at least 1; the mapping may be larger */
    size_t alignment; /**< of the first byte; a power of two */
    int node; /**< MRP_NODE(n), or 0: the backend's own setting */
    enum mrp_pages pages; /**< MRP_PAGES_DEFAULT: the backend's own setting */
};

/** One mapping got. The backend fills it; who asked keeps it and gives it back to
 *  unmap. */
struct mrp_mapping {
    size_t struct_size;
    void *address;
    size_t size; /**< bytes usable, at least those asked for */
    /** real page size; for THP the base page: the kernel decides per page */
    size_t page_size;
    enum mrp_pages pages; /**< what was got: 4K, THP, 2M or 1G */
    enum mrp_pages
        pages_wanted; /**< what was tried first, never AUTO: differs when it fell back */
    int node; /**< MRP_NODE(n) when bound, else 0 */
    bool zeroed; /**< known to read as zero */
    bool prefaulted;
    void *handle; /**< the backend's own */
    int device; /**< of the memory kind, from 0; 0 for host memory */
};

struct mrp_backend_ops {
    size_t struct_size;
    const char *kind; /**< "mmap": lower case, no spaces */
    const char *purpose; /**< one line, for `mrpool info` */
    enum mrp_memory_kind memory_kind;
    /** wants mrp_backend_params.pages, prefault and prefault_threads resolved for it */
    bool chooses_pages;

    /* required */
    enum mrp_status (*map)(
        void *state, const struct mrp_map_request *request, struct mrp_mapping *mapping);
    enum mrp_status (*unmap)(void *state, const struct mrp_mapping *mapping);

    /* optional; NULL means: no state, no limit, nothing to describe */
    enum mrp_status (*create)(const struct mrp_backend_params *params, void **state);
    void (*destroy)(void *state);
    void (*query)(
        void *state, struct mrp_backend_info *info); /**< granularity, max_size */
};

#ifdef __cplusplus
}
#endif
#endif
