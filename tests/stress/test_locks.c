/* SPDX-License-Identifier: BSD-3-Clause
 *
 * No callback runs under a lock of the library: a provider, a backend, region_init and
 * every visitor try each of them, in a process of one thread.
 */
#include "stress.h"

#include "base/process.h"
#include "context/context.h"
#include "pool/pool.h"

static struct {
    struct mrp_context_state *context;
    struct mrp_pool *pool;
    struct mrp_provider_state *provider;
    size_t n_calls;
} under;

static void check_free(pthread_mutex_t *mutex, const char *name)
{
    if (pthread_mutex_trylock(mutex) != 0) {
        fail_msg("a callback runs under %s", name);
    }
    pthread_mutex_unlock(mutex);
}

static void check_locks(void)
{
    under.n_calls++;
    if (under.context != NULL) {
        check_free(&under.context->mutex, "the context's mutex");
        check_free(&under.context->chunks.mutex, "the chunk store's mutex");
        check_free(&under.context->retention.mutex, "the retention list's mutex");
        check_free(&under.context->map.mutex, "the address map's mutex");
    }
    if (under.provider != NULL) {
        check_free(&under.provider->mutex, "the provider's mutex");
    }
    if (under.pool != NULL) {
        check_free(&under.pool->mutex, "the pool's mutex");
    }
    mrp_process_lock(); /* would wait for itself */
    mrp_process_unlock();
}

static void on_provider(struct test_provider *provider, void *address, size_t size)
{
    (void)provider;
    (void)address;
    (void)size;
    check_locks();
}

static enum mrp_status on_map(
    void *state, const struct mrp_map_request *request, struct mrp_mapping *mapping)
{
    size_t size = mrp_align_up(request->size, 4096);
    void *address = aligned_alloc(mrp_max(request->alignment, 4096),
        mrp_align_up(size, mrp_max(request->alignment, 4096)));

    (void)state;
    check_locks();
    mapping->address = address;
    mapping->size = size;
    return address == NULL ? MRP_ERR_MEMORY : MRP_OK;
}

static enum mrp_status on_unmap(void *state, const struct mrp_mapping *mapping)
{
    (void)state;
    check_locks();
    free(mapping->address);
    return MRP_OK;
}

static const struct mrp_backend_ops backend_ops = {
    .struct_size = sizeof(struct mrp_backend_ops),
    .kind = "checking",
    .purpose = "tries locks",
    .map = on_map,
    .unmap = on_unmap,
};

static enum mrp_status on_init(
    struct mrp_region *region, void *user_data, void *init_user)
{
    (void)region;
    (void)user_data;
    (void)init_user;
    check_locks();
    return MRP_OK;
}

static void on_leak(const struct mrp_leak *leak, void *user)
{
    (void)leak;
    (void)user;
    check_locks();
}

static void on_registration(const struct mrp_registration_info *info, void *user)
{
    (void)info;
    (void)user;
    check_locks();
}

static void on_block(const struct mrp_memory_info *info, void *user)
{
    (void)info;
    (void)user;
    check_locks();
}

static void create_checked(struct stress_world *world)
{
    struct mrp_context_params context_params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    context_params.on_leak = on_leak;
    context_params.retained_count = 2;
    stress_create_context(world, &context_params);
    world->network.on_register = world->network.on_deregister = on_provider;
    assert_int_equal(mrp_context_get(world->context, &under.context), MRP_OK);
    assert_int_equal(mrp_provider_get(world->rail, &under.provider), MRP_OK);
    assert_int_equal(mrp_backend_create_custom(
                         world->context, "checking", &backend_ops, NULL, &world->backend),
        MRP_OK);
    params.max_bytes = 16 * MRP_MIB;
    params.user_size = 8;
    params.region_init = on_init;
    world->pool = under.pool = stress_add_pool(world, &params);
    assert_non_null(world->pool);
}

/* Growth, a refusal with its retry, eviction for count, for room and by a trim. */
static void exercise(struct stress_world *world)
{
    static char buffer[4096];
    struct mrp_region *regions[4], *registered;

    assert_non_null(mrp_region_alloc(world->pool, 100)); /* a leak */
    test_provider_fail_next(&world->network, 1, 1, MRP_ERR_REGISTER);
    for (size_t i = 0; i < 4; i++) {
        regions[i] = mrp_region_alloc(world->pool, 2 * MRP_MIB + i * MRP_MIB / 2);
        assert_non_null(regions[i]);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(mrp_region_free(regions[i]), MRP_OK);
    }
    assert_non_null(mrp_region_alloc(world->pool, 9 * MRP_MIB)); /* another */
    assert_int_equal(
        mrp_region_register(world->pool, buffer, sizeof buffer, NULL, &registered),
        MRP_OK);
    assert_int_equal(
        mrp_registration_visit(world->context, on_registration, NULL), MRP_OK);
    assert_int_equal(mrp_region_free(registered), MRP_OK);
    assert_non_null(mrp_memory_alloc(world->context, NULL)); /* and another */
    assert_int_equal(mrp_memory_visit(world->context, on_block, NULL), MRP_OK);
    assert_int_equal(mrp_context_trim(world->context, 0), MRP_OK);
}

static void callbacks__run_under_no_lock(void **state)
{
    struct stress_world world;

    (void)state;
    create_checked(&world);
    exercise(&world);
    assert_true(under.n_calls > 100);
    under.context = NULL; /* its parts go one by one, under nobody */
    under.provider = NULL;
    under.pool = NULL;
    assert_int_equal(mrp_context_destroy(world.context), MRP_ERR_LEAKED);
    assert_string_equal(world.network.first_error, "");
    assert_int_equal(atomic_load(&world.network.n_live), 0);
    test_provider_fini(&world.network);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(callbacks__run_under_no_lock),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
