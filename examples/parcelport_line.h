/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How the two threads of a process hand each other packets: a list that any thread adds
 * to and one thread empties, without a lock, so that neither ever waits for the other;
 * and a bell, so that the one may sleep until the other has something for it.
 */
#ifndef EXAMPLES_PARCELPORT_LINE_H
#define EXAMPLES_PARCELPORT_LINE_H

#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* In what stands in a line: in one at a time. */
struct link {
    struct link *next;
};

struct line {
    _Atomic(struct link *) last; /* newest first */
};

/* Sequentially consistent, as bell_wait's look at the line has to see what came before
 * bell_ring looked for a sleeper. */
static inline void line_add(struct line *line, struct link *link)
{
    link->next = atomic_load_explicit(&line->last, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&line->last, &link->next, link)) {
    }
}

static inline bool line_is_empty(struct line *line)
{
    return atomic_load(&line->last) == NULL;
}

/* Take all that stands there, oldest first. */
static inline struct link *line_take(struct line *line)
{
    struct link *newest = NULL, *oldest = NULL;

    if (atomic_load_explicit(&line->last, memory_order_relaxed) != NULL) {
        newest = atomic_exchange(&line->last, NULL);
    }
    while (newest != NULL) {
        struct link *next = newest->next;

        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

/* First in, first out, within one thread. */
struct queue {
    struct link *first, **end;
};

static inline void queue_init(struct queue *queue)
{
    queue->first = NULL;
    queue->end = &queue->first;
}

static inline void queue_add(struct queue *queue, struct link *link)
{
    link->next = NULL;
    *queue->end = link;
    queue->end = &link->next;
}

static inline struct link *queue_take(struct queue *queue)
{
    struct link *first = queue->first;

    if (first != NULL) {
        queue->first = first->next;
        if (queue->first == NULL) {
            queue->end = &queue->first;
        }
    }
    return first;
}

struct bell {
    atomic_bool is_awaited;
    int fd; /* eventfd; -1: none */
};

static inline bool bell_open(struct bell *bell)
{
    atomic_init(&bell->is_awaited, false);
    bell->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return bell->fd >= 0;
}

static inline void bell_close(struct bell *bell)
{
    if (bell->fd >= 0) {
        close(bell->fd);
    }
    bell->fd = -1;
}

/* A load, unless somebody sleeps. Never blocks: a counter that is full is a bell that has
 * been rung. */
static inline void bell_ring(struct bell *bell)
{
    const uint64_t one = 1;

    if (atomic_load(&bell->is_awaited)) {
        (void)!write(bell->fd, &one, sizeof(one));
    }
}

/* Announce the sleep, look once more at what would end it, then call this. */
static inline void bell_wait(struct bell *bell, int milliseconds)
{
    struct pollfd wait = {bell->fd, POLLIN, 0};
    uint64_t count;

    if (poll(&wait, 1, milliseconds) == 1) {
        (void)!read(bell->fd, &count, sizeof(count));
    }
}

#endif
