/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The depot of src/pool/depot.c: one class with REGIONS regions and magazines of two.
 * The three stacks are sets here, and a pop may take any member: stack.pml shows that one
 * operation on a stack is one step, and no order among the members matters.
 *
 *   no loss, no duplication     each region is held, loose, in a full magazine, or in the
 *                               hands of the mutex's holder; in the end not the last
 *   "none" is true              mrp_depot_take_locked says so only if each region that
 *                               was free when it was called has been taken by somebody
 *   free cannot fail            mrp_depot_put_many ends whatever the others do, and
 *                               between operations there is an empty magazine
 *
 * Each of these must make the search find an error:
 *   -DNO_MUTEX        mrp_depot_take_locked without the mutex
 *   -DPUT_BACK_REST   mrp_depot_take_many breaks a magazine up, without the mutex
 */
#ifndef THREADS
#define THREADS 3
#endif
#ifndef OPS
#define OPS 2
#endif
#define REGIONS 4
#define MAGAZINES 3 /* regions / capacity + 1, as mrp_depot_provision has it */
#define FREE 0      /* owner of a region: 0, or 1 + the thread that holds it */
#define NONE 255
#define BIT(i) (1 << (i))
#define HAS(set, i) ((set & BIT(i)) != 0)

byte loose_set, full_set, empty_set; /* sets: of regions, of magazines, of magazines */
byte first[MAGAZINES], second[MAGAZINES];
bool is_locked;
byte n_done;
byte owner[REGIONS];      /* for the proof only, as the next */
byte missed[THREADS + 1]; /* free since take_locked was called, not taken since */

#ifdef NO_MUTEX
#define LOCK skip
#define UNLOCK skip
#else
#define LOCK atomic { !is_locked; is_locked = true }
#define UNLOCK is_locked = false
#endif

inline own(region)
{
    assert(owner[region] == FREE);
    owner[region] = me;
    k = 1;
    do
    :: k > THREADS -> break
    :: else -> missed[k] = missed[k] & ~BIT(region); k++
    od;
    k = 0
}

inline disown(region)
{
    assert(owner[region] == me);
    owner[region] = FREE
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

inline take_one() /* mrp_depot_take */
{
    atomic {
        pop(loose_set, REGIONS, r);
        if
        :: r != NONE -> own(r)
        :: else
        fi
    }
}

inline take_locked()
{
    atomic { /* the call: what is free now and stays free must be found */
        k = 0;
        do
        :: k == REGIONS -> break
        :: k < REGIONS && owner[k] == FREE -> missed[me] = missed[me] | BIT(k); k++
        :: k < REGIONS && owner[k] != FREE -> k++
        od;
        k = 0 };
    LOCK;
    take_one();
    if
    :: r == NONE ->
        atomic {
            pop(full_set, MAGAZINES, m);
            if
            :: m == NONE -> assert(missed[me] == 0)
            :: else -> own(first[m])
            fi };
        if
        :: m != NONE ->
            atomic { loose_set = loose_set | BIT(second[m]); second[m] = 0; first[m] = 0 };
            empty_set = empty_set | BIT(m)
        :: else
        fi
    :: else
    fi;
    UNLOCK;
    atomic { missed[me] = 0; m = 0; r = 0 }
}

inline take_many()
{
    atomic {
        pop(full_set, MAGAZINES, m);
        if
        :: m != NONE ->
            own(first[m]);
#ifndef PUT_BACK_REST
            own(second[m])
#endif
        :: else
        fi };
    if
    :: m != NONE ->
#ifdef PUT_BACK_REST
        loose_set = loose_set | BIT(second[m]);
#endif
        atomic { empty_set = empty_set | BIT(m); first[m] = 0; second[m] = 0 }
    :: else ->
        take_one();
        take_one()
    fi;
    atomic { m = 0; r = 0 }
}

inline put_one() /* mrp_depot_put */
{
    atomic {
        choose(r);
        if
        :: r != NONE -> loose_set = loose_set | BIT(r); disown(r)
        :: else
        fi;
        r = 0
    }
}

inline put_many()
{
    atomic {
        choose(r);
        s = NONE;
        if
        :: r != NONE ->
            s = r + 1;
            do
            :: s < REGIONS && owner[s] == me -> break
            :: s < REGIONS && owner[s] != me -> s++
            :: s >= REGIONS -> s = NONE; break
            od
        :: else
        fi };
    if
    :: s != NONE ->
        pop(empty_set, MAGAZINES, m);
        if
        :: m == NONE -> /* all in other hands: loose will do */
            atomic { loose_set = loose_set | BIT(r) | BIT(s); disown(r); disown(s) }
        :: else ->
            first[m] = r;
            second[m] = s;
            atomic { full_set = full_set | BIT(m); disown(r); disown(s) }
        fi
    :: else
    fi;
    atomic { m = 0; r = 0; s = 0 }
}

/* any region held, or NONE */
inline choose(region)
{
    region = 0;
    do
    :: region < REGIONS && owner[region] == me -> break
    :: region < REGIONS -> region++
    :: region == REGIONS -> region = NONE; break
    od
}

proctype thread(byte me)
{
    byte n, m, r, s, k;

    do
    :: n == OPS -> break
    :: n < OPS ->
        n++;
        if
        :: true -> take_one(); r = 0
        :: true -> take_locked()
        :: true -> take_many()
        :: true -> put_one()
        :: true -> put_many()
        fi
    od;
    n_done++
}

proctype auditor()
{
    byte k, m, n, n_empty;

    n_done == THREADS;
    d_step {
        assert((full_set & empty_set) == 0);
        assert((full_set | empty_set) == BIT(MAGAZINES) - 1);
        assert(empty_set != 0);
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
        od
    }
}

init {
    byte i;

    atomic {
        loose_set = BIT(0) | BIT(1); /* and two in a magazine */
        full_set = BIT(0);
        first[0] = 2;
        second[0] = 3;
        empty_set = BIT(1) | BIT(2);
        i = 1;
        do
        :: i > THREADS -> break
        :: else -> run thread(i); i++
        od;
        run auditor()
    }
}
