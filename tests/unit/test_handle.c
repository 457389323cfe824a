/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The table behind the handles: what is no handle is told without being read.
 */
#include "base/handle.h"
#include "base/process.h"
#include "refusal.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

static int objects[4];

static void get__gives_the_object(void **unused)
{
    void *first = mrp_handle_create(MRP_HANDLE_CONTEXT, &objects[0]);
    void *second = mrp_handle_create(MRP_HANDLE_CONTEXT, &objects[1]);
    void *object = NULL;
    (void)unused;

    assert_non_null(first);
    assert_ptr_not_equal(first, second);
    assert_accepted(mrp_handle_get(MRP_HANDLE_CONTEXT, first, &object));
    assert_ptr_equal(object, &objects[0]);
    assert_accepted(mrp_handle_get(MRP_HANDLE_CONTEXT, second, &object));
    assert_ptr_equal(object, &objects[1]);
    assert_accepted(mrp_handle_destroy(MRP_HANDLE_CONTEXT, first));
    assert_accepted(mrp_handle_destroy(MRP_HANDLE_CONTEXT, second));
}

static void get__refuses_another_kind(void **unused)
{
    void *handle = mrp_handle_create(MRP_HANDLE_BACKEND, &objects[0]);
    void *object = &objects[3];
    (void)unused;

    assert_refused(mrp_handle_get(MRP_HANDLE_CONTEXT, handle, &object), MRP_ERR_STALE,
        "not a context");
    assert_refused(
        mrp_handle_destroy(MRP_HANDLE_PROVIDER, handle), MRP_ERR_STALE, "not a provider");
    assert_ptr_equal(object, &objects[3]);
    assert_accepted(mrp_handle_destroy(MRP_HANDLE_BACKEND, handle));
}

static void get__refuses_what_is_no_handle(void **unused)
{
    void *live = mrp_handle_create(MRP_HANDLE_CONTEXT, &objects[0]);
    void *zeroed = calloc(1, 4096);
    void *object = &objects[3];
    (void)unused;

    assert_refused(
        mrp_handle_get(MRP_HANDLE_CONTEXT, NULL, &object), MRP_ERR_STALE, "is NULL");
    assert_refused(mrp_handle_get(MRP_HANDLE_CONTEXT, (void *)0x1234, &object),
        MRP_ERR_STALE, "0x1234");
    assert_refused(mrp_handle_get(MRP_HANDLE_CONTEXT, (void *)-1, &object), MRP_ERR_STALE,
        "not a context");
    assert_refused(mrp_handle_get(MRP_HANDLE_CONTEXT, zeroed, &object), MRP_ERR_STALE,
        "not a context");
    /* right in form, but no such slot, or no such generation */
    for (int bit = 8; bit < 64; bit++) {
        uintptr_t flipped = (uintptr_t)live ^ (uintptr_t)1 << bit;

        assert_int_equal(
            mrp_handle_get(MRP_HANDLE_CONTEXT, (void *)flipped, &object), MRP_ERR_STALE);
    }
    assert_ptr_equal(object, &objects[3]);
    assert_accepted(mrp_handle_destroy(MRP_HANDLE_CONTEXT, live));
    free(zeroed);
}

static void get__refuses_a_former_owner_of_the_slot(void **unused)
{
    void *former = mrp_handle_create(MRP_HANDLE_CONTEXT, &objects[0]);
    void *object;
    (void)unused;

    for (int round = 0; round < 1000; round++) {
        void *present;

        assert_accepted(mrp_handle_destroy(MRP_HANDLE_CONTEXT, former));
        assert_refused(mrp_handle_destroy(MRP_HANDLE_CONTEXT, former), MRP_ERR_STALE,
            "has been destroyed");
        present = mrp_handle_create(MRP_HANDLE_CONTEXT, &objects[1]);
        /* the slot is the same one, in use again */
        assert_int_equal((uint32_t)(uintptr_t)present, (uint32_t)(uintptr_t)former);
        assert_refused(mrp_handle_get(MRP_HANDLE_CONTEXT, former, &object), MRP_ERR_STALE,
            "has been destroyed");
        assert_accepted(mrp_handle_get(MRP_HANDLE_CONTEXT, present, &object));
        former = present;
    }
    assert_accepted(mrp_handle_destroy(MRP_HANDLE_CONTEXT, former));
}

static void get__refuses_those_of_the_parent(void **unused)
{
    void *handle = mrp_handle_create(MRP_HANDLE_PROVIDER, &objects[0]);
    void *object;
    (void)unused;

    mrp_process_epoch++; /* what fork does in the child */
    assert_refused(mrp_handle_get(MRP_HANDLE_PROVIDER, handle, &object), MRP_ERR_FORKED,
        "the provider belongs to the parent");
    assert_refused(
        mrp_handle_destroy(MRP_HANDLE_PROVIDER, handle), MRP_ERR_FORKED, "parent");
    mrp_process_epoch--;
    assert_accepted(mrp_handle_destroy(MRP_HANDLE_PROVIDER, handle));
}

#define ALL 1048576

static void create__refuses_beyond_a_million(void **unused)
{
    void **handles = calloc(ALL, sizeof *handles);
    size_t n_handles = 0;
    void *object;
    (void)unused;

    assert_non_null(handles);
    while (n_handles < ALL) {
        handles[n_handles] = mrp_handle_create(MRP_HANDLE_REMOTE, &objects[2]);
        assert_non_null(handles[n_handles]);
        n_handles++;
    }
    assert_refused(status_of(mrp_handle_create(MRP_HANDLE_REMOTE, &objects[2])),
        MRP_ERR_LIMIT, "1048576");
    for (size_t i = 0; i < n_handles; i++) {
        assert_int_equal(mrp_handle_get(MRP_HANDLE_REMOTE, handles[i], &object), MRP_OK);
        assert_int_equal(mrp_handle_destroy(MRP_HANDLE_REMOTE, handles[i]), MRP_OK);
    }
    /* and goes on once some are gone */
    handles[0] = mrp_handle_create(MRP_HANDLE_REMOTE, &objects[2]);
    assert_non_null(handles[0]);
    assert_accepted(mrp_handle_destroy(MRP_HANDLE_REMOTE, handles[0]));
    free(handles);
}

/* -- threads -- */

#define THREADS 4
#define ROUNDS 2000

struct race {
    pthread_barrier_t barrier;
    void *_Atomic handle;
    atomic_int n_destroyed;
};

static void *race_to_destroy(void *user)
{
    struct race *race = user;

    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&race->barrier);
        if (mrp_handle_destroy(MRP_HANDLE_CONTEXT, race->handle) == MRP_OK) {
            atomic_fetch_add(&race->n_destroyed, 1);
        }
        pthread_barrier_wait(&race->barrier);
    }
    return NULL;
}

static void destroy__one_of_several_racing_calls_wins(void **unused)
{
    struct race race = {.n_destroyed = 0};
    pthread_t threads[THREADS];
    (void)unused;

    assert_int_equal(pthread_barrier_init(&race.barrier, NULL, THREADS + 1), 0);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, race_to_destroy, &race), 0);
    }
    for (int round = 0; round < ROUNDS; round++) {
        race.handle = mrp_handle_create(MRP_HANDLE_CONTEXT, &objects[0]);
        pthread_barrier_wait(&race.barrier);
        pthread_barrier_wait(&race.barrier);
        assert_int_equal(race.n_destroyed, round + 1);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    pthread_barrier_destroy(&race.barrier);
}

/* Each thread sees its own objects, whatever the others create and destroy. */
static void *create_get_destroy(void *user)
{
    long own = 0, n_wrong = 0;
    (void)user;

    for (int round = 0; round < ROUNDS; round++) {
        void *handle = mrp_handle_create(MRP_HANDLE_BACKEND, &own);
        void *object = NULL;

        n_wrong += mrp_handle_get(MRP_HANDLE_BACKEND, handle, &object) != MRP_OK;
        n_wrong += object != &own;
        n_wrong += mrp_handle_destroy(MRP_HANDLE_BACKEND, handle) != MRP_OK;
        n_wrong += mrp_handle_get(MRP_HANDLE_BACKEND, handle, &object) != MRP_ERR_STALE;
    }
    return (void *)n_wrong;
}

static void all__by_several_threads(void **unused)
{
    pthread_t threads[THREADS];
    void *n_wrong;
    (void)unused;

    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, create_get_destroy, NULL), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &n_wrong);
        assert_null(n_wrong);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(get__gives_the_object),
        cmocka_unit_test(get__refuses_another_kind),
        cmocka_unit_test(get__refuses_what_is_no_handle),
        cmocka_unit_test(get__refuses_a_former_owner_of_the_slot),
        cmocka_unit_test(get__refuses_those_of_the_parent),
        cmocka_unit_test(create__refuses_beyond_a_million),
        cmocka_unit_test(destroy__one_of_several_racing_calls_wins),
        cmocka_unit_test(all__by_several_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
