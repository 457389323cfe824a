/* SPDX-License-Identifier: BSD-3-Clause */
#include "pool/range.h"

#include "base/process.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

_Atomic uint8_t mrp_range_known[MRP_RANGES_MAX];

/* Wiped ranges, oldest first: the longer a range rests, the later a stale handle into it
 * could meet a live region of another pool. Under the process lock. */
struct resting {
    void *range;
    struct resting *next;
};
static struct resting *oldest, **newest = &oldest;

void *mrp_reserve_addresses(void *where, size_t size)
{
    int fixed = where != NULL ? MAP_FIXED : 0;
    void *address = mmap(where, size, PROT_READ,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);

    if (address == MAP_FAILED) {
        return NULL;
    }
    /* what mlockall has locked of it would count against memlock; munlock of a sanitizer's
     * does nothing */
    syscall(SYS_munlock, address, size);
    return address;
}

static void *reserve(void)
{
    char *address = mrp_reserve_addresses(NULL, 2 * MRP_RANGE_SIZE);
    char *aligned;
    size_t before;

    if (address == NULL && errno == EAGAIN) {
        mrp_fail(MRP_ERR_LIMIT, errno,
            "cannot reserve 4 GiB of addresses for a pool: the program locks all its "
            "memory (mlockall), and memlock does not allow it: raise memlock (ulimit "
            "-l)");
        return NULL;
    }
    if (address == NULL) {
        mrp_fail(MRP_ERR_MEMORY, errno,
            "cannot reserve 4 GiB of addresses for a pool: raise the address space limit "
            "(ulimit -v) or vm.max_map_count");
        return NULL;
    }
    aligned = (char *)mrp_align_up((uintptr_t)address, MRP_RANGE_SIZE); /* NOLINT */
    before = (size_t)(aligned - address);
    if (before > 0) {
        munmap(address, before);
    }
    munmap(aligned + MRP_RANGE_SIZE, MRP_RANGE_SIZE - before);
    return aligned;
}

static void *take_resting(void)
{
    struct resting *resting;
    void *range = NULL;

    mrp_process_lock();
    resting = oldest;
    if (resting != NULL) {
        oldest = resting->next;
        if (oldest == NULL) {
            newest = &oldest;
        }
        range = resting->range;
    }
    mrp_process_unlock();
    free(resting);
    return range;
}

void *mrp_range_acquire(void)
{
    void *range = take_resting();

    if (range == NULL) {
        range = reserve();
    }
    if (range == NULL) {
        return NULL;
    }
    if (mprotect(range, MRP_CHUNK_TABLE_OFFSET, PROT_READ | PROT_WRITE) != 0) {
        mrp_fail(MRP_ERR_MEMORY, errno, "cannot commit %zu bytes for a pool",
            MRP_CHUNK_TABLE_OFFSET);
        mrp_range_release(range, false);
        return NULL;
    }
    mrp_store_release(&mrp_range_known[(uintptr_t)range >> MRP_RANGE_SHIFT], 1);
    return range;
}

void mrp_range_release(void *range, bool is_leaked)
{
    struct resting *resting = is_leaked ? NULL : malloc(sizeof *resting);

    /* Replaces every page; a reader meanwhile sees either the old or a zero page. */
    if (mrp_reserve_addresses(range, MRP_RANGE_SIZE) == NULL || resting == NULL) {
        free(resting); /* never used again, which is safe */
        return;
    }
    resting->range = range;
    resting->next = NULL;
    mrp_process_lock();
    *newest = resting;
    newest = &resting->next;
    mrp_process_unlock();
}

enum mrp_status mrp_range_commit(
    void *range, struct mrp_area *area, size_t offset, const char *what)
{
    size_t target;

    if (offset <= area->committed) {
        return MRP_OK;
    }
    if (offset > area->end) {
        return mrp_fail(MRP_ERR_LIMIT, 0,
            "the pool's room for %s (%zu MiB) is full: use larger blocks or a second "
            "pool",
            what, (area->end - area->begin) / MRP_MIB);
    }
    target =
        mrp_min(mrp_align_up(offset - area->begin, area->step) + area->begin, area->end);
    if (mprotect((char *)range + area->committed, target - area->committed,
            PROT_READ | PROT_WRITE) != 0) {
        return mrp_fail(MRP_ERR_MEMORY, errno,
            "cannot commit %zu bytes for %s: free memory, or raise vm.max_map_count",
            target - area->committed, what);
    }
    area->committed = target;
    return MRP_OK;
}
