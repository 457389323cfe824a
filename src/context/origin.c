/* SPDX-License-Identifier: BSD-3-Clause */
#include "context/origin.h"

#include "base/align.h"
#include "base/atomic.h"
#include "base/process.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__has_include)
#if __has_include(<execinfo.h>)
#include <execinfo.h>
#define HAS_BACKTRACE 1
#endif
#endif

#define BUCKETS 4096
#define ORIGINS_MAX 65536
#define OWN_FRAMES 16 /* of the library, above the caller's */

struct mrp_origin {
    struct mrp_origin *next; /* of its bucket */
    size_t n_frames;
    const void *frames[]; /* return addresses, innermost first */
};

/* Chains only grow at their front, and nothing is ever freed: they are read without a
 * lock. Added to under the process lock, which a fork leaves whole in the child. */
static _Atomic(struct mrp_origin *) buckets[BUCKETS];
static size_t n_origins; /* under the process lock */

/* -- capture -- */

/* The caller's frames into frames[]; at least the caller itself. */
static size_t unwind(const void *caller, const void *frames[MRP_ORIGIN_FRAMES])
{
    size_t n_frames = 1;

    frames[0] = caller;
#ifdef HAS_BACKTRACE
    {
        void *all[MRP_ORIGIN_FRAMES + OWN_FRAMES];
        size_t n_all = (size_t)backtrace(all, MRP_ORIGIN_FRAMES + OWN_FRAMES), first = 0;

        while (first < n_all && all[first] != caller) {
            first++;
        }
        if (first < n_all) {
            n_frames = mrp_min(n_all - first, MRP_ORIGIN_FRAMES);
            memcpy(frames, all + first, n_frames * sizeof frames[0]);
        }
    }
#endif
    return n_frames;
}

/* FNV-1a over the addresses. */
static size_t bucket_of(const void *const *frames, size_t n_frames)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t i = 0; i < n_frames; i++) {
        hash = (hash ^ (uintptr_t)frames[i]) * UINT64_C(0x100000001b3);
    }
    return (size_t)(hash ^ hash >> 32) % BUCKETS;
}

static struct mrp_origin *find(size_t bucket, const void *const *frames, size_t n_frames)
{
    /* pairs with the release in intern() */
    struct mrp_origin *origin = mrp_load_acquire(&buckets[bucket]);

    while (origin != NULL &&
        (origin->n_frames != n_frames ||
            memcmp(origin->frames, frames, n_frames * sizeof frames[0]) != 0)) {
        origin = origin->next;
    }
    return origin;
}

/* Another thread may have brought the same one meanwhile. */
static struct mrp_origin *intern(size_t bucket, struct mrp_origin *fresh)
{
    struct mrp_origin *known;

    mrp_process_lock();
    known = find(bucket, fresh->frames, fresh->n_frames);
    if (known == NULL && n_origins < ORIGINS_MAX) {
        n_origins++;
        fresh->next = mrp_load_relaxed(&buckets[bucket]);
        mrp_store_release(&buckets[bucket], fresh);
        known = fresh;
    }
    mrp_process_unlock();
    return known;
}

const struct mrp_origin *mrp_origin_capture(const void *caller)
{
    const void *frames[MRP_ORIGIN_FRAMES];
    size_t n_frames = unwind(caller, frames);
    size_t bucket = bucket_of(frames, n_frames);
    struct mrp_origin *known = find(bucket, frames, n_frames), *fresh;

    if (known != NULL) {
        return known;
    }
    fresh = malloc(sizeof *fresh + n_frames * sizeof frames[0]);
    if (fresh == NULL) {
        return NULL;
    }
    fresh->n_frames = n_frames;
    memcpy(fresh->frames, frames, n_frames * sizeof frames[0]);
    known = intern(bucket, fresh);
    if (known != fresh) {
        free(fresh);
    }
    return known;
}

/* -- in words -- */

void mrp_caller_describe(const void *caller, char *text, size_t size)
{
    /* where it calls, not where it goes on: that may be the next function already */
    const char *call = (const char *)caller - 1;
    Dl_info symbol;

    if (dladdr(call, &symbol) != 0 && symbol.dli_fname != NULL) {
        const char *slash = strrchr(symbol.dli_fname, '/');
        const char *file = slash != NULL ? slash + 1 : symbol.dli_fname;
        const char *name = symbol.dli_sname != NULL ? symbol.dli_sname : "";
        const void *base = symbol.dli_sname != NULL ? symbol.dli_saddr : symbol.dli_fbase;

        snprintf(text, size, "%s+%#zx (%s)", name,
            (size_t)((uintptr_t)caller - (uintptr_t)base), file);
    } else {
        snprintf(text, size, "%p", caller);
    }
}

void mrp_origin_describe(const struct mrp_origin *origin, char *text, size_t size)
{
    size_t length = 0;

    for (size_t i = 0; i < origin->n_frames && length < size; i++) {
        char frame[160];

        mrp_caller_describe(origin->frames[i], frame, sizeof frame);
        length += (size_t)snprintf(
            text + length, size - length, "%s%s", i == 0 ? "" : " < ", frame);
    }
}
