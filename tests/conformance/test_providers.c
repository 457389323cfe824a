/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Every provider through the public calls: what a user of the library sees of it.
 */
#include "support/test_providers.h"
#include "context/context.h"
#include "support/provider_cases.h"

#include "mrpool/mrpool.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#define N_THREADS 4
#define MEMORY_SIZE ((size_t)4 << 20)

/* A context with the provider as the rail of a pool. */
struct opened {
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_provider_info info;
    struct mrp_backend
        *backend; /* of the provider's own memory, where it takes no other */
    struct mrp_pool *pool;
    unsigned char *memory; /* MEMORY_SIZE bytes of the caller's own */
};

static enum mrp_status open_provider(const struct provider_case *wanted, const char *name,
    struct mrp_context *context, struct mrp_provider **provider)
{
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;

    params.name = name;
    params.options = wanted->options;
    return mrp_provider_open(context, wanted->module, &params, provider);
}

static enum mrp_status probe(const struct provider_case *wanted)
{
    struct mrp_context *context;
    struct mrp_provider *provider;
    enum mrp_status status = mrp_context_create(NULL, &context);

    if (status == MRP_OK) {
        status = open_provider(wanted, NULL, context, &provider);
        mrp_context_destroy(context);
    }
    return status;
}

static struct mrp_provider_info query(struct mrp_provider *provider)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;

    assert_int_equal(mrp_provider_query(provider, &info), MRP_OK);
    return info;
}

static enum mrp_status create_pool(
    struct opened *opened, uint32_t access, struct mrp_pool **pool)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    params.backend = opened->backend;
    params.rails = &opened->provider;
    params.n_rails = 1;
    params.access = access;
    params.max_bytes = (size_t)4 << 20;
    params.chunk_min = (size_t)256 << 10;
    return mrp_pool_create(opened->context, &params, pool);
}

static void take_memory(struct opened *opened)
{
    struct mrp_memory_info own = MRP_MEMORY_INFO_INIT;

    own.size = MEMORY_SIZE;
    own.alignment = 4096;
    own.backend = opened->backend;
    opened->memory = opened->backend != NULL
        ? mrp_memory_alloc(opened->context, &own)
        : mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
              0);
    assert_ptr_not_equal(opened->memory, MAP_FAILED);
    assert_non_null(opened->memory);
}

/* What the provider made goes with the context. */
static void unmap_memory(const struct opened *opened)
{
    if (opened->backend == NULL) {
        assert_int_equal(munmap(opened->memory, MEMORY_SIZE), 0);
    }
}

static struct opened open_case(const struct provider_case *wanted)
{
    struct opened opened = {.pool = NULL};

    assert_int_equal(mrp_context_create(NULL, &opened.context), MRP_OK);
    assert_int_equal(
        open_provider(wanted, "network", opened.context, &opened.provider), MRP_OK);
    opened.info = query(opened.provider);
    if (provider_case_owns_memory(wanted)) {
        assert_int_equal(
            mrp_provider_backend(opened.provider, NULL, &opened.backend), MRP_OK);
    }
    assert_int_equal(create_pool(&opened, opened.info.access, &opened.pool), MRP_OK);
    take_memory(&opened);
    return opened;
}

/* Nothing may be left over: neither regions, nor registrations, nor misuse. */
static void close_case(struct opened *opened)
{
    struct test_trace trace = {.n_errors = 0};

    assert_int_equal(mrp_pool_check(opened->pool), MRP_OK);
    assert_int_equal(mrp_pool_destroy(opened->pool), MRP_OK);
    assert_int_equal(mrp_context_trim(opened->context, 0), MRP_OK);
    assert_int_equal(query(opened->provider).n_registrations, 0);
    assert_int_equal(query(opened->provider).registered_size, 0);
    if (test_trace_read(opened->provider, &trace)) {
        assert_int_equal(trace.n_live, 0);
        assert_int_equal(trace.n_register, trace.n_deregister);
    }
    assert_int_equal(trace.n_errors, 0);
    if (opened->backend != NULL) {
        assert_int_equal(mrp_memory_free(opened->context, opened->memory), MRP_OK);
        assert_int_equal(mrp_backend_destroy(opened->backend), MRP_OK);
    }
    assert_int_equal(mrp_provider_close(opened->provider), MRP_OK);
    assert_int_equal(mrp_context_destroy(opened->context), MRP_OK);
    unmap_memory(opened);
}

static bool has_trait(const struct opened *opened, enum mrp_provider_trait trait)
{
    return (opened->info.traits & trait) != 0;
}

static bool has_numbers_as_keys(const struct opened *opened)
{
    return opened->info.key_size > 0 && !has_trait(opened, MRP_PROVIDER_RAW_KEY);
}

/* How many registrations to hold at once, of those a case would like. */
static size_t at_most(const struct opened *opened, size_t n_wanted)
{
    size_t limit = opened->info.max_registrations;

    return limit > 0 && limit < n_wanted ? limit : n_wanted;
}

/* -- open, find, close -- */

static void open__is_found_by_name_until_closed(void **state)
{
    struct opened opened = open_case(*state);
    const struct provider_case *wanted = *state;
    struct mrp_provider *second, *found = NULL;

    assert_string_equal(opened.info.name, "network");
    assert_string_equal(opened.info.module, wanted->module);
    assert_non_null(opened.info.device);
    assert_int_equal(opened.info.n_registrations, 0);
    assert_int_equal(
        open_provider(wanted, "network", opened.context, &second), MRP_ERR_EXISTS);
    assert_int_equal(open_provider(wanted, "other", opened.context, &second), MRP_OK);
    assert_int_equal(mrp_provider_find(opened.context, "other", &found), MRP_OK);
    assert_ptr_equal(found, second);
    assert_int_equal(mrp_provider_close(second), MRP_OK);
    assert_int_equal(
        mrp_provider_find(opened.context, "other", &found), MRP_ERR_NOT_FOUND);
    assert_int_equal(mrp_provider_close(second), MRP_ERR_STALE);
    close_case(&opened);
}

static void open__refuses_options_it_does_not_know(void **state)
{
    const struct provider_case *wanted = *state;
    const struct provider_case wrong = {
        wanted->label, wanted->module, "no_such_option=1"};
    struct mrp_context *context;
    struct mrp_provider *provider;

    assert_int_equal(mrp_context_create(NULL, &context), MRP_OK);
    assert_int_equal(open_provider(&wrong, NULL, context, &provider), MRP_ERR_INVALID);
    assert_non_null(strstr(mrp_error_last()->text, "no_such_option"));
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
}

static void close__is_busy_while_a_pool_has_it(void **state)
{
    struct opened opened = open_case(*state);

    assert_int_equal(mrp_provider_close(opened.provider), MRP_ERR_BUSY);
    close_case(&opened);
}

/* -- a pool over it -- */

static void pool_create__refuses_access_it_cannot_grant(void **state)
{
    struct opened opened = open_case(*state);
    struct mrp_pool *pool;

    if ((opened.info.access & MRP_ACCESS_REMOTE) == 0) {
        assert_int_equal(
            create_pool(&opened, MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE, &pool),
            MRP_ERR_UNSUPPORTED);
    }
    close_case(&opened);
}

static void assert_not_registered(const struct opened *opened,
    const struct mrp_register_request *request, enum mrp_status expected)
{
    struct mrp_registration registration = {.struct_size = sizeof(registration)};
    struct mrp_provider_state *provider;

    assert_int_equal(mrp_provider_get(opened->provider, &provider), MRP_OK);
    assert_int_equal(mrp_provider_register(provider, request, &registration), expected);
    assert_null(registration.native);
    assert_int_equal(query(opened->provider).n_registrations, 0);
}

/* What the contract calls checked: the slot is not called. */
static void register__refuses_what_query_did_not_promise(void **state)
{
    struct opened opened = open_case(*state);
    const struct mrp_register_request right = {
        .struct_size = sizeof(right),
        .address = opened.memory,
        .size = 4096,
        .access = opened.info.access,
    };
    struct mrp_register_request wrong = right;
    struct test_trace trace = {.n_register = 0};

    wrong.address = NULL;
    assert_not_registered(&opened, &wrong, MRP_ERR_INVALID);
    wrong = right;
    wrong.size = 0;
    assert_not_registered(&opened, &wrong, MRP_ERR_INVALID);
    wrong.size = opened.info.max_size + 1;
    if (opened.info.max_size > 0) {
        assert_not_registered(&opened, &wrong, MRP_ERR_LIMIT);
    }
    wrong = right;
    wrong.access = 0;
    assert_not_registered(&opened, &wrong, MRP_ERR_INVALID);
    for (uint32_t right_asked = 1; right_asked != 0; right_asked <<= 1) {
        wrong.access = MRP_ACCESS_LOCAL | right_asked;
        if ((wrong.access & ~opened.info.access) != 0) {
            assert_not_registered(&opened, &wrong, MRP_ERR_UNSUPPORTED);
        }
    }
    wrong = right;
    for (int kind = 0; kind < 32; kind++) {
        wrong.kind = (enum mrp_memory_kind)kind;
        if ((opened.info.memory_kinds >> kind & 1) == 0) {
            assert_not_registered(&opened, &wrong, MRP_ERR_UNSUPPORTED);
        }
    }
    (void)test_trace_read(opened.provider, &trace);
    assert_int_equal(trace.n_register, 0);
    close_case(&opened);
}

/* Remote addresses that are not virtual count from the registration, or from the window
 * that it is part of. */
static uint64_t remote_first(const struct opened *opened, const void *address)
{
    struct mrp_registration_info info = MRP_REGISTRATION_INFO_INIT;

    assert_int_equal(
        mrp_registration_query(opened->context, opened->provider, address, &info),
        MRP_OK);
    assert_true(opened->backend != NULL || info.native.remote_base == 0 ||
        has_trait(opened, MRP_PROVIDER_VIRTUAL_ADDRESS));
    return info.native.remote_base;
}

static void assert_keys(const struct opened *opened, struct mrp_region *region)
{
    struct mrp_wire wire = MRP_WIRE_INIT;
    unsigned char *address = mrp_region_address(region);
    uint64_t key, remote = 0, first = remote_first(opened, address);
    size_t offset = SIZE_MAX;
    void *desc = NULL, *native = NULL;

    assert_int_equal(mrp_region_registration(region, 0, &native, &offset), MRP_OK);
    assert_non_null(native);
    assert_int_equal(mrp_region_local_desc(region, 0, &desc), MRP_OK);
    assert_true(desc != NULL || !has_trait(opened, MRP_PROVIDER_LOCAL_DESC));
    assert_int_equal(mrp_region_remote_key(region, 0, &key),
        has_numbers_as_keys(opened) ? MRP_OK : MRP_ERR_UNSUPPORTED);
    if (opened->info.key_size > 0) {
        assert_int_equal(mrp_region_remote_addr(region, 0, &remote), MRP_OK);
        assert_int_equal(remote,
            has_trait(opened, MRP_PROVIDER_VIRTUAL_ADDRESS) ? (uintptr_t)address
                                                            : first + offset);
    }
    assert_int_equal(
        mrp_resolve(opened->pool, address, mrp_region_size(region), 0, &wire), MRP_OK);
    assert_ptr_equal(wire.native, native);
    assert_ptr_equal(wire.local_desc, desc);
    assert_int_equal(wire.offset, offset);
    assert_int_equal(wire.has_remote_key, has_numbers_as_keys(opened));
    assert_true(!wire.has_remote_key || wire.remote_key == key);
}

static void region_alloc__comes_registered(void **state)
{
    static const size_t sizes[] = {0, 1, 64, 1000, 4096, 65537, 300000};
    enum {
        N_SIZES = sizeof(sizes) / sizeof(sizes[0])
    };
    struct opened opened = open_case(*state);
    struct mrp_pool_stats stats = {.struct_size = sizeof(stats)};
    struct mrp_region *regions[N_SIZES];

    for (size_t i = 0; i < N_SIZES; i++) {
        regions[i] = mrp_region_alloc(opened.pool, sizes[i]);
        assert_non_null(regions[i]);
        memset(mrp_region_address(regions[i]), 0x5a, mrp_region_capacity(regions[i]));
        assert_keys(&opened, regions[i]);
    }
    assert_int_equal(mrp_pool_stats(opened.pool, &stats), MRP_OK);
    /* one per chunk, not one per region */
    assert_int_equal(query(opened.provider).n_registrations, stats.n_registrations);
    assert_true(stats.n_registrations < N_SIZES);
    for (size_t i = 0; i < N_SIZES; i++) {
        assert_int_equal(mrp_region_free(regions[i]), MRP_OK);
    }
    close_case(&opened);
}

/* -- the caller's own memory -- */

static void region_register__any_size_and_alignment(void **state)
{
    static const size_t sizes[] = {1, 64, 4095, 4096, 4097, (2U << 20) + 1};
    struct opened opened = open_case(*state);

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        unsigned char *address = opened.memory + i * 1001;
        struct mrp_region *region;

        memset(address, 0x5a, sizes[i]);
        assert_int_equal(
            mrp_region_register(opened.pool, address, sizes[i], NULL, &region), MRP_OK);
        assert_ptr_equal(mrp_region_address(region), address);
        assert_keys(&opened, region);
        assert_int_equal(query(opened.provider).n_registrations, 1);
        assert_int_equal(mrp_region_free(region), MRP_OK);
        assert_int_equal(query(opened.provider).n_registrations, 0);
        assert_int_equal(address[0], 0x5a);
        assert_int_equal(address[sizes[i] - 1], 0x5a);
    }
    close_case(&opened);
}

static void region_register__overlaps_go_in_any_order(void **state)
{
    struct opened opened = open_case(*state);
    struct mrp_region *regions[8];
    uint64_t keys[8];
    size_t n = at_most(&opened, 8);
    bool are_unique = has_numbers_as_keys(&opened) && !provider_case_shares_keys(*state);

    for (size_t i = 0; i < n; i++) {
        assert_int_equal(mrp_region_register(opened.pool, opened.memory + i / 2 * 3000,
                             10000, NULL, &regions[i]),
            MRP_OK);
        if (has_numbers_as_keys(&opened)) {
            assert_int_equal(mrp_region_remote_key(regions[i], 0, &keys[i]), MRP_OK);
        }
        for (size_t j = 0; j < i && are_unique; j++) {
            assert_int_not_equal(keys[i], keys[j]);
        }
    }
    for (size_t i = 0; i < n; i++) {
        /* 3 has no factor in common with 4 or 8: every one once */
        assert_int_equal(mrp_region_free(regions[i * 3 % n]), MRP_OK);
    }
    close_case(&opened);
}

static void region_register__limit_is_as_queried(void **state)
{
    struct opened opened = open_case(*state);
    struct mrp_region *regions[16], *one_more;
    size_t n = opened.info.max_registrations;

    for (size_t i = 0; n <= 16 && i < n; i++) {
        assert_int_equal(
            mrp_region_register(opened.pool, opened.memory, 1, NULL, &regions[i]),
            MRP_OK);
    }
    if (n > 0 && n <= 16) {
        assert_int_equal(
            mrp_region_register(opened.pool, opened.memory, 1, NULL, &one_more),
            MRP_ERR_LIMIT);
    }
    for (size_t i = 0; n <= 16 && i < n; i++) {
        assert_int_equal(mrp_region_free(regions[i]), MRP_OK);
    }
    close_case(&opened);
}

struct worker {
    const struct opened *opened;
    size_t offset, n_wrong;
};

/* Failures are counted: cmocka's assertions belong to the first thread. */
static void *register_and_alloc(void *user)
{
    struct worker *worker = user;
    struct mrp_pool *pool = worker->opened->pool;

    for (size_t i = 0; i < 50; i++) {
        struct mrp_region *own = NULL, *pooled = mrp_region_alloc(pool, i * 100);
        void *address = worker->opened->memory + worker->offset;

        /* neighbours share half of what they register; the limit of some is below 4 */
        if (mrp_region_register(pool, address, 8192 + i, NULL, &own) != MRP_OK) {
            worker->n_wrong += mrp_error_last()->status != MRP_ERR_LIMIT;
        }
        worker->n_wrong += own != NULL && mrp_region_free(own) != MRP_OK;
        worker->n_wrong += pooled == NULL && mrp_error_last()->status != MRP_ERR_LIMIT;
        worker->n_wrong += pooled != NULL && mrp_region_free(pooled) != MRP_OK;
    }
    return NULL;
}

static void region_register__several_threads_at_once(void **state)
{
    struct opened opened = open_case(*state);
    struct worker workers[N_THREADS];
    pthread_t threads[N_THREADS];

    for (size_t i = 0; i < N_THREADS; i++) {
        workers[i] = (struct worker){&opened, i * 4096, 0};
        assert_int_equal(
            pthread_create(&threads[i], NULL, register_and_alloc, &workers[i]), 0);
    }
    for (size_t i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].n_wrong, 0);
    }
    close_case(&opened);
}

/* -- keys for a peer: here the peer is the same provider -- */

static void import_and_resolve(
    const struct opened *opened, struct mrp_region *region, bool is_tied)
{
    struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;
    struct mrp_remote *remote;
    struct mrp_token token;
    unsigned char packed[1024];
    size_t size = sizeof(packed);
    uint64_t address, key;

    assert_int_equal(mrp_region_key_pack(region, 1, packed, &size), MRP_OK);
    if (is_tied) {
        assert_int_equal(
            mrp_remote_open(opened->provider, NULL, 0, packed, size, &remote),
            MRP_ERR_INVALID);
        assert_non_null(strstr(mrp_error_last()->text, "endpoint"));
        return;
    }
    assert_int_equal(
        mrp_remote_open(opened->provider, NULL, 0, packed, size, &remote), MRP_OK);
    assert_int_equal(mrp_region_token(region, &token), MRP_OK);
    assert_int_equal(mrp_remote_resolve(remote, &token, &found), MRP_OK);
    assert_int_equal(mrp_region_remote_addr(region, 0, &address), MRP_OK);
    assert_int_equal(found.address, address);
    assert_int_equal(found.size, mrp_region_size(region));
    if (has_numbers_as_keys(opened)) {
        assert_int_equal(mrp_region_remote_key(region, 0, &key), MRP_OK);
        assert_int_equal(found.key, key);
    }
    assert_int_equal(mrp_remote_close(remote), MRP_OK);
    /* a byte short is no key */
    assert_int_equal(
        mrp_remote_open(opened->provider, NULL, 0, packed, size - 1, &remote),
        MRP_ERR_INVALID);
}

static void remote_open__takes_what_key_pack_gave(void **state)
{
    struct opened opened = open_case(*state);
    struct mrp_region *region = mrp_region_alloc(opened.pool, 1000);

    assert_non_null(region);
    if (opened.info.key_size > 0) {
        import_and_resolve(&opened, region, provider_case_ties_keys(*state));
    }
    assert_int_equal(mrp_region_free(region), MRP_OK);
    close_case(&opened);
}

/* -- the end -- */

/* All goes with the context, registrations before the memory they name. */
static void context_destroy__takes_everything_along(void **state)
{
    struct opened opened = open_case(*state);
    struct mrp_region *region;

    assert_non_null(mrp_region_alloc(opened.pool, 1000));
    assert_int_equal(
        mrp_region_register(opened.pool, opened.memory, 4096, NULL, &region), MRP_OK);
    assert_int_equal(mrp_context_destroy(opened.context), MRP_ERR_LEAKED);
    assert_int_equal(mrp_provider_close(opened.provider), MRP_ERR_STALE);
    unmap_memory(&opened);
}

int main(void)
{
    static const struct provider_test tests[] = {
        PROVIDER_TEST(open__is_found_by_name_until_closed),
        PROVIDER_TEST(open__refuses_options_it_does_not_know),
        PROVIDER_TEST(close__is_busy_while_a_pool_has_it),
        PROVIDER_TEST(pool_create__refuses_access_it_cannot_grant),
        PROVIDER_TEST(register__refuses_what_query_did_not_promise),
        PROVIDER_TEST(region_alloc__comes_registered),
        PROVIDER_TEST(region_register__any_size_and_alignment),
        PROVIDER_TEST(region_register__overlaps_go_in_any_order),
        PROVIDER_TEST(region_register__limit_is_as_queried),
        PROVIDER_TEST(region_register__several_threads_at_once),
        PROVIDER_TEST(remote_open__takes_what_key_pack_gave),
        PROVIDER_TEST(context_destroy__takes_everything_along),
    };

    return provider_cases_run(tests, sizeof(tests) / sizeof(tests[0]), probe);
}
