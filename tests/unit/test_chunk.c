/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Chunks: mapped and registered with every rail or with none; what a rail will not give
 * back stays mapped until that rail closes.
 */
#include "context/chunk.h"

#include "context/context.h"
#include "recording_backend.h"
#include "refusal.h"

#include <stdlib.h>

#define RAILS 4
#define SIZE ((size_t)1 << 20)

struct fixture {
    struct test_provider networks[RAILS];
    struct recording_backend recorder;
    struct mrp_context *handle;
    struct mrp_provider *providers[RAILS];
    struct mrp_backend *backend;
    struct mrp_context_state *context;
    struct mrp_provider_state *rails[RAILS];
    struct mrp_chunk_request request;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    *state = f;
    assert_accepted(mrp_context_create(NULL, &f->handle));
    assert_accepted(mrp_context_get(f->handle, &f->context));
    assert_accepted(mrp_backend_create_custom(
        f->handle, "recorder", recording_ops(), &f->recorder, &f->backend));
    for (size_t i = 0; i < RAILS; i++) {
        test_provider_init(&f->networks[i]);
        assert_accepted(mrp_provider_create(
            f->handle, NULL, test_provider_ops(), &f->networks[i], &f->providers[i]));
        assert_accepted(mrp_provider_get(f->providers[i], &f->rails[i]));
    }
    assert_accepted(mrp_backend_get(f->backend, &f->request.backend));
    f->request.size = SIZE;
    f->request.alignment = 4096;
    f->request.rails = f->rails;
    f->request.n_rails = RAILS;
    f->request.access = MRP_ACCESS_ALL;
    return 0;
}

/* Nothing is registered, mapped or misused in the end. */
static int tear_down(void **state)
{
    struct fixture *f = *state;

    assert_accepted(mrp_context_destroy(f->handle));
    assert_int_equal(f->recorder.n_mapped, f->recorder.n_unmapped);
    for (size_t i = 0; i < RAILS; i++) {
        assert_string_equal(f->networks[i].first_error, "");
        test_provider_fini(&f->networks[i]);
    }
    free(f);
    return 0;
}

static size_t n_mappings(const struct fixture *f)
{
    struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;

    assert_accepted(mrp_backend_query(f->backend, &info));
    assert_true(info.n_mappings > 0 || info.mapped_size == 0);
    return info.n_mappings;
}

static struct mrp_context_stats stats_of(const struct fixture *f)
{
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;

    assert_accepted(mrp_context_stats(f->handle, &stats));
    return stats;
}

static void check_nothing_live(const struct fixture *f)
{
    struct mrp_context_stats stats = stats_of(f);

    assert_int_equal(stats.n_chunks, 0);
    assert_int_equal(stats.chunk_size, 0);
    assert_int_equal(stats.n_registrations, 0);
    assert_int_equal(stats.registered_size, 0);
}

static struct mrp_chunk *create(struct fixture *f)
{
    struct mrp_chunk *chunk = NULL;

    assert_accepted(mrp_chunk_create(f->context, &f->request, &chunk));
    return chunk;
}

/* -- create -- */

static void create__registers_the_mapping_with_every_rail(void **state)
{
    struct fixture *f = *state;
    struct mrp_chunk *chunk = create(f);

    assert_int_equal((uintptr_t)chunk->mapping.address % MRP_MAP_GRANULE, 0);
    assert_true(chunk->aligned);
    assert_int_equal(n_mappings(f), 1);
    for (size_t i = 0; i < RAILS; i++) {
        const struct test_event *event = &f->networks[i].events[0];

        assert_int_equal(f->networks[i].n_events, 1);
        assert_int_equal(event->kind, TEST_REGISTER);
        assert_ptr_equal(event->address, chunk->mapping.address);
        assert_int_equal(event->size, chunk->mapping.size);
        assert_ptr_equal(chunk->rails[i], f->rails[i]);
        assert_int_equal(
            chunk->registrations[i].remote_base, (uintptr_t)chunk->mapping.address);
    }
    assert_int_equal(stats_of(f).n_chunks, 1);
    assert_int_equal(stats_of(f).chunk_size, SIZE);
    assert_int_equal(stats_of(f).n_registrations, RAILS);
    assert_int_equal(stats_of(f).registered_size, RAILS * SIZE);
    assert_accepted(mrp_chunk_destroy(chunk));
    assert_int_equal(n_mappings(f), 0);
    assert_int_equal(f->recorder.n_unmapped, 1);
    check_nothing_live(f);
}

static void create__without_rails_only_maps(void **state)
{
    struct fixture *f = *state;
    struct mrp_chunk *chunk;

    f->request.n_rails = 0;
    chunk = create(f);
    assert_int_equal(n_mappings(f), 1);
    assert_int_equal(f->networks[0].n_register, 0);
    assert_accepted(mrp_chunk_destroy(chunk));
    assert_int_equal(n_mappings(f), 0);
}

static void create__leaves_nothing_where_a_rail_refuses(void **state)
{
    struct fixture *f = *state;

    for (size_t refusing = 0; refusing < RAILS; refusing++) {
        struct mrp_chunk *chunk = NULL;

        test_provider_fail_next(&f->networks[refusing], 1, 1, MRP_ERR_REGISTER);
        assert_refused(mrp_chunk_create(f->context, &f->request, &chunk),
            MRP_ERR_REGISTER, "fails as told");
        assert_null(chunk);
        assert_int_equal(n_mappings(f), 0);
        check_nothing_live(f);
        for (size_t i = 0; i < RAILS; i++) {
            assert_int_equal(f->networks[i].n_live, 0);
            /* those before it have registered and deregistered, those after it nothing */
            assert_int_equal(
                f->networks[i].n_deregister, refusing > i ? refusing - i : 0);
            assert_int_equal(
                f->networks[i].n_register, refusing >= i ? refusing - i + 1 : 0);
        }
    }
    assert_accepted(mrp_chunk_destroy(create(f))); /* and all is well again */
}

static void create__tells_the_cause_not_what_undoing_adds(void **state)
{
    struct fixture *f = *state;
    struct mrp_chunk *chunk;

    test_provider_fail_next(&f->networks[2], 1, 1, MRP_ERR_LIMIT);
    f->networks[0].deregister_fail_at = 1;
    assert_refused(mrp_chunk_create(f->context, &f->request, &chunk), MRP_ERR_LIMIT,
        "registration 1 fails");
    assert_int_equal(f->networks[1].n_live, 0);
    assert_int_equal(n_mappings(f), 1); /* rail 0 may still reach it */
    assert_int_equal(stats_of(f).n_parked, 1);
    check_nothing_live(f);
    assert_accepted(mrp_provider_close(f->providers[0]));
    assert_int_equal(n_mappings(f), 0);
    assert_int_equal(stats_of(f).n_parked, 0);
}

static void create__without_memory_asks_no_rail(void **state)
{
    struct fixture *f = *state;
    struct mrp_chunk *chunk;

    f->recorder.map_status = MRP_ERR_MEMORY;
    assert_refused(mrp_chunk_create(f->context, &f->request, &chunk), MRP_ERR_MEMORY,
        "recorder: as told");
    assert_int_equal(f->networks[0].n_register, 0);
    f->recorder.map_status = MRP_OK;
    f->request.size = SIZE_MAX - 4096;
    assert_refused(
        mrp_chunk_create(f->context, &f->request, &chunk), MRP_ERR_INVALID, "cannot map");
    check_nothing_live(f);
}

static void create__refuses_what_a_rail_cannot_grant(void **state)
{
    struct fixture *f = *state;
    struct mrp_chunk *chunk;

    f->rails[3]->info.access = MRP_ACCESS_LOCAL;
    assert_refused(mrp_chunk_create(f->context, &f->request, &chunk), MRP_ERR_UNSUPPORTED,
        "cannot grant access");
    f->rails[3]->info.access = MRP_ACCESS_ALL;
    f->rails[3]->info.max_size = SIZE - 1;
    assert_refused(mrp_chunk_create(f->context, &f->request, &chunk), MRP_ERR_LIMIT,
        "MRPOOL_CHUNK_MAX");
    f->rails[3]->info.max_size = 0;
    f->rails[3]->info.memory_kinds = 0;
    assert_refused(mrp_chunk_create(f->context, &f->request, &chunk), MRP_ERR_UNSUPPORTED,
        "memory of kind 0");
    assert_int_equal(n_mappings(f), 0);
    check_nothing_live(f);
}

/* A stranger's op that fails without a record still gives a sentence. */
static enum mrp_status refuse_silently(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    (void)state;
    (void)request;
    (void)registration;
    return MRP_ERR_LIMIT;
}

static void create__a_bare_status_of_a_rail_gets_a_sentence(void **state)
{
    struct fixture *f = *state;
    struct mrp_provider_ops ops = *test_provider_ops();
    struct mrp_provider *provider;
    struct mrp_chunk *chunk;

    ops.register_memory = refuse_silently;
    ops.close = NULL;
    assert_accepted(
        mrp_provider_create(f->handle, "silent", &ops, &f->networks[3], &provider));
    assert_accepted(mrp_provider_get(provider, &f->rails[3]));
    mrp_fail(MRP_ERR_LIMIT, 0, "from before");
    assert_int_equal(mrp_chunk_create(f->context, &f->request, &chunk), MRP_ERR_LIMIT);
    assert_non_null(strstr(
        mrp_error_last()->text, "provider silent: registration: a budget or a system"));
    assert_int_equal(n_mappings(f), 0);
}

/* -- adopted memory -- */

static void create__adopts_the_callers_memory(void **state)
{
    struct fixture *f = *state;
    unsigned char memory[1000];
    struct mrp_chunk *chunk;

    memset(memory, 0x42, sizeof memory);
    f->request.backend = NULL;
    f->request.adopted = memory + 3;
    f->request.size = 900;
    chunk = create(f);
    assert_false(chunk->aligned);
    assert_ptr_equal(f->networks[1].events[0].address, memory + 3);
    assert_int_equal(f->networks[1].events[0].size, 900);
    assert_int_equal(n_mappings(f), 0);
    f->networks[1].deregister_fail_at = 1; /* nothing to park: the memory is not ours */
    assert_refused(mrp_chunk_destroy(chunk), MRP_ERR_REGISTER, "as told");
    assert_int_equal(stats_of(f).n_parked, 0);
    assert_int_equal(memory[3], 0x42);
    check_nothing_live(f);
}

/* -- destroy -- */

static void destroy__parks_with_the_rail_that_refused(void **state)
{
    struct fixture *f = *state;

    for (size_t refusing = 0; refusing < RAILS; refusing++) {
        struct mrp_chunk *chunk = create(f);

        f->networks[refusing].deregister_fail_at = f->networks[refusing].n_deregister + 1;
        assert_refused(mrp_chunk_destroy(chunk), MRP_ERR_REGISTER, "as told");
        check_nothing_live(f);
        assert_int_equal(stats_of(f).n_parked, refusing + 1);
        assert_int_equal(stats_of(f).parked_size, (refusing + 1) * SIZE);
        assert_int_equal(n_mappings(f), refusing + 1);
        for (size_t i = 0; i < RAILS; i++) {
            assert_int_equal(f->networks[i].n_live, i <= refusing);
        }
    }
    assert_refused(mrp_backend_destroy(f->backend), MRP_ERR_BUSY, "recorder");
    for (size_t i = RAILS; i-- > 0;) { /* each gives up its own */
        assert_accepted(mrp_provider_close(f->providers[i]));
        assert_int_equal(n_mappings(f), i);
        assert_int_equal(stats_of(f).n_parked, i);
        assert_int_equal(stats_of(f).parked_size, i * SIZE);
    }
    assert_accepted(mrp_backend_destroy(f->backend));
}

/* The memory stays until the last of them has closed, in whatever order. */
static void destroy__parks_with_every_rail_that_refused(void **state)
{
    struct fixture *f = *state;
    struct mrp_chunk *chunk = create(f);

    f->networks[0].deregister_fail_at = 1;
    f->networks[1].deregister_fail_at = 1;
    f->networks[3].deregister_fail_at = 1;
    assert_refused(mrp_chunk_destroy(chunk), MRP_ERR_REGISTER, "as told");
    assert_int_equal(stats_of(f).n_parked, 1);
    assert_accepted(mrp_provider_close(f->providers[0]));
    assert_accepted(mrp_provider_close(f->providers[2]));
    assert_accepted(mrp_provider_close(f->providers[3]));
    assert_int_equal(n_mappings(f), 1);
    assert_int_equal(stats_of(f).parked_size, SIZE);
    assert_accepted(mrp_provider_close(f->providers[1]));
    assert_int_equal(n_mappings(f), 0);
    assert_int_equal(stats_of(f).n_parked, 0);
    assert_int_equal(stats_of(f).parked_size, 0);
    assert_accepted(mrp_backend_destroy(f->backend));
}

static void destroy__tells_of_an_unmapping_that_failed(void **state)
{
    struct fixture *f = *state;
    struct mrp_chunk *chunk = create(f);

    f->recorder.unmap_status = MRP_ERR_SYSTEM;
    assert_refused(mrp_chunk_destroy(chunk), MRP_ERR_SYSTEM, "recorder");
    check_nothing_live(f);
}

/* -- publish -- */

static void publish__makes_it_findable_until_withdrawn(void **state)
{
    struct fixture *f = *state;
    struct mrp_chunk *chunk = create(f);
    uintptr_t base = (uintptr_t)chunk->mapping.address;
    uint32_t generation = mrp_load_relaxed(&chunk->view.generation);

    assert_int_equal(generation & 1, 0);
    assert_null(mrp_address_map_find_aligned(base));
    chunk->id = 7;
    assert_accepted(mrp_chunk_publish(chunk));
    assert_int_equal(mrp_load_relaxed(&chunk->view.generation), generation + 1);
    assert_int_equal(mrp_load_relaxed(&chunk->view.id), 7);
    assert_int_equal(mrp_load_relaxed(&chunk->view.base), base);
    assert_int_equal(mrp_load_relaxed(&chunk->view.size), SIZE);
    assert_ptr_equal(mrp_address_map_find_aligned(base + SIZE - 1), chunk);
    mrp_chunk_withdraw(chunk);
    assert_null(mrp_address_map_find_aligned(base));
    assert_int_equal(mrp_load_relaxed(&chunk->view.generation), generation + 2);
    assert_accepted(mrp_chunk_destroy(chunk));
}

/* -- the registry of registrations -- */

static void count_registration(const struct mrp_registration_info *info, void *user)
{
    assert_true(info->size > 0 && info->native.native != NULL);
    ++*(size_t *)user;
}

static void registration__is_found_by_any_address_in_it(void **state)
{
    struct fixture *f = *state;
    struct mrp_registration_info info = MRP_REGISTRATION_INFO_INIT;
    struct mrp_chunk *chunk = create(f), *other;
    unsigned char *base = chunk->mapping.address;
    size_t count = 0;

    f->request.n_rails = 2;
    other = create(f);
    assert_accepted(
        mrp_registration_query(f->handle, f->providers[3], base + SIZE - 1, &info));
    assert_ptr_equal(info.address, base);
    assert_int_equal(info.size, SIZE);
    assert_ptr_equal(info.provider, f->providers[3]);
    assert_int_equal(info.access, MRP_ACCESS_ALL);
    assert_int_equal(info.native.remote_key, chunk->registrations[3].remote_key);
    assert_refused(mrp_registration_query(f->handle, f->providers[3], base + SIZE, &info),
        MRP_ERR_NOT_FOUND, "covers");
    assert_refused(
        mrp_registration_query(f->handle, f->providers[3], other->mapping.address, &info),
        MRP_ERR_NOT_FOUND, "covers");
    assert_refused(mrp_registration_query(f->handle, f->providers[0], base, NULL),
        MRP_ERR_INVALID, "NULL");
    assert_refused(mrp_registration_query(f->handle, NULL, base, &info), MRP_ERR_STALE,
        "provider is NULL");
    assert_refused(
        mrp_registration_visit(f->handle, NULL, NULL), MRP_ERR_INVALID, "visit");
    assert_accepted(mrp_registration_visit(f->handle, count_registration, &count));
    assert_int_equal(count, RAILS + 2);
    assert_accepted(mrp_chunk_destroy(chunk));
    assert_refused(mrp_registration_query(f->handle, f->providers[0], base, &info),
        MRP_ERR_NOT_FOUND, "covers");
    assert_accepted(mrp_chunk_destroy(other));
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        TEST(create__registers_the_mapping_with_every_rail),
        TEST(create__without_rails_only_maps),
        TEST(create__leaves_nothing_where_a_rail_refuses),
        TEST(create__tells_the_cause_not_what_undoing_adds),
        TEST(create__without_memory_asks_no_rail),
        TEST(create__refuses_what_a_rail_cannot_grant),
        TEST(create__a_bare_status_of_a_rail_gets_a_sentence),
        TEST(create__adopts_the_callers_memory),
        TEST(destroy__parks_with_the_rail_that_refused),
        TEST(destroy__parks_with_every_rail_that_refused),
        TEST(destroy__tells_of_an_unmapping_that_failed),
        TEST(publish__makes_it_findable_until_withdrawn),
        TEST(registration__is_found_by_any_address_in_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
