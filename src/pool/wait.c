/* SPDX-License-Identifier: BSD-3-Clause */
#include "pool/wait.h"
#include "pool/depot.h"
#include "pool/growth.h"
#include "pool/large.h"

#include "base/clock.h"
#include "base/error.h"
#include "pool/cache.h"

#define LOOK_AGAIN UINT64_C(100000000) /* ns: for room that comes from outside */

enum {
    IN_NO_LINE, /* also a waiter that was never used: all zero */
    WAITING,
    OFFERED, /* it is about to try growing, or trying */
    SERVED, /* waiter->region is its own */
    CALLED /* it is about to be notified */
};

/* -- the line: under the mutex -- */

/* While somebody waits, all classes are asked for: what fills a slab of one makes room for
 * another. What has been freed before has been counted by nobody. */
static void ask_for_all(struct mrp_pool *pool)
{
    struct mrp_thread *cursor = NULL;
    struct mrp_cache_slot *slot;

    for (size_t i = 0; i <= MRP_CLASSES_MAX; i++) {
        _Atomic uint32_t *asks = &pool->depots[i].asks;

        mrp_store_relaxed(asks, mrp_load_relaxed(asks) | MRP_ASKS_POOL);
        pool->depots[i].sift_due = pool->depots[i].n_regions > 0;
    }
    mrp_fence_seq_cst(); /* as in ask() of grow.c */
    while ((slot = mrp_thread_next(pool, &cursor)) != NULL) {
        MRP_FOR_ACTIVE(slot, bin)
        {
            mrp_store_relaxed(&slot->limit[bin], NULL);
        }
    }
}

static void ask_no_more(struct mrp_pool *pool)
{
    for (size_t i = 0; i <= MRP_CLASSES_MAX; i++) {
        _Atomic uint32_t *asks = &pool->depots[i].asks;

        mrp_store_relaxed(asks, mrp_load_relaxed(asks) & ~MRP_ASKS_POOL);
    }
}

static void join(struct mrp_pool *pool, struct mrp_waiter *waiter)
{
    struct mrp_waiter *before = pool->line_last;

    if (waiter->turn == 0) {
        waiter->turn = ++pool->n_waits;
        waiter->tried = 0;
    }
    while (before != NULL && before->turn > waiter->turn) { /* one who comes back */
        before = before->previous;
    }
    waiter->previous = before;
    waiter->next = before == NULL ? pool->line_first : before->next;
    *(waiter->next != NULL ? &waiter->next->previous : &pool->line_last) = waiter;
    *(before != NULL ? &before->next : &pool->line_first) = waiter;
    waiter->state = WAITING;
    waiter->region = NULL;
    pool->depots[waiter->class_index].n_waiting++;
    mrp_store_relaxed(&pool->n_waiting, mrp_load_relaxed(&pool->n_waiting) + 1);
    mrp_add_relaxed(&pool->context->n_waiting, 1);
    if (mrp_load_relaxed(&pool->n_waiting) == 1) {
        pool->n_rooms_seen = pool->n_rooms; /* it tries with what there is */
        ask_for_all(pool);
    }
}

static void leave(struct mrp_pool *pool, struct mrp_waiter *waiter)
{
    *(waiter->next != NULL ? &waiter->next->previous : &pool->line_last) =
        waiter->previous;
    *(waiter->previous != NULL ? &waiter->previous->next : &pool->line_first) =
        waiter->next;
    if (waiter->state == OFFERED) { /* what it was offered is another's now */
        pool->n_offered--;
        mrp_line_room(pool);
    }
    waiter->state = IN_NO_LINE;
    pool->depots[waiter->class_index].n_waiting--;
    mrp_store_relaxed(&pool->n_waiting, mrp_load_relaxed(&pool->n_waiting) - 1);
    mrp_sub_relaxed(&pool->context->n_waiting, 1);
    if (mrp_load_relaxed(&pool->n_waiting) == 0) {
        ask_no_more(pool);
    }
}

static bool is_async(const struct mrp_waiter *waiter)
{
    return waiter->point == NULL;
}

void mrp_line_room(struct mrp_pool *pool)
{
    pool->n_rooms++;
    if (mrp_load_relaxed(&pool->n_waiting) > 0) {
        mrp_store_relaxed(&pool->member.is_owed, true);
    }
}

/* -- calling back -- */

/* It has left the line, and is called back when no lock is held. */
static void call_later(struct mrp_pool *pool, struct mrp_waiter *waiter)
{
    waiter->next = NULL;
    waiter->state = CALLED;
    *(pool->calls_last != NULL ? &pool->calls_last->next : &pool->calls_first) = waiter;
    pool->calls_last = waiter;
    mrp_add_relaxed(&pool->context->n_waiting, 1);
    mrp_store_relaxed(&pool->member.is_owed, true);
}

static struct mrp_waiter *next_call(struct mrp_pool *pool)
{
    struct mrp_waiter *waiter = pool->calls_first;

    if (waiter != NULL) {
        waiter->state = IN_NO_LINE;
        pool->calls_first = waiter->next;
        pool->calls_last = waiter->next == NULL ? NULL : pool->calls_last;
        mrp_sub_relaxed(&pool->context->n_waiting, 1);
    }
    return waiter;
}

/* What it was handed, or what can be had without mapping: that is left to who asks. */
static void call_back(struct mrp_pool *pool, struct mrp_waiter *waiter)
{
    struct mrp_region *region = waiter->region;
    struct mrp_error before = *mrp_error_last();
    enum mrp_status status = MRP_ERR_AGAIN;

    if (region == NULL) {
        region = waiter->class_index == MRP_CLASS_BARE
            ? mrp_large_reuse(pool, waiter->size)
            : mrp_pool_cut(pool, waiter->class_index);
    }
    if (region != NULL) {
        status = mrp_region_hand_over(pool, region, waiter->class_index, waiter->size);
        waiter->turn = 0;
    }
    mrp_error_restore(&before);
    waiter->notify(waiter, status == MRP_OK ? region : NULL, status);
}

/* One thread at a time calls back: a callback that frees would else call the next one from
 * inside, as deep as the line is long. No lock. */
static void call_all(struct mrp_pool *pool)
{
    struct mrp_waiter *waiter;

    pthread_mutex_lock(&pool->mutex);
    if (!pool->is_calling) {
        pool->is_calling = true;
        while ((waiter = next_call(pool)) != NULL) {
            pthread_mutex_unlock(&pool->mutex);
            call_back(pool, waiter);
            pthread_mutex_lock(&pool->mutex);
        }
        pool->is_calling = false;
    }
    pthread_mutex_unlock(&pool->mutex);
}

/* -- serving: under the mutex -- */

/* Hand what is in the depot to those who wait for it. */
static void hand_out(struct mrp_pool *pool, unsigned class)
{
    struct mrp_waiter *waiter = pool->line_first, *next;

    for (; waiter != NULL && class != MRP_CLASS_BARE && pool->depots[class].n_waiting > 0;
         waiter = next) {
        struct mrp_region *region;
        bool is_trying = waiter->state == OFFERED;

        next = waiter->next;
        if (waiter->class_index != class) {
            continue;
        }
        region = mrp_depot_take_locked(pool, class);
        if (region == NULL) {
            return;
        }
        leave(pool, waiter);
        waiter->region = region;
        if (is_async(waiter) && !is_trying) {
            call_later(pool, waiter);
            continue;
        }
        waiter->state = SERVED;
        if (is_trying) { /* it may be waiting for a growth to end */
            mrp_wake_all(&pool->grown);
        }
        if (!is_async(waiter)) {
            mrp_wake_all(waiter->point);
        }
    }
}

static void hand_out_all(struct mrp_pool *pool)
{
    for (unsigned class = 0; class < mrp_n_classes(&pool->classes); class ++) {
        if (pool->depots[class].n_waiting > 0) {
            hand_out(pool, class);
        }
    }
}

/* Sift a class that may have a free slab; false when there is none, or another thread
 * sifts, who settles when it has done. The mutex is released meanwhile. */
static bool sift_one(struct mrp_pool *pool)
{
    unsigned class = 0;

    if (pool->is_sifting || mrp_load_relaxed(&pool->n_waiting) == 0) {
        return false;
    }
    while (class < mrp_n_classes(&pool->classes) && !pool->depots[class].sift_due) {
        class ++;
    }
    if (class == mrp_n_classes(&pool->classes)) {
        return false;
    }
    mrp_pool_sift(pool, class);
    return true;
}

/* The next older one who waits for the same class of blocks, or NULL: what is no use to
 * that one is none to this one. */
static const struct mrp_waiter *elder_of(const struct mrp_waiter *waiter)
{
    const struct mrp_waiter *elder = waiter->previous;

    while (elder != NULL && elder->class_index != waiter->class_index) {
        elder = elder->previous;
    }
    return waiter->class_index == MRP_CLASS_BARE ? NULL : elder;
}

/* Offer what room there is to the oldest who has not tried with it: of each class, and all
 * that are larger than huge. Who is to be called back leaves the line for that; as nobody
 * knows what it will do then, the next is offered the room, too. */
static void offer(struct mrp_pool *pool)
{
    bool is_met[MRP_CLASSES_MAX + 1] = {false};
    struct mrp_waiter *waiter, *next;

    if (pool->n_offered > 0) {
        return; /* who has it goes on */
    }
    for (waiter = pool->line_first; waiter != NULL; waiter = next) {
        bool is_elders = is_met[waiter->class_index];

        next = waiter->next;
        if (waiter->tried == pool->n_rooms || is_elders) {
            is_met[waiter->class_index] = waiter->class_index != MRP_CLASS_BARE;
            waiter->tried = pool->n_rooms;
            continue;
        }
        waiter->tried = pool->n_rooms;
        if (is_async(waiter)) {
            waiter->tried = 0; /* it has not: it may, if it joins again */
            leave(pool, waiter);
            call_later(pool, waiter);
            continue;
        }
        waiter->state = OFFERED;
        pool->n_offered++;
        mrp_wake_all(waiter->point);
        return;
    }
    pool->n_rooms_seen = pool->n_rooms;
}

void mrp_line_settle(struct mrp_pool *pool)
{
    if (mrp_load_relaxed(&pool->n_waiting) == 0) {
        return;
    }
    do {
        hand_out_all(pool);
    } while (sift_one(pool));
    offer(pool);
}

void mrp_line_serve(struct mrp_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    if (mrp_load_relaxed(&pool->member.has_lift)) {
        mrp_store_relaxed(&pool->member.has_lift, false);
        mrp_line_room(pool);
    }
    mrp_line_settle(pool);
    pthread_mutex_unlock(&pool->mutex);
    call_all(pool);
    mrp_pool_end_visit(pool);
}

void mrp_line_end(struct mrp_pool *pool)
{
    mrp_context_serve(pool->context);
}

/* One of the freed regions may be the last that its slab was waiting for. */
static void note(struct mrp_pool *pool, unsigned class, struct mrp_region *const *regions,
    size_t count)
{
    struct mrp_depot *depot = &pool->depots[class];

    if (class == MRP_CLASS_BARE) {
        return;
    }
    if (regions == NULL || pool->is_sifting) {
        depot->sift_due = true;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct mrp_slab *slab = mrp_slab_of(pool, regions[i]);

        if (slab->n_missing == 0 || --slab->n_missing == 0) {
            depot->sift_due = true;
        }
    }
}

void mrp_depot_tell(struct mrp_pool *pool, unsigned class,
    struct mrp_region *const *regions, size_t count)
{
    if ((mrp_depot_asks(pool, class) & ~MRP_ASKS_REFUSED) == 0) {
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    note(pool, class, regions, count);
    mrp_line_settle(pool);
    mrp_wake_all(&pool->grown);
    pthread_mutex_unlock(&pool->mutex);
    mrp_line_end(pool);
}

void mrp_pool_tell_all(struct mrp_pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    for (unsigned class = 0; class < mrp_n_classes(&pool->classes); class ++) {
        if (pool->depots[class].n_regions > 0) {
            note(pool, class, NULL, 0);
        }
    }
    mrp_line_settle(pool);
    pthread_mutex_unlock(&pool->mutex);
    call_all(pool);
    mrp_line_end(pool); /* what sifting has evicted is room for other pools, too */
    mrp_pool_end_visit(pool);
}

/* -- standing in line: under the mutex -- */

static void let_try(struct mrp_pool *pool, struct mrp_waiter *waiter)
{
    if (waiter->state == WAITING && !mrp_line_is_served(pool)) {
        waiter->state = OFFERED;
        waiter->tried = pool->n_rooms;
        pool->n_offered++;
    }
}

/* Somebody grows the class already: what that brings may serve, or there is none. */
static void let_finish(struct mrp_pool *pool, const struct mrp_waiter *waiter)
{
    while (waiter->class_index != MRP_CLASS_BARE &&
        pool->depots[waiter->class_index].growing && waiter->state == OFFERED) {
        mrp_wait(&pool->grown, &pool->mutex);
        hand_out(pool, waiter->class_index);
    }
}

/* Try to grow; the mutex is released meanwhile. Who is served meanwhile has a region
 * already: the new one is for whose turn it is. */
static struct mrp_region *try_growing(struct mrp_pool *pool, struct mrp_waiter *waiter,
    mrp_line_attempt *attempt, void *user)
{
    struct mrp_region *region;

    let_finish(pool, waiter);
    if (waiter->state != OFFERED) {
        return NULL;
    }
    region = attempt(pool, user);
    if (waiter->state == OFFERED) {
        waiter->state = WAITING;
        pool->n_offered--;
    } else if (region != NULL) {
        mrp_depot_put(pool, region);
        pool->depots[waiter->class_index].sift_due = true;
        region = NULL;
    }
    if (region != NULL) {
        leave(pool, waiter);
        mrp_line_room(pool); /* what it has left is for the others */
    }
    if (!is_async(waiter)) { /* which may be called back, and gone, once that unlocks */
        mrp_line_settle(pool);
    }
    return region;
}

/* Take a place, and only then try: what comes back from now on is not missed. */
static struct mrp_region *try_in_line(struct mrp_pool *pool, struct mrp_waiter *waiter,
    mrp_line_attempt *attempt, void *user)
{
    const struct mrp_waiter *elder;
    struct mrp_region *region = NULL;

    if (mrp_load_relaxed(&pool->is_closing)) {
        return NULL;
    }
    join(pool, waiter);
    hand_out(pool, waiter->class_index);
    elder = elder_of(waiter);
    if (elder != NULL) { /* who has tried in vain, or is to try first */
        waiter->tried = elder->tried;
    } else {
        let_try(pool, waiter);
    }
    if (waiter->state == OFFERED) {
        region = try_growing(pool, waiter, attempt, user);
    }
    if (waiter->state == SERVED) {
        region = waiter->region;
        waiter->state = IN_NO_LINE;
    }
    return region;
}

static struct mrp_region *give_up(
    const struct mrp_pool *pool, size_t size, uint32_t wait_ms)
{
    struct mrp_error cause = *mrp_error_last();

    mrp_fail_at(cause.function, cause.status, cause.native,
        "%.360s; waited %u ms in line for %zu bytes, %u others wait still: a thread that "
        "holds the pool's regions itself waits in vain",
        cause.text, wait_ms, size, mrp_load_relaxed(&pool->n_waiting));
    return NULL;
}

/* Before it sleeps it sees to the others: it may be the one who has made room. */
static void sleep_in_line(
    struct mrp_pool *pool, struct mrp_waiter *waiter, uint64_t deadline)
{
    uint64_t again = mrp_clock() + LOOK_AGAIN;

    mrp_line_settle(pool);
    while (mrp_load_relaxed(&pool->member.is_owed) && !pool->is_calling &&
        waiter->state == WAITING && mrp_clock() < deadline) {
        pthread_mutex_unlock(&pool->mutex);
        mrp_line_end(pool);
        pthread_mutex_lock(&pool->mutex);
        mrp_line_settle(pool);
    }
    /* memory of other processes, and limits that are raised, do not tell: the head of the
     * line looks again by itself */
    if (waiter->state == WAITING &&
        !mrp_wait_until(waiter->point, &pool->mutex, mrp_min(deadline, again)) &&
        pool->line_first == waiter && mrp_clock() < deadline) {
        let_try(pool, waiter);
    }
}

/* The deadline has come: what lies there, its free not told yet, still serves. */
static void leave_late(struct mrp_pool *pool, struct mrp_waiter *waiter)
{
    hand_out(pool, waiter->class_index);
    if (waiter->state == WAITING || waiter->state == OFFERED) {
        leave(pool, waiter);
        mrp_line_settle(pool);
    }
}

struct mrp_region *mrp_line_wait(struct mrp_pool *pool, unsigned class, size_t size,
    uint32_t wait_ms, mrp_line_attempt *attempt, void *user)
{
    struct mrp_waiter waiter = {.size = size, .class_index = class, .pool = pool};
    uint64_t deadline =
        wait_ms == UINT32_MAX ? UINT64_MAX : mrp_clock() + (uint64_t)wait_ms * 1000000;
    struct mrp_error cause = *mrp_error_last();
    struct mrp_waitpoint point;
    struct mrp_region *region;

    mrp_wait_init(&point);
    waiter.point = &point;
    region = try_in_line(pool, &waiter, attempt, user);
    while (region == NULL && waiter.state != IN_NO_LINE) {
        if (waiter.state == SERVED) {
            region = waiter.region;
        } else if (mrp_clock() >= deadline) {
            leave_late(pool, &waiter);
        } else if (waiter.state == OFFERED) {
            region = try_growing(pool, &waiter, attempt, user);
            cause = *mrp_error_last();
        } else {
            sleep_in_line(pool, &waiter, deadline);
        }
    }
    mrp_wait_destroy(&point);
    mrp_error_restore(&cause);
    return region != NULL ? region : give_up(pool, size, wait_ms);
}

/* -- without a thread -- */

struct mrp_region *mrp_line_join(struct mrp_pool *pool, unsigned class, size_t size,
    struct mrp_waiter *waiter, mrp_line_attempt *attempt, void *user)
{
    struct mrp_region *region;

    mrp_thread_flush(pool); /* what its caches keep serves others, or itself */
    pthread_mutex_lock(&pool->mutex);
    if (waiter->pool != pool) {
        waiter->turn = 0;
    }
    waiter->pool = pool;
    waiter->point = NULL;
    waiter->size = size;
    waiter->class_index = class;
    region = try_in_line(pool, waiter, attempt, user);
    if (region != NULL) {
        waiter->turn = 0;
    }
    mrp_store_relaxed(&pool->member.is_owed, true); /* whose call ends now sees to it */
    pthread_mutex_unlock(&pool->mutex);
    mrp_line_end(pool);
    return region;
}

enum mrp_status mrp_waiter_cancel(struct mrp_waiter *waiter)
{
    struct mrp_pool *pool = waiter == NULL ? NULL : waiter->pool;
    bool is_waiting = false;

    if (pool != NULL && mrp_pool_is_live(pool)) {
        pthread_mutex_lock(&pool->mutex);
        is_waiting = waiter->state == WAITING;
        if (is_waiting) {
            leave(pool, waiter);
            waiter->turn = 0;
        }
        pthread_mutex_unlock(&pool->mutex);
    }
    return is_waiting ? MRP_OK
                      : mrp_fail(MRP_ERR_NOT_FOUND, 0,
                            "waiter %p stands in no line: it has been notified, is being "
                            "notified, or was never in one",
                            (void *)waiter);
}

void mrp_line_close(struct mrp_pool *pool)
{
    struct mrp_waiter *waiter;

    call_all(pool);
    pthread_mutex_lock(&pool->mutex);
    mrp_store_relaxed(&pool->is_closing, true);
    while ((waiter = pool->line_first) != NULL) {
        leave(pool, waiter);
        waiter->turn = 0;
        pthread_mutex_unlock(&pool->mutex);
        waiter->notify(waiter, NULL, MRP_ERR_STALE);
        pthread_mutex_lock(&pool->mutex);
    }
    pthread_mutex_unlock(&pool->mutex);
}
