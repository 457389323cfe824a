/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Rails that join a pool in use, fail and leave it: src/pool/rails.c, rail_change.c,
 * attach.c, and of chunks.c and charge.c a chunk's life. Rail 0 is added and removed, and
 * is of another network each time; rail 1 is lazy and always there. Of the chunks, number
 * 0 has a region whose owners ensure it; growers make others, for rail 0 by its policy or
 * for it alone, and evict any of them, and their numbers are used again.
 *
 * What is done under the pool's mutex is one step, `atomic`, but where it waits, or lets
 * others in. Nobody sees into such a step but who reads key lines without the mutex, as
 * is_shown() does: he would see lines shut that are about to open, and take the mutex.
 * While a thread is inside a network, everybody else runs. A network registers, refuses,
 * or says that it is gone; and it may use another pool, which may want room and evict the
 * very chunk that it is called for.
 *
 * Left out: what a network would not deregister; distance (NEAR); chunks with several
 * rails by policy; the registrations that a rail or a context may have, and who waits for
 * one; what the key lines say but open and shut (tests/unit/test_rails_step.c).
 *
 *   once                  nothing is registered twice with a network, or given back twice
 *   gone is gone          when a rail has been removed, nothing is registered with its
 *                         network, nobody is inside it or comes there later, nothing
 *                         is charged to it
 *   all or none           when an eager rail has been added, and as long as it is active,
 *                         every chunk in the table is registered and shown there, but
 *                         one that is leaving
 *   keys are true         a line opens for a registration that is there, of the rail's
 *                         network, while the rail is active; it is shut before the
 *                         registration or the chunk goes
 *   keys stay             a line is shut only when its rail fails or leaves, or its chunk
 *                         leaves the table; where mrp_region_ensure succeeds all are open
 *   and everybody ends
 *
 * Each of these must make the search find an error:
 *   -DMISSING_FROM_LINES  ensure registers where a line is shut, whatever the chunk has
 *   -DWANTS_FIRST         a chunk that somebody holds is passed over if it does not look
 *                         as if it had to be held
 *   -DSHOW_JOINING        lines of a rail that is joining are opened
 *   -DSHOW_EACH           ensure opens each line when its registration is there, not all
 *                         when all are
 *   -DLOOK_ONCE           ensure does not look again whether the rails are still active
 *   -DOPEN_BLINDLY        who has added a rail opens its lines though it has failed
 *   -DNO_OPEN             or does not open them
 *   -DFORGET_MISSED       nobody asks what growth has made without a rail that was joining
 *   -DFORGET_FAILURE      nor whether the rail has failed
 *   -DJOIN_AT_ONCE        joining does not wait for those who build without the rail
 *   -DLEAVE_AT_ONCE       leaving does not wait for those who build with it
 *   -DAWAIT_ONCE          nor, at its end, for those who give up chunks that have it
 *   -DAWAIT_NEW           who waits for passages takes the wrong one of the two counts
 *   -DCHOOSE_EARLY        a passage begins after the choice of the rails, not with it
 *   -DEND_EARLY           and ends before the chunk is in the table
 *   -DIGNORE_HOLD         a chunk leaves the table though somebody holds it
 *   -DUNHOLD_EARLY        ensure lets go of the chunk before it takes back what it did
 *   -DEVICT_OWN           who evicts a chunk that somebody holds waits for the hold's end
 *   -DHOLD_LEAVING        a chunk is held that is leaving
 *   -DSHUT_FIRST          a rail's lines are shut before it is leaving
 *   -DFAIL_OUTSIDE        who marks a rail failed is in no passage
 *   -DTWO_CHANGES         nobody looks whether somebody else changes rails
 *   -DNO_WAKE_HOLD        the end of a hold wakes nobody
 *   -DNO_WAKE_PASSAGE     nor the end of a passage
 *   -DNO_WAKE_CHANGE      nor that of a change
 */
#ifndef CHANGERS
#define CHANGERS 1
#endif
#ifndef CHANGES
#define CHANGES 2 /* of each: rail 0 is added, or removed */
#endif
#ifndef ENSURERS
#define ENSURERS 1
#endif
#ifndef GROWERS
#define GROWERS 1
#endif
#ifndef OPS
#define OPS 2 /* of each grower */
#endif
#ifndef FAILERS
#define FAILERS 0
#endif
#define RAILS 2
#define CHUNKS (1 + GROWERS)
#define THREADS (CHANGERS + ENSURERS + GROWERS + FAILERS)
#define LAST_NETWORK 3 /* rail 1's; 1 and 2 are rail 0's in turn; 0: none */
#define BIT(i) (1 << (i))
#define HAS(set, i) (((set) & BIT(i)) != 0)
#define ALL(n) (BIT(n) - 1)

#define UNUSED 0 /* states of a rail */
#define JOINING 1
#define ACTIVE 2
#define FAILED 3
#define LEAVING 4
#define TAKES(r) (state[r] == JOINING || state[r] == ACTIVE)

#define OK 0 /* of a call */
#define REFUSED 1
#define GONE 2

bool is_eager; /* rail 0; else it is lazy */

/* the pool's, under the mutex */
byte state[RAILS];
byte network[RAILS];
byte n_charged[RAILS];
bool has_missed; /* rail 0, while it is joining: growth has gone on without it */
bool is_changing;
byte phase, n_passages[2];
byte asleep; /* set of threads */

/* of chunks, as sets of their numbers */
byte table = BIT(0); /* in the table */
byte numbers;        /* in no use */
byte held;
byte evicted;        /* held, and the holder evicts it when he lets go */
byte leaving;        /* somebody evicts it: nobody holds it any more */
byte idle;           /* on the list of those that may be evicted */
byte restricted;     /* made for rail 0 alone */
byte registered[RAILS];

byte shown[RAILS]; /* the key lines: set of chunks whose line is open */

/* for the proof, what the networks know */
byte at[LAST_NETWORK + 1]; /* set of chunks */
byte n_inside[LAST_NETWORK + 1];
byte last_network;

#define SLEEP asleep = asleep | BIT(me); !HAS(asleep, me)
#define WAKE_ALL asleep = 0

/* -- passages -- */

inline begin_passage(passage)
{
    n_passages[phase]++;
    passage = phase
}

inline end_passage(passage)
{
    n_passages[passage]--;
    if
#ifndef NO_WAKE_PASSAGE
    :: n_passages[passage] == 0 && is_changing -> WAKE_ALL
#endif
    :: else
    fi;
    passage = 0
}

inline await_passages()
{
    b = phase;
    phase = 1 - phase;
#ifdef AWAIT_NEW
    b = phase;
#endif
    do
    :: n_passages[b] > 0 -> SLEEP
    :: else -> break
    od;
    b = 0
}

/* -- networks -- */

inline enter(p)
{
    assert(network[0] == p || network[1] == p);
    n_inside[p]++
}

inline leave_network(p)
{
    assert(network[0] == p || network[1] == p);
    n_inside[p]--
}

/* from network p, as which the rail was found when the thread went there */
inline return_registered(p, c, r)
{
    leave_network(p);
    if
    :: status = OK;
        assert(!HAS(at[p], c) && !HAS(registered[r], c));
        at[p] = at[p] | BIT(c);
        registered[r] = registered[r] | BIT(c)
    :: status = REFUSED
    :: status = GONE
    fi;
    p = 0
}

inline enter_to_deregister(p, c, r)
{
    p = network[r];
    assert(!HAS(shown[r], c));
    registered[r] = registered[r] & ~BIT(c);
    enter(p)
}

/* mrp_chunk_begin_leave, of one that has been taken off the list: evicts, or not */
inline begin_leave(c)
{
#ifdef EVICT_OWN
    do
    :: HAS(held, c) -> SLEEP
    :: else -> break
    od;
#endif
    if
#ifndef IGNORE_HOLD
    :: HAS(held, c) -> evicted = evicted | BIT(c)
#endif
    :: else -> leaving = leaving | BIT(c); begin_passage(passage); evicts = true
    fi
}

/* Inside the network another pool has wanted room, or there is none on the rail. No chunk
 * is idle that has an owner, or is being made or given up. */
inline may_evict(c)
{
    if
    :: HAS(idle, c) -> idle = idle & ~BIT(c); begin_leave(c)
    :: true
    fi
}

inline return_deregistered(p, c, r)
{
    leave_network(p);
    assert(HAS(at[p], c));
    at[p] = at[p] & ~BIT(c);
    n_charged[r]--;
    p = 0
}

/* -- key lines -- */

inline open(c, r)
{
    assert(state[r] == ACTIVE && HAS(registered[r], c) && HAS(at[network[r]], c));
    shown[r] = shown[r] | BIT(c)
}

/* mrp_keys_shut: of a rail that opens none any more */
inline shut_all(r)
{
    do
    :: atomic { k < CHUNKS ->
#ifndef SHUT_FIRST
            assert(state[r] != ACTIVE && state[r] != JOINING);
#endif
            shown[r] = shown[r] & ~BIT(k);
            k++ }
    :: atomic { k == CHUNKS -> k = 0; break }
    od
}

/* mrp_rail_lose, in a passage or a hold */
inline lose(r)
{
    atomic {
        if
        :: TAKES(r) -> state[r] = FAILED; news = true
        :: else
        fi };
    if
    :: news -> news = false; shut_all(r)
    :: else
    fi
}

/* -- holds -- */

/* mrp_chunk_hold: got, or not */
inline hold(c, wants)
{
    do
#ifdef WANTS_FIRST
    :: HAS(table, c) && (wants) && HAS(held, c) -> SLEEP
    :: !HAS(table, c) || HAS(leaving, c) || !(wants) -> got = false; break
    :: HAS(table, c) && !HAS(leaving, c) && (wants) && !HAS(held, c) ->
        got = true;
        held = held | BIT(c);
        break
#else
    :: HAS(table, c) && HAS(held, c) -> SLEEP
    :: !HAS(table, c) -> got = false; break
    :: HAS(table, c) && !HAS(held, c) ->
#ifdef HOLD_LEAVING
        got = (wants);
#else
        got = (wants) && !HAS(leaving, c);
#endif
        held = held | (got -> BIT(c) : 0);
        break
#endif
    od
}

inline unhold(c)
{
    held = held & ~BIT(c);
#ifndef NO_WAKE_HOLD
    WAKE_ALL;
#endif
    got = false
}

/* mrp_rail_attach: status */
inline attach(c, r)
{
    atomic { /* book(), and into the network */
        if
        :: TAKES(r) -> n_charged[r]++; p = network[r]; enter(p); status = OK
        :: else -> status = REFUSED
        fi };
    if
    :: status == OK ->
        atomic {
            return_registered(p, c, r);
            may_evict(c);
#ifdef SHOW_EACH
            if
            :: status == OK && state[r] == ACTIVE -> open(c, r)
            :: else
            fi;
#endif
#ifdef SHOW_JOINING
            if
            :: status == OK && TAKES(r) -> open(c, r)
            :: else
            fi;
#endif
            n_charged[r] = n_charged[r] - (status == OK -> 0 : 1) };
        if
        :: status == GONE -> lose(r)
        :: else
        fi
    :: else
    fi
}

/* mrp_rail_detach */
inline detach(c, r)
{
    atomic { enter_to_deregister(p, c, r) };
    atomic { return_deregistered(p, c, r); may_evict(c) }
}

/* -- mrp_region_ensure -- */

#define ARE_ACTIVE(set) \
    ((!HAS(set, 0) || state[0] == ACTIVE) && (!HAS(set, 1) || state[1] == ACTIVE))
#define WITHOUT(sets, c) \
    ((HAS(sets[0], c) -> 0 : BIT(0)) | (HAS(sets[1], c) -> 0 : BIT(1)))

inline open_those(set, c)
{
    if
    :: HAS(set, 0) -> open(c, 0)
    :: else
    fi;
    if
    :: HAS(set, 1) -> open(c, 1)
    :: else
    fi
}

proctype ensurer(byte me)
{
    byte c, asked, missing, attached, r, k, p, status;
    byte passage;
    bool got, news, evicts;

    if
    :: asked = BIT(0)
    :: asked = BIT(1)
    :: asked = BIT(0) | BIT(1)
    fi;
    /* is_shown() */
    do
    :: r < RAILS && (!HAS(asked, r) || HAS(shown[r], c)) -> r++
    :: r < RAILS && HAS(asked, r) && !HAS(shown[r], c) -> break
    :: r == RAILS -> goto end
    od;
    r = 0;
    atomic {
        hold(c, true);
        assert(got); /* the region keeps it there */
        status = (ARE_ACTIVE(asked) -> OK : REFUSED);
#ifndef MISSING_FROM_LINES
        missing = asked & WITHOUT(registered, c)
#endif
    };
#ifdef MISSING_FROM_LINES
    missing = asked & WITHOUT(shown, c);
#endif
    do
    :: atomic { status == OK && r < RAILS && !HAS(missing, r) -> r++ }
    :: status == OK && r < RAILS && HAS(missing, r) ->
        attach(c, r);
        atomic { attached = attached | (status == OK -> BIT(r) : 0); r++ }
    :: atomic { status != OK || r == RAILS -> r = 0; missing = 0; break }
    od;
    if
    :: status == OK ->
        atomic { /* all together, when the last is there */
#ifndef LOOK_ONCE
            status = (ARE_ACTIVE(asked) -> OK : REFUSED);
#endif
            if
            :: status == OK -> open_those(asked, c)
            :: else
            fi }
    :: else
    fi;
#ifdef UNHOLD_EARLY
    atomic { unhold(c) };
#endif
    if
    :: status != OK ->
        do
        :: HAS(attached, r) -> detach(c, r); r++
        :: atomic { !HAS(attached, r) && r < RAILS -> r++ }
        :: r == RAILS -> break
        od
    :: else
    fi;
#ifndef UNHOLD_EARLY
    atomic { unhold(c) };
#endif
end:
    atomic { r = 0; asked = 0; attached = 0; status = 0 }
}

/* -- chunks come and go -- */

inline take_off(c) /* mrp_pool_leave_chunk */
{
    atomic {
#ifndef IGNORE_HOLD
        assert(!HAS(held, c));
#endif
        table = table & ~BIT(c);
        shown[0] = shown[0] & ~BIT(c);
        leaving = leaving & ~BIT(c) }
}

inline end_chunk(c) /* the rest of it, in a passage */
{
    if
    :: HAS(registered[0], c) ->
        atomic { enter_to_deregister(p, c, 0) };
        atomic { return_deregistered(p, c, 0) }
    :: else
    fi;
    atomic { /* mrp_discharge_pool */
        numbers = numbers | BIT(c);
        restricted = restricted & ~BIT(c);
        end_passage(passage) }
}

inline give_up(c) /* what begin_leave() has begun */
{
    if
    :: evicts -> evicts = false; take_off(c); end_chunk(c)
    :: else
    fi
}

inline find_first(set, c)
{
    do
    :: HAS(set, c) -> break
    :: else -> c++
    od
}

proctype grower(byte me)
{
    byte o, c, k, p, status, passage;
    bool news, is_chosen, goes_on, evicts;

    do
    :: atomic { o < OPS && numbers != 0 -> /* mrp_charge_pool, and into the network */
            o++;
            find_first(numbers, c);
            numbers = numbers & ~BIT(c);
            if
            :: is_chosen = is_eager && TAKES(0) && !has_missed
            :: TAKES(0) && !has_missed ->
                is_chosen = true;
                restricted = restricted | BIT(c)
            fi;
#ifdef CHOOSE_EARLY
        };
        atomic {
#endif
            begin_passage(passage);
            if
            :: is_chosen -> n_charged[0]++; p = network[0]; enter(p)
            :: else
            fi };
        goes_on = true;
        if
        :: is_chosen ->
            atomic {
                return_registered(p, c, 0);
                n_charged[0] = n_charged[0] - (status == OK -> 0 : 1);
                is_chosen = false };
            if
            :: status == GONE -> lose(0)
            :: else
            fi;
            if
            :: status != OK ->
                atomic { /* mrp_rail_go_on */
                    has_missed = has_missed || state[0] == JOINING;
                    goes_on = state[0] != ACTIVE && !HAS(restricted, c);
                    status = OK }
            :: else
            fi
        :: else
        fi;
        if
        :: goes_on -> /* mrp_pool_enter_chunk */
#ifdef END_EARLY
            atomic { end_passage(passage) };
#endif
            atomic {
                if
                :: HAS(registered[0], c) && state[0] == ACTIVE -> open(c, 0)
#ifdef SHOW_JOINING
                :: HAS(registered[0], c) && state[0] == JOINING -> open(c, 0)
#endif
                :: else
                fi;
                table = table | BIT(c);
                assert(!is_eager || state[0] != ACTIVE || HAS(shown[0], c));
#ifndef END_EARLY
                end_passage(passage);
#endif
                idle = idle | BIT(c) }
        :: true -> end_chunk(c) /* or something else has failed */
        fi;
        atomic { c = 0; goes_on = false }
    :: atomic { o < OPS && idle != 0 -> /* mrp_retention_evict */
            o++;
            find_first(idle, c);
            idle = idle & ~BIT(c);
            begin_leave(c) };
        give_up(c);
        c = 0
    :: o == OPS || (numbers == 0 && idle == 0) -> break
    od
}

/* -- rails come and go -- */

proctype failer(byte me)
{
    byte k, passage;
    bool news;

    atomic {
        if
        :: network[0] == 0 -> goto end
        :: else
        fi;
#ifndef FAIL_OUTSIDE
        begin_passage(passage)
#endif
    };
    lose(0);
#ifndef FAIL_OUTSIDE
    atomic { end_passage(passage) };
#endif
end:
    skip
}

inline unhold_and_evict(c) /* mrp_chunk_unhold; it is not idle that ensure holds */
{
    atomic {
        unhold(c);
        if
        :: HAS(evicted, c) -> evicted = evicted & ~BIT(c); begin_leave(c)
        :: else
        fi };
    give_up(c)
}

inline leave()
{
#ifdef SHUT_FIRST
    shut_all(0);
    atomic { state[0] = LEAVING };
#else
    atomic { state[0] = LEAVING };
    shut_all(0);
#endif
#ifndef LEAVE_AT_ONCE
    atomic { await_passages() };
#endif
    do /* deregister_all() */
    :: atomic {
            do
            :: c < CHUNKS ->
                hold(c, HAS(registered[0], c));
                if
                :: got -> break
                :: else -> c++
                fi
            :: c == CHUNKS -> break
            od };
        if
        :: c < CHUNKS ->
            detach(c, 0);
            unhold_and_evict(c);
            c++
        :: else -> break
        fi
    od;
    atomic {
        c = 0;
#ifndef AWAIT_ONCE
        await_passages();
#endif
        assert(n_inside[network[0]] == 0);
        assert(at[network[0]] == 0);
        assert(registered[0] == 0 && shown[0] == 0 && n_charged[0] == 0);
        has_missed = false;
        network[0] = 0;
        state[0] = UNUSED }
}

inline join()
{
    do
    :: atomic {
            has_missed = false;
#ifndef JOIN_AT_ONCE
            await_passages()
#endif
        };
        do /* register_all() */
        :: atomic {
                do
                :: c < CHUNKS ->
                    hold(c, !HAS(registered[0], c) && !HAS(restricted, c));
                    if
                    :: got -> break
                    :: else -> c++
                    fi
                :: c == CHUNKS -> break
                od };
            if
            :: c < CHUNKS ->
                attach(c, 0);
                /* what is given up need not be registered */
                status = (status == REFUSED && HAS(evicted, c) -> OK : status);
                unhold_and_evict(c);
                c = (status == OK -> c + 1 : CHUNKS)
            :: else -> break
            fi
        od;
        atomic {
            c = 0;
#ifndef FORGET_MISSED
            again = status == OK && has_missed;
#endif
#ifndef FORGET_FAILURE
            status = (state[0] == FAILED -> REFUSED : status);
#endif
            state[0] = (status == OK && !again -> ACTIVE : state[0]) };
        if
        :: !again || status != OK -> again = false; break
        :: else
        fi
    od;
    if
    :: status == OK -> /* open_all() */
        atomic {
#ifndef NO_OPEN
            do
            :: c < CHUNKS ->
                hold(c, HAS(registered[0], c));
                if
#ifdef OPEN_BLINDLY
                :: got -> open(c, 0)
#else
                :: got && state[0] == ACTIVE -> open(c, 0)
#endif
                :: else
                fi;
                if
                :: got -> unhold(c)
                :: else
                fi;
                c++
            :: c == CHUNKS -> c = 0; break
            od;
#endif
            assert(state[0] != ACTIVE || (table & ~restricted & ~leaving & ~shown[0]) == 0) }
    :: else -> status = OK; leaves = true
    fi
}

proctype changer(byte me)
{
    byte n, c, k, b, p, status, passage;
    bool leaves, again, got, news, evicts;

    do
    :: n == CHANGES -> break
    :: n < CHANGES ->
        n++;
        atomic { /* begin_change() */
#ifndef TWO_CHANGES
            do
            :: is_changing -> SLEEP
            :: else -> break
            od;
#endif
            is_changing = true;
            leaves = network[0] != 0;
            if
            :: !leaves ->
                last_network = 3 - last_network;
                network[0] = last_network;
                state[0] = (is_eager -> JOINING : ACTIVE)
            :: else
            fi };
        if
        :: !leaves && is_eager -> join()
        :: else
        fi;
        if
        :: leaves -> leave(); leaves = false
        :: else
        fi;
        atomic { /* end_change() */
            is_changing = false;
#ifndef NO_WAKE_CHANGE
            WAKE_ALL;
#endif
        }
    od
}

/* Rail 0 may be there at first, and a chunk that is idle. */
init {
    byte i;

    atomic {
        network[1] = LAST_NETWORK;
        state[1] = ACTIVE;
        last_network = 2;
        if
        :: is_eager = true
        :: is_eager = false
        fi;
        if
        :: GROWERS > 0 -> table = table | BIT(1); idle = BIT(1)
        :: true
        fi;
        numbers = ALL(CHUNKS) & ~table;
        if
        :: last_network = 1; network[0] = 1; state[0] = ACTIVE
        :: true
        fi;
        if
        :: network[0] != 0 && is_eager ->
            registered[0] = table;
            shown[0] = table;
            at[1] = table;
            n_charged[0] = 1 + (idle -> 1 : 0)
        :: else
        fi;
        do
        :: i < CHANGERS -> run changer(i); i++
        :: i >= CHANGERS && i < CHANGERS + ENSURERS -> run ensurer(i); i++
        :: i >= CHANGERS + ENSURERS && i < THREADS - FAILERS -> run grower(i); i++
        :: i >= THREADS - FAILERS && i < THREADS -> run failer(i); i++
        :: i == THREADS -> break
        od
    }
}
