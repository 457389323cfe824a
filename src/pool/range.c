/* SPDX-License-Identifier: BSD-3-Clause */
#include "pool/range.h"

#include "base/process.h"
#include "mrpool/inline.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

_Atomic uint8_t mrp_range_known[MRP_RANGES_MAX];

/* Wiped ranges, oldest first: the longer a range rests, the later a stale handle into it
 * could meet a live region of another pool. Under the process lock. */
struct resting {
    void *range;
    struct resting *next;
};
static struct resting *oldest[MRP_RANGE_PLACES], *newest[MRP_RANGE_PLACES];

/* Addresses for the pools with thread caches; set once. */
static struct {
    char *begin; /* NULL: the system has not as many */
    size_t n_ranges;
    _Atomic size_t n_checked, n_unchecked; /* ranges ever used, from begin and from end */
} window;
static pthread_once_t window_once = PTHREAD_ONCE_INIT;

void *mrp_reserve_addresses(void *where, size_t size)
{
    int fixed = where != NULL ? MAP_FIXED : 0;
    void *address = mmap(where, size, PROT_READ,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | fixed, -1, 0);

    if (address == MAP_FAILED) {
        return NULL;
    }
    /* what mlockall has locked of it would count against memlock; munlock of a
     * sanitizer's does nothing */
    syscall(SYS_munlock, address, size);
    return address;
}

/* `n` ranges of addresses on a 2 GiB boundary; NULL with errno. */
static char *reserve_aligned(size_t n, int protection)
{
    size_t size = n * MRP_RANGE_SIZE;
    char *address = mmap(NULL, size + MRP_RANGE_SIZE, protection,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *aligned;
    size_t before;

    if (address == MAP_FAILED) {
        return NULL;
    }
    aligned = (char *)mrp_align_up((uintptr_t)address, MRP_RANGE_SIZE); /* NOLINT */
    before = (size_t)(aligned - address);
    if (before > 0) {
        munmap(address, before);
    }
    munmap(aligned + size, MRP_RANGE_SIZE - before);
    syscall(SYS_munlock, aligned, size);
    return aligned;
}

/* At most an eighth of the addresses the process may have. */
static void reserve_window(void)
{
    size_t n = MRP_V1_SLOTS;
    struct rlimit limit;

    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) {
        n = mrp_min(n, (size_t)limit.rlim_cur / 8 / MRP_RANGE_SIZE);
    }
    for (; n > 0 && window.begin == NULL; n /= 2) {
        window.begin = reserve_aligned(n, PROT_NONE);
        window.n_ranges = window.begin == NULL ? 0 : n;
    }
}

unsigned mrp_range_slot(const void *range)
{
    size_t distance = (size_t)((const char *)range - window.begin);

    return window.begin == NULL || distance >= window.n_ranges * MRP_RANGE_SIZE
        ? MRP_V1_SLOTS
        : (unsigned)((uintptr_t)range >> MRP_RANGE_SHIFT) % MRP_V1_SLOTS;
}

void mrp_range_window(
    uintptr_t *begin, size_t *checked_end, size_t *unchecked_begin, size_t *unchecked_end)
{
    size_t lines = MRP_RANGE_SIZE / MRP_LINE;

    pthread_once(&window_once, reserve_window);
    *begin = (uintptr_t)window.begin;
    *checked_end = mrp_load_acquire(&window.n_checked) * lines;
    *unchecked_end = window.n_ranges * lines;
    *unchecked_begin = *unchecked_end - mrp_load_acquire(&window.n_unchecked) * lines;
}

/* The next range of the window that was never used, readable; NULL when there is none. */
static void *take_new(enum mrp_range_place place)
{
    size_t checked, unchecked;
    char *range = NULL;

    if (place == MRP_RANGE_ELSEWHERE) {
        return NULL;
    }
    mrp_process_lock();
    checked = mrp_load_relaxed(&window.n_checked);
    unchecked = mrp_load_relaxed(&window.n_unchecked);
    if (checked + unchecked < window.n_ranges) {
        range = window.begin +
            (place == MRP_RANGE_CHECKED ? checked : window.n_ranges - 1 - unchecked) *
                MRP_RANGE_SIZE;
        if (mrp_reserve_addresses(range, MRP_RANGE_SIZE) == NULL) {
            range = NULL;
        } else if (place == MRP_RANGE_CHECKED) {
            /* pairs with the acquire in mrp_range_window(): who believes it, can read it
             */
            mrp_store_release(&window.n_checked, checked + 1);
        } else {
            mrp_store_release(&window.n_unchecked, unchecked + 1);
        }
    }
    mrp_process_unlock();
    return range;
}

static void *reserve_elsewhere(void)
{
    void *range = reserve_aligned(1, PROT_READ);

    if (range == NULL && errno == EAGAIN) {
        mrp_fail(MRP_ERR_LIMIT, errno,
            "cannot reserve 4 GiB of addresses for a pool: the program locks all its "
            "memory (mlockall), and memlock does not allow it: raise memlock (ulimit "
            "-l)");
    } else if (range == NULL) {
        mrp_fail(MRP_ERR_MEMORY, errno,
            "cannot reserve 4 GiB of addresses for a pool: raise the address space limit "
            "(ulimit -v) or vm.max_map_count");
    }
    return range;
}

static void *take_resting(enum mrp_range_place place)
{
    struct resting *resting;
    void *range = NULL;

    mrp_process_lock();
    resting = oldest[place];
    if (resting != NULL) {
        oldest[place] = resting->next;
        range = resting->range;
    }
    mrp_process_unlock();
    free(resting);
    return range;
}

void *mrp_range_acquire(enum mrp_range_place place)
{
    void *range;

    pthread_once(&window_once, reserve_window);
    range = take_resting(place);
    if (range == NULL) {
        range = take_new(place);
    }
    if (range == NULL && place != MRP_RANGE_ELSEWHERE) {
        range = take_resting(MRP_RANGE_ELSEWHERE);
    }
    if (range == NULL) {
        range = reserve_elsewhere();
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

/* Where in the window it lies; each end only ever serves its own kind of pool. */
static enum mrp_range_place place_of(const void *range)
{
    size_t index = (size_t)((const char *)range - window.begin) / MRP_RANGE_SIZE;

    if (mrp_range_slot(range) == MRP_V1_SLOTS) {
        return MRP_RANGE_ELSEWHERE;
    }
    return index < mrp_load_relaxed(&window.n_checked) ? MRP_RANGE_CHECKED
                                                       : MRP_RANGE_UNCHECKED;
}

void mrp_range_release(void *range, bool is_leaked)
{
    struct resting *resting = is_leaked ? NULL : malloc(sizeof *resting);
    enum mrp_range_place place;

    /* Replaces every page; a reader meanwhile sees either the old or a zero page. */
    if (mrp_reserve_addresses(range, MRP_RANGE_SIZE) == NULL || resting == NULL) {
        free(resting); /* never used again, which is safe */
        return;
    }
    resting->range = range;
    resting->next = NULL;
    place = place_of(range);
    mrp_process_lock();
    if (oldest[place] == NULL) {
        oldest[place] = resting;
    } else {
        newest[place]->next = resting;
    }
    newest[place] = resting;
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
