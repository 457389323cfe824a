/* SPDX-License-Identifier: BSD-3-Clause */
#include "context/retention.h"

#include "base/align.h"
#include "base/clock.h"

#include <string.h>

void mrp_retention_create(
    struct mrp_retention *retention, size_t max_items, size_t max_size)
{
    *retention = (struct mrp_retention){
        .mutex = PTHREAD_MUTEX_INITIALIZER,
        .max_items = max_items,
        .max_size = max_size,
        .places[MRP_PLACES_MAX].is_shared = true,
    };
}

void mrp_retention_destroy(struct mrp_retention *retention)
{
    pthread_mutex_destroy(&retention->mutex);
}

/* -- places: all under the mutex -- */

static struct mrp_retention_place *elsewhere(struct mrp_retention *retention)
{
    return &retention->places[MRP_PLACES_MAX];
}

static bool is_same(const struct mrp_place *a, const struct mrp_place *b)
{
    return a->kind == b->kind && a->device == b->device && a->node == b->node;
}

static bool is_used(const struct mrp_retention_place *place)
{
    return place->has_bounds || place->n_items > 0 || place->n_kept > 0;
}

/* The record in use for a place; else a free one, or NULL. Few have ever been used. */
static struct mrp_retention_place *find_place(
    struct mrp_retention *retention, const struct mrp_place *wanted)
{
    struct mrp_retention_place *unused = NULL;

    for (size_t i = 0; i < retention->n_places; i++) {
        struct mrp_retention_place *place = &retention->places[i];

        if (is_used(place) && is_same(&place->place, wanted)) {
            return place;
        }
        if (unused == NULL && !is_used(place)) {
            unused = place;
        }
    }
    if (unused == NULL && retention->n_places < MRP_PLACES_MAX) {
        unused = &retention->places[retention->n_places++];
    }
    return unused;
}

static bool is_beyond(
    const struct mrp_retention *retention, const struct mrp_retention_place *place)
{
    return place->has_bounds
        ? place->n_items > place->max_items || place->size > place->max_size
        : place->n_items > retention->max_items || place->size > retention->max_size;
}

static void link_there(struct mrp_retention_place *place, struct mrp_retained *item)
{
    struct mrp_retained *older = place->items.newest;

    item->home = place;
    if (item->is_kept) {
        place->n_kept++;
        place->kept_size += item->size;
        return;
    }
    place->n_items++;
    place->size += item->size;
    item->newer_there = NULL;
    item->older_there = older;
    *(older != NULL ? &older->newer_there : &place->items.oldest) = item;
    place->items.newest = item;
}

static void unlink_there(struct mrp_retained *item)
{
    struct mrp_retention_place *place = item->home;
    struct mrp_retained *newer = item->newer_there, *older = item->older_there;

    item->home = NULL;
    if (item->is_kept) {
        place->n_kept--;
        place->kept_size -= item->size;
        return;
    }
    place->n_items--;
    place->size -= item->size;
    *(newer != NULL ? &newer->older_there : &place->items.newest) = older;
    *(older != NULL ? &older->newer_there : &place->items.oldest) = newer;
    item->newer_there = item->older_there = NULL;
}

/* Put every item of `wanted` on the list of `place`, among those that are there. O(items):
 * for when all records are, or were, in use. */
static void collect(struct mrp_retention *retention, const struct mrp_place *wanted,
    struct mrp_retention_place *place)
{
    for (size_t list = 0; list < 2; list++) {
        for (struct mrp_retained *item = retention->lists[list].oldest; item != NULL;
             item = item->newer) {
            if (item->home == place || is_same(&item->place, wanted)) {
                unlink_there(item);
                link_there(place, item);
            }
        }
    }
}

/* The record of a place, made if there is room for it; else NULL. */
static struct mrp_retention_place *provide_place(
    struct mrp_retention *retention, const struct mrp_place *wanted)
{
    struct mrp_retention_place *place = find_place(retention, wanted);

    if (place != NULL && !is_used(place)) {
        place->place = *wanted;
        if (is_used(elsewhere(retention))) {
            collect(retention, wanted, place);
        }
    }
    return place;
}

/* Let a place without bounds of its own share the last record with others like it; false
 * when there is none. */
static bool vacate_place(struct mrp_retention *retention)
{
    for (size_t i = 0; i < MRP_PLACES_MAX; i++) {
        struct mrp_retention_place *place = &retention->places[i];

        if (!place->has_bounds) {
            struct mrp_place there = place->place;

            collect(retention, &there, elsewhere(retention));
            return true;
        }
    }
    return false;
}

/* -- items: all under the mutex -- */

static void link_newest(struct mrp_retention *retention, struct mrp_retained *item)
{
    struct mrp_retained_list *list = &retention->lists[item->is_kept];

    item->newer = NULL;
    item->older = list->newest;
    *(item->older != NULL ? &item->older->newer : &list->oldest) = item;
    list->newest = item;
}

static void take_off(struct mrp_retention *retention, struct mrp_retained *item)
{
    struct mrp_retained_list *list = &retention->lists[item->is_kept];

    *(item->newer != NULL ? &item->newer->older : &list->newest) = item->older;
    *(item->older != NULL ? &item->older->newer : &list->oldest) = item->newer;
    item->newer = item->older = NULL;
    unlink_there(item);
}

/* Where a walk over both lists is. */
struct walk {
    struct mrp_retained *at, *at_kept;
};

static struct mrp_retained *next_older(struct walk *walk)
{
    bool is_kept = walk->at == NULL ||
        (walk->at_kept != NULL && walk->at_kept->turn > walk->at->turn);
    struct mrp_retained **at = is_kept ? &walk->at_kept : &walk->at, *item = *at;

    *at = item != NULL ? item->older : NULL;
    return item;
}

static struct mrp_retained *next_newer(struct walk *walk)
{
    bool is_kept = walk->at == NULL ||
        (walk->at_kept != NULL && walk->at_kept->turn < walk->at->turn);
    struct mrp_retained **at = is_kept ? &walk->at_kept : &walk->at, *item = *at;

    *at = item != NULL ? item->newer : NULL;
    return item;
}

static bool is_meant(const struct mrp_retained *item, const void *owner,
    mrp_retained_test *accepts, const void *accepts_user)
{
    return (owner == NULL || item->owner == owner) &&
        (accepts == NULL || accepts(item, accepts_user));
}

/* -- what goes -- */

static struct mrp_charge worth_of(const struct mrp_retained *item)
{
    return item->worth != NULL ? item->worth(item) : (struct mrp_charge){0, 0, 0};
}

static void add_charge(struct mrp_charge *sum, const struct mrp_charge *charge)
{
    sum->bytes += charge->bytes;
    sum->pinned += charge->pinned;
    sum->n_registrations += charge->n_registrations;
}

/* As far as there is something to take it from. */
static void take_charge(struct mrp_charge *rest, const struct mrp_charge *charge)
{
    rest->bytes -= mrp_min(rest->bytes, charge->bytes);
    rest->pinned -= mrp_min(rest->pinned, charge->pinned);
    rest->n_registrations -= mrp_min(rest->n_registrations, charge->n_registrations);
}

static bool is_nothing(const struct mrp_charge *charge)
{
    return charge->bytes == 0 && charge->pinned == 0 && charge->n_registrations == 0;
}

/* Under the mutex. */
static void begin_leave(struct mrp_retention *retention, struct mrp_retained *item)
{
    take_off(retention, item);
    item->lifts = worth_of(item);
    add_charge(&retention->leaving, &item->lifts);
    retention->n_leaving++;
}

/* No lock; false: it goes later. */
static bool end_leave(struct mrp_retention *retention, struct mrp_retained *item)
{
    struct mrp_charge lifts = item->lifts; /* the item is gone after that */
    bool has_gone = item->evict(item);

    pthread_mutex_lock(&retention->mutex);
    take_charge(&retention->leaving, &lifts);
    retention->n_leaving--;
    pthread_mutex_unlock(&retention->mutex);
    return has_gone;
}

/* One at a time, here and below: while it goes its network may use pools whose idle memory
 * would be the next. No lock. */
static bool evict_beyond(
    struct mrp_retention *retention, struct mrp_retention_place *place)
{
    struct mrp_retained *item = NULL;

    pthread_mutex_lock(&retention->mutex);
    if (is_beyond(retention, place) && place->items.oldest != NULL) {
        item = place->items.oldest;
        begin_leave(retention, item);
    }
    pthread_mutex_unlock(&retention->mutex);
    if (item != NULL) {
        end_leave(retention, item);
    }
    return item != NULL;
}

void mrp_retention_add(struct mrp_retention *retention, struct mrp_retained *item)
{
    struct mrp_retention_place *place;

    pthread_mutex_lock(&retention->mutex);
    item->turn = ++retention->last_turn;
    item->since = mrp_clock_coarse(); /* under the mutex: later ones are no older */
    place = provide_place(retention, &item->place);
    place = place != NULL ? place : elsewhere(retention);
    link_newest(retention, item);
    link_there(place, item);
    pthread_mutex_unlock(&retention->mutex);
    while (evict_beyond(retention, place)) {
    }
}

static struct mrp_retained *take_oldest(struct mrp_retention *retention,
    const void *owner, mrp_retained_test *accepts, const void *accepts_user)
{
    struct mrp_retained *item;
    struct walk walk;

    pthread_mutex_lock(&retention->mutex);
    walk.at = retention->lists[false].oldest;
    walk.at_kept = owner != NULL ? retention->lists[true].oldest : NULL;
    do {
        item = next_newer(&walk);
    } while (item != NULL && !is_meant(item, owner, accepts, accepts_user));
    if (item != NULL) {
        begin_leave(retention, item);
    }
    pthread_mutex_unlock(&retention->mutex);
    return item;
}

size_t mrp_retention_evict(struct mrp_retention *retention, const void *owner,
    size_t size, mrp_retained_test *accepts, const void *accepts_user)
{
    size_t n_evicted = 0, evicted = 0;
    struct mrp_retained *item;

    while (evicted < size &&
        (item = take_oldest(retention, owner, accepts, accepts_user)) != NULL) {
        size_t item_size = item->size;

        if (end_leave(retention, item)) {
            evicted += item_size;
            n_evicted++;
        }
    }
    return n_evicted;
}

/* Whether what there is lifts all of the rest. Under the mutex. */
static bool is_enough(const struct mrp_retention *retention, struct mrp_charge rest)
{
    for (const struct mrp_retained *item = retention->lists[false].oldest;
         item != NULL && !is_nothing(&rest); item = item->newer) {
        struct mrp_charge worth = worth_of(item);

        take_charge(&rest, &worth);
    }
    return is_nothing(&rest);
}

/* The oldest that lifts some of what is lacking, off the list; NULL when what others evict
 * lifts it, or all there is would not. */
static struct mrp_retained *take_helpful(
    struct mrp_retention *retention, const struct mrp_charge *lacking, bool *is_coming)
{
    struct mrp_retained *item = NULL;
    struct mrp_charge rest = *lacking;
    bool can_be;

    pthread_mutex_lock(&retention->mutex);
    take_charge(&rest, &retention->leaving);
    can_be = is_enough(retention, rest);
    *is_coming = can_be && retention->n_leaving > 0;
    if (can_be && !is_nothing(&rest)) {
        for (item = retention->lists[false].oldest; item != NULL; item = item->newer) {
            struct mrp_charge before = rest, worth = worth_of(item);

            take_charge(&rest, &worth);
            if (memcmp(&before, &rest, sizeof rest) != 0) {
                begin_leave(retention, item);
                break;
            }
        }
    }
    pthread_mutex_unlock(&retention->mutex);
    return item;
}

/* One by one: while one goes, its network may use pools of the others. */
size_t mrp_retention_relieve(
    struct mrp_retention *retention, const struct mrp_charge *lacking, bool *is_coming)
{
    struct mrp_charge rest = *lacking, lifts;
    struct mrp_retained *item;
    size_t n_evicted = 0;

    while (!is_nothing(&rest) &&
        (item = take_helpful(retention, &rest, is_coming)) != NULL) {
        lifts = item->lifts;
        if (end_leave(retention, item)) { /* else others go in its stead */
            take_charge(&rest, &lifts);
            n_evicted++;
        }
    }
    return n_evicted;
}

bool mrp_retention_is_evicting(struct mrp_retention *retention)
{
    bool is_evicting;

    pthread_mutex_lock(&retention->mutex);
    is_evicting = retention->n_leaving > 0;
    pthread_mutex_unlock(&retention->mutex);
    return is_evicting;
}

/* Bytes of the owner's that may go. Under the mutex. */
static size_t sum_size(const struct mrp_retention *retention, const void *owner)
{
    size_t size = 0;

    for (const struct mrp_retained *item = retention->lists[false].newest; item != NULL;
         item = item->older) {
        size += owner == NULL || item->owner == owner ? item->size : 0;
    }
    return size;
}

static struct mrp_retained *take_aged(
    struct mrp_retention *retention, const void *owner, uint64_t before, size_t keep)
{
    struct mrp_retained *item;
    size_t left;

    pthread_mutex_lock(&retention->mutex);
    item = retention->lists[false].oldest;
    left = item != NULL && item->since < before ? sum_size(retention, owner) : 0;
    while (item != NULL && item->since < before &&
        ((owner != NULL && item->owner != owner) || left < keep ||
            left - keep < item->size)) {
        item = item->newer;
    }
    item = item != NULL && item->since < before && left > keep ? item : NULL;
    if (item != NULL) {
        begin_leave(retention, item);
    }
    pthread_mutex_unlock(&retention->mutex);
    return item;
}

size_t mrp_retention_evict_aged(struct mrp_retention *retention, const void *owner,
    uint64_t before, size_t keep, size_t max_items)
{
    struct mrp_retained *item;
    size_t n_evicted = 0;

    for (size_t n = 0;
         n < max_items && (item = take_aged(retention, owner, before, keep)) != NULL;
         n++) {
        n_evicted += end_leave(retention, item);
    }
    return n_evicted;
}

enum mrp_status mrp_retention_limit(struct mrp_retention *retention,
    const struct mrp_place *wanted, size_t max_size, size_t max_items)
{
    struct mrp_retention_place *place;

    pthread_mutex_lock(&retention->mutex);
    place = provide_place(retention, wanted);
    if (place == NULL && vacate_place(retention)) {
        place = provide_place(retention, wanted);
    }
    if (place != NULL) {
        place->has_bounds = true;
        place->max_size = max_size;
        place->max_items = max_items;
    }
    pthread_mutex_unlock(&retention->mutex);
    while (place != NULL &&
        (evict_beyond(retention, place) ||
            evict_beyond(retention, elsewhere(retention)))) {
    }
    return place != NULL
        ? MRP_OK
        : mrp_fail(MRP_ERR_LIMIT, 0,
              "%d places have retention bounds of their own already, the most there can "
              "be: change those of one of them",
              MRP_PLACES_MAX);
}

/* -- what is there -- */

struct mrp_retained *mrp_retention_take(struct mrp_retention *retention,
    const void *owner, size_t size, size_t max_size, mrp_retained_test *accepts,
    const void *accepts_user)
{
    struct mrp_retained *item;
    struct walk walk;

    pthread_mutex_lock(&retention->mutex);
    walk = (struct walk){retention->lists[false].newest, retention->lists[true].newest};
    while ((item = next_older(&walk)) != NULL) {
        if (item->size >= size && item->size <= max_size &&
            is_meant(item, owner, accepts, accepts_user)) {
            take_off(retention, item);
            break;
        }
    }
    pthread_mutex_unlock(&retention->mutex);
    return item;
}

void mrp_retention_count(struct mrp_retention *retention, const void *owner,
    mrp_retained_test *accepts, const void *accepts_user, size_t *n_items, size_t *size)
{
    struct mrp_retained *item;
    struct walk walk;

    *n_items = *size = 0;
    pthread_mutex_lock(&retention->mutex);
    walk = (struct walk){retention->lists[false].newest, retention->lists[true].newest};
    while ((item = next_older(&walk)) != NULL) {
        if (is_meant(item, owner, accepts, accepts_user)) {
            (*n_items)++;
            *size += item->size;
        }
    }
    pthread_mutex_unlock(&retention->mutex);
}

void mrp_retention_visit(struct mrp_retention *retention,
    void (*visit)(const struct mrp_retention_place *place, void *user), void *user)
{
    struct mrp_retention_place places[MRP_PLACES_MAX + 1];
    size_t n_places = 0;

    pthread_mutex_lock(&retention->mutex);
    for (size_t i = 0; i <= MRP_PLACES_MAX; i++) {
        if (is_used(&retention->places[i])) {
            struct mrp_retention_place *place = &places[n_places++];

            *place = retention->places[i];
            place->oldest_since =
                place->items.oldest == NULL ? 0 : place->items.oldest->since;
            place->items = (struct mrp_retained_list){NULL, NULL};
            if (!place->has_bounds) {
                place->max_items = retention->max_items;
                place->max_size = retention->max_size;
            }
        }
    }
    pthread_mutex_unlock(&retention->mutex);
    for (size_t i = 0; i < n_places; i++) {
        visit(&places[i], user);
    }
}
