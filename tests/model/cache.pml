/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Thread caches and the depot: refill(), spill(), open_bin(), close_bin() of src/pool/cache.c
 * with what they call in depot.c, and mrp_pool_grow() as far as it moves regions and
 * magazines, for one class with magazines of two. A thread takes from its loaded magazine and
 * gives to it as often as it likes, and enters a slow path up to OPS_0 or OPS_1 times.
 *
 * stack.pml shows that a push is one step, and that a link read late does no harm; here a pop
 * is two: it reads head and link, then swaps. The tag is one that does not wrap. Nobody asks
 * (ask.pml), and growth keeps the mutex (grow.pml drops it).
 *
 *   no loss, no duplication   a region is with its user, in one cache, on `loose` or in one
 *                             full magazine; a magazine is in one bin or on one stack
 *   no ABA                    what a pop makes the new top is what lies below the old one
 *   full is full              a magazine on `full`, and a second one that counts as full,
 *                             hold two regions; on `empty`, none
 *   free cannot fail          and finds an empty magazine whenever it needs one
 *   "none" is true            of what was in the depot when mrp_depot_take_locked was called,
 *                             all has been taken since if that finds nothing
 *
 * Each of these must make the search find an error:
 *   -DNO_TAG             the tag is left alone (by threads without caches, on `loose`)
 *   -DFORGET_PREVIOUS    close_bin() gives back the loaded magazine only
 *   -DFORGET_REST        close_bin() gives a magazine back as empty that is not
 *   -DKEEP_EMPTY         refill() does not give the empty magazine back that it replaces
 *   -DSTALE_COUNT        refill() puts the emptied magazine away and leaves its count
 *   -DPUT_FIRST          spill() gives the full magazine back before it has an empty one
 *   -DFEW_MAGAZINES      fewer magazines than mrp_depot_provision has
 *   -DNO_MUTEX           mrp_depot_take_locked without the mutex
 * -DFEW_MAGAZINES -DLOOSE_WILL_DO shows that nothing else goes wrong for lack of them.
 */
#ifndef OPS_0
#define OPS_0 2
#endif
#ifndef OPS_1
#define OPS_1 2
#endif
#ifndef CACHED
#define CACHED 3 /* set of threads that may have a cache */
#endif
#ifndef REGIONS
#define REGIONS 6
#endif
#ifndef CUT
#define CUT 5 /* of them at first; the rest is one growth */
#endif
#ifdef FEW_MAGAZINES
#define MAGAZINES 4
#else
#define MAGAZINES (REGIONS / 2 + 1 + 3 * THREADS)
#endif
#define THREADS 2
#define OBJECTS (REGIONS + MAGAZINES + 1) /* regions are 1 to REGIONS, then magazines */
#define LOOSE 0
#define FULL 1
#define EMPTY 2
#define M(magazine) (magazine - REGIONS - 1)
#define BIT(i) (1 << (i))
#define HAS(set, i) ((set & BIT(i)) != 0)

/* the depot */
byte head[3];       /* object; 0: empty */
byte link[OBJECTS]; /* 0 of what is on no stack */
byte watched[THREADS]; /* 1 + the stack whose head a thread has read and that has not moved */
bool is_locked;
byte n_cut;

/* magazines; 0 in what nobody reads */
byte first[MAGAZINES], second[MAGAZINES];
byte count[MAGAZINES];

/* bins */
byte loaded[THREADS], previous[THREADS]; /* magazines; 0: closed */
byte n_loaded[THREADS];

byte held[THREADS]; /* sets of regions with the threads' users; for the proof the rest */
byte in_depot, missed[THREADS];
byte n_done;

#ifdef NO_MUTEX
#define LOCK skip
#define UNLOCK skip
#else
#define LOCK atomic { !is_locked; is_locked = true }
#define UNLOCK is_locked = false
#endif

/* -- stacks: src/pool/stack.h -- */

#define CHANGED(s) \
    watched[0] = (watched[0] == s + 1 -> 0 : watched[0]); \
    watched[1] = (watched[1] == s + 1 -> 0 : watched[1])
#ifdef NO_TAG
#define IS_SEEN(s, object) (head[s] == object)
#else
#define IS_SEEN(s, object) (watched[me] == s + 1)
#endif
#define LEAVES(set) \
    in_depot = in_depot & ~(set); \
    missed[0] = missed[0] & ~(set); \
    missed[1] = missed[1] & ~(set)
#define CONTENT(magazine) (BIT(first[M(magazine)] - 1) | BIT(second[M(magazine)] - 1))

inline pop(s, object)
{
    do
    :: atomic { head[s] == 0 -> object = 0 }; break
    :: atomic { head[s] != 0 ->
            object = head[s];
            below = link[object];
            watched[me] = s + 1 };
        if
        :: atomic { IS_SEEN(s, object) ->
                assert(below == link[object]);
                head[s] = below;
                link[object] = 0;
                watched[me] = 0;
                below = 0;
                CHANGED(s);
                if
                :: s == LOOSE -> LEAVES(BIT(object - 1))
                :: s == FULL ->
                    assert(count[M(object)] == 2 && first[M(object)] != 0 &&
                        second[M(object)] != 0);
                    LEAVES((breaks -> BIT(first[M(object)] - 1) : CONTENT(object)))
                :: s == EMPTY ->
                    assert(count[M(object)] == 0 && first[M(object)] == 0 &&
                        second[M(object)] == 0)
                fi };
            break
        :: else -> atomic { below = 0; watched[me] = 0 }
        fi
    od
}

#define PUSH(s, object) \
    link[object] = head[s]; \
    head[s] = object; \
    CHANGED(s)

/* -- the depot: src/pool/depot.c -- */

inline put_loose(region)
{
    atomic { PUSH(LOOSE, region); in_depot = in_depot | BIT(region - 1) }
}

inline put_full(magazine) /* mrp_depot_put_full() */
{
    atomic {
        count[M(magazine)] = 2;
        PUSH(FULL, magazine);
        in_depot = in_depot | CONTENT(magazine)
    }
}

inline put_empty(magazine) /* mrp_depot_put_empty() */
{
    atomic { count[M(magazine)] = 0; PUSH(EMPTY, magazine) }
}

inline own(region)
{
    assert(!HAS(held[0], region - 1) && !HAS(held[1], region - 1));
    held[me] = held[me] | BIT(region - 1)
}

inline take_locked() /* mrp_depot_take_locked(); m != 0 or r != 0 if it found something */
{
    missed[me] = in_depot;
    pop(LOOSE, r);
    if
    :: r == 0 ->
        breaks = true; /* the rest is free still, and others must not miss it */
        pop(FULL, m);
        breaks = false;
        if
        :: m != 0 ->
            atomic { r = first[M(m)]; first[M(m)] = 0 };
            atomic { put_loose(second[M(m)]); second[M(m)] = 0 };
            atomic { put_empty(m); m = 0 }
        :: else -> assert(missed[me] == 0)
        fi
    :: else
    fi;
    missed[me] = 0
}

inline grow() /* mrp_pool_grow(), cut_slab(), mrp_depot_put_many() */
{
    LOCK;
    take_locked();
    if
    :: r == 0 && n_cut < REGIONS ->
        atomic { n_cut++; r = n_cut };
        if
        :: n_cut + 2 <= REGIONS ->
            pop(EMPTY, m);
            if
            :: m != 0 ->
                atomic {
                    first[M(m)] = n_cut + 1;
                    second[M(m)] = n_cut + 2;
                    n_cut = n_cut + 2;
                    put_full(m);
                    m = 0
                }
            :: else ->
                atomic { put_loose(n_cut + 1); put_loose(n_cut + 2); n_cut = n_cut + 2 }
            fi
        :: else
        fi
    :: else
    fi;
    UNLOCK
}

/* -- the slow paths: src/pool/cache.c -- */

inline open_bin()
{
    LOCK;
    pop(EMPTY, m);
    if
    :: m != 0 ->
        pop(EMPTY, e);
        if
        :: e != 0 -> atomic { loaded[me] = m; previous[me] = e }
        :: else -> put_empty(m)
        fi
    :: else
    fi;
    atomic { m = 0; e = 0 };
    UNLOCK
}

inline close_bin()
{
#ifndef FORGET_PREVIOUS
    if
    :: count[M(previous[me])] != 0 -> put_full(previous[me])
    :: else -> put_empty(previous[me])
    fi;
#endif
    previous[me] = 0;
    if
    :: n_loaded[me] == 2 -> put_full(loaded[me])
    :: n_loaded[me] == 1 ->
#ifndef FORGET_REST
        put_loose(first[M(loaded[me])]);
#endif
        atomic { first[M(loaded[me])] = 0; put_empty(loaded[me]) }
    :: n_loaded[me] == 0 -> put_empty(loaded[me])
    fi;
    atomic { loaded[me] = 0; n_loaded[me] = 0 }
}

inline pop_bin() /* mrp_v1_pop() */
{
    atomic {
        n_loaded[me]--;
        if
        :: n_loaded[me] == 0 -> r = first[M(loaded[me])]; first[M(loaded[me])] = 0
        :: n_loaded[me] == 1 -> r = second[M(loaded[me])]; second[M(loaded[me])] = 0
        fi;
        own(r);
        r = 0
    }
}

inline push_bin(region) /* mrp_v1_push() */
{
    atomic {
        if
        :: n_loaded[me] == 0 -> first[M(loaded[me])] = region
        :: n_loaded[me] == 1 -> second[M(loaded[me])] = region
        fi;
        n_loaded[me]++;
        held[me] = held[me] & ~BIT(region - 1)
    }
}

inline refill() /* m != 0 if it did */
{
    if
    :: count[M(previous[me])] != 0 -> m = previous[me]
    :: else ->
        pop(FULL, m);
        if
        :: m != 0 ->
#ifndef KEEP_EMPTY
            put_empty(previous[me])
#endif
        :: else
        fi
    fi;
    if
    :: m != 0 ->
        atomic {
#ifndef STALE_COUNT
            count[M(loaded[me])] = 0;
#endif
            previous[me] = loaded[me];
            loaded[me] = m;
            n_loaded[me] = 2
        }
    :: else
    fi
}

inline allocate() /* mrp_cache_take(), mrp_pool_grow(); what is loaded has gone */
{
    if
    :: loaded[me] == 0 && HAS(CACHED, me) -> open_bin()
    :: else
    fi;
    if
    :: loaded[me] != 0 -> refill()
    :: else
    fi;
    if
    :: m != 0 -> m = 0; pop_bin()
    :: else ->
        pop(LOOSE, r);
        if
        :: r == 0 -> grow()
        :: else
        fi;
        atomic {
            if
            :: r != 0 -> own(r)
            :: else
            fi;
            r = 0
        }
    fi
}

inline spill() /* e != 0 if it did */
{
    if
    :: count[M(previous[me])] == 0 -> e = previous[me]
    :: else ->
#ifdef PUT_FIRST
        put_full(previous[me]);
#endif
        pop(EMPTY, e);
#ifndef LOOSE_WILL_DO
        assert(e != 0);
#endif
#ifndef PUT_FIRST
        if
        :: e != 0 -> put_full(previous[me])
        :: else
        fi
#endif
    fi;
    if
    :: e != 0 ->
        atomic {
            count[M(loaded[me])] = 2;
            previous[me] = loaded[me];
            loaded[me] = e;
            n_loaded[me] = 0
        }
    :: else
    fi
}

inline choose(region) /* the first of those held */
{
    atomic {
        region = 1;
        do
        :: HAS(held[me], region - 1) -> break
        :: else -> region++
        od
    }
}

inline give() /* mrp_cache_put(); what is loaded is full */
{
    if
    :: loaded[me] == 0 && HAS(CACHED, me) -> open_bin()
    :: else
    fi;
    if
    :: loaded[me] != 0 && n_loaded[me] == 2 -> spill()
    :: loaded[me] != 0 && n_loaded[me] < 2 -> e = loaded[me]
    :: loaded[me] == 0
    fi;
    atomic {
        choose(r);
        if
        :: e != 0 -> push_bin(r)
        :: else -> held[me] = held[me] & ~BIT(r - 1); put_loose(r)
        fi;
        r = 0;
        e = 0
    }
}

proctype thread(byte me)
{
    byte n, m, e, r, below, ops;
    bool breaks;

    ops = (me == 0 -> OPS_0 : OPS_1);
    do
    :: n_loaded[me] > 0 -> pop_bin()
    :: loaded[me] != 0 && n_loaded[me] < 2 && held[me] != 0 ->
        atomic { choose(r); push_bin(r); r = 0 }
    :: n < ops && n_loaded[me] == 0 -> n++; allocate()
    :: n < ops && held[me] != 0 && (loaded[me] == 0 || n_loaded[me] == 2) -> n++; give()
    :: n < ops && loaded[me] != 0 -> n++; close_bin() /* mrp_thread_flush() */
    :: n == ops -> break
    od;
    if
    :: true
    :: loaded[me] != 0 -> close_bin() /* at_thread_exit() */
    fi;
    n_done++
}

/* Everything is in one place. */
proctype auditor()
{
    byte i, s, object, places[OBJECTS];

    n_done == THREADS;
    d_step {
        do
        :: s == 3 -> break
        :: else ->
            object = head[s];
            do
            :: object == 0 -> break
            :: else ->
                places[object]++;
                if
                :: s == FULL ->
                    places[first[M(object)]]++;
                    places[second[M(object)]]++
                :: else
                fi;
                object = link[object]
            od;
            s++
        od;
        do
        :: i == THREADS -> break
        :: else ->
            if
            :: loaded[i] != 0 ->
                places[loaded[i]]++;
                places[previous[i]]++;
                if
                :: n_loaded[i] > 0 -> places[first[M(loaded[i])]]++
                :: else
                fi;
                if
                :: n_loaded[i] > 1 -> places[second[M(loaded[i])]]++
                :: else
                fi;
                if
                :: count[M(previous[i])] != 0 ->
                    places[first[M(previous[i])]]++;
                    places[second[M(previous[i])]]++
                :: else
                fi
            :: else
            fi;
            s = 0;
            do
            :: s == REGIONS -> break
            :: else ->
                places[s + 1] = places[s + 1] + (HAS(held[i], s) -> 1 : 0);
                s++
            od;
            i++
        od;
        i = 1;
        do
        :: i == OBJECTS -> break
        :: else ->
            assert(places[i] == (i <= REGIONS && i > n_cut -> 0 : 1));
            i++
        od
    }
}

init {
    byte i, r;

    atomic {
        i = OBJECTS - 1;
        do
        :: i == REGIONS -> break
        :: else -> PUSH(EMPTY, i); i--
        od;
        n_cut = CUT;
        r = 1;
#ifdef ALL_LOOSE
        r = CUT;
        do /* the first on top */
        :: r == 0 -> break
        :: else -> put_loose(r); r--
        od;
#elif !defined(DRY)
        do /* full magazines in the depot, the rest loose */
        :: r + 1 > CUT -> break
        :: else ->
            i = head[EMPTY];
            head[EMPTY] = link[i];
            first[M(i)] = r;
            second[M(i)] = r + 1;
            put_full(i);
            r = r + 2
        od;
        do
        :: r > CUT -> break
        :: else -> put_loose(r); r++
        od;
#else
        /* all with thread 0: two full magazines and the rest in its user's hands */
        loaded[0] = head[EMPTY];
        previous[0] = link[loaded[0]];
        head[EMPTY] = link[previous[0]];
        link[loaded[0]] = 0;
        link[previous[0]] = 0;
        first[M(loaded[0])] = 1;
        second[M(loaded[0])] = 2;
        first[M(previous[0])] = 3;
        second[M(previous[0])] = 4;
        count[M(previous[0])] = 2;
        n_loaded[0] = 2;
        r = 5;
        do
        :: r > CUT -> break
        :: else -> held[0] = held[0] | BIT(r - 1); r++
        od;
#endif
        run thread(0);
        run thread(1);
        run auditor()
    }
}
