/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Retention: what is expensive to make and idle now. One mechanism in the context serves
 * every owner.
 *
 *   all          what may go, in the order of its use: pressure takes the oldest
 *   all kept     what only its owner may give up, likewise
 *   per place    what may go there, with bounds of bytes and count; beyond them the
 *                oldest there goes
 *
 * An item is on one of the first two lists and, where it may go, on that of its place.
 * While it is on a list nobody changes it.
 */
#ifndef MRP_CONTEXT_RETENTION_H
#define MRP_CONTEXT_RETENTION_H

#include "context/budget.h"
#include "mrpool/backend.h"
#include "mrpool/base.h"

#include <pthread.h>

#define MRP_PLACES_MAX 64

/** Where memory lies. Of host memory the node tells; MRP_NODE(n), or 0: bound to none. */
struct mrp_place {
    enum mrp_memory_kind kind;
    int device;
    int node;
};

struct mrp_retained {
    struct mrp_retained *newer, *older; /* of everybody's */
    struct mrp_retained *newer_there, *older_there; /* of its place's */
    struct mrp_retention_place *home;
    uint64_t turn; /* counts additions */
    uint64_t since; /* when it was added: mrp_clock_coarse() */

    /* set by who adds it */
    size_t size; /* bytes it holds */
    const void *owner; /* whose it is: a pool */
    struct mrp_place place;
    /** Counts against no bounds, and goes only when its owner evicts. */
    bool is_kept;
    /** Give the memory up: false when who is using it does that later. Called under no lock,
     *  once the item is off the list. */
    bool (*evict)(struct mrp_retained *item);
    /** What that lifts of the context's budgets; NULL: nothing. Called under the mutex. */
    struct mrp_charge (*worth)(const struct mrp_retained *item);

    struct mrp_charge lifts; /* worth(), once it is off the list to be evicted */
};

/** Which items are meant. Under the mutex. */
typedef bool mrp_retained_test(const struct mrp_retained *item, const void *user);

/** Ends of a list. */
struct mrp_retained_list {
    struct mrp_retained *newest, *oldest;
};

/** What is retained of one place. Free when it has neither items nor bounds of its own. */
struct mrp_retention_place {
    struct mrp_place place;
    bool is_shared; /* stands for all places that found no record of their own */
    bool has_bounds; /* of its own; else those of all */
    size_t max_items, max_size;
    size_t n_items, size; /* of what may go: */
    struct mrp_retained_list items;
    size_t n_kept, kept_size;
    uint64_t oldest_since; /* for mrp_retention_visit(): of what may go; 0: nothing may */
};

struct mrp_retention {
    pthread_mutex_t mutex; /* leaf lock */
    uint64_t last_turn;
    struct mrp_retained_list lists[2]; /* by is_kept */
    size_t max_items, max_size; /* of each place without bounds of its own */
    struct mrp_charge leaving; /* what evictions that are under way lift */
    size_t n_leaving; /* of items */
    size_t n_places; /* records that have ever been used */
    struct mrp_retention_place places[MRP_PLACES_MAX + 1]; /* the last is shared */
};

void mrp_retention_create(
    struct mrp_retention *retention, size_t max_items, size_t max_size);
void mrp_retention_destroy(struct mrp_retention *retention);

/** Keep an item; the oldest of its place beyond the bounds are evicted before this
 *  returns, the item itself if it alone is too large. */
void mrp_retention_add(struct mrp_retention *retention, struct mrp_retained *item);

/** Take the most recent item of `owner` that holds at least `size` bytes and no more than
 *  `max_size`, and satisfies `accepts` (NULL: any), off the list; NULL when there is none. */
struct mrp_retained *mrp_retention_take(struct mrp_retention *retention,
    const void *owner, size_t size, size_t max_size, mrp_retained_test *accepts,
    const void *accepts_user);

/** Evict the oldest items of `owner` (NULL: of anybody, but none that is kept) that satisfy
 *  `accepts` (NULL: any), until `size` bytes have gone. @return how many items went; what
 *  is evicted later by who uses it does not count. */
size_t mrp_retention_evict(struct mrp_retention *retention, const void *owner,
    size_t size, mrp_retained_test *accepts, const void *accepts_user);

/** Evict the oldest items, of anybody but none that is kept, which lift some of what is
 *  lacking, until all of it is lifted, with what other threads' evictions are about to lift.
 *  None where all that could not be enough. @return how many items went; *is_coming: there
 *  are other threads' evictions to wait for. */
size_t mrp_retention_relieve(
    struct mrp_retention *retention, const struct mrp_charge *lacking, bool *is_coming);

/** Whether evictions are under way. */
bool mrp_retention_is_evicting(struct mrp_retention *retention);

/** Evict items of `owner` (NULL: of anybody) that were added before `before`, oldest first
 *  and none that is kept, at most `max_items`; passes over those without which less than
 *  `keep` bytes of the owner's would be left. @return how many items went. */
size_t mrp_retention_evict_aged(struct mrp_retention *retention, const void *owner,
    uint64_t before, size_t keep, size_t max_items);

/** Set the bounds of one place; what is beyond them is evicted before this returns.
 *  MRP_ERR_LIMIT: MRP_PLACES_MAX others have some. */
enum mrp_status mrp_retention_limit(struct mrp_retention *retention,
    const struct mrp_place *place, size_t max_size, size_t max_items);

/** Count what `owner` (NULL: anybody) has retained that satisfies `accepts` (NULL: any). */
void mrp_retention_count(struct mrp_retention *retention, const void *owner,
    mrp_retained_test *accepts, const void *accepts_user, size_t *n_items, size_t *size);

/** Call `visit` for each place that has items or bounds, from a snapshot with the bounds in
 *  force, under no lock. */
void mrp_retention_visit(struct mrp_retention *retention,
    void (*visit)(const struct mrp_retention_place *place, void *user), void *user);

#endif
