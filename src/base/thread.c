/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/thread.h"

#include "base/align.h"
#include "base/atomic.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/process.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <string.h>
#include <time.h>

/* -- POSIX threads -- */

static uint64_t posix_id(void)
{
    return (uint64_t)pthread_self();
}

static void posix_yield(void)
{
    sched_yield();
}

static void posix_sleep(uint64_t nanoseconds)
{
    struct timespec pause = {
        (time_t)(nanoseconds / 1000000000), (long)(nanoseconds % 1000000000)};

    nanosleep(&pause, NULL);
}

static enum mrp_status posix_tls_create(void (*at_exit)(void *value), void **key)
{
    pthread_key_t made;
    int native = pthread_key_create(&made, at_exit);

    if (native != 0) {
        return mrp_fail(native == ENOMEM ? MRP_ERR_MEMORY : MRP_ERR_LIMIT, native,
            "pthread_key_create: %s; a process has %d keys: use fewer",
            strerrordesc_np(native), PTHREAD_KEYS_MAX);
    }
    *key = (void *)(uintptr_t)made; /* NOLINT(performance-no-int-to-ptr) */
    return MRP_OK;
}

static enum mrp_status posix_tls_set(void *key, void *value)
{
    int native = pthread_setspecific((pthread_key_t)(uintptr_t)key, value);

    return native == 0 ? MRP_OK
                       : mrp_fail(MRP_ERR_MEMORY, native, "pthread_setspecific: %s",
                             strerrordesc_np(native));
}

static void *posix_tls_get(void *key)
{
    return pthread_getspecific((pthread_key_t)(uintptr_t)key);
}

static const struct mrp_thread_model posix_threads = {
    .struct_size = sizeof(struct mrp_thread_model),
    .name = "pthreads",
    .id = posix_id,
    .yield = posix_yield,
    .sleep = posix_sleep,
    .tls_create = posix_tls_create,
    .tls_set = posix_tls_set,
    .tls_get = posix_tls_get,
};

/* -- the one in force -- */

/* Both change under the process lock, and only before `settled`. */
static struct mrp_thread_model registered;
static const struct mrp_thread_model *in_force = &posix_threads;

static _Atomic bool settled;

static enum mrp_status refuse_slot(const char *slot, const char *why)
{
    return mrp_fail(MRP_ERR_INVALID, 0, "mrp_thread_model: %s is missing: %s", slot, why);
}

/* Check what was given and fill in what may be left out. */
static enum mrp_status complete(struct mrp_thread_model *model)
{
    static const char required[] = "every thread model has one";
    static const char three[] = "give all of tls_create, tls_set and tls_get, or none";

    if (model->name == NULL || model->name[0] == '\0') {
        return refuse_slot("name", required);
    }
    if (model->id == NULL) {
        return refuse_slot("id", required);
    }
    if (model->yield == NULL) {
        return refuse_slot("yield", required);
    }
    if (model->sleep == NULL) {
        return refuse_slot("sleep", required);
    }
    if (model->tls_create == NULL && model->tls_set == NULL && model->tls_get == NULL) {
        model->tls_create = posix_tls_create;
        model->tls_set = posix_tls_set;
        model->tls_get = posix_tls_get;
        return MRP_OK;
    }
    if (model->tls_create == NULL) {
        return refuse_slot("tls_create", three);
    }
    if (model->tls_set == NULL) {
        return refuse_slot("tls_set", three);
    }
    return model->tls_get == NULL ? refuse_slot("tls_get", three) : MRP_OK;
}

static bool is_same(const struct mrp_thread_model *a, const struct mrp_thread_model *b)
{
    return a->id == b->id && a->yield == b->yield && a->sleep == b->sleep &&
        a->tls_create == b->tls_create && a->tls_set == b->tls_set &&
        a->tls_get == b->tls_get;
}

static enum mrp_status install(const struct mrp_thread_model *model)
{
    bool is_posix = is_same(model, &posix_threads), is_late;

    mrp_process_lock();
    /* what is in force already may be asked for again: two libraries of one program do */
    is_late = mrp_load_relaxed(&settled) && !is_same(model, in_force);
    if (!mrp_load_relaxed(&settled)) { /* set under this lock */
        registered = *model;
        in_force = is_posix ? &posix_threads : &registered;
    }
    mrp_process_unlock();
    if (is_late) {
        return mrp_fail(MRP_ERR_BUSY, 0,
            "thread model %.64s: %.64s is in use already: set the model before the first "
            "pool is created",
            model->name, in_force->name);
    }
    return MRP_OK;
}

enum mrp_status mrp_thread_model_set(const struct mrp_thread_model *given)
{
    struct mrp_thread_model model;
    enum mrp_status status;

    if (given == NULL) {
        return install(&posix_threads);
    }
    status = mrp_params_read(&model, sizeof model, given, "mrp_thread_model");
    if (status == MRP_OK) {
        status = complete(&model);
    }
    return status == MRP_OK ? install(&model) : status;
}

enum mrp_status mrp_thread_model_query(struct mrp_thread_model *model)
{
    struct mrp_thread_model found;

    mrp_process_lock();
    found = *in_force;
    mrp_process_unlock();
    return mrp_info_write(model, &found, sizeof found, "mrp_thread_model");
}

const struct mrp_thread_model *mrp_thread_model_use(void)
{
    /* pairs with the release below: the table is whole, and nobody changes it any more */
    if (!mrp_load_acquire(&settled)) {
        mrp_process_lock();
        mrp_store_release(&settled, true);
        mrp_process_unlock();
    }
    return in_force;
}

uint64_t mrp_thread_id(void)
{
    return mrp_thread_model_use()->id();
}

/* -- waiting -- */

#define YIELDS 32 /* before the first sleep: what is waited for may be about to end */
#define SLEEP_MIN 1000u /* ns; doubled at each sleep */
#define SLEEP_MAX 100000u /* ns: little beside the registration that is waited for */

void mrp_wait_init(struct mrp_waitpoint *point)
{
    const struct mrp_thread_model *model = mrp_thread_model_use();
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&point->woken, &attributes);
    pthread_condattr_destroy(&attributes);
    point->model = model == &posix_threads ? NULL : model;
    atomic_init(&point->wakes, 0);
}

void mrp_wait_destroy(struct mrp_waitpoint *point)
{
    pthread_cond_destroy(&point->woken);
}

/* `wakes` needs no order of its own. It is read under the mutex, so before any change
 * that is still to come, and raised after that change: the increment is not the value
 * read. The change itself is seen by taking the mutex again. */
static bool wait_by_model(
    struct mrp_waitpoint *point, pthread_mutex_t *mutex, uint64_t deadline)
{
    uint64_t pause = SLEEP_MIN, before = mrp_load_relaxed(&point->wakes);
    bool is_woken = true;

    pthread_mutex_unlock(mutex);
    for (unsigned n = 0; mrp_load_relaxed(&point->wakes) == before && is_woken; n++) {
        if (n < YIELDS) {
            point->model->yield();
        } else {
            point->model->sleep(pause);
            pause = mrp_min(2 * pause, SLEEP_MAX);
        }
        is_woken = deadline == UINT64_MAX || mrp_clock() < deadline;
    }
    pthread_mutex_lock(mutex);
    return is_woken;
}

void mrp_wait(struct mrp_waitpoint *point, pthread_mutex_t *mutex)
{
    if (point->model == NULL) {
        pthread_cond_wait(&point->woken, mutex);
    } else {
        wait_by_model(point, mutex, UINT64_MAX);
    }
}

bool mrp_wait_until(
    struct mrp_waitpoint *point, pthread_mutex_t *mutex, uint64_t deadline)
{
    struct timespec time = {
        (time_t)(deadline / 1000000000), (long)(deadline % 1000000000)};

    return point->model == NULL ? pthread_cond_timedwait(&point->woken, mutex, &time) == 0
                                : wait_by_model(point, mutex, deadline);
}

void mrp_wake_all(struct mrp_waitpoint *point)
{
    if (point->model == NULL) {
        pthread_cond_broadcast(&point->woken);
    } else {
        mrp_add_relaxed(&point->wakes, 1);
    }
}

/* -- the end of a thread -- */

enum key_state {
    KEY_NONE,
    KEY_COMING, /* some thread creates it, under no lock */
    KEY_READY
};

static _Atomic(enum key_state) key_state; /* changes under the process lock */
static uint32_t key_epoch; /* of who creates it; under the process lock */
static void *exit_key;

/* Whether the calling thread is to create the key. In a forked child nobody goes on with
 * what a thread of the parent's had begun. */
static bool claim_key(void)
{
    enum key_state state;
    bool is_mine;

    mrp_process_lock();
    state = mrp_load_relaxed(&key_state);
    is_mine =
        state == KEY_NONE || (state == KEY_COMING && key_epoch != mrp_process_epoch);
    if (is_mine) {
        mrp_store_relaxed(&key_state, KEY_COMING);
        key_epoch = mrp_process_epoch;
    }
    mrp_process_unlock();
    return is_mine;
}

static enum mrp_status create_key(
    const struct mrp_thread_model *model, void (*at_exit)(void *value))
{
    struct mrp_error before = *mrp_error_last();
    enum mrp_status status;
    void *key = NULL;

    mrp_error_clear();
    status = mrp_error_settle(&before, model->tls_create(at_exit, &key), "thread model",
        model->name, "tls_create");
    mrp_process_lock();
    exit_key = key;
    /* pairs with the acquires below: the key is there to be read */
    mrp_store_release(&key_state, status == MRP_OK ? KEY_READY : KEY_NONE);
    mrp_process_unlock();
    return status;
}

enum mrp_status mrp_thread_exit_prepare(void (*at_exit)(void *value))
{
    const struct mrp_thread_model *model = mrp_thread_model_use();

    while (mrp_load_acquire(&key_state) != KEY_READY) {
        if (claim_key()) {
            return create_key(model, at_exit);
        }
        model->yield();
    }
    return MRP_OK;
}

enum mrp_status mrp_thread_exit_set(void *value)
{
    const struct mrp_thread_model *model = mrp_thread_model_use();
    struct mrp_error before;

    if (mrp_load_acquire(&key_state) != KEY_READY) {
        return mrp_fail(MRP_ERR_UNAVAILABLE, 0,
            "thread model %.64s: there is no key for the ends of threads", model->name);
    }
    if (model->tls_get(exit_key) == value) {
        return MRP_OK;
    }
    before = *mrp_error_last();
    mrp_error_clear();
    return mrp_error_settle(
        &before, model->tls_set(exit_key, value), "thread model", model->name, "tls_set");
}
