/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Asking the threads' caches for what they hold: src/pool/cache.c, and ask(), refuse() and
 * wait_for_region() of src/pool/grow.c, for one class and THREADS threads, while somebody
 * else's growth may end at any time, or not before all others have stopped.
 *
 * Regions have no names here, only places, and the depot has no empty magazines: a spill may
 * find one or not. cache.pml has both. Growth of the threads' own fails (grow.pml has it).
 *
 * Spin is sequentially consistent; the machine is not. A store that others look for goes into
 * a buffer, from where it reaches memory at any later time, in any order with others to other
 * places, at the latest at its thread's next seq_cst fence or unlock; a push, which is a
 * seq_cst compare-and-swap, at its thread's next seq_cst load of `asks`.
 *
 *   no lost wake-up, no deadlock   whatever is left waiting when nothing else moves waits for
 *                                  the growth alone: the depot is empty
 *   who asks is heard              no free stays in a cache while somebody who asked before it
 *                                  sleeps, or was refused and has not been answered since
 *   the request ends               a region taken under the mutex answers it
 *   no false refusal               who waits or is refused has nothing in its own cache
 *   a magazine put away is full    a limit of 0 is not taken for a full magazine
 *
 * Each of these must make the search find an error:
 *   -DNO_FENCE_OWNER    load_magazine() without its fence
 *   -DNO_FENCE_ASKER    ask() without its fence
 *   -DWEAK_PUSH         a push that the look at `asks` does not wait for
 *   -DNO_SECOND_LOOK    who has asked waits without a look into the depot
 *   -DNO_BROADCAST      who gives back to the depot wakes nobody
 *   -DWAKE_UNLOCKED     it does so without the mutex
 *   -DLOOK_FIRST        it looks at `asks` before it gives back, not after
 *   -DSILENT_SPILL      who has exchanged a magazine keeps what it frees, and looks no more
 *   -DSILENT_EXIT       a thread that ends does not look at `asks`
 *   -DNO_RECOUNT        a limit of 0 means full
 *   -DCLEAR_UNLOCKED    bit 31 is cleared without the mutex
 *   -DNO_CLEAR          it is not cleared
 *   -DNO_COUNT_DOWN     who turns from waiting to growing goes on being counted
 *   -DPREVIOUS_UNSEEN        a thread asks before it has looked at its own second magazine
 */
#ifndef THREADS
#define THREADS 2
#endif
#ifndef OPS
#define OPS 3
#endif
#ifndef CACHED
#define CACHED 7 /* set of threads that may have a cache */
#endif
#ifndef LOADED
#define LOADED 1 /* of thread 0, at first, as the next two */
#endif
#ifndef PREVIOUS
#define PREVIOUS true
#endif
#ifndef HELD
#define HELD 1
#endif
#define CAPACITY 2
#define REFUSED 128 /* MRP_ASKS_REFUSED */
#define BIT(i) (1 << (i))
#define HAS(set, i) ((set & BIT(i)) != 0)

/* the depot */
byte n_loose, n_full;
byte asks;      /* as the mutex's holder wrote it last; */
byte asks_seen; /* as the others see it */
bool is_locked, growing;
bool asleep[THREADS]; /* in pthread_cond_wait */

/* the bins */
bool is_open[THREADS], previous_full[THREADS];
byte n_loaded[THREADS];
byte limits; /* set of threads whose limit is not 0, in memory */
byte known;  /* set of threads whose arena others find, in memory */

/* stores not in memory yet */
byte set_limit, clear_limit; /* of the owner: its limit is the end, is 0 */
byte others_clear;           /* of the mutex's holder: the limits of these are 0 */
byte becoming_known;
byte pushed_loose[THREADS], pushed_full[THREADS];

/* for the proof only */
byte n_held[THREADS];
byte n_regions, n_done;
byte refusal;  /* 1: one was refused, 2: and has left; 0: a region was taken since */
bool answered; /* under the mutex, since the last refusal */

#define SLEEPERS (asleep[0] || asleep[1] || asleep[THREADS - 1])
#define UNHEARD (SLEEPERS || refusal == 2)

/* limit != 0, as the owner reads it */
#define IS_ROOM (HAS(set_limit, me) || (!HAS(clear_limit, me) && HAS(limits, me)))
#define OWN (n_loaded[me] + (previous_full[me] -> CAPACITY : 0))

/* -- memory -- */

#define FLUSH_LIMIT(t) \
    limits = ((limits | (set_limit & BIT(t))) & ~(clear_limit & BIT(t))); \
    set_limit = set_limit & ~BIT(t); \
    clear_limit = clear_limit & ~BIT(t)
#define FLUSH_LOOSE(t) n_loose = n_loose + pushed_loose[t]; pushed_loose[t] = 0
#define FLUSH_FULL(t) n_full = n_full + pushed_full[t]; pushed_full[t] = 0
#define FLUSH_KNOWN(t) \
    known = known | (becoming_known & BIT(t)); \
    becoming_known = becoming_known & ~BIT(t)
#define FLUSH_OTHERS limits = limits & ~others_clear; others_clear = 0

#define FENCE atomic { FLUSH_LIMIT(me); FLUSH_LOOSE(me); FLUSH_FULL(me); FLUSH_KNOWN(me); \
    FLUSH_ASKER }
/* what only the mutex's holder has pending */
#define FLUSH_ASKER \
    if \
    :: holds -> asks_seen = asks; FLUSH_OTHERS \
    :: else \
    fi

#define PENDING(t) \
    :: atomic { HAS((set_limit | clear_limit), t) -> FLUSH_LIMIT(t) } \
    :: atomic { pushed_loose[t] > 0 -> FLUSH_LOOSE(t) } \
    :: atomic { pushed_full[t] > 0 -> FLUSH_FULL(t) } \
    :: atomic { HAS(becoming_known, t) -> FLUSH_KNOWN(t) } \
    :: atomic { HAS(others_clear, t) -> \
        limits = limits & ~BIT(t); others_clear = others_clear & ~BIT(t) }

proctype memory()
{
end:
    do
    :: atomic { asks_seen != asks -> asks_seen = asks }
    PENDING(0)
    PENDING(1)
#if THREADS > 2
    PENDING(2)
#endif
    od
}

/* -- the mutex and the condition -- */

#define LOCK atomic { !is_locked; is_locked = true; holds = true }
#define UNLOCK atomic { \
    FLUSH_LIMIT(me); FLUSH_LOOSE(me); FLUSH_FULL(me); FLUSH_KNOWN(me); FLUSH_ASKER; \
    refusal = (refusal == 1 -> 2 : refusal); \
    holds = false; is_locked = false }
#define WAIT atomic { \
    FLUSH_LIMIT(me); FLUSH_LOOSE(me); FLUSH_FULL(me); FLUSH_KNOWN(me); FLUSH_ASKER; \
    holds = false; is_locked = false; asleep[me] = true }; \
    !asleep[me]; \
    LOCK
#define WAKE_ALL atomic { asleep[0] = false; asleep[1] = false; asleep[THREADS - 1] = false }

/* -- the depot -- */

/* mrp_depot_asks() */
inline look()
{
    atomic {
#ifndef WEAK_PUSH
        FLUSH_LOOSE(me);
        FLUSH_FULL(me);
#endif
        seen = asks_seen
    }
}

inline take_loose() /* mrp_depot_take(); a swap writes what was pushed before it, too */
{
    atomic {
        FLUSH_LOOSE(me);
        if
        :: n_loose > 0 -> n_loose--; n_held[me]++; got = true; refusal = 0
        :: else
        fi
    }
}

inline take_locked() /* mrp_depot_take_locked() */
{
    take_loose();
    if
    :: !got ->
        atomic {
            FLUSH_FULL(me);
            if
            :: n_full > 0 ->
                n_full--;
                n_held[me]++;
                got = true;
                refusal = 0;
                pushed_loose[me] = pushed_loose[me] + CAPACITY - 1
            :: else
            fi
        }
    :: else
    fi
}

inline notify() /* mrp_depot_notify() */
{
    look();
    if
    :: (seen & ~REFUSED) != 0 ->
#ifdef NO_BROADCAST
        skip
#elif defined(WAKE_UNLOCKED)
        WAKE_ALL
#else
        LOCK;
        WAKE_ALL;
        UNLOCK
#endif
    :: else
    fi
}

/* -- asking: src/pool/grow.c, under the mutex -- */

#define ASK(t) \
    if \
    :: atomic { t == me && IS_ROOM -> clear_limit = clear_limit | BIT(t); \
        set_limit = set_limit & ~BIT(t) } \
    :: atomic { t != me && HAS(known, t) && HAS(limits, t) -> \
        others_clear = others_clear | BIT(t) } \
    :: else \
    fi

inline ask(value)
{
    asks = value;
#ifndef NO_FENCE_ASKER
    FENCE;
#endif
    ASK(0);
    ASK(1);
#if THREADS > 2
    ASK(2)
#endif
}

inline take_answer()
{
    take_locked();
    if
    :: got ->
#ifndef NO_CLEAR
        asks = asks & ~REFUSED;
#endif
        answered = true
    :: else
    fi
}

inline refuse()
{
    answered = false;
    ask(asks | REFUSED);
    take_loose();
    if
    :: !got ->
        atomic { /* the second half of take_locked */
            FLUSH_FULL(me);
            if
            :: n_full > 0 ->
                n_full--;
                n_held[me]++;
                got = true;
                refusal = 0;
                pushed_loose[me] = pushed_loose[me] + CAPACITY - 1
            :: else -> refusal = 1; assert(OWN == 0)
            fi
        }
    :: else
    fi;
    if
    :: got ->
#ifndef NO_CLEAR
        asks = asks & ~REFUSED;
#endif
        answered = true
    :: else
    fi
}

inline wait_for_region()
{
    ask(asks + 1);
#ifdef NO_SECOND_LOOK
    if
    :: growing -> WAIT
    :: else
    fi;
#endif
    do
    :: true ->
        take_answer();
        if
        :: got -> break
        :: !got && !growing -> break
        :: !got && growing -> assert(OWN == 0); WAIT
        fi
    od;
#ifdef NO_COUNT_DOWN
    if
    :: got -> asks = asks - 1
    :: else
    fi
#else
    asks = asks - 1
#endif
}

inline grow() /* mrp_pool_grow(); grow_class() drops the mutex, and fails */
{
    atomic {
        if
        :: nogrow = false
        :: nogrow = true
        fi };
    LOCK;
    take_answer();
    do
    :: !got && growing && !nogrow -> wait_for_region()
    :: else -> break
    od;
    if
    :: got
    :: !got && growing -> refuse()
    :: !got && !growing ->
        growing = true;
        UNLOCK;
        LOCK;
        growing = false;
        WAKE_ALL;
        refuse()
    fi;
    UNLOCK;
    nogrow = false
}

/* -- one thread's bin: src/pool/cache.c -- */

#define SET_LIMIT atomic { \
    set_limit = set_limit | BIT(me); clear_limit = clear_limit & ~BIT(me) }
#define CLEAR_LIMIT atomic { \
    clear_limit = clear_limit | BIT(me); set_limit = set_limit & ~BIT(me) }

inline load_magazine()
{
    SET_LIMIT;
#ifndef NO_FENCE_OWNER
    FENCE;
#endif
    look();
    if
    :: seen != 0 -> CLEAR_LIMIT
    :: else
    fi
}

inline open_bin()
{
    if
    :: !is_open[me] && HAS(CACHED, me) ->
        look();
        if
        :: seen == 0 ->
            atomic { becoming_known = becoming_known | (BIT(me) & ~known); is_open[me] = true };
            load_magazine()
        :: else
        fi
    :: else
    fi
}

inline close_bin()
{
    atomic {
        if
        :: previous_full[me] -> pushed_full[me]++; previous_full[me] = false
        :: else
        fi;
        is_open[me] = false;
        CLEAR_LIMIT };
    if
    :: n_loaded[me] == CAPACITY -> atomic { pushed_full[me]++; n_loaded[me] = 0 }
    :: n_loaded[me] != CAPACITY ->
        atomic { pushed_loose[me] = pushed_loose[me] + n_loaded[me]; n_loaded[me] = 0 }
    fi
}

inline swap() /* the first half of refill() */
{
    atomic { n_loaded[me] = CAPACITY; previous_full[me] = false };
    load_magazine();
    atomic { n_loaded[me]--; n_held[me]++; got = true }
}

inline allocate() /* mrp_cache_take(), then mrp_pool_grow() */
{
    open_bin();
    if
    :: atomic { n_loaded[me] > 0 -> n_loaded[me]--; n_held[me]++; got = true }
    :: else ->
        look();
#ifdef CLEAR_UNLOCKED
        seen = 0;
#endif
        if
#ifdef PREVIOUS_UNSEEN
        :: previous_full[me] && seen != 0
        :: previous_full[me] && seen == 0 -> swap()
#else
        :: previous_full[me] -> swap()
#endif
        :: !previous_full[me] ->
            if
            :: is_open[me] && seen == 0 ->
                atomic {
                    FLUSH_FULL(me);
                    if
                    :: n_full > 0 -> n_full--; n_loaded[me] = CAPACITY; refusal = 0
                    :: else
                    fi };
                if
                :: n_loaded[me] > 0 ->
                    load_magazine();
                    atomic { n_loaded[me]--; n_held[me]++; got = true }
                :: else
                fi
            :: else
            fi;
#ifndef CLEAR_UNLOCKED
            look();
#endif
            if
            :: !got && seen == 0 -> take_loose()
            :: else /* under the mutex: who takes there, answers */
            fi;
#ifdef CLEAR_UNLOCKED
            if
            :: got -> atomic { asks = asks & ~REFUSED; asks_seen = asks_seen & ~REFUSED }
            :: else
            fi
#endif
        fi;
        if
        :: !got -> grow()
        :: else
        fi
    fi;
    atomic { got = false; seen = 0 }
}

inline spill() /* ends with got == false if there is no empty magazine */
{
    got = true;
    if
#ifndef NO_RECOUNT
    :: n_loaded[me] < CAPACITY -> load_magazine()
    :: n_loaded[me] == CAPACITY && !previous_full[me] ->
#else
    :: !previous_full[me] ->
#endif
        atomic { assert(n_loaded[me] == CAPACITY); previous_full[me] = true; n_loaded[me] = 0 };
        load_magazine()
#ifndef NO_RECOUNT
    :: n_loaded[me] == CAPACITY && previous_full[me] ->
#else
    :: previous_full[me] ->
#endif
        if
        :: true ->
            atomic { assert(n_loaded[me] == CAPACITY); pushed_full[me]++; n_loaded[me] = 0 };
            load_magazine()
        :: true -> got = false
        fi
    fi
}

inline give() /* mrp_region_free_inline(), then mrp_cache_put() */
{
    if
    :: atomic { is_open[me] && IS_ROOM && n_loaded[me] < CAPACITY ->
        assert(!UNHEARD); n_loaded[me]++; n_held[me]-- }
    :: else ->
        open_bin();
        do
        :: !is_open[me] -> break
        :: atomic { is_open[me] && IS_ROOM && n_loaded[me] < CAPACITY ->
            n_loaded[me]++; n_held[me]--; kept = true };
            break
        :: is_open[me] && !(IS_ROOM && n_loaded[me] < CAPACITY) ->
            look();
            if
            :: seen != 0 -> break
            :: else -> spill()
            fi;
            if
            :: !got -> break
#ifdef SILENT_SPILL
            :: got -> atomic { n_loaded[me]++; n_held[me]--; kept = true }; break
#else
            :: got -> got = false
#endif
            fi
        od;
#ifdef LOOK_FIRST
        look();
#endif
        if
        :: !kept -> atomic { pushed_loose[me]++; n_held[me]-- }
        :: else
        fi;
#ifdef SILENT_SPILL
        if
        :: kept -> seen = 0
        :: else -> look()
        fi;
#elif !defined(LOOK_FIRST)
        atomic { look(); assert(seen != 0 || !UNHEARD) };
#endif
        if
        :: seen != 0 ->
            if
            :: is_open[me] -> close_bin()
            :: else
            fi;
            notify()
        :: else
        fi
    fi;
    atomic { kept = false; got = false; seen = 0 }
}

proctype thread(byte me)
{
    byte n, seen;
    bool got, kept, nogrow, holds;

    do
    :: n < OPS -> n++; allocate()
    :: n < OPS && n_held[me] > 0 -> n++; give()
    :: true -> break
    od;
    n = 0;
    if /* it does nothing any more, or ends */
    :: true
    :: is_open[me] ->
        close_bin();
#ifndef SILENT_EXIT
        notify()
#endif
    fi;
    n_done++
}

/* Another thread's growth, under way at first; grow_class() of src/pool/grow.c. */
proctype grower()
{
    bool hangs;

    if
    :: hangs = false
    :: hangs = true
    fi;
    if
    :: !hangs
    :: hangs && timeout -> assert(!SLEEPERS || (n_loose == 0 && n_full == 0))
    fi;
    if
    :: true
    :: n_full++; n_regions = n_regions + CAPACITY
    fi;
    atomic { !is_locked; is_locked = true };
    growing = false;
    WAKE_ALL;
    is_locked = false
}

proctype auditor()
{
    byte i, n;

    n_done == THREADS && !growing;
    atomic {
        assert((asks & ~REFUSED) == 0);
        assert((asks & REFUSED) == 0 || !answered);
        n = n_loose + CAPACITY * n_full;
        do
        :: i == THREADS -> break
        :: else ->
            n = n + n_held[i] + n_loaded[i] + (previous_full[i] -> CAPACITY : 0) +
                pushed_loose[i] + CAPACITY * pushed_full[i];
            i++
        od;
        assert(n == n_regions)
    }
}

init {
    byte i;

    atomic {
        growing = true;
        is_open[0] = true;
        known = BIT(0);
        limits = BIT(0);
        n_loaded[0] = LOADED;
        previous_full[0] = PREVIOUS;
        n_held[0] = HELD;
        n_regions = LOADED + HELD + (PREVIOUS -> CAPACITY : 0);
        do
        :: i == THREADS -> break
        :: else -> run thread(i); i++
        od;
        run grower();
        run memory();
        run auditor()
    }
}
