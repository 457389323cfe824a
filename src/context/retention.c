/* SPDX-License-Identifier: BSD-3-Clause */
#include "context/retention.h"

void mrp_retention_create(
    struct mrp_retention *retention, size_t max_items, size_t max_size)
{
    *retention = (struct mrp_retention){
        .mutex = PTHREAD_MUTEX_INITIALIZER,
        .max_items = max_items,
        .max_size = max_size,
    };
}

void mrp_retention_destroy(struct mrp_retention *retention)
{
    pthread_mutex_destroy(&retention->mutex);
}

static void unlink_item(struct mrp_retention *retention, struct mrp_retained *item)
{
    *(item->newer != NULL ? &item->newer->older : &retention->newest) = item->older;
    *(item->older != NULL ? &item->older->newer : &retention->oldest) = item->newer;
    item->newer = item->older = NULL;
    retention->n_items--;
    retention->size -= item->size;
}

static void link_newest(struct mrp_retention *retention, struct mrp_retained *item)
{
    item->newer = NULL;
    item->older = retention->newest;
    *(item->older != NULL ? &item->older->newer : &retention->oldest) = item;
    retention->newest = item;
    retention->n_items++;
    retention->size += item->size;
}

/* Chain the items through `older` and evict them outside the lock. */
static size_t evict_chain(struct mrp_retained *chain)
{
    size_t n_evicted = 0;

    while (chain != NULL) {
        struct mrp_retained *next = chain->older;

        chain->older = NULL;
        chain->evict(chain);
        n_evicted++;
        chain = next;
    }
    return n_evicted;
}

void mrp_retention_add(struct mrp_retention *retention, struct mrp_retained *item)
{
    struct mrp_retained *chain = NULL;

    pthread_mutex_lock(&retention->mutex);
    link_newest(retention, item);
    while (retention->n_items > retention->max_items ||
        retention->size > retention->max_size) {
        struct mrp_retained *oldest = retention->oldest;

        unlink_item(retention, oldest);
        oldest->older = chain;
        chain = oldest;
    }
    pthread_mutex_unlock(&retention->mutex);
    evict_chain(chain);
}

struct mrp_retained *mrp_retention_take(struct mrp_retention *retention,
    const void *owner, size_t size, size_t max_size,
    bool (*accepts)(const struct mrp_retained *, const void *), const void *accepts_user)
{
    struct mrp_retained *item;

    pthread_mutex_lock(&retention->mutex);
    for (item = retention->newest; item != NULL; item = item->older) {
        if (item->owner == owner && item->size >= size && item->size <= max_size &&
            (accepts == NULL || accepts(item, accepts_user))) {
            unlink_item(retention, item);
            break;
        }
    }
    pthread_mutex_unlock(&retention->mutex);
    return item;
}

size_t mrp_retention_evict(
    struct mrp_retention *retention, const void *owner, size_t size)
{
    struct mrp_retained *chain = NULL, *item, *newer;
    size_t taken = 0;

    pthread_mutex_lock(&retention->mutex);
    for (item = retention->oldest; item != NULL && taken < size; item = newer) {
        newer = item->newer;
        if (owner == NULL || item->owner == owner) {
            taken += item->size;
            unlink_item(retention, item);
            item->older = chain;
            chain = item;
        }
    }
    pthread_mutex_unlock(&retention->mutex);
    return evict_chain(chain);
}

void mrp_retention_count(
    struct mrp_retention *retention, const void *owner, size_t *n_items, size_t *size)
{
    *n_items = *size = 0;
    pthread_mutex_lock(&retention->mutex);
    for (const struct mrp_retained *item = retention->newest; item != NULL;
         item = item->older) {
        if (owner == NULL || item->owner == owner) {
            (*n_items)++;
            *size += item->size;
        }
    }
    pthread_mutex_unlock(&retention->mutex);
}
