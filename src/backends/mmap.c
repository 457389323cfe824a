/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Backend mmap: private anonymous mappings on the pages asked for, or on the next smaller
 * kind the system can give.
 *
 *   map --> which pages? --> attempt: place --> advise --> bind --> populate --> mapping
 *               ^                       \__________ \______________/
 *               |   next smaller kind              v
 *               +--------------------------- undo; at 4K: report
 *
 * Only the last attempt is reported, so that a fallback leaves no error behind; what was
 * got and what was wanted stand in the mapping.
 */
#include "mmap_populate.h"
#include "mrpool/backend.h"
#include "mrpool/base.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <linux/mman.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000 /* Linux 4.17, glibc 2.27 */
#endif

#define HUGE_2M ((size_t)1 << 21)
#define HUGE_1G ((size_t)1 << 30)

/* The kernel's own limit, 1 << CONFIG_NODES_SHIFT, is at most this. */
#define NODES_MAX 1024
#define LONG_BITS (8 * sizeof(unsigned long))

struct mmap_backend {
    enum mrp_pages pages; /* AUTO to 1G */
    int node; /* MRP_NODE(n), or 0 */
    bool prefault;
    unsigned prefault_threads;
};

/* One try with one kind of pages. */
struct attempt {
    enum mrp_pages pages;
    size_t page_size;
    size_t size; /* a multiple of page_size */
    size_t alignment;
    int node;
    bool prefault;
    unsigned prefault_threads;
    char *address;
    /* why it failed */
    const char *call;
    int native;
};

static bool attempt_failed(struct attempt *attempt, const char *call, int native)
{
    attempt->call = call;
    attempt->native = native;
    return false;
}

static size_t base_page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static bool is_hugetlb(enum mrp_pages pages)
{
    return pages >= MRP_PAGES_2M;
}

/* -- NUMA nodes -- */

/* The first line of a small file of the system, "" when it cannot be read. */
static void line_read(const char *path, char *line, int size)
{
    line[0] = '\0';
    FILE *file = fopen(path, "re");
    if (file) {
        line[0] = fgets(line, size, file) ? line[0] : '\0';
        line[strcspn(line, "\n")] = '\0';
        fclose(file);
    }
}

/* Whether a list as the kernel writes it, "0-1,4", has the node. */
static bool list_has(const char *list, long node)
{
    while (*list) {
        char *end;
        long first = strtol(list, &end, 10);
        long last = *end == '-' ? strtol(end + 1, &end, 10) : first;
        if (end == list || (node >= first && node <= last)) {
            return end != list;
        }
        list = *end == ',' ? end + 1 : end;
    }
    return false;
}

/* Nodes without memory are refused too: binding to one could only fail later. A system
 * that does not list its nodes leaves the judgement to mbind. */
static enum mrp_status node_check(int node)
{
    if (!node) {
        return MRP_OK;
    }
    char list[256];
    line_read("/sys/devices/system/node/has_memory", list, sizeof list);
    if (node < 0 || node > NODES_MAX || (list[0] && !list_has(list, node - 1))) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "NUMA node %ld is not among those with memory here, %s: choose MRP_NODE(n) "
            "of one of these, or 0 for no binding",
            (long)node - 1, list[0] ? list : "those below 1024");
    }
    return MRP_OK;
}

/* Bytes a node could give without pushing anybody's data to swap; SIZE_MAX if unknown. */
static size_t node_free_size(int node)
{
    static const char *const parts[] = {
        "MemFree:", "Active(file):", "Inactive(file):", "SReclaimable:"};
    char path[64];
    snprintf(path, sizeof path, "/sys/devices/system/node/node%d/meminfo", node - 1);
    FILE *file = fopen(path, "re");
    if (!file) {
        return SIZE_MAX;
    }
    size_t kib = 0;
    char line[128];
    while (fgets(line, sizeof line, file)) {
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            const char *part = strstr(line, parts[i]);
            kib += part ? strtoul(part + strlen(parts[i]), NULL, 10) : 0;
        }
    }
    fclose(file);
    return kib * 1024;
}

/* -- addresses -- */

/* A range nobody uses, aligned, without memory: reserve more and cut off both ends. */
static char *reserve_aligned(size_t size, size_t alignment)
{
    size_t surplus = alignment - base_page_size();
    if (size > PTRDIFF_MAX - surplus) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    char *range =
        mmap(NULL, size + surplus, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (range == MAP_FAILED) {
        return range;
    }
    size_t head = (size_t)(-(uintptr_t)range & (alignment - 1));
    size_t tail = surplus - head;
    /* Cutting can fail when the map count is at its limit; address space left behind then
     * holds no memory. */
    if (head) {
        munmap(range, head);
    }
    if (tail) {
        munmap(range + head + size, tail);
    }
    return range + head;
}

/* Writable only now, so that what was cut off never counted as committed memory, and what
 * is left does: an obvious overcommit is refused here instead of meeting the OOM killer.
 */
static char *place_base(size_t size, size_t alignment)
{
    char *address = reserve_aligned(size, alignment);
    if (address != MAP_FAILED && mprotect(address, size, PROT_READ | PROT_WRITE) != 0) {
        int native = errno;
        munmap(address, size);
        errno = native;
        return MAP_FAILED;
    }
    return address;
}

/* Huge pages are aligned to themselves by the kernel. For more, find a free aligned
 * range, release it and take it again: MAP_FIXED over the reservation would be one step,
 * but when it fails for lack of pages it may have unmapped the reservation, and undoing
 * would then unmap what another thread has put there. With NOREPLACE a failure owns
 * nothing; when another thread was quicker, look for another range. */
static char *place_hugetlb(size_t size, size_t page_size, size_t alignment)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
        (page_size == HUGE_1G ? MAP_HUGE_1GB : MAP_HUGE_2MB);
    if (alignment <= page_size) {
        return mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    }
    for (int tries = 0; tries < 16; tries++) {
        char *wanted = reserve_aligned(size, alignment);
        if (wanted == MAP_FAILED) {
            return wanted;
        }
        munmap(wanted, size);
        char *address = mmap(
            wanted, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED_NOREPLACE, -1, 0);
        if (address == wanted) {
            return address;
        }
        if (address != MAP_FAILED) {
            munmap(address, size); /* before Linux 4.17 the address is only a hint */
        } else if (errno != EEXIST) {
            return address;
        }
    }
    errno = EEXIST;
    return MAP_FAILED;
}

/* -- one attempt -- */

static bool attempt_place(struct attempt *attempt)
{
    attempt->address = is_hugetlb(attempt->pages)
        ? place_hugetlb(attempt->size, attempt->page_size, attempt->alignment)
        : place_base(attempt->size, attempt->alignment);
    return attempt->address != MAP_FAILED || attempt_failed(attempt, "mmap", errno);
}

/* Base pages refuse huge ones explicitly: the system may be set to "always". */
static bool attempt_advise(struct attempt *attempt)
{
    if (is_hugetlb(attempt->pages)) {
        return true;
    }
    bool thp = attempt->pages == MRP_PAGES_THP;
    int advice = thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE;
    if (madvise(attempt->address, attempt->size, advice) == 0) {
        return true;
    }
    /* EINVAL: a kernel without transparent huge pages, nothing to refuse. */
    return (!thp && errno == EINVAL) || attempt_failed(attempt, "madvise", errno);
}

/* MPOL_BIND, not MPOL_PREFERRED: preferred pages land silently on another node when
 * theirs is full, and the mapping would claim a node it is not on. The price is that a
 * full node means the OOM killer, so its free memory is looked at before populating. */
static bool attempt_bind(struct attempt *attempt)
{
    if (!attempt->node) {
        return true;
    }
    unsigned long mask[NODES_MAX / LONG_BITS] = {0};
    unsigned long node = (unsigned long)attempt->node - 1;
    mask[node / LONG_BITS] = 1UL << (node % LONG_BITS);
    /* The kernel takes one off the number of bits before it reads them. */
    if (syscall(
            SYS_mbind, attempt->address, attempt->size, MPOL_BIND, mask, node + 2, 0)) {
        return attempt_failed(attempt, "mbind", errno);
    }
    if (!is_hugetlb(attempt->pages) && attempt->prefault &&
        node_free_size(attempt->node) < attempt->size) {
        return attempt_failed(attempt, "node", ENOMEM);
    }
    return true;
}

/* Pages of hugetlbfs are populated whatever the caller wishes: a reservation does not
 * count the limits of a node, a cpuset or a cgroup, which the first touch would report as
 * SIGBUS; and it has taken the pages from the system already. */
static bool attempt_populate(struct attempt *attempt)
{
    bool hugetlb = is_hugetlb(attempt->pages);
    attempt->prefault = attempt->prefault || hugetlb;
    if (!attempt->prefault) {
        return true;
    }
    struct mrp_populate populate = {attempt->address, attempt->size, attempt->page_size,
        hugetlb, attempt->node != 0, attempt->prefault_threads};
    int native = mrp_populate(&populate);
    return native == 0 || attempt_failed(attempt, "populating", native);
}

static bool attempt_run(struct attempt *attempt)
{
    if (!attempt_place(attempt)) {
        return false;
    }
    if (attempt_advise(attempt) && attempt_bind(attempt) && attempt_populate(attempt)) {
        return true;
    }
    munmap(attempt->address, attempt->size);
    return false;
}

/* Fill in what this kind of pages makes of the request; false when it cannot serve it.
 * Populating more than there is would wake the OOM killer. */
static bool attempt_prepare(struct attempt *attempt,
    const struct mrp_map_request *request, const struct mrp_system *system)
{
    size_t base = base_page_size();
    bool thp = attempt->pages == MRP_PAGES_THP;
    bool hugetlb = is_hugetlb(attempt->pages);
    size_t huge = attempt->pages == MRP_PAGES_1G ? HUGE_1G : HUGE_2M;
    size_t page_size = hugetlb ? huge : base;
    size_t least = thp ? HUGE_2M : base;
    attempt->page_size = page_size;
    attempt->alignment = request->alignment > least ? request->alignment : least;
    attempt->size = request->size;
    if (thp && (!system->transparent_huge || request->size < HUGE_2M)) {
        return attempt_failed(attempt, "madvise", ENOTSUP);
    }
    bool too_large = !hugetlb && attempt->prefault && system->memory_size &&
        request->size > system->memory_size;
    if (too_large || request->size > PTRDIFF_MAX - (page_size - 1)) {
        return attempt_failed(attempt, "mmap", ENOMEM);
    }
    attempt->size = (request->size + page_size - 1) & ~(page_size - 1);
    return true;
}

/* -- reports -- */

static size_t count_maps(void)
{
    FILE *file = fopen("/proc/self/maps", "re");
    if (!file) {
        return 0;
    }
    size_t lines = 0;
    for (int c = getc(file); c != EOF; c = getc(file)) {
        lines += c == '\n';
    }
    fclose(file);
    return lines;
}

static enum mrp_status report_no_memory(const struct attempt *attempt)
{
    struct mrp_system system = MRP_SYSTEM_INIT;
    mrp_system_query(&system);
    size_t n_maps = count_maps();
    /* The kernel counts without the vsyscall line, and a cut may need two more. */
    if (system.max_map_count && n_maps + 2 >= system.max_map_count) {
        return mrp_fail(MRP_ERR_LIMIT, attempt->native,
            "%s of %zu bytes: this process has %zu of the %zu mappings it may have: "
            "raise vm.max_map_count with sysctl, or use larger chunks",
            attempt->call, attempt->size, n_maps, system.max_map_count);
    }
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    getrlimit(RLIMIT_AS, &limit);
    char statm[128]; /* begins with the pages of address space in use */
    line_read("/proc/self/statm", statm, sizeof statm);
    size_t used = strtoul(statm, NULL, 10) * base_page_size();
    if (limit.rlim_cur != RLIM_INFINITY &&
        (used > limit.rlim_cur || attempt->size > limit.rlim_cur - used)) {
        return mrp_fail(MRP_ERR_LIMIT, attempt->native,
            "%s of %zu bytes aligned to %zu: this process uses %zu of the %zu bytes of "
            "address space it may have: raise RLIMIT_AS (ulimit -v), or ask for less",
            attempt->call, attempt->size, attempt->alignment, used,
            (size_t)limit.rlim_cur);
    }
    return mrp_fail(MRP_ERR_MEMORY, attempt->native,
        "%s of %zu bytes aligned to %zu: no memory, of %zu bytes the machine or cgroup "
        "has (%zu of %zu mappings and %zu bytes of address space in use): ask for less, "
        "or see vm.overcommit_memory and RLIMIT_DATA",
        attempt->call, attempt->size, attempt->alignment, system.memory_size, n_maps,
        system.max_map_count, used);
}

static enum mrp_status report_other(const struct attempt *attempt)
{
    return mrp_fail(MRP_ERR_SYSTEM, attempt->native,
        "%s of %zu bytes aligned to %zu failed with errno %d: see the system's log",
        attempt->call, attempt->size, attempt->alignment, attempt->native);
}

static enum mrp_status report_bind(const struct attempt *attempt)
{
    int node = attempt->node - 1;
    switch (attempt->native) {
    case ENOSYS:
        return mrp_fail(MRP_ERR_UNSUPPORTED, ENOSYS,
            "this kernel cannot bind %zu bytes to node %d, it is built without NUMA: "
            "leave 'node' zero",
            attempt->size, node);
    case EPERM:
        return mrp_fail(MRP_ERR_SYSTEM, EPERM,
            "mbind of %zu bytes to node %d is forbidden, in a container mostly by its "
            "seccomp profile: give it CAP_SYS_NICE, or leave 'node' zero",
            attempt->size, node);
    case EINVAL:
        return mrp_fail(MRP_ERR_INVALID, EINVAL,
            "mbind of %zu bytes to node %d: this process may not use that node: choose "
            "one of Mems_allowed_list in /proc/self/status",
            attempt->size, node);
    default:
        return report_other(attempt);
    }
}

static enum mrp_status attempt_report(const struct attempt *attempt)
{
    struct mrp_system system = MRP_SYSTEM_INIT;
    if (strcmp(attempt->call, "mbind") == 0) {
        return report_bind(attempt);
    }
    if (strcmp(attempt->call, "node") == 0) {
        return mrp_fail(MRP_ERR_MEMORY, ENOMEM,
            "node %d has %zu bytes free or reclaimable, %zu wanted: choose another node, "
            "free memory there, or leave 'node' zero",
            attempt->node - 1, node_free_size(attempt->node), attempt->size);
    }
    if (attempt->native == ENOMEM) {
        return report_no_memory(attempt);
    }
    if (attempt->native == EAGAIN) {
        mrp_system_query(&system);
        return mrp_fail(MRP_ERR_LIMIT, EAGAIN,
            "%s of %zu bytes: the process locks all it maps (mlockall), %zu of %zu bytes "
            "are locked: raise RLIMIT_MEMLOCK (ulimit -l)",
            attempt->call, attempt->size, system.locked_size, system.memlock_limit);
    }
    return report_other(attempt);
}

/* -- the operations -- */

static enum mrp_status pages_check(enum mrp_pages pages)
{
    if ((int)pages < MRP_PAGES_DEFAULT || pages > MRP_PAGES_1G) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "'pages' is %d, which is no kind of page: take MRP_PAGES_AUTO (%d) to "
            "MRP_PAGES_1G (%d)",
            (int)pages, MRP_PAGES_AUTO, MRP_PAGES_1G);
    }
    return MRP_OK;
}

static enum mrp_status params_check(const struct mrp_backend_params *params)
{
    if (params->address || params->size) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "backend mmap has no use for '%s': leave it zero, or use backend array",
            params->address ? "address" : "size");
    }
    if (params->prefault < -1 || params->prefault > 1) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "'prefault' is %d: take 1 for on, -1 for off, 0 for the default",
            params->prefault);
    }
    enum mrp_status status = pages_check(params->pages);
    return status ? status : node_check(params->node);
}

static enum mrp_status mmap_create(const struct mrp_backend_params *params, void **state)
{
    enum mrp_status status = params_check(params);
    if (status) {
        return status;
    }
    struct mmap_backend *backend = malloc(sizeof *backend);
    if (!backend) {
        return mrp_fail(MRP_ERR_MEMORY, errno,
            "no %zu bytes of heap for the record of a backend: free memory first",
            sizeof *backend);
    }
    backend->pages = params->pages ? params->pages : MRP_PAGES_AUTO;
    backend->node = params->node;
    backend->prefault = params->prefault >= 0;
    backend->prefault_threads = params->prefault_threads;
    *state = backend;
    return MRP_OK;
}

/* AUTO does not spend a huge page on less than one. */
static enum mrp_pages pages_resolve(
    enum mrp_pages pages, size_t size, const struct mrp_system *system)
{
    if (pages != MRP_PAGES_AUTO) {
        return pages;
    }
    bool enough = size >= HUGE_2M && (size - 1) / HUGE_2M < system->huge_2m_free;
    return enough ? MRP_PAGES_2M : MRP_PAGES_THP;
}

static void mapping_fill(struct mrp_mapping *mapping, const struct attempt *attempt,
    enum mrp_pages pages_wanted)
{
    *mapping = (struct mrp_mapping){
        .struct_size = sizeof *mapping,
        .address = attempt->address,
        .size = attempt->size,
        .page_size = attempt->page_size,
        .pages = attempt->pages,
        .pages_wanted = pages_wanted,
        .node = attempt->node,
        .zeroed = true,
        .prefaulted = attempt->prefault,
    };
}

static enum mrp_status mmap_map(
    void *state, const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    const struct mmap_backend *backend = state;
    enum mrp_status status = pages_check(request->pages);
    status = status ? status : node_check(request->node);
    if (status) {
        return status;
    }
    struct mrp_system system = MRP_SYSTEM_INIT;
    mrp_system_query(&system); /* what it does not know reads as "none" */
    enum mrp_pages wanted = pages_resolve(
        request->pages ? request->pages : backend->pages, request->size, &system);
    /* Smaller kinds have smaller numbers, down to base pages. */
    for (enum mrp_pages pages = wanted;; pages--) {
        struct attempt attempt = {
            .pages = pages,
            .node = request->node ? request->node : backend->node,
            .prefault = backend->prefault,
            .prefault_threads = backend->prefault_threads,
        };
        if (attempt_prepare(&attempt, request, &system) && attempt_run(&attempt)) {
            mapping_fill(mapping, &attempt, wanted);
            return MRP_OK;
        }
        if (pages == MRP_PAGES_4K) {
            return attempt_report(&attempt);
        }
    }
}

static enum mrp_status mmap_unmap(void *state, const struct mrp_mapping *mapping)
{
    (void)state;
    if (munmap(mapping->address, mapping->size) != 0) {
        int native = errno;
        return mrp_fail(MRP_ERR_SYSTEM, native,
            "munmap of %zu bytes at %p failed with errno %d, %zu mappings in use: at the "
            "limit of vm.max_map_count raise that, else the mapping was changed",
            mapping->size, mapping->address, native, count_maps());
    }
    return MRP_OK;
}

static void mmap_query(void *state, struct mrp_backend_info *info)
{
    (void)state;
    info->granularity = base_page_size();
    info->max_size = 0;
}

const struct mrp_backend_ops mrp_backend_mmap = {
    .struct_size = sizeof(struct mrp_backend_ops),
    .kind = "mmap",
    .purpose = "anonymous memory of the system, on huge pages where there are any",
    .memory_kind = MRP_MEMORY_HOST,
    .chooses_pages = true,
    .map = mmap_map,
    .unmap = mmap_unmap,
    .create = mmap_create,
    .destroy = free,
    .query = mmap_query,
};
