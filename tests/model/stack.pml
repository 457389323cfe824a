/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The stack of src/pool/stack.h, one step per access to shared memory, for THREADS
 * threads that do OPS operations each on N indices: pop, push of one, push of a chain of
 * two. Interleavings only (Spin is sequentially consistent); docs/CONCURRENCY.md argues
 * the memory orders.
 *
 *   no duplication   whoever takes an index takes one that is on the stack
 *   no ABA           what a pop makes the new top is on the stack
 *   no loss          in the end each index is on the stack once, or held
 *   empty is true    a pop that finds nothing saw a head of 0
 *
 * -DNO_TAG leaves the tag alone: the search must then find an error.
 * TAG_VALUES exceeds the number of changes, as 2^32 is meant to.
 */
#ifndef THREADS
#define THREADS 3
#endif
#ifndef OPS
#define OPS 3
#endif
#ifndef N
#define N 3
#endif
#define TAG_VALUES 16
#define STACK 0 /* owner of an index: 0, or 1 + the thread that holds it */

#ifdef NO_TAG
#define NEXT_TAG(tag) tag
#else
#define NEXT_TAG(tag) ((tag + 1) % TAG_VALUES)
#endif

byte head;      /* index + 1; 0: empty */
byte head_tag;
byte link[N];   /* index + 1 of the one below */
byte owner[N];  /* for the proof only, as the two below */
byte changes;
byte n_done;

/* a failed compare-and-swap leaves what it saw in seen and seen_tag */
#define LOAD_HEAD atomic { seen = head; seen_tag = head_tag }
#define HEAD_IS_SEEN (head == seen && head_tag == seen_tag)
#define SET_HEAD(value) \
    head = value; \
    head_tag = NEXT_TAG(head_tag); \
    changes++; \
    assert(changes < TAG_VALUES)

inline pop()
{
    LOAD_HEAD;
    do
    :: seen == 0 -> break
    :: else ->
        below = link[seen - 1];
        if
        :: atomic { HEAD_IS_SEEN ->
            assert(owner[seen - 1] == STACK);
            assert(below == 0 || owner[below - 1] == STACK);
            assert(below != seen);
            SET_HEAD(below);
            owner[seen - 1] = me;
            below = 0 };
            break
        :: atomic { !HEAD_IS_SEEN -> seen = head; seen_tag = head_tag; below = 0 }
        fi
    od;
    atomic { seen = 0; seen_tag = 0 }
}

/* links first to last, last to what was on top; first and last may be the same */
inline push_chain()
{
    if
    :: first != last -> link[first - 1] = last
    :: else
    fi;
    LOAD_HEAD;
    do
    :: true ->
        link[last - 1] = seen;
        if
        :: atomic { HEAD_IS_SEEN ->
            assert(owner[first - 1] == me && owner[last - 1] == me);
            SET_HEAD(first);
            owner[first - 1] = STACK;
            owner[last - 1] = STACK };
            break
        :: atomic { !HEAD_IS_SEEN -> seen = head; seen_tag = head_tag }
        fi
    od;
    atomic { seen = 0; seen_tag = 0; first = 0; last = 0 }
}

proctype thread(byte me)
{
    byte seen, seen_tag, below, first, last, n, i;

    do
    :: n == OPS -> break
    :: n < OPS ->
        n++;
        if
        :: pop()
        :: atomic { /* any index held; its thread alone can change that */
            i = 0;
            do
            :: i < N && owner[i] == me -> first = i + 1; break
            :: i < N -> i++
            :: i == N -> break
            od;
            last = first; i = 0 };
            if
            :: first != 0 -> push_chain()
            :: else
            fi
        :: atomic { /* any two */
            i = 0;
            do
            :: i < N && owner[i] == me && first == 0 -> first = i + 1; i++
            :: i < N && owner[i] == me && first != 0 -> last = i + 1; break
            :: i < N -> i++
            :: i == N -> break
            od;
            i = 0 };
            if
            :: first != 0 && last != 0 -> push_chain()
            :: else -> first = 0
            fi
        fi
    od;
    n_done++
}

/* Every index is held, or met exactly once from the top down. */
proctype auditor()
{
    byte next, met[N], i;

    n_done == THREADS;
    d_step {
        next = head;
        do
        :: next == 0 -> break
        :: else ->
            assert(met[next - 1] == 0);
            met[next - 1] = 1;
            next = link[next - 1]
        od;
        i = 0;
        do
        :: i == N -> break
        :: else ->
            assert((owner[i] == STACK) == (met[i] == 1));
            i++
        od
    }
}

init {
    byte i;

    atomic {
        do /* the first of the indices on top */
        :: i == N -> break
        :: else ->
            link[i] = (i + 1 < N -> i + 2 : 0);
            i++
        od;
        head = 1;
        i = 0;
        do
        :: i == THREADS -> break
        :: else ->
            run thread(i + 1);
            i++
        od;
        run auditor()
    }
}
