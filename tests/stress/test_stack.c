/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The lock-free stack itself, by threads that come and go and by more threads than cores,
 * so that some are preempted between the load of a head and the swap. tests/model/ has
 * the proof; this looks at the compiled code and its memory orders.
 */
#include "stress.h"

#include "pool/stack.h"

#define INDICES_MAX 64
#define HELD_MAX 4

struct heap {
    struct mrp_stack stack;
    struct mrp_links links;
    size_t n_indices;
    size_t rounds;
    _Atomic uint32_t link_words[INDICES_MAX];
    _Atomic size_t holder[INDICES_MAX]; /* 1 + the thread that holds it; 0: nobody */
    uint64_t
        notes[INDICES_MAX]; /* plain: the stack alone orders one holder and the next */
};

static void build_heap(struct heap *heap, size_t n_indices, size_t rounds)
{
    memset(heap, 0, sizeof *heap);
    heap->links = (struct mrp_links){(char *)heap->link_words, sizeof(uint32_t)};
    heap->n_indices = n_indices;
    heap->rounds = rounds;
    for (uint32_t i = 0; i < n_indices; i++) {
        mrp_stack_push(&heap->stack, heap->links, i);
    }
}

static bool hold(struct heap *heap, struct stress_thread *thread, uint32_t index)
{
    bool was_free = STRESS_CHECK(index < heap->n_indices) &&
        STRESS_CHECK(atomic_exchange_explicit(&heap->holder[index], thread->number + 1,
                         memory_order_relaxed) == 0);

    if (was_free) {
        heap->notes[index] += thread->number;
    }
    return was_free;
}

static void let_go(struct heap *heap, struct stress_thread *thread, uint32_t index)
{
    STRESS_CHECK(atomic_exchange_explicit(&heap->holder[index], 0,
                     memory_order_relaxed) == thread->number + 1);
}

static void give_back(
    struct heap *heap, struct stress_thread *thread, const uint32_t *held, size_t n_held)
{
    bool as_chain = stress_random(thread) % 2 == 0;

    for (size_t i = 0; i < n_held; i++) {
        let_go(heap, thread, held[i]);
        if (!as_chain) {
            mrp_stack_push(&heap->stack, heap->links, held[i]);
        } else if (i + 1 < n_held) {
            mrp_store_relaxed(mrp_link(heap->links, held[i]), held[i + 1] + 1);
        }
    }
    if (as_chain) {
        mrp_stack_push_chain(&heap->stack, heap->links, held[0], held[n_held - 1]);
    }
}

static void take_and_give(struct stress_thread *thread)
{
    struct heap *heap = thread->shared;

    for (size_t round = 0; round < heap->rounds && stress_goes_on(); round++) {
        size_t wanted = 1 + stress_random(thread) % HELD_MAX, n_held = 0;
        uint32_t held[HELD_MAX];

        while (n_held < wanted) {
            held[n_held] = mrp_stack_pop(&heap->stack, heap->links);
            if (held[n_held] == MRP_STACK_EMPTY) {
                break;
            }
            if (!hold(heap, thread, held[n_held])) {
                return;
            }
            n_held++;
        }
        if (n_held > 0) {
            give_back(heap, thread, held, n_held);
        }
    }
}

/* Every index is met exactly once from the top down. */
static void check_heap(struct heap *heap)
{
    bool met[INDICES_MAX] = {false};
    size_t n_met = 0;

    for (uint32_t next = (uint32_t)mrp_load_acquire(&heap->stack.head); next != 0;
         next = mrp_load_relaxed(mrp_link(heap->links, next - 1))) {
        assert_in_range(next, 1, heap->n_indices);
        assert_false(met[next - 1]);
        met[next - 1] = true;
        n_met++;
    }
    assert_int_equal(n_met, heap->n_indices);
}

static void churn(size_t n_indices, size_t rounds)
{
    struct heap heap;

    build_heap(&heap, n_indices, stress_rounds(rounds));
    for (size_t n_threads = 2; n_threads <= STRESS_THREADS; n_threads++) {
        stress_run(n_threads, take_and_give, &heap);
        check_heap(&heap);
    }
}

static void stack__each_index_once_in_the_end(void **state)
{
    (void)state;
    churn(INDICES_MAX, 200000);
}

/* So few that a stale head meets the same index again: ABA at every turn. */
static void stack__few_indices_return_at_once(void **state)
{
    (void)state;
    churn(3, 500000);
}

static void stack__threads_recreated(void **state)
{
    struct heap heap;

    (void)state;
    build_heap(&heap, 8, 200);
    for (size_t round = 0; round < stress_rounds(400); round++) {
        stress_run(4, take_and_give, &heap);
    }
    check_heap(&heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stack__each_index_once_in_the_end),
        cmocka_unit_test(stack__few_indices_return_at_once),
        cmocka_unit_test(stack__threads_recreated),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
