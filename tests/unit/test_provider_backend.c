/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Memory of a provider's own making: mrp_provider_backend.
 */
#include "support/pool_fixture.h"

#include "mrpool/provider.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define N_BACKENDS 100 /* that come and go: no multiple of 7 */
#define N_CLOSES 2000

/* Registers only what it has allocated itself. */
struct allocator {
    size_t n_mapped, n_registered, n_foreign;
    size_t n_unmapped_registered; /* mappings that went before their registration */
    bool refuses; /* to deregister */
    void *mapped[64];
    bool is_registered[64];
};

static size_t slot_of(const struct allocator *own, const void *address)
{
    for (size_t i = 0; i < 64; i++) {
        if (own->mapped[i] != NULL && own->mapped[i] == address) {
            return i;
        }
    }
    return 64;
}

static enum mrp_status own_map(
    void *state, const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    struct allocator *own = state;
    size_t slot = 0;

    while (own->mapped[slot] != NULL) {
        assert_true(++slot < 64);
    }
    if (posix_memalign(&mapping->address, request->alignment, request->size) != 0) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "no %zu bytes", request->size);
    }
    mapping->size = request->size;
    mapping->page_size = 4096;
    own->mapped[slot] = mapping->address;
    own->is_registered[slot] = false;
    own->n_mapped++;
    return MRP_OK;
}

static enum mrp_status own_unmap(void *state, const struct mrp_mapping *mapping)
{
    struct allocator *own = state;
    size_t slot = slot_of(own, mapping->address);

    assert_true(slot < 64);
    own->n_unmapped_registered += own->is_registered[slot];
    own->mapped[slot] = NULL;
    own->n_mapped--;
    free(mapping->address);
    return MRP_OK;
}

static enum mrp_status own_register(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    struct allocator *own = state;
    size_t slot = slot_of(own, request->address);

    if (slot == 64) {
        own->n_foreign++;
        return mrp_fail(MRP_ERR_REGISTER, 0, "not my memory");
    }
    own->is_registered[slot] = true;
    own->n_registered++;
    registration->native = &own->is_registered[slot];
    return MRP_OK;
}

static enum mrp_status own_deregister(
    void *state, const struct mrp_registration *registration)
{
    struct allocator *own = state;

    if (own->refuses) {
        return mrp_fail(MRP_ERR_REGISTER, 0, "refused");
    }
    *(bool *)registration->native = false;
    own->n_registered--;
    return MRP_OK;
}

/* As a network does: what was not given back goes with it. */
static void own_close(void *state)
{
    struct allocator *own = state;

    for (size_t i = 0; i < 64; i++) {
        free(own->mapped[i]);
        own->n_mapped -= own->mapped[i] != NULL;
        own->mapped[i] = NULL;
    }
}

static const struct mrp_backend_ops own_memory = {
    .struct_size = sizeof own_memory,
    .kind = "own",
    .purpose = "a provider's own memory",
    .map = own_map,
    .unmap = own_unmap,
};

static const struct mrp_provider_ops own_ops = {
    .struct_size = sizeof own_ops,
    .abi = MRP_PROVIDER_ABI,
    .register_memory = own_register,
    .deregister_memory = own_deregister,
    .close = own_close,
    .backend = &own_memory,
};

static struct mrp_provider *open_own(struct mrp_context *context, struct allocator *own)
{
    struct mrp_provider *provider = NULL;

    assert_int_equal(
        mrp_provider_create(context, "own", &own_ops, own, &provider), MRP_OK);
    return provider;
}

static struct mrp_pool *create_over(struct mrp_context *context,
    struct mrp_provider *provider, struct mrp_backend *backend)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_pool *pool = NULL;

    params.backend = backend;
    params.rails = &provider;
    params.n_rails = 1;
    assert_int_equal(mrp_pool_create(context, &params, &pool), MRP_OK);
    return pool;
}

static void provider_backend__serves_a_pool_of_that_rail(void **state)
{
    struct pool_fixture *f = *state;
    struct allocator own = {0};
    struct mrp_provider *provider = open_own(f->context, &own);
    struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;
    struct mrp_backend *backend = NULL;
    struct mrp_region *region;
    struct mrp_pool *pool;

    assert_int_equal(mrp_provider_backend(provider, "memory", &backend), MRP_OK);
    assert_int_equal(mrp_backend_query(backend, &info), MRP_OK);
    assert_string_equal(info.kind, "own");
    assert_string_equal(info.name, "memory");
    pool = create_over(f->context, provider, backend);
    region = mrp_region_alloc(pool, 100000);
    assert_non_null(region);
    memset(mrp_region_address(region), 7, 100000);
    assert_int_equal(own.n_registered, 1);
    assert_refused(mrp_backend_destroy(backend), MRP_ERR_BUSY, "1 pools or blocks");
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(mrp_pool_destroy(pool), MRP_OK);
    assert_int_equal(own.n_mapped, 0);
    assert_int_equal(own.n_registered, 0);
    assert_int_equal(own.n_foreign, 0);
    assert_int_equal(own.n_unmapped_registered, 0);

    assert_refused(
        mrp_provider_close(provider), MRP_ERR_BUSY, "1 pools, imports or backends");
    assert_int_equal(mrp_backend_destroy(backend), MRP_OK);
    assert_int_equal(mrp_provider_close(provider), MRP_OK);
}

static void provider_backend__needs_a_provider_that_allocates(void **state)
{
    struct pool_fixture *f = *state;
    struct allocator own = {0};
    struct mrp_provider *provider = open_own(f->context, &own), *host = NULL;
    struct mrp_backend *backend = NULL, *same = NULL;

    assert_int_equal(mrp_provider_open(f->context, "host", NULL, &host), MRP_OK);
    assert_refused(mrp_provider_backend(host, NULL, &backend), MRP_ERR_UNSUPPORTED,
        "allocates no memory");
    assert_null(backend);
    assert_refused(mrp_provider_backend(provider, NULL, NULL), MRP_ERR_INVALID, "NULL");
    assert_refused(mrp_provider_backend(NULL, NULL, &backend), MRP_ERR_STALE, "");
    assert_int_equal(mrp_provider_backend(provider, "memory", &backend), MRP_OK);
    assert_refused(
        mrp_provider_backend(provider, "memory", &same), MRP_ERR_EXISTS, "memory");
    assert_int_equal(mrp_backend_destroy(backend), MRP_OK);
    assert_int_equal(mrp_provider_close(provider), MRP_OK);
    assert_int_equal(mrp_provider_close(host), MRP_OK);
}

/* Nothing is parked with the one whose memory it is: that would never be given back. */
static void provider_backend__takes_back_what_it_would_not_deregister(void **state)
{
    struct pool_fixture *f = *state;
    struct allocator own = {0};
    struct mrp_provider *provider = open_own(f->context, &own);
    struct mrp_backend *backend = NULL;
    struct mrp_pool *pool;

    assert_int_equal(mrp_provider_backend(provider, NULL, &backend), MRP_OK);
    pool = create_over(f->context, provider, backend);
    assert_int_equal(mrp_region_free(mrp_region_alloc(pool, 64)), MRP_OK);
    own.refuses = true;
    mrp_pool_destroy(pool);
    assert_int_equal(own.n_mapped, 0);
    assert_int_equal(mrp_backend_destroy(backend), MRP_OK);
    assert_int_equal(mrp_provider_close(provider), MRP_OK);
}

static enum mrp_status own_create(const struct mrp_backend_params *params, void **made)
{
    (void)params;
    *made = NULL;
    return MRP_OK;
}

static void own_destroy(void *state)
{
    (void)state;
    fail_msg("the provider's state is not the backend's to free");
}

static void provider_backend__has_no_state_of_its_own(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_backend_ops memory = own_memory;
    struct mrp_provider_ops ops = own_ops;
    struct allocator own = {0};
    struct mrp_provider *provider = NULL;
    struct mrp_backend *backend = NULL;

    ops.backend = &memory;
    for (int which = 0; which < 2; which++) {
        memory.create = which == 0 ? own_create : NULL;
        memory.destroy = which == 1 ? own_destroy : NULL;
        memory.struct_size = sizeof memory;
        assert_int_equal(
            mrp_provider_create(f->context, "own", &ops, &own, &provider), MRP_OK);
        assert_refused(mrp_provider_backend(provider, "memory", &backend),
            MRP_ERR_INVALID, "create and destroy must be NULL");
        assert_null(backend);
        assert_int_equal(mrp_provider_close(provider), MRP_OK);
    }
}

/* Providers close while other threads' backends come and go in the same context. */
struct visitor {
    struct mrp_context *context;
    atomic_bool is_over;
    atomic_size_t n_turns;
    enum mrp_status status;
};

static void *come_and_go(void *argument)
{
    struct visitor *visitor = argument;
    struct mrp_backend *backends[N_BACKENDS];

    while (!atomic_load(&visitor->is_over) && visitor->status == MRP_OK) {
        for (size_t i = 0; i < N_BACKENDS && visitor->status == MRP_OK; i++) {
            visitor->status =
                mrp_backend_create(visitor->context, "malloc", NULL, &backends[i]);
        }
        for (size_t i = 0; i < N_BACKENDS && visitor->status == MRP_OK; i++) {
            visitor->status = mrp_backend_destroy(backends[i * 7 % N_BACKENDS]);
        }
        atomic_fetch_add(&visitor->n_turns, 1);
    }
    return NULL;
}

static void provider__closes_beside_backends_that_come_and_go(void **state)
{
    struct pool_fixture *f = *state;
    struct visitor visitor = {.context = f->context};
    struct allocator own = {0};
    struct mrp_backend *backend;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, come_and_go, &visitor), 0);
    for (size_t i = 0; i < N_CLOSES || atomic_load(&visitor.n_turns) < 2; i++) {
        struct mrp_provider *provider = open_own(f->context, &own);

        if (i % 16 == 0) {
            assert_int_equal(mrp_provider_backend(provider, NULL, &backend), MRP_OK);
            assert_int_equal(mrp_backend_destroy(backend), MRP_OK);
        }
        assert_int_equal(mrp_provider_close(provider), MRP_OK);
        sched_yield();
    }
    atomic_store(&visitor.is_over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(visitor.status, MRP_OK);
}

/* A context closes its providers first: what lay in their memory is not touched again. */
static void provider_backend__goes_with_its_context(void **state)
{
    struct allocator own = {0};
    struct mrp_context *context = NULL;
    struct mrp_backend *backend = NULL;
    struct mrp_provider *provider;

    (void)state;
    assert_int_equal(mrp_context_create(NULL, &context), MRP_OK);
    provider = open_own(context, &own);
    assert_int_equal(mrp_provider_backend(provider, NULL, &backend), MRP_OK);
    assert_non_null(mrp_region_alloc(create_over(context, provider, backend), 64));
    assert_int_equal(mrp_context_destroy(context), MRP_ERR_LEAKED);
    assert_int_equal(own.n_mapped, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(provider_backend__serves_a_pool_of_that_rail),
        POOL_TEST(provider_backend__needs_a_provider_that_allocates),
        POOL_TEST(provider_backend__takes_back_what_it_would_not_deregister),
        POOL_TEST(provider_backend__has_no_state_of_its_own),
        POOL_TEST(provider__closes_beside_backends_that_come_and_go),
        cmocka_unit_test(provider_backend__goes_with_its_context),
    };

    return cmocka_run_group_tests_name("provider_backend", tests, NULL, NULL);
}
