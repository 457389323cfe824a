/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The ring between a producer and a consumer: the same for every subject. Each side keeps
 * its own copy of the other's position, and reads the true one only when that says full
 * or empty.
 */
#ifndef BENCH_WORKERS_RING_H
#define BENCH_WORKERS_RING_H

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>

#define RING_SLOTS_MAX 1024 /* a power of two */
#define RING_SLOTS_MIN 64
#define RING_SIZE ((size_t)64 << 20) /* bytes that wait in it at most */
#define RING_SPINS 4096 /* then the processor is given to who may need it */
#define RING_YIELDS_MAX 1000000 /* the other side has died */

struct worker_ring {
    void *slots[RING_SLOTS_MAX];
    size_t n_slots;
    size_t head __attribute__((aligned(128))); /* written by the producer */
    size_t tail_seen;
    size_t tail __attribute__((aligned(128))); /* written by the consumer */
    size_t head_seen;
    bool failed __attribute__((aligned(128)));
};

/* A power of two for any size of region up to 1 MiB. */
static inline size_t ring_slots(size_t size)
{
    size_t n = RING_SLOTS_MAX;

    while (n > RING_SLOTS_MIN && n * size > RING_SIZE) {
        n /= 2;
    }
    return n;
}

static inline void ring_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

/* Waits until *position is no longer `blocked`; false when the other side gave up. */
static inline bool ring_wait(
    struct worker_ring *ring, const size_t *position, size_t blocked, size_t *seen)
{
    for (size_t spins = 1;
         (*seen = __atomic_load_n(position, __ATOMIC_ACQUIRE)) == blocked; spins++) {
        ring_pause();
        if (spins % RING_SPINS == 0) {
            sched_yield();
        }
        if (__atomic_load_n(&ring->failed, __ATOMIC_RELAXED) ||
            spins / RING_SPINS == RING_YIELDS_MAX) {
            return false;
        }
    }
    return true;
}

static inline bool ring_push(struct worker_ring *ring, void *item)
{
    size_t head = ring->head, n_slots = ring->n_slots;

    if (head - ring->tail_seen == n_slots &&
        !ring_wait(ring, &ring->tail, head - n_slots, &ring->tail_seen)) {
        return false;
    }
    ring->slots[head & (n_slots - 1)] = item;
    __atomic_store_n(&ring->head, head + 1, __ATOMIC_RELEASE);
    return true;
}

static inline void *ring_pop(struct worker_ring *ring)
{
    size_t tail = ring->tail;
    void *item;

    if (tail == ring->head_seen &&
        !ring_wait(ring, &ring->head, tail, &ring->head_seen)) {
        return NULL;
    }
    item = ring->slots[tail & (ring->n_slots - 1)];
    __atomic_store_n(&ring->tail, tail + 1, __ATOMIC_RELEASE);
    return item;
}

#endif
