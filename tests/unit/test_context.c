/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The context and what it keeps by name: handles, names, the order of an end, and that
 * nothing stays behind.
 */
#include "mrpool/mrpool.h"
#include "recording_backend.h"
#include "refusal.h"
#include "support/test_system.h"

#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>

static struct mrp_context *create(void)
{
    struct mrp_context *context = NULL;

    assert_accepted(mrp_context_create(NULL, &context));
    assert_non_null(context);
    return context;
}

static struct mrp_context_stats stats_of(struct mrp_context *context)
{
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;

    assert_accepted(mrp_context_stats(context, &stats));
    return stats;
}

/* -- validity -- */

/* Every call that takes a context refuses this one. */
static void check_refused(struct mrp_context *context, const char *word)
{
    struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;
    struct mrp_registration_info registration = MRP_REGISTRATION_INFO_INIT;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    struct mrp_backend *backend = NULL;
    struct mrp_provider *provider = NULL;
    struct mrp_pool *pool = NULL;
    int local;

    assert_refused(mrp_context_check(context), MRP_ERR_STALE, word);
    assert_refused(status_of(mrp_memory_alloc(context, &info)), MRP_ERR_STALE, word);
    assert_refused(mrp_memory_free(context, &local), MRP_ERR_STALE, word);
    assert_refused(mrp_memory_query(context, &local, &info), MRP_ERR_STALE, word);
    assert_refused(mrp_memory_visit(context, NULL, NULL), MRP_ERR_STALE, word);
    assert_refused(mrp_context_stats(context, &stats), MRP_ERR_STALE, word);
    assert_refused(mrp_context_trim(context, 0), MRP_ERR_STALE, word);
    assert_refused(
        mrp_backend_create(context, "malloc", NULL, &backend), MRP_ERR_STALE, word);
    assert_refused(
        mrp_backend_create_custom(context, NULL, recording_ops(), NULL, &backend),
        MRP_ERR_STALE, word);
    assert_refused(mrp_backend_find(context, "x", &backend), MRP_ERR_STALE, word);
    assert_refused(
        mrp_provider_open(context, "host", NULL, &provider), MRP_ERR_STALE, word);
    assert_refused(
        mrp_provider_create(context, NULL, test_provider_ops(), NULL, &provider),
        MRP_ERR_STALE, word);
    assert_refused(mrp_provider_find(context, "x", &provider), MRP_ERR_STALE, word);
    assert_refused(mrp_pool_create(context, NULL, &pool), MRP_ERR_STALE, word);
    assert_refused(mrp_pool_find(context, "x", &pool), MRP_ERR_STALE, word);
    assert_refused(mrp_registration_visit(context, NULL, NULL), MRP_ERR_STALE, word);
    assert_refused(mrp_registration_query(context, provider, &local, &registration),
        MRP_ERR_STALE, word);
    assert_refused(mrp_context_destroy(context), MRP_ERR_STALE, word);
    assert_true(backend == NULL && provider == NULL && pool == NULL);
}

static void check__refuses_null_and_garbage(void **unused)
{
    void *zeroed = calloc(1, 4096);
    int local;
    (void)unused;

    check_refused(NULL, "NULL");
    check_refused((struct mrp_context *)0x1234, "0x1234");
    check_refused((struct mrp_context *)-1, "not a context");
    check_refused(zeroed, "not a context");
    check_refused((struct mrp_context *)&local, "not a context");
    free(zeroed);
}

static void check__refuses_a_destroyed_context(void **unused)
{
    struct mrp_context *context = create(), *next;
    (void)unused;

    assert_accepted(mrp_context_check(context));
    assert_accepted(mrp_context_destroy(context));
    check_refused(context, "destroyed");
    next = create(); /* in the same slot */
    assert_ptr_not_equal(next, context);
    check_refused(context, "destroyed");
    assert_accepted(mrp_context_check(next));
    assert_accepted(mrp_context_destroy(next));
    check_refused(next, "destroyed");
}

/* Handles of another kind are no contexts, and the other way round. */
static void check__refuses_handles_of_another_kind(void **unused)
{
    struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;
    struct mrp_provider_info other_info = MRP_PROVIDER_INFO_INIT;
    struct mrp_context *context = create();
    struct mrp_backend *backend;
    (void)unused;

    assert_accepted(mrp_backend_create(context, "malloc", NULL, &backend));
    check_refused((struct mrp_context *)backend, "not a context");
    assert_refused(mrp_backend_query((struct mrp_backend *)context, &info), MRP_ERR_STALE,
        "not a backend");
    assert_refused(mrp_provider_query((struct mrp_provider *)backend, &other_info),
        MRP_ERR_STALE, "not a provider");
    assert_accepted(mrp_context_destroy(context));
    assert_refused(mrp_backend_query(backend, &info), MRP_ERR_STALE, "destroyed");
    assert_refused(mrp_backend_destroy(backend), MRP_ERR_STALE, "destroyed");
}

static void create__refuses_what_it_cannot_use(void **unused)
{
    struct {
        struct mrp_context_params params;
        unsigned char newer[8];
    } given = {MRP_CONTEXT_PARAMS_INIT, {0}};
    struct mrp_context *context = NULL;
    static char name[65];
    (void)unused;

    assert_refused(mrp_context_create(NULL, NULL), MRP_ERR_INVALID, "context is NULL");
    given.params.struct_size = sizeof given;
    given.newer[0] = 1;
    assert_refused(
        mrp_context_create(&given.params, &context), MRP_ERR_INVALID, "newer library");
    given.params.struct_size = 1;
    assert_refused(mrp_context_create(&given.params, &context), MRP_ERR_INVALID, "_INIT");
    given.params.struct_size = sizeof given.params;
    memset(name, 'n', 64);
    given.params.name = name;
    assert_refused(
        mrp_context_create(&given.params, &context), MRP_ERR_INVALID, "63 bytes");
    assert_null(context);
    name[63] = '\0';
    assert_accepted(mrp_context_create(&given.params, &context));
    assert_accepted(mrp_context_destroy(context));
}

/* -- the default context -- */

static void default__is_one_until_destroyed(void **unused)
{
    struct mrp_context *first, *second;
    (void)unused;

    assert_refused(mrp_context_default(NULL), MRP_ERR_INVALID, "context is NULL");
    assert_accepted(mrp_context_default(&first));
    assert_accepted(mrp_context_default(&second));
    assert_ptr_equal(first, second);
    assert_accepted(mrp_context_destroy(first));
    assert_accepted(mrp_context_default(&second));
    assert_ptr_not_equal(first, second);
    assert_accepted(mrp_context_check(second));
    assert_accepted(mrp_context_destroy(second));
}

struct default_race {
    pthread_barrier_t barrier;
    struct mrp_context *found;
};

static void *ask_for_default(void *user)
{
    struct default_race *race = user;
    struct mrp_context *found = NULL;

    pthread_barrier_wait(&race->barrier);
    mrp_context_default(&found);
    return found;
}

static void default__is_one_for_racing_threads(void **unused)
{
    (void)unused;
    for (int round = 0; round < 200; round++) {
        struct default_race race;
        pthread_t threads[3];
        void *found[3];

        pthread_barrier_init(&race.barrier, NULL, 3);
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(
                pthread_create(&threads[i], NULL, ask_for_default, &race), 0);
        }
        for (size_t i = 0; i < 3; i++) {
            pthread_join(threads[i], &found[i]);
            assert_ptr_equal(found[i], found[0]);
        }
        assert_accepted(mrp_context_destroy(found[0]));
        pthread_barrier_destroy(&race.barrier);
    }
}

/* -- names -- */

static struct mrp_backend *make_backend(struct mrp_context *context, const char *name)
{
    struct mrp_backend_params params = MRP_BACKEND_PARAMS_INIT;
    struct mrp_backend *backend;

    params.name = name;
    assert_accepted(mrp_backend_create(context, "malloc", &params, &backend));
    return backend;
}

static struct mrp_provider *make_provider(struct mrp_context *context, const char *name)
{
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;
    struct mrp_provider *provider;

    params.name = name;
    assert_accepted(mrp_provider_open(context, "host", &params, &provider));
    return provider;
}

static struct mrp_pool *make_pool(struct mrp_context *context, const char *name)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_pool *pool;

    params.name = name;
    params.max_bytes = 512 << 10;
    assert_accepted(mrp_pool_create(context, &params, &pool));
    return pool;
}

/* Backends, providers and pools have names of their own; "a" may be one of each. */
static void find__each_kind_by_its_name(void **unused)
{
    struct mrp_context *context = create(), *other = create();
    struct mrp_backend *backend = make_backend(context, "a"), *found_backend = NULL;
    struct mrp_provider *provider = make_provider(context, "a"), *found_provider = NULL;
    struct mrp_pool *pool = make_pool(context, "a"), *found_pool = NULL;
    (void)unused;

    assert_accepted(mrp_backend_find(context, "a", &found_backend));
    assert_ptr_equal(found_backend, backend);
    assert_accepted(mrp_provider_find(context, "a", &found_provider));
    assert_ptr_equal(found_provider, provider);
    assert_accepted(mrp_pool_find(context, "a", &found_pool));
    assert_ptr_equal(found_pool, pool);
    assert_refused(
        mrp_backend_find(context, "b", &found_backend), MRP_ERR_NOT_FOUND, "\"b\"");
    assert_refused(
        mrp_provider_find(other, "a", &found_provider), MRP_ERR_NOT_FOUND, "\"a\"");
    assert_refused(mrp_pool_find(other, "a", &found_pool), MRP_ERR_NOT_FOUND, "pool");
    assert_refused(
        mrp_backend_find(context, NULL, &found_backend), MRP_ERR_INVALID, "NULL");
    assert_refused(mrp_backend_find(context, "a", NULL), MRP_ERR_INVALID, "NULL");
    assert_refused(mrp_provider_find(context, "a", NULL), MRP_ERR_INVALID, "NULL");
    assert_ptr_equal(found_backend, backend);
    assert_accepted(mrp_context_destroy(context));
    assert_accepted(mrp_context_destroy(other));
}

static void create__refuses_a_name_that_is_taken(void **unused)
{
    struct mrp_backend_params backend_params = MRP_BACKEND_PARAMS_INIT;
    struct mrp_provider_params provider_params = MRP_PROVIDER_PARAMS_INIT;
    struct mrp_pool_params pool_params = MRP_POOL_PARAMS_INIT;
    struct mrp_context *context = create();
    struct mrp_backend *backend = make_backend(context, "a");
    struct mrp_provider *provider = make_provider(context, "a"), *custom;
    struct mrp_pool *pool = make_pool(context, "a");
    static struct test_provider network;
    (void)unused;

    test_provider_init(&network);
    backend_params.name = provider_params.name = pool_params.name = "a";
    assert_refused(mrp_backend_create(context, "mmap", &backend_params, &backend),
        MRP_ERR_EXISTS, "\"a\"");
    assert_refused(
        mrp_backend_create_custom(context, "a", recording_ops(), NULL, &backend),
        MRP_ERR_EXISTS, "\"a\"");
    assert_refused(mrp_provider_open(context, "host", &provider_params, &provider),
        MRP_ERR_EXISTS, "\"a\"");
    assert_refused(
        mrp_provider_create(context, "a", test_provider_ops(), &network, &custom),
        MRP_ERR_EXISTS, "\"a\"");
    assert_refused(
        mrp_pool_create(context, &pool_params, &pool), MRP_ERR_EXISTS, "\"a\"");
    /* free again once its owner is gone */
    assert_accepted(mrp_pool_destroy(pool));
    assert_accepted(mrp_provider_close(provider));
    assert_accepted(mrp_backend_destroy(backend));
    make_backend(context, "a");
    make_provider(context, "a");
    make_pool(context, "a");
    assert_accepted(mrp_context_destroy(context));
    test_provider_fini(&network);
}

static void create__names_nobody_gave_are_unique(void **unused)
{
    struct mrp_context *context = create();
    struct mrp_backend *backends[40], *found, *taken = NULL;
    (void)unused;

    for (int number = 10; number < 30; number++) { /* in the way of the automatic ones */
        char name[32];

        snprintf(name, sizeof name, "malloc-%d", number);
        taken = make_backend(context, name);
    }
    for (size_t i = 0; i < 40; i++) {
        struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;

        backends[i] = make_backend(context, NULL);
        assert_accepted(mrp_backend_query(backends[i], &info));
        assert_int_equal(strncmp(info.name, "malloc-", 7), 0);
        assert_accepted(mrp_backend_find(context, info.name, &found));
        assert_ptr_equal(found, backends[i]);
    }
    assert_accepted(mrp_backend_find(context, "malloc-29", &found));
    assert_ptr_equal(found, taken);
    assert_int_equal(stats_of(context).n_backends, 61); /* and the one for blocks */
    assert_accepted(mrp_context_destroy(context));
}

static void create__names_have_1_to_63_bytes(void **unused)
{
    struct mrp_backend_params params = MRP_BACKEND_PARAMS_INIT;
    struct mrp_context *context = create();
    struct mrp_backend *backend, *found;
    char name[65];
    (void)unused;

    params.name = "";
    assert_refused(mrp_backend_create(context, "malloc", &params, &backend),
        MRP_ERR_INVALID, "1 to 63");
    memset(name, 'n', 64);
    name[64] = '\0';
    params.name = name;
    assert_refused(mrp_backend_create(context, "malloc", &params, &backend),
        MRP_ERR_INVALID, "1 to 63");
    name[63] = '\0';
    assert_accepted(mrp_backend_create(context, "malloc", &params, &backend));
    assert_accepted(mrp_backend_find(context, name, &found));
    assert_ptr_equal(found, backend);
    assert_accepted(mrp_context_destroy(context));
}

static void *make_names(void *user)
{
    long n_wrong = 0;

    for (int round = 0; round < 100; round++) {
        struct mrp_backend *backend = NULL, *found = NULL;
        struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;

        n_wrong += mrp_backend_create(user, "malloc", NULL, &backend) != MRP_OK ||
            mrp_backend_query(backend, &info) != MRP_OK ||
            mrp_backend_find(user, info.name, &found) != MRP_OK || found != backend ||
            mrp_backend_destroy(backend) != MRP_OK;
    }
    return (void *)n_wrong;
}

static void create__by_several_threads(void **unused)
{
    struct mrp_context *context = create();
    pthread_t threads[4];
    void *n_wrong;
    (void)unused;

    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, make_names, context), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], &n_wrong);
        assert_null(n_wrong);
    }
    assert_int_equal(stats_of(context).n_backends, 1);
    assert_accepted(mrp_context_destroy(context));
}

/* -- the order of destruction -- */

/* A pool holds its backend and its rails; whoever is asked too early refuses. */
static void destroy__refuses_what_is_in_use(void **unused)
{
    struct recording_backend recorder = {0};
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_context *context = create();
    struct mrp_provider *provider = make_provider(context, NULL);
    struct mrp_backend *backend;
    struct mrp_region *region;
    struct mrp_pool *pool;
    (void)unused;

    assert_accepted(
        mrp_backend_create_custom(context, NULL, recording_ops(), &recorder, &backend));
    params.backend = backend;
    params.rails = &provider;
    params.n_rails = 1;
    params.max_bytes = 512 << 10;
    assert_accepted(mrp_pool_create(context, &params, &pool));
    assert_refused(mrp_backend_destroy(backend), MRP_ERR_BUSY, "1 pools or blocks");
    assert_refused(
        mrp_provider_close(provider), MRP_ERR_BUSY, "1 pools, imports or backends");
    region = mrp_region_alloc(pool, 100);
    assert_non_null(region);
    assert_refused(mrp_provider_close(provider), MRP_ERR_BUSY, "1 registrations");
    assert_accepted(mrp_region_free(region));
    assert_accepted(mrp_pool_destroy(pool));
    assert_accepted(mrp_backend_destroy(backend));
    assert_int_equal(recorder.n_destroyed, 1);
    assert_int_equal(recorder.n_unmapped, recorder.n_mapped);
    assert_accepted(mrp_provider_close(provider));
    assert_refused(mrp_provider_close(provider), MRP_ERR_STALE, "destroyed");
    assert_accepted(mrp_context_destroy(context));
}

/* The backend of blocks that ask for none is the context's own. */
static void destroy__keeps_the_contexts_own_backend(void **unused)
{
    struct mrp_context *context = create();
    struct mrp_backend *backend;
    (void)unused;

    assert_accepted(mrp_backend_find(context, "blocks", &backend));
    assert_refused(mrp_backend_destroy(backend), MRP_ERR_BUSY, "blocks");
    assert_accepted(mrp_context_destroy(context));
}

/* -- 10,000 cycles -- */

static size_t count_files(void)
{
    DIR *folder = opendir("/proc/self/fd");
    size_t n_files = 0;

    while (folder != NULL && readdir(folder) != NULL) {
        n_files++;
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return n_files;
}

static void cycle(void)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;
    struct mrp_context *context = create();
    struct mrp_provider *provider = make_provider(context, NULL);
    struct mrp_backend *backend = NULL;
    struct mrp_region *region;
    struct mrp_pool *pool;

    assert_accepted(mrp_backend_create(context, "mmap", NULL, &backend));
    info.size = 100;
    assert_accepted(mrp_memory_free(context, mrp_memory_alloc(context, &info)));
    params.backend = backend;
    params.rails = &provider;
    params.n_rails = 1;
    params.max_bytes = 256 << 10;
    assert_accepted(mrp_pool_create(context, &params, &pool));
    region = mrp_region_alloc(pool, 100);
    assert_non_null(region);
    assert_accepted(mrp_region_free(region));
    assert_accepted(mrp_pool_destroy(pool));
    assert_accepted(mrp_context_destroy(context));
}

static void cycles__leave_nothing_behind(void **unused)
{
    size_t n_cycles = test_is_watched() ? 200 : 10000;
    size_t n_files, n_maps, size;
    (void)unused;

    for (int i = 0; i < 100; i++) {
        cycle();
    }
    n_files = count_files();
    n_maps = test_count_maps();
    size = test_status_size("VmRSS:");
    for (size_t i = 0; i < n_cycles; i++) {
        cycle();
    }
    assert_int_equal(count_files(), n_files);
    if (test_is_watched()) {
        test_skip(__func__, "mappings and resident size under a tool are the tool's");
        return;
    }
    assert_int_equal(test_count_maps(), n_maps);
    assert_true(test_status_size("VmRSS:") <= size + (128 << 10)); /* 13 bytes each */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(check__refuses_null_and_garbage),
        cmocka_unit_test(check__refuses_a_destroyed_context),
        cmocka_unit_test(check__refuses_handles_of_another_kind),
        cmocka_unit_test(create__refuses_what_it_cannot_use),
        cmocka_unit_test(default__is_one_until_destroyed),
        cmocka_unit_test(default__is_one_for_racing_threads),
        cmocka_unit_test(find__each_kind_by_its_name),
        cmocka_unit_test(create__refuses_a_name_that_is_taken),
        cmocka_unit_test(create__names_nobody_gave_are_unique),
        cmocka_unit_test(create__names_have_1_to_63_bytes),
        cmocka_unit_test(create__by_several_threads),
        cmocka_unit_test(destroy__refuses_what_is_in_use),
        cmocka_unit_test(destroy__keeps_the_contexts_own_backend),
        cmocka_unit_test(cycles__leave_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
