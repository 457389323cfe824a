/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Sifting, src/pool/trim.c: one class with slabs of two regions and magazines of two, under
 * takers and putters that may run dry, and threads of another class that want a slab's room,
 * stand in line and sift, or merely trim. Stacks are sets, as in depot.pml. The sifter
 * releases the mutex after each region or magazine. Of three slab records two are in use at
 * first: a record whose slab has gone is used again only when no list has its regions.
 *
 *   no loss, no duplication   a region is with a user, loose, in a full magazine, in the
 *                             sifter's hands, or its slab has gone; a magazine is full,
 *                             empty or in the sifter's hands
 *   retired is free           no region of a slab that goes is with anybody
 *   nothing is missed         who is dry grows or fails only if each region that was free when
 *                             it took the mutex has been taken, or has gone with its slab;
 *                             who wants room fails only if of each slab that was free when it
 *                             came a region has been taken, or the slab has gone
 *   no slab is overlooked     in the end, when somebody stands in line, none is all free
 *   one sifter                and everybody ends
 *
 * Each of these must make the search find an error:
 *   -DNO_DECREMENT     a region taken out of the sifter's hands stays counted
 *   -DSKIP_SIFTED      who is dry does not look into the sifter's hands
 *   -DNO_MUTEX         the sifter gathers without the mutex
 *   -DREST_TO_LOOSE    the rest of a magazine in the sifter's hands is put on `loose`
 *   -DKEEP_MAGAZINES   magazines that have lost regions are forgotten
 *   -DBELIEVE_LISTS    regions of slabs that have gone are taken out of the sifter's hands
 *   -DRECYCLE_EARLY    a record is used again while the sifter holds its former regions
 *   -DIGNORE_CUTTING   a slab that is being cut goes if all that was cut before is free
 *   -DKEEP_PENDING     a slab goes that region_init has left half-way, and is cut on
 *   -DTWO_SIFTERS      nobody looks whether another one sifts
 *   -DNO_WAIT          who wants room does not wait for another's sift
 *   -DNO_WAKE          the end of a sift wakes nobody
 *   -DONE_LOOK         who waited for another's sift does not sift itself
 *   -DSIFT_ONCE        what is freed during a sift is not sifted after it
 *   -DCLEAR_LATE       a sift's end, not its begin, settles what was due
 *   -DQUIET_CUT        what is cut during a sift is not sifted after it
 */
#ifndef USERS
#define USERS 2
#endif
#ifndef SIFTERS
#define SIFTERS 1
#endif
#ifndef OPS
#define OPS 2
#endif
#ifndef ROOM
#define ROOM 0 /* for a slab, at first */
#endif
#ifndef HELD
#define HELD 1 /* set of regions that user 0 has at first; the rest of the first two is loose */
#endif
#ifndef SECOND
#define SECOND 3 /* in a magazine with region 2; another one is loose */
#endif
#define REGIONS 6
#define SLABS 3
#define BLOCKS 2
#define MAGAZINES 3
#define THREADS (USERS + SIFTERS)
#define FREE 0 /* owner of a region: 0, or 1 + the thread that holds it, */
#define VOID 9 /* or not cut */
#define NONE 255
#define BIT(i) (1 << (i))
#define HAS(set, i) ((set & BIT(i)) != 0)
#define SLAB_OF(region) (region / BLOCKS)

/* the depot */
byte loose_set, full_set, empty_set; /* sets: of regions, of magazines, of magazines */
byte first[MAGAZINES], second[MAGAZINES];

/* under the mutex */
bool is_locked;
bool sifting, growing, due;
byte n_waiting;                   /* in line, for room */
byte held_loose, held_magazines;  /* the sifter's */
byte n_collected[SLABS], n_cut[SLABS], n_missing[SLABS];
bool is_cutting[SLABS], is_retired[SLABS];
byte records; /* set of those in no use */
byte room = ROOM;
byte pending = NONE; /* slab of which one region has been cut */
bool asleep[THREADS];

/* for the proof only */
byte owner[REGIONS];
byte missed[THREADS];    /* regions free since the user took the mutex, not taken since */
byte unretired[THREADS]; /* slabs free since the sifter came, not touched since */
byte n_sifting, n_done;

#define LOCK atomic { !is_locked; is_locked = true }
#define UNLOCK is_locked = false
#define TAKE_TURNS UNLOCK; LOCK
#define WAIT atomic { is_locked = false; asleep[me] = true }; !asleep[me]; LOCK
#define WAKE_ALL \
    atomic { asleep[0] = false; asleep[1] = false; asleep[THREADS - 2] = false; \
        asleep[THREADS - 1] = false }

inline touched(region) /* taken or gone */
{
    k = 0;
    do
    :: k == THREADS -> break
    :: else ->
        missed[k] = missed[k] & ~BIT(region);
        unretired[k] = unretired[k] & ~BIT(SLAB_OF(region));
        k++
    od;
    k = 0
}

inline own(region)
{
    assert(owner[region] == FREE);
    owner[region] = me + 1;
    touched(region)
}

/* one successful compare-and-swap, or the sight of an empty head */
inline pop(set, n, got)
{
    atomic {
        if
        :: set == 0 -> got = NONE
        :: else ->
            got = 0;
            do
            :: got < n && HAS(set, got) -> break
            :: got < n - 1 && (set >> (got + 1)) != 0 -> got++
            od;
            set = set & ~BIT(got)
        fi
    }
}

/* -- what the sifter holds -- */

/* let_go(): out of its hands; one whose slab has gone is not handed out */
inline let_go(region, good)
{
#ifdef BELIEVE_LISTS
    good = true;
#else
    good = !is_retired[SLAB_OF(region)];
#endif
#ifndef NO_DECREMENT
    if
    :: good && n_collected[SLAB_OF(region)] > 0 -> n_collected[SLAB_OF(region)]--
    :: else
    fi
#endif
}

inline sift_take() /* mrp_sift_take */
{
    do
    :: r == NONE && held_magazines != 0 ->
        atomic { /* their regions join those that are held singly, still counted */
            pop(held_magazines, MAGAZINES, m);
#ifdef REST_TO_LOOSE
            let_go(first[m], good);
            if
            :: good -> r = first[m]; own(first[m])
            :: else
            fi;
            let_go(second[m], good);
            if
            :: good && r == NONE -> r = second[m]; own(r)
            :: good && r != NONE && r != second[m] -> loose_set = loose_set | BIT(second[m])
            :: else
            fi;
            good = false;
#else
            held_loose = held_loose | BIT(first[m]) | BIT(second[m]);
#endif
            first[m] = 0;
            second[m] = 0;
            empty_set = empty_set | BIT(m);
            m = 0
        }
    :: r == NONE && held_magazines == 0 && held_loose != 0 ->
        atomic {
            pop(held_loose, REGIONS, r);
            let_go(r, good);
            if
            :: good -> own(r)
            :: else -> r = NONE
            fi;
            good = false
        }
    :: else -> break
    od
}

inline collect(region)
{
    n_collected[SLAB_OF(region)]++
}

inline gather()
{
    do
    :: full_set != 0 && n < MAGAZINES ->
        n++;
        pop(full_set, MAGAZINES, m);
        if
        :: m != NONE ->
#ifdef NO_MUTEX
            UNLOCK;
            LOCK;
#endif
            atomic {
                collect(first[m]);
                collect(second[m]);
                held_magazines = held_magazines | BIT(m) }
        :: else
        fi;
        m = 0;
        TAKE_TURNS
    :: else -> break
    od;
    n = 0;
    do
    :: loose_set != 0 && n < REGIONS ->
        n++;
        pop(loose_set, REGIONS, r);
        if
        :: r != NONE ->
#ifdef NO_MUTEX
            UNLOCK;
            LOCK;
#endif
            atomic { collect(r); held_loose = held_loose | BIT(r) }
        :: else
        fi;
        r = 0;
        TAKE_TURNS
    :: else -> break
    od;
    n = 0
}

inline end_region(region)
{
    assert(owner[region] == FREE);
    owner[region] = VOID;
    touched(region)
}

inline retire_free()
{
    do
    :: s == SLABS -> break
    :: s < SLABS && (HAS(records, s) || is_retired[s]) -> s++
    :: s < SLABS && !HAS(records, s) && !is_retired[s] ->
        atomic {
            n_missing[s] = n_cut[s] - n_collected[s];
            if
#ifdef IGNORE_CUTTING
            :: n_cut[s] - n_collected[s] == 0 ->
#else
            :: n_cut[s] - n_collected[s] == 0 && !is_cutting[s] ->
#endif
                if
                :: n_cut[s] > 0 -> end_region(BLOCKS * s)
                :: else
                fi;
                if
                :: n_cut[s] > 1 -> end_region(BLOCKS * s + 1)
                :: else
                fi;
#ifndef KEEP_PENDING
                pending = (pending == s -> NONE : pending);
#endif
                n_collected[s] = 0;
                n_cut[s] = 0;
                room++;
#ifdef RECYCLE_EARLY
                records = records | BIT(s)
#else
                is_retired[s] = true
#endif
            :: else
            fi;
            s++ };
        TAKE_TURNS
    od;
    s = 0
}

inline put_back()
{
    do
    :: held_magazines != 0 ->
        atomic {
            pop(held_magazines, MAGAZINES, m);
            let_go(first[m], good);
            let_go(second[m], other);
            if
            :: good && other -> full_set = full_set | BIT(m)
            :: else ->
                loose_set = loose_set | (good -> BIT(first[m]) : 0) |
                    (other -> BIT(second[m]) : 0);
                first[m] = 0;
                second[m] = 0;
#ifndef KEEP_MAGAZINES
                empty_set = empty_set | BIT(m)
#endif
            fi;
            m = 0;
            good = false;
            other = false };
        TAKE_TURNS
    :: held_magazines == 0 && held_loose != 0 ->
        atomic {
            pop(held_loose, REGIONS, r);
            let_go(r, good);
            loose_set = loose_set | (good -> BIT(r) : 0);
            r = 0;
            good = false };
        TAKE_TURNS
    :: else -> break
    od
}

/* mrp_pool_sift, with the mutex, which is released now and then */
inline sift()
{
    assert(n_sifting == 0);
    atomic {
        sifting = true;
        n_sifting++;
#ifndef CLEAR_LATE
        due = false
#endif
    };
    gather();
    retire_free();
    put_back();
    atomic { /* now no list has them */
        do
        :: s == SLABS -> break
        :: else ->
            if
            :: is_retired[s] -> is_retired[s] = false; records = records | BIT(s)
            :: else
            fi;
            s++
        od;
        s = 0 };
    atomic {
        n_sifting--;
#ifdef CLEAR_LATE
        due = false;
#endif
        sifting = false
    };
#ifndef NO_WAKE
    WAKE_ALL
#endif
}

/* what was freed while somebody sifted, and nobody else sifts now */
inline sift_due()
{
#ifndef SIFT_ONCE
    do
    :: n_waiting > 0 && due && !sifting -> sift()
    :: else -> break
    od
#else
    skip
#endif
}

/* -- takers and putters -- */

inline take_one(set) /* mrp_depot_take */
{
    atomic {
        pop(set, REGIONS, r);
        if
        :: r != NONE -> own(r)
        :: else
        fi
    }
}

inline take_locked() /* mrp_depot_take_locked */
{
    take_one(loose_set);
    if
    :: r == NONE ->
        atomic {
            pop(full_set, MAGAZINES, m);
            if
            :: m != NONE -> r = first[m]; own(r)
            :: else
            fi };
        if
        :: m != NONE ->
            atomic { loose_set = loose_set | BIT(second[m]); first[m] = 0; second[m] = 0 };
            empty_set = empty_set | BIT(m)
        :: else
        fi;
        m = 0
    :: else
    fi;
#ifndef SKIP_SIFTED
    sift_take()
#endif
}

/* mrp_pool_grow, with room or without: the rest of a slab whose region_init failed, or a new
 * one */
inline grow()
{
    atomic {
        growing = true;
        if
        :: pending != NONE -> s = pending; pending = NONE
        :: else ->
            pop(records, SLABS, s);
            room--;
            n_cut[s] = 0;
            n_missing[s] = 0;
            n_collected[s] = 0
        fi;
        assert(!HAS(records, s) && !is_retired[s]);
        is_cutting[s] = true;
        b = n_cut[s];
        is_locked = false };
    atomic {
        assert(owner[BLOCKS * s + b] == VOID);
        owner[BLOCKS * s + b] = me + 1;
        b++ };
    if
    :: b == 1 ->
        atomic {
            assert(owner[BLOCKS * s + 1] == VOID);
            owner[BLOCKS * s + 1] = FREE;
            loose_set = loose_set | BIT(BLOCKS * s + 1);
            b = 2 }
    :: b == 1 /* region_init fails */
    :: b == 2
    fi;
    LOCK;
    atomic {
        n_cut[s] = b;
        is_cutting[s] = false;
#ifndef QUIET_CUT
        n_missing[s] = 0;
        due = due || sifting;
#endif
        pending = (b == 1 -> s : NONE);
        growing = false;
        WAKE_ALL;
        r = 0;
        s = 0;
        b = 0
    }
}

inline dry()
{
    LOCK;
    atomic {
        k = 0;
        do
        :: k == REGIONS -> break
        :: k < REGIONS && owner[k] == FREE -> missed[me] = missed[me] | BIT(k); k++
        :: k < REGIONS && owner[k] != FREE -> k++
        od;
        k = 0 };
    do
    :: true ->
        take_locked();
        if
        :: r != NONE -> break
        :: r == NONE && growing -> WAIT
        :: r == NONE && !growing ->
            assert(missed[me] == 0);
            if
            :: pending != NONE || (room > 0 && records != 0) -> grow()
            :: else
            fi;
            break
        fi
    od;
    UNLOCK;
    atomic { missed[me] = 0; r = 0 }
}

inline take_magazine() /* mrp_depot_take_full */
{
    atomic {
        pop(full_set, MAGAZINES, m);
        if
        :: m != NONE -> own(first[m]); own(second[m])
        :: else
        fi };
    if
    :: m != NONE -> atomic { first[m] = 0; second[m] = 0; empty_set = empty_set | BIT(m) }
    :: else
    fi;
    m = 0
}

inline choose(region, from) /* the first one held, or NONE */
{
    region = from;
    do
    :: region >= REGIONS -> region = NONE; break
    :: region < REGIONS && owner[region] == me + 1 -> break
    :: region < REGIONS && owner[region] != me + 1 -> region++
    od
}

inline note(region)
{
    if
    :: sifting || n_missing[SLAB_OF(region)] == 0 -> due = true
    :: else ->
        n_missing[SLAB_OF(region)]--;
        due = due || n_missing[SLAB_OF(region)] == 0
    fi
}

inline put() /* one, or a magazine if there are two; mrp_depot_tell */
{
    atomic {
        choose(r, 0);
        s = NONE;
        if
        :: r != NONE -> choose(s, r + 1)
        :: else
        fi };
    if
    :: r == NONE
    :: atomic { r != NONE -> owner[r] = FREE; loose_set = loose_set | BIT(r); s = NONE }
    :: s != NONE ->
        pop(empty_set, MAGAZINES, m);
        if
        :: m == NONE -> atomic {
            owner[r] = FREE;
            owner[s] = FREE;
            loose_set = loose_set | BIT(r) | BIT(s) }
        :: else -> atomic {
            owner[r] = FREE;
            owner[s] = FREE;
            first[m] = r;
            second[m] = s;
            full_set = full_set | BIT(m) }
        fi
    fi;
    if
    :: r != NONE && n_waiting > 0 ->
        LOCK;
        atomic {
            note(r);
            if
            :: s != NONE -> note(s)
            :: else
            fi;
            r = 0;
            s = 0;
            m = 0 };
        sift_due();
        UNLOCK
    :: else
    fi;
    atomic { r = 0; s = 0; m = 0 }
}

proctype user(byte me)
{
    byte o, n, r, s, m, k, b;
    bool good, other;

    do
    :: o == OPS -> break
    :: o < OPS ->
        o++;
        if
        :: true ->
            take_one(loose_set);
            if
            :: r == NONE -> dry()
            :: else -> r = 0
            fi
        :: true -> take_magazine()
        :: true -> put()
        fi
    od;
    atomic { o = 0; n_done++ }
}

/* -- who trims, or wants room -- */

#define NO_ROOM !(wants && room > 0)

proctype sifter(byte me)
{
    byte n, r, s, m, k;
    bool good, other, has_sifted, wants, stands, got;

    if
    :: wants = true; stands = true
    :: wants = true /* and fails at the limit */
    :: wants = false /* mrp_pool_trim */
    fi;
    LOCK;
    atomic {
        if
        :: stands -> n_waiting++; due = true
        :: else
        fi;
        do
        :: k == SLABS -> break
        :: else ->
            if
            :: owner[BLOCKS * k] == FREE && owner[BLOCKS * k + 1] == FREE ->
                unretired[me] = unretired[me] | BIT(k)
            :: else
            fi;
            k++
        od;
        k = 0 };
    do
    :: wants && room > 0 -> 
        atomic { room--; got = true; n_waiting = n_waiting - (stands -> 1 : 0) };
        break
#ifdef TWO_SIFTERS
    :: NO_ROOM && !has_sifted -> sift(); has_sifted = true
    :: NO_ROOM && has_sifted -> break
#else
#ifdef NO_WAIT
    :: NO_ROOM && sifting -> break
#else
    :: NO_ROOM && sifting ->
        WAIT;
#ifdef ONE_LOOK
        has_sifted = true
#endif
#endif
    :: NO_ROOM && !sifting && !has_sifted -> sift(); has_sifted = true
    :: NO_ROOM && !sifting && has_sifted -> break
#endif
    od;
    assert(!wants || got || unretired[me] == 0);
    sift_due();
    UNLOCK;
    atomic { unretired[me] = 0; has_sifted = false; wants = false; stands = false; got = false;
        n_done++ }
}

proctype auditor()
{
    byte k, m, n;

    n_done == THREADS;
    d_step {
        assert(!sifting && !growing && !is_locked);
        assert(held_loose == 0 && held_magazines == 0);
        assert((full_set & empty_set) == 0);
        assert((full_set | empty_set) == BIT(MAGAZINES) - 1);
        do
        :: k == REGIONS -> break
        :: else ->
            n = (HAS(loose_set, k) -> 1 : 0);
            m = 0;
            do
            :: m == MAGAZINES -> break
            :: else ->
                if
                :: HAS(full_set, m) && (first[m] == k || second[m] == k) -> n++
                :: else
                fi;
                m++
            od;
            assert(n == (owner[k] == FREE -> 1 : 0));
            k++
        od;
        k = 0;
        do
        :: k == SLABS -> break
        :: else ->
            assert(n_collected[k] == 0 && !is_retired[k]);
            assert(n_waiting == 0 || HAS(records, k) || owner[BLOCKS * k] != FREE ||
                (owner[BLOCKS * k + 1] != FREE && owner[BLOCKS * k + 1] != VOID));
            k++
        od
    }
}

init {
    byte i;

    atomic {
        full_set = BIT(0);
        first[0] = 2;
        second[0] = SECOND;
        empty_set = BIT(1) | BIT(2);
        loose_set = (BIT(0) | BIT(1) | BIT(3)) & ~(HELD | BIT(SECOND));
        records = BIT(2);
        owner[4] = VOID;
        owner[5] = VOID;
        n_cut[0] = BLOCKS;
        n_cut[1] = BLOCKS;
        do
        :: i == 4 -> break
        :: else ->
            if
            :: HAS(HELD, i) -> owner[i] = 1
            :: else
            fi;
            i++
        od;
        i = 0;
        do
        :: i == USERS -> break
        :: else -> run user(i); i++
        od;
        do
        :: i == THREADS -> break
        :: else -> run sifter(i); i++
        od;
        run auditor()
    }
}
