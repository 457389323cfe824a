/* SPDX-License-Identifier: BSD-3-Clause */
#include "pins.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The account is a sorted array of edges: the addresses where some counted range begins
 * or ends. An edge carries the number of ranges that cover the pages from it to the next
 * one.
 *
 *     ranges        [-------A-------)
 *                          [-------B-------)
 *     edges         1      2        1      0      (n_covers)
 *
 * Adding a range makes at most two edges and removing it takes away at most those two,
 * which is why removal never needs memory. An array beats a tree here: up to ten thousand
 * ranges, moving the edges above a new one costs less than locking a single page, and
 * vm.max_map_count ends it at some thirty thousand. */
struct mrp_host_edge {
    uintptr_t address;
    size_t n_covers; /* ranges over the pages from here to the next edge */
    size_t n_ends; /* ranges that begin or end here: the edge goes with the last */
};

static struct {
    pthread_mutex_t mutex;
    struct mrp_host_edge *edges;
    size_t n_edges, capacity;
} account = {PTHREAD_MUTEX_INITIALIZER, NULL, 0, 0};

static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void account_lock(void)
{
    pthread_mutex_lock(&account.mutex);
}

static void account_unlock(void)
{
    pthread_mutex_unlock(&account.mutex);
}

/* Locks are not inherited: a child starts with none. */
static void account_reset(void)
{
    account.n_edges = 0;
    pthread_mutex_unlock(&account.mutex);
}

static void watch_forks(void)
{
    pthread_atfork(account_lock, account_unlock, account_reset);
}

/* Index of the first edge at or above the address. */
static size_t edge_find(uintptr_t address)
{
    size_t low = 0, high = account.n_edges;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (account.edges[middle].address < address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool edges_reserve(size_t n_more)
{
    size_t capacity = account.capacity > 0 ? account.capacity : 32;
    struct mrp_host_edge *edges;

    if (account.n_edges + n_more <= account.capacity) {
        return true;
    }
    while (capacity < account.n_edges + n_more) {
        capacity *= 2;
    }
    edges = realloc(account.edges, capacity * sizeof(*edges));
    if (edges == NULL) {
        return false;
    }
    account.edges = edges;
    account.capacity = capacity;
    return true;
}

/* One more range begins or ends at the address. */
static void edge_retain(uintptr_t address)
{
    size_t index = edge_find(address);
    struct mrp_host_edge *edge = account.edges + index;

    if (index == account.n_edges || edge->address != address) {
        memmove(edge + 1, edge, (account.n_edges - index) * sizeof(*edge));
        account.n_edges++;
        edge->address = address;
        edge->n_covers = index > 0 ? edge[-1].n_covers : 0;
        edge->n_ends = 0;
    }
    edge->n_ends++;
}

static void edge_release(uintptr_t address)
{
    size_t index = edge_find(address);
    struct mrp_host_edge *edge = account.edges + index;

    if (--edge->n_ends > 0) {
        return;
    }
    account.n_edges--;
    memmove(edge, edge + 1, (account.n_edges - index) * sizeof(*edge));
}

/* The raw call: AddressSanitizer and ThreadSanitizer replace munlock by nothing, but not
 * mlock2, so that a sanitized process would keep all it ever locked. */
static int unlock_pages(uintptr_t start, uintptr_t end)
{
    return syscall(SYS_munlock, start, end - start) == 0 ? 0 : errno;
}

bool mrp_host_pins_add(uintptr_t start, uintptr_t end)
{
    bool reserved;

    pthread_once(&fork_once, watch_forks);
    account_lock();
    reserved = edges_reserve(2);
    if (reserved) {
        edge_retain(start);
        edge_retain(end);
        for (size_t i = edge_find(start); account.edges[i].address < end; i++) {
            account.edges[i].n_covers++;
        }
    }
    account_unlock();
    return reserved;
}

/* munlock stays under the mutex: after it, a registration that has just counted these
 * pages would lose them. mlock need not be, since its pages are counted before it starts.
 */
int mrp_host_pins_remove(uintptr_t start, uintptr_t end)
{
    uintptr_t run = start; /* pages run..edge are no longer counted by anybody */
    int native = 0, failed;

    account_lock();
    for (size_t i = edge_find(start); account.edges[i].address < end; i++) {
        struct mrp_host_edge *edge = account.edges + i;

        if (--edge->n_covers > 0) {
            failed = run < edge->address ? unlock_pages(run, edge->address) : 0;
            native = native != 0 ? native : failed;
            run = edge[1].address;
        }
    }
    failed = run < end ? unlock_pages(run, end) : 0;
    native = native != 0 ? native : failed;
    edge_release(start);
    edge_release(end);
    account_unlock();
    return native;
}
