/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The thread model: which one is in force, waiting by it, the identity of threads.
 */
#include "base/clock.h"
#include "thread_child.h"

#include <sys/resource.h>
#include <time.h>

/* -- which one is in force -- */

static void use_default(const struct mrp_thread_model *unused)
{
    struct mrp_thread_model model = MRP_THREAD_MODEL_INIT;

    (void)unused;
    EXPECT(mrp_thread_model_query(&model) == MRP_OK);
    EXPECT(model.struct_size == sizeof model);
    EXPECT(strcmp(model.name, "pthreads") == 0);
    EXPECT(model.id != NULL && model.yield != NULL && model.sleep != NULL);
    EXPECT(model.tls_create != NULL && model.tls_set != NULL && model.tls_get != NULL);
    EXPECT(model.id() == (uint64_t)pthread_self());
    EXPECT(mrp_thread_id() == model.id());
    model.yield();
    model.sleep(1000);
}

static void default__is_pthreads(void **state)
{
    (void)state;
    in_child(use_default, NULL);
}

static void query__fills_as_much_as_there_is_room_for(void **state)
{
    struct mrp_thread_model model = {
        .struct_size = offsetof(struct mrp_thread_model, yield)};

    (void)state;
    assert_accepted(mrp_thread_model_query(&model));
    assert_string_equal(model.name, "pthreads");
    assert_non_null(model.id);
    assert_null(model.yield);
    assert_refused(mrp_thread_model_query(NULL), MRP_ERR_INVALID, "is NULL");
}

/* A slot that is missing is named, and nothing has changed. */
static void set__names_what_is_missing(void **state)
{
    static const char *const slots[] = {
        "name", "id", "yield", "sleep", "tls_create", "tls_set", "tls_get"};
    const struct mrp_thread_model *whole = test_counting_model();
    size_t first = offsetof(struct mrp_thread_model, name);

    (void)state;
    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
        struct mrp_thread_model model = *whole;
        char words[64];

        memset((char *)&model + first + i * sizeof(void *), 0, sizeof(void *));
        snprintf(words, sizeof words, "mrp_thread_model: %s is missing", slots[i]);
        assert_refused(mrp_thread_model_set(&model), MRP_ERR_INVALID, words);
        assert_true(is_in_force("pthreads"));
    }
}

static void set__refuses_structs_that_cannot_be(void **state)
{
    struct {
        struct mrp_thread_model model;
        void *more;
    } newer = {*test_counting_model(), NULL};

    (void)state;
    newer.model.struct_size = 0;
    assert_refused(mrp_thread_model_set(&newer.model), MRP_ERR_INVALID, "_INIT");
    newer.model.struct_size = offsetof(struct mrp_thread_model, sleep);
    assert_refused(mrp_thread_model_set(&newer.model), MRP_ERR_INVALID, "sleep");
    newer.model.struct_size = sizeof newer;
    newer.more = &newer;
    assert_refused(mrp_thread_model_set(&newer.model), MRP_ERR_INVALID, "newer library");
    newer.model.name = "";
    newer.more = NULL;
    assert_refused(mrp_thread_model_set(&newer.model), MRP_ERR_INVALID, "name");
    assert_true(is_in_force("pthreads"));
}

static void set_without_tls(const struct mrp_thread_model *unused)
{
    struct mrp_thread_model model = *test_counting_model();
    struct mrp_thread_model builtin = MRP_THREAD_MODEL_INIT, found = builtin;

    (void)unused;
    EXPECT(mrp_thread_model_query(&builtin) == MRP_OK);
    model.tls_create = NULL;
    model.tls_set = NULL;
    model.tls_get = NULL;
    EXPECT(mrp_thread_model_set(&model) == MRP_OK);
    memset(&model, 0, sizeof model); /* it was copied */
    EXPECT(mrp_thread_model_query(&found) == MRP_OK);
    EXPECT(found.yield == test_counting_model()->yield);
    EXPECT(found.tls_create == builtin.tls_create);
    EXPECT(found.tls_set == builtin.tls_set);
    EXPECT(found.tls_get == builtin.tls_get);
}

static void set__without_tls_takes_that_of_pthreads(void **state)
{
    (void)state;
    in_child(set_without_tls, NULL);
}

static void set_repeatedly(const struct mrp_thread_model *unused)
{
    struct mrp_thread_model same = MRP_THREAD_MODEL_INIT;

    (void)unused;
    EXPECT(mrp_thread_model_query(&same) == MRP_OK);
    EXPECT(mrp_thread_model_set(test_counting_model()) == MRP_OK);
    EXPECT(is_in_force("counting"));
    EXPECT(mrp_thread_model_set(&test_user_threads) == MRP_OK);
    EXPECT(is_in_force("user threads"));
    EXPECT(mrp_thread_model_set(NULL) == MRP_OK);
    EXPECT(is_in_force("pthreads"));
    same.name = "another name";
    EXPECT(mrp_thread_model_set(&same) == MRP_OK);
    EXPECT(is_in_force("pthreads")); /* the slots decide: these wait without polling */
}

static void set__counts_until_the_first_use(void **state)
{
    (void)state;
    in_child(set_repeatedly, NULL);
}

static void set_late(const struct mrp_thread_model *model)
{
    struct mrp_waitpoint point;
    const char *name = model != NULL ? model->name : "pthreads";
    const struct mrp_thread_model *other = model != NULL ? NULL : test_counting_model();
    char words[64];

    mrp_wait_init(&point);
    snprintf(words, sizeof words, ": %s is in use already", name);
    EXPECT(is_refused(mrp_thread_model_set(other), MRP_ERR_BUSY, words));
    EXPECT(strstr(mrp_error_last()->text, other != NULL ? other->name : "pthreads"));
    EXPECT(is_refused(mrp_thread_model_set(&test_user_threads), MRP_ERR_BUSY, words));
    EXPECT(is_in_force(name));
    EXPECT(mrp_thread_model_set(model) == MRP_OK); /* the very same */
    mrp_wait_destroy(&point);
}

static void set__is_refused_after_the_first_use(void **state)
{
    (void)state;
    under_both(set_late);
}

/* -- waiting -- */

static void doze(long milliseconds)
{
    struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000};

    nanosleep(&pause, NULL);
}

#define RING 16

/* Threads that take turns: each waits for its own. */
struct ring {
    pthread_mutex_t mutex;
    struct mrp_waitpoint changed;
    size_t turn, n_turns, n_members;
};

static void take_turns(void *shared, size_t number)
{
    struct ring *ring = shared;
    size_t n_members = ring->n_members;

    for (size_t mine = number; mine < ring->n_turns; mine += n_members) {
        pthread_mutex_lock(&ring->mutex);
        while (ring->turn != mine) {
            mrp_wait(&ring->changed, &ring->mutex);
        }
        ring->turn++;
        if (mine % 2 == 0) {
            mrp_wake_all(&ring->changed);
        }
        pthread_mutex_unlock(&ring->mutex);
        if (mine % 2 != 0) { /* too late by no more than that */
            mrp_wake_all(&ring->changed);
        }
    }
}

struct ring_member {
    pthread_t thread;
    struct ring *ring;
    size_t number;
};

static void *run_ring_member(void *argument)
{
    struct ring_member *member = argument;

    take_turns(member->ring, member->number);
    return NULL;
}

static void make_ring(struct ring *ring, size_t n_members, size_t n_turns)
{
    *ring = (struct ring){.n_turns = n_turns, .n_members = n_members};
    pthread_mutex_init(&ring->mutex, NULL);
    mrp_wait_init(&ring->changed);
}

static void check_ring(struct ring *ring)
{
    EXPECT(ring->turn == ring->n_turns);
    mrp_wait_destroy(&ring->changed);
    pthread_mutex_destroy(&ring->mutex);
}

static void run_ring(const struct mrp_thread_model *model)
{
    struct ring_member members[RING];
    struct ring ring;

    make_ring(&ring, RING, test_is_watched() ? 500 : 10000);
    for (size_t i = 0; i < RING; i++) {
        members[i] = (struct ring_member){.ring = &ring, .number = i};
        EXPECT(
            pthread_create(&members[i].thread, NULL, run_ring_member, &members[i]) == 0);
    }
    for (size_t i = 0; i < RING; i++) {
        pthread_join(members[i].thread, NULL);
    }
    check_ring(&ring);
    EXPECT((atomic_load(&test_thread_counts.n_yield) > 0) == (model != NULL));
}

static void wait__misses_no_wake(void **state)
{
    (void)state;
    under_both(run_ring);
}

/* How often a thread of this process has gone to sleep. */
static long count_sleeps(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_nvcsw;
}

/* A waiter alone for a while: yields first, then sleeps longer and longer; with POSIX
 * threads it sleeps once. */
static void wait_long(const struct mrp_thread_model *model)
{
    atomic_size_t *n_slept = &test_thread_counts.n_sleep;
    struct ring_member member;
    struct ring ring;
    long before;
    size_t n_sleeps, n_yields;
    uint64_t begin = mrp_clock(), most;

    make_ring(&ring, 2, 2);
    member = (struct ring_member){.ring = &ring, .number = 1};
    EXPECT(pthread_create(&member.thread, NULL, run_ring_member, &member) == 0);
    before = count_sleeps();
    doze(100);
    EXPECT(model != NULL || test_is_watched() || count_sleeps() - before < 100);
    EXPECT(ring.turn == 0 && pthread_mutex_trylock(&ring.mutex) == 0);
    pthread_mutex_unlock(&ring.mutex); /* nobody holds it while waiting */
    for (size_t i = 0; model != NULL && i < 60000 && atomic_load(n_slept) < 9; i++) {
        doze(1); /* it has not come to run for long */
    }
    n_yields = atomic_load(&test_thread_counts.n_yield); /* later, this one waits, too */
    n_sleeps = atomic_load(n_slept);
    most = (mrp_clock() - begin) / 100000 + 8;
    take_turns(&ring, 0);
    pthread_join(member.thread, NULL);
    check_ring(&ring);
    if (model == NULL) {
        EXPECT(n_sleeps == 0 && atomic_load(&test_thread_counts.n_yield) == 0);
        return;
    }
    EXPECT(n_yields == 32);
    EXPECT(n_sleeps >= 9 && n_sleeps <= most); /* 1, 2, ... 64 us, then 100 us each */
    EXPECT(atomic_load(&test_thread_counts.longest_sleep) == 100000);
}

static void wait__yields_then_sleeps(void **state)
{
    (void)state;
    under_both(wait_long);
}

/* On one OS thread a wait that blocked would be the end. */
static void run_user_ring(const struct mrp_thread_model *unused)
{
    static const size_t n_workers[] = {1, 2, 4};

    (void)unused;
    for (size_t i = 0; i < sizeof n_workers / sizeof n_workers[0]; i++) {
        struct ring ring;

        make_ring(&ring, 24, test_is_watched() ? 100 : 2000);
        test_user_threads_run(n_workers[i], ring.n_members, take_turns, &ring);
        check_ring(&ring);
    }
}

static void wait__lets_other_user_threads_run(void **state)
{
    (void)state;
    if (test_lacks_user_threads()) {
        test_skip("wait__lets_other_user_threads_run",
            "the watching tool cannot follow user threads");
        return;
    }
    in_child(run_user_ring, &test_user_threads);
}

/* -- identity -- */

#define IDS 32

struct ids {
    atomic_size_t n_known;
    uint64_t known[IDS];
};

static void learn_id(void *shared, size_t number)
{
    struct ids *ids = shared;

    ids->known[number] = mrp_thread_id();
    atomic_fetch_add(&ids->n_known, 1);
    while (atomic_load(&ids->n_known) < IDS) { /* all live at once */
        mrp_thread_model_use()->yield();
    }
    EXPECT(mrp_thread_id() == ids->known[number]);
}

struct id_thread {
    pthread_t thread;
    struct ids *ids;
    size_t number;
};

static void *run_id_thread(void *argument)
{
    struct id_thread *thread = argument;

    learn_id(thread->ids, thread->number);
    return NULL;
}

static void check_ids(const struct ids *ids)
{
    for (size_t i = 0; i < IDS; i++) {
        EXPECT(ids->known[i] != 0);
        for (size_t j = 0; j < i; j++) {
            EXPECT(ids->known[i] != ids->known[j]);
        }
    }
}

static void compare_ids(const struct mrp_thread_model *model)
{
    struct id_thread threads[IDS];
    struct ids ids = {0};

    for (size_t i = 0; i < IDS; i++) {
        threads[i] = (struct id_thread){.ids = &ids, .number = i};
        EXPECT(pthread_create(&threads[i].thread, NULL, run_id_thread, &threads[i]) == 0);
    }
    for (size_t i = 0; i < IDS; i++) {
        pthread_join(threads[i].thread, NULL);
    }
    check_ids(&ids);
    EXPECT(atomic_load(&test_thread_counts.n_id) == (model != NULL ? 2 * IDS : 0));
}

static void compare_user_ids(const struct mrp_thread_model *unused)
{
    struct ids ids = {0};

    (void)unused;
    test_user_threads_run(3, IDS, learn_id, &ids);
    check_ids(&ids);
}

static void id__tells_live_threads_apart(void **state)
{
    (void)state;
    under_both(compare_ids);
    if (test_lacks_user_threads()) {
        test_skip("id__tells_live_threads_apart",
            "the watching tool cannot follow user threads");
        return;
    }
    in_child(compare_user_ids, &test_user_threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default__is_pthreads),
        cmocka_unit_test(query__fills_as_much_as_there_is_room_for),
        cmocka_unit_test(set__names_what_is_missing),
        cmocka_unit_test(set__refuses_structs_that_cannot_be),
        cmocka_unit_test(set__without_tls_takes_that_of_pthreads),
        cmocka_unit_test(set__counts_until_the_first_use),
        cmocka_unit_test(set__is_refused_after_the_first_use),
        cmocka_unit_test(wait__misses_no_wake),
        cmocka_unit_test(wait__yields_then_sleeps),
        cmocka_unit_test(wait__lets_other_user_threads_run),
        cmocka_unit_test(id__tells_live_threads_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
