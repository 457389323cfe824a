/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The line at the limit, src/pool/wait.c, for two size classes and larger than huge. No
 * memory can be mapped: who waits gets a region of its class that others free, or room for a
 * slab: another's slab that has become free, or a charge that somebody lifts, here or in
 * another pool. What a sift does in detail is in trim.pml; here it holds a class's free
 * regions for a while. A class's regions are one slab. Nobody caches (ask.pml has that): a
 * push and the look at `asks` are all that a free is. The head of the line does not look
 * again by itself: nothing may depend on that.
 *
 *   no lost wake-up     when nothing moves any more, whoever waits finds no region of its
 *                       class, no room, and no slab that is all free; nobody is stuck, and
 *                       nobody is left to be called
 *   no region lost      or given twice, when a deadline or a cancel races with a hand-off
 *   first come ...      nobody in line gets a region by growing, and no newcomer gets one,
 *                       that an older one of the class waits for
 *   called once         who cancelled is not called back, who is called back was not
 *                       cancelled, and nobody is called in vain for ever
 *   nothing dangles     no wake-up of who has left
 *   the line's end      nobody is asked once it is empty
 *
 * With -DBUFFERS stores go through a buffer as in ask.pml: a push is in memory at the latest
 * at its thread's next look at `asks`, `asks` at the fence or the unlocking.
 *
 * Each of these must make the search find an error:
 *   -DLOOK_FIRST       a free looks at `asks` before its push
 *   -DWEAK_PUSH        a push that the look at `asks` does not wait for (-DBUFFERS)
 *   -DCOUNT_ONLY       who counts room does not mark the pool as owed
 *   -DCALL_SILENT      nor who puts one on the list of calls
 *   -DLIFT_UNSEEN      who visits a pool does not count the room that others have lifted
 *   -DWAKE_UNLOCKED    woken after the mutex is released
 *   -DFORGET_SERVED    who gives up does not see that it has been served
 *   -DKEEP_ASKS        the last one to leave leaves `asks` set
 *   -DCANCEL_ANY       a cancel does not see that the waiter is to be called
 */
#define NOTHING 0
#define SLEEPS 1
#define ASYNC 2
#define BARE 2 /* class: larger than huge */
#define THREADS 3
#ifndef BLOCKS
#define BLOCKS 2 /* of a slab */
#endif
/* what each thread does: frees what it has, lifts charges, then asks for a region of its
 * class, in line or as an async waiter, and may free that */
#ifndef KIND_0
#define KIND_0 SLEEPS
#endif
#ifndef KIND_1
#define KIND_1 SLEEPS
#endif
#ifndef KIND_2
#define KIND_2 NOTHING
#endif
#ifndef CLASS_0
#define CLASS_0 0
#endif
#ifndef CLASS_1
#define CLASS_1 0
#endif
#ifndef CLASS_2
#define CLASS_2 0
#endif
#ifndef HELD_A
#define HELD_A 1 /* by the last thread; the others of the slab are with nobody here */
#endif
#ifndef HELD_B
#define HELD_B 0 /* the same */
#endif
#ifndef DEPOT_A
#define DEPOT_A 0 /* at first */
#endif
#ifndef DEPOT_B
#define DEPOT_B 0
#endif
#ifndef LIFTS
#define LIFTS 0 /* charges that the last thread lifts */
#endif
#ifndef LIFTS_ELSEWHERE
#define LIFTS_ELSEWHERE 0 /* of another pool */
#endif
#ifndef NEWS
#define NEWS 0 /* room has come before anybody waited, and has been used */
#endif
#ifndef AGAINS
#define AGAINS 3 /* as often one is called in vain, at most */
#endif
#ifndef FREES_LATER
#define FREES_LATER 0 /* who has got a region may free it */
#endif

#define IN_NO_LINE 0
#define WAITING 1
#define OFFERED 2
#define SERVED 3

/* the depots */
byte n_depot[3]; /* in memory; [2] stays empty */
bool asks, asks_seen; /* as the mutex's holder wrote it last; as others see it */
byte room; /* slabs that could be cut */
#ifdef BUFFERS
byte pushed[2 * THREADS]; /* not in memory yet */
#endif

/* under the mutex */
bool is_locked, is_sifting, growing[3], cutting[2], due[2];
byte gathered[3]; /* the sifter's */
byte n_cut[2], n_missing[2];
byte line[THREADS], n_line; /* threads, oldest first */
byte state[THREADS], class_of[THREADS], turn[THREADS], n_turns;
bool is_async[THREADS], has_region[THREADS];
byte n_offered;
bool tried_all[THREADS]; /* waiter->tried == n_rooms */
bool news = NEWS; /* n_rooms != n_rooms_seen */
bool is_calling;
byte calls[THREADS], n_calls;
bool asleep[THREADS];

/* relaxed */
bool is_owed, has_lift;

/* callbacks: 1: with a region, 2: again */
byte called[THREADS];

/* for the proof only */
byte held[2 * THREADS];
bool in_frame[THREADS]; /* its waiter can be touched */
bool cancelled[THREADS];
byte n_gone[2]; /* with others, for good */
byte n_agains, n_callers, n_done;

/* -- memory and mutex -- */

#ifdef BUFFERS
#define FLUSH(t) \
    n_depot[0] = n_depot[0] + pushed[2 * t]; pushed[2 * t] = 0; \
    n_depot[1] = n_depot[1] + pushed[2 * t + 1]; pushed[2 * t + 1] = 0
#define PUSH(c) pushed[2 * me + c]++
#define SEE_ASKS asks_seen = asks

proctype memory()
{
end:
    do
    :: atomic { asks_seen != asks -> asks_seen = asks }
    :: atomic { pushed[0] + pushed[1] > 0 -> FLUSH(0) }
    :: atomic { pushed[2] + pushed[3] > 0 -> FLUSH(1) }
    :: atomic { pushed[4] + pushed[5] > 0 -> FLUSH(2) }
    od
}
#else
#define FLUSH(t) skip
#define PUSH(c) n_depot[c]++
#define SEE_ASKS skip
#define asks_seen asks
#endif

#define LOCK atomic { !is_locked; is_locked = true }
#define UNLOCK atomic { FLUSH(me); SEE_ASKS; is_locked = false }
#define TAKE_TURNS UNLOCK; LOCK

inline look() /* mrp_depot_asks */
{
    atomic {
#ifndef WEAK_PUSH
        FLUSH(me);
#endif
        seen = asks_seen
    }
}

/* -- the line -- */

#define HAS_OLDER(t) \
    (class_of[t] != BARE && \
    ((n_line > 0 && line[0] != t && class_of[line[0]] == class_of[t] && turn[line[0]] < turn[t]) || \
    (n_line > 1 && line[1] != t && class_of[line[1]] == class_of[t] && turn[line[1]] < turn[t])))
#define WAIT_FOR(c) \
    ((n_line > 0 && class_of[line[0]] == c) || (n_line > 1 && class_of[line[1]] == c) || \
    (n_line > 2 && class_of[line[2]] == c))
#define IS_SERVED (n_line > 0 && (n_offered > 0 || news))

#define ROOM_CAME \
    news = true; tried_all[0] = false; tried_all[1] = false; tried_all[2] = false

inline room_came() /* mrp_line_room */
{
    ROOM_CAME;
#ifndef COUNT_ONLY
    is_owed = is_owed || n_line > 0
#endif
}

inline wake(t)
{
    assert(in_frame[t]);
    asleep[t] = false
}

inline leave(t)
{
    i = 0;
    do
    :: line[i] == t -> break
    :: else -> i++
    od;
    n_line--;
    do
    :: i == n_line -> break
    :: else -> line[i] = line[i + 1]; i++
    od;
    line[n_line] = 0;
    i = 0;
    if
    :: state[t] == OFFERED ->
        n_offered--;
        ROOM_CAME;
        is_owed = true
    :: else
    fi;
    state[t] = IN_NO_LINE;
    if
#ifndef KEEP_ASKS
    :: n_line == 0 -> asks = false
#endif
    :: else
    fi
}

inline join()
{
    atomic {
        if
        :: turn[me] == 0 -> n_turns++; turn[me] = n_turns; tried_all[me] = false
        :: else
        fi;
        i = n_line;
        do
        :: i > 0 && turn[line[i - 1]] > turn[me] -> line[i] = line[i - 1]; i--
        :: else -> break
        od;
        line[i] = me;
        i = 0;
        n_line++;
        state[me] = WAITING;
        in_frame[me] = true;
        news = news && n_line > 1;
        if
        :: !asks ->
            asks = true;
            due[0] = n_cut[0] > 0;
            due[1] = n_cut[1] > 0
        :: else
        fi
    };
    atomic { FLUSH(me); SEE_ASKS }
}

inline call_later(t)
{
    calls[n_calls] = t;
    n_calls++;
#ifndef CALL_SILENT
    is_owed = true
#endif
}

/* What is in the depot for those who wait for it; under the mutex. */
inline hand_out() /* hand_out_all */
{
    atomic {
        FLUSH(me);
        q = 0;
        do
        :: q == n_line -> q = 0; break
        :: q < n_line && n_depot[class_of[line[q]]] + gathered[class_of[line[q]]] == 0 -> q++
        :: else ->
            q = line[q];
            if
            :: n_depot[class_of[q]] > 0 -> n_depot[class_of[q]]--
            :: else -> gathered[class_of[q]]--
            fi;
            tried = (state[q] == OFFERED);
            leave(q);
            assert(!has_region[q]);
            has_region[q] = true;
            if
            :: is_async[q] && !tried -> call_later(q)
            :: else ->
                state[q] = SERVED;
                if
                :: is_async[q]
#ifdef WAKE_UNLOCKED
                :: else -> late = late | (1 << q)
#else
                :: else -> wake(q)
#endif
                fi
            fi;
            tried = false;
            q = 0
        od
    }
}

#ifdef WAKE_UNLOCKED
#define WAKE_LATE \
    if :: (late & 1) != 0 -> wake(0) :: else fi; \
    if :: (late & 2) != 0 -> wake(1) :: else fi; \
    late = 0
#else
#define WAKE_LATE skip
#endif

#define IS_ELDERS(p) \
    (class_of[line[p]] != BARE && p > 0 && (class_of[line[0]] == class_of[line[p]] || \
    (p > 1 && class_of[line[1]] == class_of[line[p]])))

inline offer()
{
    atomic {
        q = 0;
        do
        :: n_offered > 0 -> break
        :: n_offered == 0 && q >= n_line -> news = false; break
        :: n_offered == 0 && q < n_line && (tried_all[line[q]] || IS_ELDERS(q)) ->
            tried_all[line[q]] = true;
            q++
        :: else ->
            j = line[q];
            if
            :: is_async[j] ->
                leave(j);
                call_later(j)
            :: else ->
                tried_all[j] = true;
                state[j] = OFFERED;
                n_offered++;
                wake(j)
            fi;
            j = 0
        od;
        q = 0
    }
}

/* -- sifting -- */

/* gather; retire_free; put_back: the mutex is released between */
inline sift(c)
{
    atomic {
        is_sifting = true;
        due[c] = false;
        FLUSH(me);
        gathered[c] = n_depot[c];
        n_depot[c] = 0 };
    TAKE_TURNS;
    atomic {
        n_missing[c] = n_cut[c] - gathered[c];
        if
        :: n_missing[c] == 0 && n_cut[c] > 0 && !cutting[c] ->
            room = room + n_cut[c] / BLOCKS;
            gathered[c] = 0;
            n_cut[c] = 0;
            room_came()
        :: else
        fi };
    TAKE_TURNS;
    atomic {
        n_depot[c] = n_depot[c] + gathered[c];
        gathered[c] = 0;
        is_sifting = false;
        is_owed = is_owed || n_line > 0
    }
}

inline settle() /* mrp_line_settle; under the mutex, released meanwhile */
{
    if
    :: n_line == 0
    :: else ->
        do
        :: true ->
            hand_out();
            if
            :: n_line > 0 && !is_sifting && (due[0] || due[1]) ->
                y = (due[0] -> 0 : 1);
                sift(y);
                y = 0
            :: else -> break
            fi
        od;
        offer()
    fi
}

/* -- growing: under the mutex, released meanwhile -- */

/* Cut a slab; one of its regions is the caller's. */
inline cut(c)
{
    atomic { room--; cutting[c] = true };
    UNLOCK;
    if
    :: BLOCKS == 2 -> atomic { PUSH(c) }
    :: else
    fi;
    LOCK;
    atomic {
        n_cut[c] = n_cut[c] + BLOCKS;
        n_missing[c] = 0;
        due[c] = due[c] || is_sifting;
        cutting[c] = false }
}

inline regroup()
{
    y = 0;
    do
    :: y < 2 && room == 0 && is_sifting ->
        UNLOCK;
        atomic { !is_sifting && !is_locked -> is_locked = true }
    :: y < 2 && room == 0 && !is_sifting && n_cut[y] > 0 -> sift(y); y++
    :: y < 2 && room == 0 && !is_sifting && n_cut[y] == 0 -> y++
    :: else -> break
    od;
    y = 0
}

/* grow_class: got is set if there was room. Nobody else grows the class. */
inline grow(c)
{
    if
    :: c == BARE -> /* a chunk of its own */
        TAKE_TURNS;
        atomic {
            if
            :: room > 0 -> room--; got = true
            :: else
            fi }
    :: else ->
        growing[c] = true;
        if
        :: room == 0 ->
            TAKE_TURNS; /* what the system refuses */
            regroup()
        :: else
        fi;
        if
        :: room > 0 -> cut(c); got = true
        :: else
        fi;
        growing[c] = false
    fi
}

/* -- calling back -- */

inline call_back()
{
    if
    :: has_region[x] || class_of[x] == BARE
    :: else -> /* mrp_pool_cut */
        LOCK;
        atomic {
            FLUSH(me);
            if
            :: !WAIT_FOR(class_of[x]) && n_depot[class_of[x]] + gathered[class_of[x]] > 0 ->
                if
                :: n_depot[class_of[x]] > 0 -> n_depot[class_of[x]]--
                :: else -> gathered[class_of[x]]--
                fi;
                has_region[x] = true
            :: else
            fi };
        if
        :: !has_region[x] && room > 0 && !growing[class_of[x]] ->
            growing[class_of[x]] = true;
            cut(class_of[x]);
            growing[class_of[x]] = false;
            has_region[x] = true
        :: else
        fi;
        settle();
        UNLOCK
    fi;
    atomic {
        assert(!cancelled[x] && called[x] == 0 && state[x] == IN_NO_LINE);
        n_agains = n_agains + (has_region[x] -> 0 : 1);
        assert(n_agains <= AGAINS);
        called[x] = (has_region[x] -> 1 : 2);
        has_region[x] = false;
        x = 0 }
}

inline call_all()
{
    if
    :: atomic { !is_locked && (n_calls == 0 || is_calling) -> skip }
    :: atomic { !is_locked && n_calls > 0 && !is_calling ->
            is_locked = true;
            is_calling = true;
            n_callers++;
            assert(n_callers == 1) };
        do
        :: n_calls == 0 -> break
        :: else ->
            atomic {
                x = calls[0];
                n_calls--;
                calls[0] = calls[1];
                calls[1] = calls[2];
                calls[2] = 0;
                FLUSH(me);
                SEE_ASKS;
                is_locked = false };
            call_back();
            LOCK
        od;
        atomic {
            n_callers--;
            is_calling = false;
            FLUSH(me);
            SEE_ASKS;
            is_locked = false }
    fi
}

inline line_end() /* mrp_context_serve; no lock */
{
    do
    :: atomic { n_line + n_calls == 0 || !is_owed -> break }
    :: atomic { n_line + n_calls > 0 && is_owed ->
        is_owed = false
        };
        atomic { !is_locked -> /* mrp_line_serve */
            is_locked = true;
#ifndef LIFT_UNSEEN
            if
            :: has_lift -> has_lift = false; room_came()
            :: else
            fi
#endif
        };
        settle();
        UNLOCK;
        WAKE_LATE;
        call_all();
    od
}

/* -- freeing -- */

inline note(c)
{
    atomic {
        if
        :: is_sifting -> due[c] = true
        :: else ->
            n_missing[c] = n_missing[c] - (n_missing[c] > 0 -> 1 : 0);
            due[c] = due[c] || n_missing[c] == 0
        fi }
}

inline free(c) /* and mrp_depot_tell */
{
#ifdef LOOK_FIRST
    look();
#endif
    atomic { held[2 * me + c]--; PUSH(c) };
#ifndef LOOK_FIRST
    look();
#endif
    if
    :: seen ->
        LOCK;
        note(c)
    :: else
    fi;
    locked = seen;
    seen = false
}

inline lift() /* end_chunk; line_end() follows */
{
    atomic { lifts--; room++ };
    atomic { !is_locked -> room_came() }
}

inline lift_elsewhere() /* mrp_context_owe; line_end() follows */
{
    atomic { lifts_elsewhere--; room++ };
    if
    :: atomic { n_line + n_calls > 0 -> has_lift = true };
        is_owed = true
    :: else
    fi
}

/* -- waiting: under the mutex, released meanwhile -- */

inline try_growing(c)
{
    do
    :: state[me] == OFFERED && growing[c] -> /* let_finish */
        UNLOCK;
        !growing[c] || state[me] != OFFERED;
        LOCK;
        hand_out()
    :: else -> break
    od;
    if
    :: state[me] == OFFERED ->
        grow(c);
        atomic {
            if
            :: state[me] == OFFERED ->
                state[me] = WAITING;
                n_offered--;
                if
                :: got ->
                    assert(!HAS_OLDER(me));
                    leave(me);
                    room_came()
                :: else
                fi
            :: state[me] != OFFERED && got ->
                PUSH(c);
                due[c] = true;
                got = false
            :: else
            fi }
    :: else
    fi
}

/* who is served, takes it */
#define SERVE_ME \
    if \
    :: state[me] == SERVED -> \
        state[me] = IN_NO_LINE; has_region[me] = false; got = true \
    :: else \
    fi

inline try_in_line(c)
{
    join();
    hand_out();
    atomic {
        if
        :: state[me] == WAITING && HAS_OLDER(me) ->
            skip /* waiter->tried is that of its elder: see offer() */
        :: state[me] == WAITING && !HAS_OLDER(me) && !IS_SERVED ->
            state[me] = OFFERED;
            tried_all[me] = true;
            n_offered++
        :: else
        fi }
}

/* mrp_pool_grow, mrp_large_alloc: one look, one try, unless others come first */
inline find_region(c)
{
    do
    :: growing[c] ->
        UNLOCK;
        !growing[c];
        LOCK
    :: else -> break
    od;
    atomic {
        FLUSH(me);
        if
        :: n_depot[c] + gathered[c] > 0 && !WAIT_FOR(c) ->
            assert(!WAIT_FOR(c));
            got = true;
            if
            :: n_depot[c] > 0 -> n_depot[c]--
            :: else -> gathered[c]--
            fi
        :: else
        fi }
}

inline cancel()
{
    LOCK;
    atomic {
        if
#ifdef CANCEL_ANY
        :: state[me] != WAITING -> cancelled[me] = true
#endif
        :: state[me] == WAITING ->
            assert(called[me] == 0);
            leave(me);
            turn[me] = 0;
            cancelled[me] = true
        :: else
        fi };
    UNLOCK
}

/* what a thread is about */
#define FREEING 0
#define ASKING 1
#define JOINING 2
#define IN_LINE 3
#define JOINED 4
#define GOT 5
#define DONE 6

proctype thread(byte me; byte kind; byte class)
{
    byte i, j, q, x, y, lifts, lifts_elsewhere, step;
    bool seen, got, tried, has_deadline, locked, tries;
#ifdef WAKE_UNLOCKED
    byte late;
#endif

    if
    :: kind == SLEEPS -> has_deadline = true
    :: has_deadline = false
    fi;
    lifts = (me == THREADS - 1 -> LIFTS : 0);
    lifts_elsewhere = (me == THREADS - 1 -> LIFTS_ELSEWHERE : 0);
    do
    :: step == DONE -> break
    :: else ->
        if
        :: step == FREEING && held[2 * me] + held[2 * me + 1] > 0 ->
            j = (held[2 * me] > 0 -> 0 : 1);
            free(j);
            j = 0
        :: step == FREEING && lifts > 0 -> lift()
        :: step == FREEING && lifts_elsewhere > 0 -> lift_elsewhere()
        :: step == FREEING && held[2 * me] + held[2 * me + 1] + lifts + lifts_elsewhere == 0 ->
            step = (kind == NOTHING -> DONE : ASKING)
        :: step == ASKING ->
            look();
            if
            :: atomic { !seen && n_depot[class] > 0 -> n_depot[class]--; got = true; step = GOT }
            :: else ->
                seen = false;
                LOCK;
                locked = true;
                find_region(class);
                tries = !got && !IS_SERVED && (class == BARE || !WAIT_FOR(class)) &&
                    !growing[class];
                step = (got -> GOT : JOINING)
            fi
        :: step == JOINING ->
            LOCK;
            locked = true;
            is_async[me] = (kind == ASYNC);
            try_in_line(class);
            tries = (state[me] == OFFERED);
            step = IN_LINE
        :: step == IN_LINE && kind == SLEEPS ->
            LOCK;
            locked = true;
            if
            :: state[me] == SERVED
            :: state[me] != SERVED && has_deadline -> /* leave_late */
                hand_out();
#ifdef FORGET_SERVED
                atomic {
                    has_region[me] = false;
                    if
                    :: state[me] == SERVED -> state[me] = IN_NO_LINE
                    :: else -> leave(me)
                    fi };
#else
                atomic {
                    if
                    :: state[me] == SERVED
                    :: else -> leave(me)
                    fi };
#endif
                step = (state[me] == SERVED -> step : DONE)
            :: state[me] == OFFERED -> tries = true
            :: state[me] == WAITING && is_owed && !is_calling -> skip /* settles first */
            :: state[me] == WAITING && !(is_owed && !is_calling) ->
                atomic { FLUSH(me); SEE_ASKS; is_locked = false; asleep[me] = true;
                    locked = false };
end_asleep:
                if
                :: !asleep[me]
                :: has_deadline -> asleep[me] = false
                fi
            fi
        :: step == JOINED ->
            if
            :: cancel()
            :: true
            fi;
end_async:
            if
            :: cancelled[me] -> step = DONE
            :: called[me] == 1 -> atomic { called[me] = 0; got = true; step = GOT }
            :: called[me] == 2 ->
                called[me] = 0;
                if
                :: step = ASKING
                :: step = DONE /* it does not ask again */
                fi
            fi
        :: step == GOT ->
            atomic {
                got = false;
                kind = NOTHING;
                turn[me] = 0;
                in_frame[me] = false;
                if
                :: class == BARE -> lifts = 1
                :: else -> held[2 * me + class]++
                fi };
            if
            :: FREES_LATER -> step = FREEING
            :: step = DONE
            fi
        fi;
        if
        :: tries && step != JOINING -> tries = false; try_growing(class)
        :: tries && step == JOINING ->
            tries = false;
            grow(class);
            step = (got -> GOT : JOINING)
        :: else
        fi;
        if
        :: step == IN_LINE && locked ->
            atomic { SERVE_ME };
            if
            :: got -> step = GOT
            :: !got && kind == ASYNC -> step = JOINED
            :: else
            fi
        :: else
        fi;
        if
        :: locked && step == JOINED -> /* mrp_line_join */
            is_owed = true;
            UNLOCK
        :: locked && step != JOINED ->
            settle();
            UNLOCK
        :: else
        fi;
        locked = false;
        WAKE_LATE;
        line_end()
    od;
    atomic { n_done++; has_deadline = false; turn[me] = 0; in_frame[me] = false }
}

proctype auditor()
{
    byte k;

    timeout;
    d_step {
        assert(!is_locked && !is_sifting && !is_calling && n_calls == 0);
        assert(n_done + n_line == THREADS);
        assert(n_line == 0 || n_cut[0] == 0 || n_depot[0] != n_cut[0]);
        assert(n_line == 0 || n_cut[1] == 0 || n_depot[1] != n_cut[1]);
        assert(n_line == 0 || room == 0);
        assert(asks == (n_line > 0));
        do
        :: k == n_line -> break
        :: else ->
            assert(state[line[k]] == WAITING);
            assert(n_depot[class_of[line[k]]] == 0);
            k++
        od;
        k = 0;
        do
        :: k == 2 -> break
        :: else ->
            assert(n_depot[k] + held[k] + held[2 + k] + held[4 + k] + n_gone[k] == n_cut[k]);
            k++
        od
    }
}

init {
    atomic {
        held[2 * (THREADS - 1)] = HELD_A;
        held[2 * (THREADS - 1) + 1] = HELD_B;
        n_depot[0] = DEPOT_A;
        n_depot[1] = DEPOT_B;
        n_cut[0] = (HELD_A + DEPOT_A > 0 -> BLOCKS : 0);
        n_cut[1] = (HELD_B + DEPOT_B > 0 -> BLOCKS : 0);
        n_gone[0] = n_cut[0] - HELD_A - DEPOT_A;
        n_gone[1] = n_cut[1] - HELD_B - DEPOT_B;
        class_of[0] = CLASS_0;
        class_of[1] = CLASS_1;
        class_of[2] = CLASS_2;
        run thread(0, KIND_0, CLASS_0);
        run thread(1, KIND_1, CLASS_1);
        run thread(2, KIND_2, CLASS_2);
#ifdef BUFFERS
        run memory();
#endif
        run auditor()
    }
}
