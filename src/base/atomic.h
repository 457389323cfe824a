/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Atomic accesses whose names carry their memory order. docs/CONCURRENCY.md argues each
 * use: every acquire names the release it pairs with.
 */
#ifndef MRP_BASE_ATOMIC_H
#define MRP_BASE_ATOMIC_H

#include <stdatomic.h>

/** Objects of the public inline.h have plain types, which C++ reads too. */
#define MRP_ATOMIC(object) ((_Atomic(__typeof__((void)0, *(object))) *)(object))

#define mrp_load_relaxed(object) \
    atomic_load_explicit(MRP_ATOMIC(object), memory_order_relaxed)
#define mrp_load_acquire(object) \
    atomic_load_explicit(MRP_ATOMIC(object), memory_order_acquire)
#define mrp_load_seq_cst(object) \
    atomic_load_explicit(MRP_ATOMIC(object), memory_order_seq_cst)
#define mrp_store_relaxed(object, value) \
    atomic_store_explicit(MRP_ATOMIC(object), (value), memory_order_relaxed)
#define mrp_store_release(object, value) \
    atomic_store_explicit(MRP_ATOMIC(object), (value), memory_order_release)
#define mrp_add_relaxed(object, value) \
    atomic_fetch_add_explicit((object), (value), memory_order_relaxed)
#define mrp_sub_relaxed(object, value) \
    atomic_fetch_sub_explicit((object), (value), memory_order_relaxed)
#define mrp_sub_acq_rel(object, value) \
    atomic_fetch_sub_explicit((object), (value), memory_order_acq_rel)

/** Weak compare-and-swap; on failure *expected holds what was there, read with acquire.
 */
#define mrp_cas_acq_rel(object, expected, desired) \
    atomic_compare_exchange_weak_explicit(MRP_ATOMIC(object), (expected), (desired), \
        memory_order_acq_rel, memory_order_acquire)
#define mrp_cas_seq_cst(object, expected, desired) \
    atomic_compare_exchange_weak_explicit(MRP_ATOMIC(object), (expected), (desired), \
        memory_order_seq_cst, memory_order_acquire)
#define mrp_cas_relaxed(object, expected, desired) \
    atomic_compare_exchange_weak_explicit(MRP_ATOMIC(object), (expected), (desired), \
        memory_order_relaxed, memory_order_relaxed)

#define mrp_fence_acquire() atomic_thread_fence(memory_order_acquire)
#define mrp_fence_seq_cst() atomic_thread_fence(memory_order_seq_cst)

#endif
