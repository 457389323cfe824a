/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Growth, src/pool/grow.c: mrp_pool_grow, grow_class and find_slab for THREADS threads
 * that each want one region, of either of two classes, with or without leave to grow. The
 * mutex is dropped round everything slow: building a chunk, cutting a slab. A slab has
 * two blocks, a chunk has room for SLABS of them, and there is budget for CHUNKS_MAX chunks.
 * Building may fail, and so may, once, the cutting of a block (region_init).
 *
 *   one grower a class, one builder a pool
 *   no lost wake-up, no deadlock        every thread ends (Spin: no invalid end state)
 *   no block cut twice or forgotten     a slab left half-way is finished by a later one
 *   no failure without a cause          who fails was refused itself: by the budget, the
 *                                       system, region_init, or its own NOGROW
 *
 * Each of these must make the search find an error:
 *   -DNO_FLAG         a thread that finds the class growing grows it as well
 *   -DNO_WAKE         who has grown a class wakes nobody
 *   -DEARLY_WAKE      the flag is cleared after the broadcast, the mutex dropped between
 */
#ifndef THREADS
#define THREADS 3
#endif
#define CLASSES 2
#define BLOCKS 2
#ifndef SLABS
#define SLABS 2
#endif
#ifndef CHUNKS_MAX
#define CHUNKS_MAX 2
#endif

bool is_locked, chunk_growing, growing[CLASSES];
bool asleep[THREADS]; /* in pthread_cond_wait */
byte room;            /* slabs the chunks still have */
byte n_chunks;
byte n_free[CLASSES];
byte pending[CLASSES];   /* blocks of a slab not yet cut */
byte n_regions[CLASSES]; /* as the depot counts them */
bool init_failed;
byte n_growers[CLASSES], n_builders; /* for the proof only, as the next */
byte n_slabs[CLASSES], n_cut[CLASSES], n_held[CLASSES];
byte n_done;

#define LOCK atomic { !is_locked; is_locked = true }
#define UNLOCK is_locked = false
#define WAIT atomic { asleep[me] = true; is_locked = false }; !asleep[me]; LOCK
#define WAKE_ALL atomic { \
    i = 0; \
    do \
    :: i == THREADS -> break \
    :: else -> asleep[i] = false; i++ \
    od; \
    i = 0 }

inline end_flag(flag)
{
#ifdef EARLY_WAKE
    WAKE_ALL;
    UNLOCK;
    LOCK;
    flag = false
#else
    flag = false;
    WAKE_ALL
#endif
}

/* fails with left == 0 */
inline find_slab()
{
    do
    :: room > 0 -> atomic { room--; left = BLOCKS; n_slabs[class]++ }; break
    :: room == 0 && nogrow -> cause = true; break
    :: room == 0 && !nogrow && chunk_growing -> WAIT
    :: room == 0 && !nogrow && !chunk_growing ->
        atomic { chunk_growing = true; n_builders++; assert(n_builders == 1) };
        UNLOCK;
        if
        :: n_chunks < CHUNKS_MAX -> built = true
        :: built = false /* over budget, or the system refused */
        fi;
        LOCK;
        n_builders--;
        if
        :: built -> atomic { n_chunks++; assert(n_chunks <= CHUNKS_MAX) };
            room = room + SLABS;
            built = false;
            end_flag(chunk_growing)
        :: else ->
            cause = true;
            end_flag(chunk_growing);
            break
        fi
    od
}

inline cut_slab() /* cut_slab of the code: the first block is served, the rest is free */
{
    do
    :: left == 0 -> break
    :: left > 0 && !init_failed -> init_failed = true; cause = true; break
    :: left > 0 ->
        atomic { left--; cut++; n_cut[class]++;
            assert(n_cut[class] <= BLOCKS * n_slabs[class]) };
        if
        :: !got -> atomic { got = true; n_held[class]++ }
        :: else -> n_free[class]++
        fi
    od
}

inline grow_class()
{
    atomic { growing[class] = true; n_growers[class]++; assert(n_growers[class] == 1) };
    left = pending[class];
    if
    :: left == 0 -> find_slab()
    :: else
    fi;
    if
    :: left > 0 ->
        UNLOCK;
        cut_slab();
        LOCK;
        n_regions[class] = n_regions[class] + cut;
        pending[class] = left
    :: else
    fi;
    atomic { n_growers[class]--; left = 0; cut = 0 };
#ifdef NO_WAKE
    growing[class] = false
#else
    end_flag(growing[class])
#endif
}

inline take_free()
{
    atomic {
        if
        :: n_free[class] > 0 -> n_free[class]--; got = true; n_held[class]++
        :: else
        fi
    }
}

proctype thread(byte me)
{
    byte class, left, cut, i;
    bool nogrow, got, built, cause;

    atomic {
        if
        :: class = 0
        :: class = 1
        fi;
        if
        :: nogrow = false
        :: nogrow = true
        fi };
    take_free();
    if
    :: !got ->
        LOCK;
        do
        :: true ->
            take_free();
            if
            :: got -> break
            :: else
            fi;
#ifdef NO_FLAG
            grow_class();
            break
#else
            if
            :: growing[class] -> WAIT
            :: else -> grow_class(); break
            fi
#endif
        od;
        UNLOCK
    :: else
    fi;
    assert(got || cause);
    if
    :: got -> atomic { n_held[class]--; n_free[class]++ } /* the user gives it back */
    :: got -> skip                                        /* or keeps it */
    :: else
    fi;
    n_done++
}

proctype auditor()
{
    byte c;

    n_done == THREADS;
    d_step {
        assert(!is_locked && !chunk_growing);
        do
        :: c == CLASSES -> break
        :: else ->
            assert(!growing[c]);
            assert(n_cut[c] == n_regions[c]);
            assert(n_cut[c] + pending[c] == BLOCKS * n_slabs[c]);
            assert(n_cut[c] == n_free[c] + n_held[c]);
            c++
        od;
        assert(n_slabs[0] + n_slabs[1] + room == SLABS * n_chunks)
    }
}

init {
    byte i;

    atomic {
        do
        :: i == THREADS -> break
        :: else -> run thread(i); i++
        od;
        run auditor()
    }
}
