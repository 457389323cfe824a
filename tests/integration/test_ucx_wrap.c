/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A provider round the caller's own ucp_context_h: what it takes, how it locks, and that
 * the context stays the caller's.
 */
#include "ucx_station.h"

#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>

#include <cmocka.h>

#define N_THREADS 4
#define N_ROUNDS 200

struct fixture {
    ucp_context_h ucp;
    struct mrp_context *context;
};

static ucp_context_h open_ucp(const char *tls, bool is_shared)
{
    const ucp_params_t params = {
        .field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED,
        .features = UCP_FEATURE_RMA | UCP_FEATURE_AMO64,
        .mt_workers_shared = is_shared};
    ucp_config_t *config;
    ucp_context_h ucp;

    STATION_CALL(ucp_config_read(NULL, NULL, &config));
    STATION_CALL(ucp_config_modify(config, "TLS", tls));
    STATION_CALL(ucp_init(&params, config, &ucp));
    ucp_config_release(config);
    return ucp;
}

static struct fixture set_up(bool is_shared)
{
    struct fixture fixture = {.ucp = open_ucp("tcp,self", is_shared)};

    assert_int_equal(mrp_context_create(NULL, &fixture.context), MRP_OK);
    return fixture;
}

/* The context is as good as before: the caller goes on with it. */
static void tear_down(struct fixture *fixture)
{
    static unsigned char page[4096];
    ucp_mem_map_params_t params = {
        .field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH,
        .address = page,
        .length = sizeof page};
    ucp_mem_h memh;

    assert_int_equal(mrp_context_destroy(fixture->context), MRP_OK);
    STATION_CALL(ucp_mem_map(fixture->ucp, &params, &memh));
    STATION_CALL(ucp_mem_unmap(fixture->ucp, memh));
    ucp_cleanup(fixture->ucp);
}

static struct mrp_provider *wrap(
    const struct fixture *fixture, const struct mrp_ucx_wrap_params *params)
{
    struct mrp_provider *provider;

    if (mrp_ucx_provider_wrap(fixture->context, NULL, params, &provider) != MRP_OK) {
        fail_msg("%s", mrp_error_last()->text);
    }
    return provider;
}

static struct mrp_pool *create_pool(
    const struct fixture *fixture, struct mrp_provider *provider)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_pool *pool;

    params.rails = &provider;
    params.n_rails = 1;
    params.access = MRP_ACCESS_ALL;
    params.max_bytes = (size_t)4 << 20;
    params.chunk_min = (size_t)256 << 10;
    if (mrp_pool_create(fixture->context, &params, &pool) != MRP_OK) {
        fail_msg("%s", mrp_error_last()->text);
    }
    return pool;
}

/* -- what it takes -- */

static void assert_refused(const struct fixture *fixture,
    const struct mrp_ucx_wrap_params *params, const char *text)
{
    struct mrp_provider *provider;

    assert_int_equal(mrp_ucx_provider_wrap(fixture->context, NULL, params, &provider),
        MRP_ERR_INVALID);
    if (strstr(mrp_error_last()->text, text) == NULL) {
        fail_msg("not \"%s\": %s", text, mrp_error_last()->text);
    }
}

static void lock_nothing(void *lock_arg)
{
    (void)lock_arg;
}

static void wrap__refuses_params_that_do_not_fit(void **state)
{
    struct fixture fixture = set_up(true);
    struct {
        struct mrp_ucx_wrap_params params;
        uint64_t newer;
    } longer = {MRP_UCX_WRAP_PARAMS_INIT, 1};
    struct mrp_ucx_wrap_params params = MRP_UCX_WRAP_PARAMS_INIT;

    (void)state;
    assert_refused(&fixture, NULL, "ucp_context_h");
    assert_refused(&fixture, &params, "context is NULL");
    params.context = fixture.ucp;
    params.lock = lock_nothing;
    assert_refused(&fixture, &params, "lock without unlock");
    params.lock = NULL;
    params.unlock = lock_nothing;
    assert_refused(&fixture, &params, "unlock without lock");
    params.struct_size = 7;
    assert_refused(&fixture, &params, "_INIT macro");
    params.struct_size = 8; /* what lies beyond it is not looked at */
    assert_refused(&fixture, &params, "context is NULL");
    longer.params.context = fixture.ucp;
    longer.params.struct_size = sizeof longer;
    assert_refused(&fixture, &longer.params, "newer library or module");
    longer.newer = 0;
    assert_int_equal(mrp_provider_close(wrap(&fixture, &longer.params)), MRP_OK);
    tear_down(&fixture);
}

static void wrap__shows_the_context_and_its_thread_mode(void **state)
{
    struct mrp_ucx_wrap_params params = MRP_UCX_WRAP_PARAMS_INIT;
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;

    (void)state;
    for (int is_shared = 0; is_shared < 2; is_shared++) {
        struct fixture fixture = set_up(is_shared != 0);
        struct mrp_provider *provider;

        params.context = fixture.ucp;
        params.features = is_shared != 0 ? UCP_FEATURE_RMA : 0;
        provider = wrap(&fixture, &params);
        assert_ptr_equal(station_native(provider)->context, fixture.ucp);
        assert_int_equal(station_native(provider)->features, params.features);
        assert_int_equal(station_native(provider)->thread_mode,
            is_shared != 0 ? UCS_THREAD_MODE_MULTI : UCS_THREAD_MODE_SINGLE);
        assert_int_equal(mrp_provider_query(provider, &info), MRP_OK);
        assert_int_equal(info.access & MRP_ACCESS_REMOTE_ATOMIC,
            is_shared != 0 ? 0 : MRP_ACCESS_REMOTE_ATOMIC);
        assert_int_equal(mrp_provider_close(provider), MRP_OK);
        tear_down(&fixture);
    }
}

/* Two providers, one context: each its own registrations of it. */
static void wrap__twice_round_one_context(void **state)
{
    struct fixture fixture = set_up(true);
    struct mrp_ucx_wrap_params params = MRP_UCX_WRAP_PARAMS_INIT;
    struct mrp_provider *one, *other;
    struct mrp_pool *pools[2];
    struct mrp_region *region;

    (void)state;
    params.context = fixture.ucp;
    one = wrap(&fixture, &params);
    other = wrap(&fixture, &params);
    pools[0] = create_pool(&fixture, one);
    pools[1] = create_pool(&fixture, other);
    region = mrp_region_alloc(pools[0], 100);
    assert_non_null(region);
    assert_int_equal(mrp_pool_destroy(pools[1]), MRP_OK);
    assert_int_equal(mrp_provider_close(other), MRP_OK);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(mrp_pool_destroy(pools[0]), MRP_OK);
    tear_down(&fixture);
}

/* -- how it locks -- */

/* The provider's calls come by here. These need no endpoint, so they are forgotten easily. */
#define INTERPOSED __attribute__((visibility("default")))
static bool is_watching, is_held;
static size_t n_unlocked_calls;

static void *real(const char *name)
{
    void *function = dlsym(RTLD_NEXT, name);

    n_unlocked_calls += is_watching && !is_held;
    assert_non_null(function);
    return function;
}

INTERPOSED ucs_status_t ucp_context_query(ucp_context_h context, ucp_context_attr_t *attr)
{
    ucs_status_t (*function)(ucp_context_h, ucp_context_attr_t *);

    *(void **)&function = real("ucp_context_query");
    return function(context, attr);
}

INTERPOSED void ucp_context_print_info(const ucp_context_h context, FILE *stream)
{
    void (*function)(const ucp_context_h, FILE *);

    *(void **)&function = real("ucp_context_print_info");
    function(context, stream);
}

INTERPOSED void ucp_rkey_buffer_release(void *buffer)
{
    void (*function)(void *);

    *(void **)&function = real("ucp_rkey_buffer_release");
    function(buffer);
}

struct counter {
    pthread_mutex_t mutex;
    size_t n_locks, n_unlocks;
};

static void count_lock(void *lock_arg)
{
    struct counter *counter = lock_arg;

    pthread_mutex_lock(&counter->mutex);
    is_held = true;
    counter->n_locks++;
}

static void count_unlock(void *lock_arg)
{
    struct counter *counter = lock_arg;

    is_held = false;
    counter->n_unlocks++;
    pthread_mutex_unlock(&counter->mutex);
}

static size_t lock_count(struct counter *counter)
{
    assert_int_equal(counter->n_locks, counter->n_unlocks);
    return counter->n_locks;
}

/* The caller's lock is taken round all that touches the context or an endpoint. */
static void lock__is_taken_round_every_call(void **state)
{
    struct fixture fixture = set_up(false);
    struct counter counter = {PTHREAD_MUTEX_INITIALIZER, 0, 0};
    struct mrp_ucx_wrap_params params = MRP_UCX_WRAP_PARAMS_INIT;
    struct station station = {.ep = NULL};
    struct mrp_provider *provider;
    struct mrp_region *region;
    struct mrp_remote *remote;
    struct mrp_pool *pool;
    unsigned char keys[1024];
    size_t before, size = sizeof keys;

    (void)state;
    params.context = fixture.ucp;
    params.lock = count_lock;
    params.unlock = count_unlock;
    params.lock_arg = &counter;
    is_watching = true;
    provider = wrap(&fixture, &params);
    pool = create_pool(&fixture, provider);
    before = lock_count(&counter);
    region = mrp_region_alloc(pool, 100);
    assert_non_null(region);
    assert_true(lock_count(&counter) > before + 1); /* ucp_mem_map, ucp_rkey_pack */

    station_open(&station, fixture.ucp);
    station_connect(&station, station.address);
    assert_int_equal(mrp_region_key_pack(region, 1, keys, &size), MRP_OK);
    before = lock_count(&counter);
    assert_int_equal(
        mrp_remote_open(provider, station.ep, 0, keys, size, &remote), MRP_OK);
    assert_int_equal(lock_count(&counter), before + 1);
    assert_int_equal(mrp_remote_close(remote), MRP_OK);
    assert_int_equal(lock_count(&counter), before + 2);
    station_close(&station);

    assert_int_equal(mrp_region_free(region), MRP_OK);
    before = lock_count(&counter);
    assert_int_equal(mrp_pool_destroy(pool), MRP_OK);
    assert_int_equal(mrp_context_trim(fixture.context, 0), MRP_OK);
    assert_true(lock_count(&counter) > before);
    assert_int_equal(mrp_provider_close(provider), MRP_OK);
    is_watching = false;
    assert_int_equal(n_unlocked_calls, 0);
    tear_down(&fixture);
}

struct worker {
    struct mrp_pool *pool;
    unsigned char *memory;
    size_t n_wrong;
};

static void *register_and_alloc(void *user)
{
    struct worker *worker = user;

    for (size_t i = 0; i < N_ROUNDS; i++) {
        struct mrp_region *own = NULL, *pooled = mrp_region_alloc(worker->pool, i * 40);

        worker->n_wrong +=
            mrp_region_register(worker->pool, worker->memory, 8192, NULL, &own) != MRP_OK;
        worker->n_wrong += own == NULL || mrp_region_free(own) != MRP_OK;
        worker->n_wrong += pooled == NULL || mrp_region_free(pooled) != MRP_OK;
    }
    return NULL;
}

/* A context for one thread, several threads, and nobody's lock: the provider's own. */
static void lock__of_its_own_round_a_context_for_one_thread(void **state)
{
    struct fixture fixture = set_up(false);
    struct mrp_ucx_wrap_params params = MRP_UCX_WRAP_PARAMS_INIT;
    static unsigned char memory[N_THREADS * 8192];
    struct worker workers[N_THREADS];
    pthread_t threads[N_THREADS];
    struct mrp_provider *provider;
    struct mrp_pool *pool;

    (void)state;
    params.context = fixture.ucp;
    provider = wrap(&fixture, &params);
    pool = create_pool(&fixture, provider);
    for (size_t i = 0; i < N_THREADS; i++) {
        /* neighbours share half of what they register */
        workers[i] = (struct worker){pool, memory + i * 4096, 0};
        assert_int_equal(
            pthread_create(&threads[i], NULL, register_and_alloc, &workers[i]), 0);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].n_wrong, 0);
    }
    assert_int_equal(mrp_pool_check(pool), MRP_OK);
    assert_int_equal(mrp_pool_destroy(pool), MRP_OK);
    tear_down(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrap__refuses_params_that_do_not_fit),
        cmocka_unit_test(wrap__shows_the_context_and_its_thread_mode),
        cmocka_unit_test(wrap__twice_round_one_context),
        cmocka_unit_test(lock__is_taken_round_every_call),
        cmocka_unit_test(lock__of_its_own_round_a_context_for_one_thread),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
