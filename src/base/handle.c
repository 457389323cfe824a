/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/handle.h"

#include "base/atomic.h"
#include "base/process.h"

#include <stdlib.h>

#define HANDLE_MARK 0x9u /* odd: no handle is a valid pointer to anything aligned */
#define SLOTS_PER_BLOCK 256u
#define BLOCKS_MAX 4096u

struct slot {
    _Atomic uint64_t handle; /* 0: free */
    void *object;
    uint32_t epoch;
    uint32_t generation;
    uint32_t next_free; /* index + 1 */
};

/* Blocks are never freed, so a lookup may read any slot of a published block at any time.
 */
static _Atomic(struct slot *) blocks[BLOCKS_MAX];
static uint32_t n_slots, first_free; /* under the process lock */

static const char *kind_name(enum mrp_handle_kind kind)
{
    static const char *const names[] = {
        "object", "context", "backend", "provider", "import", "thread slot"};

    return names[kind];
}

static struct slot *slot_at(uint32_t index)
{
    struct slot *block;

    if (index >= SLOTS_PER_BLOCK * BLOCKS_MAX) {
        return NULL;
    }
    /* pairs with the release in take_slot: a published block reads as zeroed */
    block = mrp_load_acquire(&blocks[index / SLOTS_PER_BLOCK]);
    return block == NULL ? NULL : &block[index % SLOTS_PER_BLOCK];
}

/* Under the process lock. */
static bool take_slot(uint32_t *index)
{
    if (first_free != 0) {
        *index = first_free - 1;
        first_free = slot_at(*index)->next_free;
        return true;
    }
    if (n_slots == SLOTS_PER_BLOCK * BLOCKS_MAX) {
        mrp_fail(MRP_ERR_LIMIT, 0,
            "%u contexts, backends, providers, imports and thread slots are live: "
            "destroy some",
            n_slots);
        return false;
    }
    if (n_slots % SLOTS_PER_BLOCK == 0) {
        struct slot *block = calloc(SLOTS_PER_BLOCK, sizeof *block);

        if (block == NULL) {
            mrp_fail(MRP_ERR_MEMORY, 0, "malloc of %zu bytes for handles failed",
                SLOTS_PER_BLOCK * sizeof *block);
            return false;
        }
        mrp_store_release(&blocks[n_slots / SLOTS_PER_BLOCK], block);
    }
    *index = n_slots++;
    return true;
}

void *mrp_handle_create(enum mrp_handle_kind kind, void *object)
{
    uint64_t handle = 0;
    uint32_t index;

    mrp_process_lock();
    if (take_slot(&index)) {
        struct slot *slot = slot_at(index);

        slot->object = object;
        slot->epoch = mrp_process_epoch;
        slot->generation++;
        handle = (uint64_t)slot->generation << 32 | (uint64_t)index << 8 |
            (uint64_t)kind << 4 | HANDLE_MARK;
        /* pairs with the acquire in find_slot: object and epoch are there to be read */
        mrp_store_release(&slot->handle, handle);
    }
    mrp_process_unlock();
    return (void *)(uintptr_t)handle; /* NOLINT(performance-no-int-to-ptr) */
}

static enum mrp_status find_slot(
    enum mrp_handle_kind kind, const void *handle, struct slot **found)
{
    uint64_t value = (uintptr_t)handle;
    struct slot *slot;

    if (handle == NULL) {
        return mrp_fail(
            MRP_ERR_STALE, 0, "the %s is NULL: create one first", kind_name(kind));
    }
    if ((value & 0xff) != ((uint64_t)kind << 4 | HANDLE_MARK) ||
        (slot = slot_at((uint32_t)value >> 8)) == NULL) {
        return mrp_fail(
            MRP_ERR_STALE, 0, "%p is not a %s of this library", handle, kind_name(kind));
    }
    if (mrp_load_acquire(&slot->handle) != value) {
        return mrp_fail(MRP_ERR_STALE, 0,
            "the %s %p has been destroyed, or never was one", kind_name(kind), handle);
    }
    if (slot->epoch != mrp_process_epoch) {
        return mrp_fail(MRP_ERR_FORKED, 0,
            "the %s belongs to the parent process: create one of your own after fork",
            kind_name(kind));
    }
    *found = slot;
    return MRP_OK;
}

enum mrp_status mrp_handle_get(
    enum mrp_handle_kind kind, const void *handle, void **object)
{
    struct slot *slot = NULL;
    enum mrp_status status = find_slot(kind, handle, &slot);

    if (status == MRP_OK) {
        *object = slot->object;
    }
    return status;
}

enum mrp_status mrp_handle_destroy(enum mrp_handle_kind kind, const void *handle)
{
    struct slot *slot = NULL;
    enum mrp_status status;

    mrp_process_lock();
    status = find_slot(kind, handle, &slot);
    if (status == MRP_OK) {
        uint32_t index = (uint32_t)((uintptr_t)handle >> 8) & 0xffffffu;

        mrp_store_relaxed(&slot->handle, 0);
        slot->next_free = first_free;
        first_free = index + 1;
    }
    mrp_process_unlock();
    return status;
}
