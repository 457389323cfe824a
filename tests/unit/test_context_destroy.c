/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The end of a context with things still live: deregister, then unmap, then close, then
 * destroy the backends; and tell who leaked.
 */
#include "mrpool/mrpool.h"
#include "recording_backend.h"
#include "refusal.h"

#include <stdlib.h>

#define LEAKS_MAX 16

struct leaks {
    const struct test_provider *network;
    size_t count, size;
    enum mrp_object_kind kinds[LEAKS_MAX];
    size_t sizes[LEAKS_MAX];
    char owners[LEAKS_MAX][64], origins[LEAKS_MAX][192];
    size_t n_unreadable; /* leaks whose memory had gone already */
};

/* The memory is still there, and no lock is held: another context can be made. */
static void note(const struct mrp_leak *leak, void *user)
{
    struct leaks *leaks = user;
    struct mrp_context *context;

    assert_true(leaks->count < LEAKS_MAX);
    leaks->kinds[leaks->count] = leak->kind;
    leaks->sizes[leaks->count] = leak->size;
    snprintf(leaks->owners[leaks->count], 64, "%s", leak->owner);
    snprintf(leaks->origins[leaks->count], 192, "%s", leak->origin);
    leaks->n_unreadable += *(const volatile unsigned char *)leak->address != 0x42;
    leaks->count++;
    leaks->size += leak->size;
    assert_int_equal(mrp_context_create(NULL, &context), MRP_OK);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
}

/* -- everything at once -- */

struct scene {
    struct test_provider network;
    struct recording_backend recorder;
    struct leaks leaks;
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_backend *backend;
    struct mrp_pool *pool;
    unsigned char adopted[4096];
};

static int set_scene(void **state)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params pool_params = MRP_POOL_PARAMS_INIT;
    struct scene *scene = calloc(1, sizeof *scene);

    *state = scene;
    test_provider_init(&scene->network);
    scene->recorder.network = &scene->network;
    scene->leaks.network = &scene->network;
    params.name = "scene";
    params.on_leak = note;
    params.on_leak_user = &scene->leaks;
    assert_accepted(mrp_context_create(&params, &scene->context));
    assert_accepted(mrp_backend_create_custom(
        scene->context, "recorder", recording_ops(), &scene->recorder, &scene->backend));
    assert_accepted(mrp_provider_create(scene->context, "network", test_provider_ops(),
        &scene->network, &scene->provider));
    pool_params.name = "pool";
    pool_params.backend = scene->backend;
    pool_params.rails = &scene->provider;
    pool_params.n_rails = 1;
    pool_params.max_bytes = 64 << 20;
    assert_accepted(mrp_pool_create(scene->context, &pool_params, &scene->pool));
    return 0;
}

static int strike_scene(void **state)
{
    struct scene *scene = *state;

    test_provider_fini(&scene->network);
    free(scene);
    return 0;
}

static struct mrp_region *leak_region(struct scene *scene, size_t size)
{
    struct mrp_region *region = mrp_region_alloc(scene->pool, size);

    assert_non_null(region);
    memset(mrp_region_address(region), 0x42, size);
    return region;
}

static void leak_block(struct scene *scene, size_t size, const char *tag, uint32_t flags,
    struct mrp_backend *backend)
{
    struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;
    void *block;

    info.size = size;
    info.tag = tag;
    info.flags = flags;
    info.backend = backend;
    block = mrp_memory_alloc(scene->context, &info);
    assert_non_null(block);
    memset(block, 0x42, size);
}

static void check_order(const struct scene *scene)
{
    assert_string_equal(scene->network.first_error, "");
    assert_int_equal(scene->network.n_live, 0);
    assert_int_equal(scene->network.n_closed, 1);
    assert_int_equal(scene->network.n_register, scene->network.n_deregister);
    assert_int_equal(scene->recorder.n_unmapped, scene->recorder.n_mapped);
    assert_int_equal(scene->recorder.n_live_at_unmap, 0);
    assert_int_equal(scene->recorder.n_closed_at_unmap, 0);
    assert_int_equal(scene->recorder.n_destroyed, 1);
    assert_int_equal(scene->recorder.n_closed_at_destroy, 1);
}

static void destroy__with_nothing_live_is_ok(void **state)
{
    struct scene *scene = *state;

    assert_accepted(mrp_region_free(leak_region(scene, 100)));
    assert_accepted(mrp_region_free(leak_region(scene, 8 << 20))); /* kept idle */
    assert_true(scene->network.n_live > 0);
    assert_accepted(mrp_context_destroy(scene->context));
    check_order(scene);
    assert_int_equal(scene->leaks.count, 0);
}

static void destroy__frees_and_reports_everything(void **state)
{
    struct scene *scene = *state;
    struct mrp_region *user;
    size_t count[MRP_OBJECT_REGISTRATION + 1] = {0};

    leak_region(scene, 100);
    leak_region(scene, 5000);
    leak_region(scene, 8 << 20); /* a chunk of its own */
    memset(scene->adopted, 0x42, sizeof scene->adopted);
    assert_accepted(mrp_region_register(
        scene->pool, scene->adopted, sizeof scene->adopted, NULL, &user));
    leak_block(scene, 12, "for the first", 0, NULL);
    leak_block(scene, 300, "for the second", 0, scene->backend);
    leak_block(scene, 1000, "pinned", MRP_MEMORY_PINNED, scene->backend);
    assert_refused(
        mrp_context_destroy(scene->context), MRP_ERR_LEAKED, "7 blocks or regions");
    assert_true(text_has_number(
        mrp_error_last()->text, 100 + 5000 + (8 << 20) + 4096 + 12 + 300 + 1000));
    assert_non_null(strstr(mrp_error_last()->text, "scene"));
    assert_non_null(strstr(mrp_error_last()->text, "the first: region of 100 bytes"));
    check_order(scene);
    assert_int_equal(scene->leaks.count, 7);
    assert_int_equal(scene->leaks.n_unreadable, 0);
    for (size_t i = 0; i < scene->leaks.count; i++) {
        count[scene->leaks.kinds[i]]++;
    }
    assert_int_equal(count[MRP_OBJECT_REGION], 4);
    assert_int_equal(count[MRP_OBJECT_BLOCK], 3);
    assert_int_equal(scene->adopted[4095], 0x42); /* the caller's memory stays his */
    assert_refused(mrp_context_check(scene->context), MRP_ERR_STALE, "destroyed");
    assert_refused(mrp_region_free(user), MRP_ERR_STALE, "");
}

static void destroy__tells_whose_and_what_for(void **state)
{
    struct scene *scene = *state;
    const struct leaks *leaks = &scene->leaks;

    leak_region(scene, 100);
    leak_block(scene, 12, "for the first", 0, scene->backend);
    assert_refused(mrp_context_destroy(scene->context), MRP_ERR_LEAKED, "2 blocks");
    assert_int_equal(leaks->count, 2);
    for (size_t i = 0; i < 2; i++) {
        bool is_block = leaks->kinds[i] == MRP_OBJECT_BLOCK;

        assert_int_equal(leaks->sizes[i], is_block ? 12 : 100);
        assert_string_equal(leaks->owners[i], is_block ? "recorder" : "pool");
        assert_string_equal(
            leaks->origins[i], is_block ? "for the first" : "mrp_region_alloc");
    }
}

/* Exported, so that the loader knows its name. */
MRP_API void leak_one_block(struct mrp_context *context);

__attribute__((noinline)) void leak_one_block(struct mrp_context *context)
{
    struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;
    void *block;

    info.size = 77;
    block = mrp_memory_alloc(context, &info);
    assert_non_null(block);
    memset(block, 0x42, info.size);
}

static void destroy__names_the_call_site_of_a_block_without_a_tag(void **state)
{
    struct scene *scene = *state;

    leak_one_block(scene->context);
    assert_refused(mrp_context_destroy(scene->context), MRP_ERR_LEAKED, "leak_one_block");
    assert_non_null(strstr(scene->leaks.origins[0], "leak_one_block+0x"));
    assert_non_null(strstr(scene->leaks.origins[0], "(test_context_destroy)"));
    assert_non_null(strstr(mrp_error_last()->text, "1 blocks or regions (77 bytes)"));
    assert_string_equal(scene->leaks.owners[0], "blocks");
}

/* -- what refuses to go -- */

/* Memory that the network may still reach is unmapped only once its provider is closed. */
static void destroy__unmaps_after_close_what_was_not_deregistered(void **state)
{
    struct scene *scene = *state;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;

    assert_accepted(mrp_region_free(leak_region(scene, 100)));
    scene->network.deregister_fail_at = 1;
    assert_refused(mrp_pool_destroy(scene->pool), MRP_ERR_LEAKED, "registration of");
    assert_int_equal(scene->leaks.count, 1);
    assert_int_equal(scene->leaks.kinds[0], MRP_OBJECT_REGISTRATION);
    assert_accepted(mrp_context_stats(scene->context, &stats));
    assert_int_equal(stats.n_parked, 1);
    assert_int_equal(stats.n_chunks, 0);
    assert_int_equal(stats.n_registrations, 0);
    assert_accepted(mrp_backend_query(scene->backend, &info));
    assert_int_equal(info.n_mappings, 1);
    assert_int_equal(stats.parked_size, info.mapped_size);
    assert_refused(mrp_backend_destroy(scene->backend), MRP_ERR_BUSY, "mapped");
    assert_int_equal(scene->recorder.n_unmapped, 0);
    assert_accepted(mrp_context_destroy(scene->context));
    assert_string_equal(scene->network.first_error, "");
    assert_int_equal(scene->recorder.n_unmapped, 1);
    assert_int_equal(scene->recorder.n_closed_at_unmap, 1);
    assert_int_equal(scene->recorder.n_destroyed, 1);
}

/* The same when the context itself goes. */
static void destroy__tells_of_registrations_the_network_kept(void **state)
{
    struct scene *scene = *state;

    assert_accepted(mrp_region_free(leak_region(scene, 100)));
    scene->network.deregister_fail_at = 1;
    assert_refused(mrp_context_destroy(scene->context), MRP_ERR_LEAKED, "as told");
    assert_int_equal(scene->leaks.count, 1);
    assert_int_equal(scene->leaks.kinds[0], MRP_OBJECT_REGISTRATION);
    assert_string_equal(scene->leaks.owners[0], "pool");
    assert_int_equal(scene->recorder.n_unmapped, 1);
    assert_int_equal(scene->recorder.n_closed_at_unmap, 1);
}

static void close__unmaps_what_it_parked(void **state)
{
    struct scene *scene = *state;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;

    assert_accepted(mrp_region_free(leak_region(scene, 100)));
    scene->network.deregister_fail_at = 1;
    assert_refused(mrp_pool_destroy(scene->pool), MRP_ERR_LEAKED, "registration of");
    assert_int_equal(scene->leaks.count, 1);
    assert_int_equal(scene->leaks.kinds[0], MRP_OBJECT_REGISTRATION);
    assert_accepted(mrp_provider_close(scene->provider));
    assert_accepted(mrp_context_stats(scene->context, &stats));
    assert_int_equal(stats.n_parked, 0);
    assert_int_equal(stats.parked_size, 0);
    assert_int_equal(scene->recorder.n_unmapped, 1);
    assert_accepted(mrp_backend_destroy(scene->backend));
    assert_accepted(mrp_context_destroy(scene->context));
}

/* -- backends of strangers -- */

static void alloc__a_bare_status_of_a_backend_gets_a_sentence(void **state)
{
    struct scene *scene = *state;
    struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;
    void *block;

    info.backend = scene->backend;
    info.size = 10;
    block = mrp_memory_alloc(scene->context, &info);
    scene->recorder.map_status = scene->recorder.unmap_status = MRP_ERR_SYSTEM;
    assert_refused(status_of(mrp_memory_alloc(scene->context, &info)), MRP_ERR_SYSTEM,
        "recorder: as told");
    assert_int_equal(mrp_error_last()->native, 7);
    scene->recorder.is_silent = true;
    assert_refused(status_of(mrp_memory_alloc(scene->context, &info)), MRP_ERR_SYSTEM,
        "backend recorder: map: the operating system refused");
    assert_refused(mrp_memory_free(scene->context, block), MRP_ERR_SYSTEM,
        "backend recorder: unmap");
    assert_accepted(mrp_context_destroy(scene->context));
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_scene, strike_scene)
    static const struct CMUnitTest tests[] = {
        TEST(destroy__with_nothing_live_is_ok),
        TEST(destroy__frees_and_reports_everything),
        TEST(destroy__tells_whose_and_what_for),
        TEST(destroy__names_the_call_site_of_a_block_without_a_tag),
        TEST(destroy__unmaps_after_close_what_was_not_deregistered),
        TEST(destroy__tells_of_registrations_the_network_kept),
        TEST(close__unmaps_what_it_parked),
        TEST(alloc__a_bare_status_of_a_backend_gets_a_sentence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
