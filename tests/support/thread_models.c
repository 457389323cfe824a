/* SPDX-License-Identifier: BSD-3-Clause */
#include "thread_models.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct test_thread_counts test_thread_counts;

static struct mrp_thread_model under = MRP_THREAD_MODEL_INIT;

static uint64_t counting_id(void)
{
    atomic_fetch_add(&test_thread_counts.n_id, 1);
    return under.id();
}

static void counting_yield(void)
{
    atomic_fetch_add(&test_thread_counts.n_yield, 1);
    under.yield();
}

static void counting_sleep(uint64_t nanoseconds)
{
    size_t longest = atomic_load(&test_thread_counts.longest_sleep);

    atomic_fetch_add(&test_thread_counts.n_sleep, 1);
    while (longest < nanoseconds &&
        !atomic_compare_exchange_weak(
            &test_thread_counts.longest_sleep, &longest, nanoseconds)) {
    }
    under.sleep(nanoseconds);
}

static enum mrp_status counting_tls_create(void (*at_exit)(void *value), void **key)
{
    atomic_fetch_add(&test_thread_counts.n_tls_create, 1);
    return under.tls_create(at_exit, key);
}

static enum mrp_status counting_tls_set(void *key, void *value)
{
    atomic_fetch_add(&test_thread_counts.n_tls_set, 1);
    return under.tls_set(key, value);
}

static void *counting_tls_get(void *key)
{
    atomic_fetch_add(&test_thread_counts.n_tls_get, 1);
    return under.tls_get(key);
}

const struct mrp_thread_model *test_counting_model(void)
{
    static const struct mrp_thread_model counting = {
        .struct_size = sizeof counting,
        .name = "counting",
        .id = counting_id,
        .yield = counting_yield,
        .sleep = counting_sleep,
        .tls_create = counting_tls_create,
        .tls_set = counting_tls_set,
        .tls_get = counting_tls_get,
    };

    if (under.id == NULL && mrp_thread_model_query(&under) != MRP_OK) {
        abort();
    }
    return &counting;
}

/* -- chosen by the environment -- */

static pid_t chooser;

/* At the end: the model was there to the last, and the library has settled on it. */
static void tell_counts(void)
{
    struct mrp_thread_model model = MRP_THREAD_MODEL_INIT;

    if (getpid() != chooser) {
        return;
    }
    printf("thread model counting: %zu yields, %zu sleeps, %zu keys, %zu values set\n",
        atomic_load(&test_thread_counts.n_yield),
        atomic_load(&test_thread_counts.n_sleep),
        atomic_load(&test_thread_counts.n_tls_create),
        atomic_load(&test_thread_counts.n_tls_set));
    fflush(stdout);
    if (mrp_thread_model_query(&model) != MRP_OK || strcmp(model.name, "counting") != 0 ||
        mrp_thread_model_set(NULL) != MRP_ERR_BUSY) {
        fprintf(stderr, "the thread model is %s, or nothing used it\n", model.name);
        _exit(1);
    }
}

__attribute__((constructor)) static void choose(void)
{
    const char *name = getenv("MRP_TEST_THREAD_MODEL");

    if (name == NULL || name[0] == '\0') {
        return;
    }
    if (strcmp(name, "counting") != 0 ||
        mrp_thread_model_set(test_counting_model()) != MRP_OK) {
        fprintf(stderr, "MRP_TEST_THREAD_MODEL=%s: no such model\n", name);
        _exit(1);
    }
    chooser = getpid();
    atexit(tell_counts);
}
