/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The caller's own memory: registered on every rail or on none, never touched.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"

static unsigned char memory[4 * MRP_MIB];

static struct mrp_region *register_at(struct pool_fixture *f, void *address, size_t size)
{
    struct mrp_region *region = NULL;

    assert_int_equal(mrp_region_register(f->pool, address, size, NULL, &region), MRP_OK);
    assert_ptr_equal(mrp_region_address(region), address);
    assert_int_equal(mrp_region_size(region), size);
    assert_int_equal(mrp_region_capacity(region), size);
    return region;
}

static void fill_memory(void)
{
    for (size_t i = 0; i < sizeof memory; i++) {
        memory[i] = (unsigned char)(i * 7 + i / 251);
    }
}

static void check_memory(void)
{
    for (size_t i = 0; i < sizeof memory; i++) {
        if (memory[i] != (unsigned char)(i * 7 + i / 251)) {
            fail_msg("byte %zu has changed", i);
        }
    }
}

static void register__leaves_the_data_alone(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    struct mrp_region_info info;

    pool_fixture_create(f, NULL);
    fill_memory();
    region = register_at(f, memory, sizeof memory);
    info = pool_fixture_query(region);
    assert_int_equal(info.kind, MRP_REGION_USER);
    assert_int_equal(info.tier, -1);
    assert_ptr_equal(info.chunk_address, memory);
    assert_int_equal(info.chunk_size, sizeof memory);
    assert_int_equal(f->networks[0].live_size, sizeof memory);
    assert_int_equal(pool_fixture_stats(f->pool).n_user, 1);
    assert_int_equal(pool_fixture_stats(f->pool).user_size, sizeof memory);
    assert_int_equal(pool_fixture_stats(f->pool).mapped_size, 0);
    pool_fixture_free(region);
    assert_int_equal(f->networks[0].n_live, 0);
    assert_int_equal(pool_fixture_stats(f->pool).n_user, 0);
    check_memory();
    assert_refused(mrp_region_free(region), MRP_ERR_STALE, "already");
}

static void register__any_alignment_and_size(void **state)
{
    struct pool_fixture *f = *state;

    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < 300; i++) {
        size_t size = 1 + i * i * 31;
        struct mrp_region *region = register_at(f, memory + i * 13 + 1, size);
        struct mrp_wire wire = MRP_WIRE_INIT;

        assert_int_equal(
            mrp_resolve(f->pool, memory + i * 13 + 1, size, 0, &wire), MRP_OK);
        assert_int_equal(wire.offset, 0);
        assert_int_equal(wire.bytes_left, size);
        assert_ptr_equal(mrp_region_find(f->pool, memory + i * 13 + size), region);
        pool_fixture_free(region);
    }
    pool_fixture_check_registrations(f, 1);
}

/* Headroom, tailroom and alignment are of the pool's blocks, not of the caller's. */
static void register__ignores_the_pools_room(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region;

    params.headroom = params.tailroom = 100;
    params.alignment = 4096;
    pool_fixture_create(f, &params);
    region = register_at(f, memory + 1, 77);
    assert_ptr_equal(pool_fixture_query(region).chunk_address, memory + 1);
    pool_fixture_free(region);
}

static void register__may_overlap(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *regions[100], *found;

    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < 100; i++) { /* nested, shifted and equal ones */
        regions[i] = register_at(f, memory + i % 10 * 1000, 50000 - i / 10 * 4000);
    }
    assert_true(f->networks[0].n_overlaps > 0);
    for (size_t i = 0; i < 100; i++) {
        unsigned char *last =
            (unsigned char *)mrp_region_address(regions[i]) + 50000 - i / 10 * 4000 - 1;

        found = mrp_region_find(f->pool, last);
        assert_non_null(found);
        assert_true((unsigned char *)mrp_region_address(found) <= last);
        assert_true(
            (unsigned char *)mrp_region_address(found) + mrp_region_size(found) > last);
        pool_fixture_free(regions[i]);
    }
    assert_none(mrp_region_find(f->pool, memory), MRP_ERR_NOT_FOUND, "");
}

static void register__inside_the_pools_own_memory(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *owner, *region;
    unsigned char *address;

    pool_fixture_create(f, NULL);
    owner = pool_fixture_alloc(f, 10000);
    address = mrp_region_address(owner);
    memset(address, 3, 10000);
    region = register_at(f, address + 100, 1000);
    assert_int_equal(f->networks[0].n_live, 2);
    assert_ptr_equal(mrp_region_find(f->pool, address + 100), owner);
    pool_fixture_free(region);
    assert_int_equal(address[100] + address[1099], 6);
    assert_ptr_equal(mrp_region_find(f->pool, address + 100), owner);
    pool_fixture_free(owner);
}

static void register__the_same_memory_in_two_pools(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *ours, *theirs = NULL;
    struct mrp_wire wire = MRP_WIRE_INIT;
    struct mrp_pool *other;

    pool_fixture_create(f, NULL);
    assert_int_equal(mrp_pool_create(f->context, NULL, &other), MRP_OK);
    for (size_t round = 0; round < 2; round++) { /* whoever comes first */
        ours = round == 0 ? register_at(f, memory, 1000) : NULL;
        assert_int_equal(mrp_region_register(other, memory, 1000, NULL, &theirs), MRP_OK);
        ours = round == 0 ? ours : register_at(f, memory, 1000);
        assert_ptr_equal(mrp_region_find(f->pool, memory + 500), ours);
        assert_ptr_equal(mrp_region_find(other, memory + 500), theirs);
        assert_int_equal(mrp_resolve(f->pool, memory + 500, 1, 0, &wire), MRP_OK);
        assert_int_equal(mrp_region_free(theirs), MRP_OK);
        assert_ptr_equal(mrp_region_find(f->pool, memory + 500), ours);
        pool_fixture_free(ours);
    }
    assert_int_equal(mrp_pool_destroy(other), MRP_OK);
}

static void register__access_is_the_pools_or_its_own(void **state)
{
    struct mrp_region_register_params params = MRP_REGION_REGISTER_PARAMS_INIT;
    struct mrp_registration_info info = MRP_REGISTRATION_INFO_INIT;
    struct pool_fixture *f = *state;
    struct mrp_pool_params pool = pool_fixture_params(f);
    struct mrp_region *region;
    uint64_t key;

    pool.access = MRP_ACCESS_LOCAL;
    pool_fixture_create(f, &pool);
    region = register_at(f, memory, 100);
    assert_int_equal(
        mrp_registration_query(f->context, f->rails[0], memory, &info), MRP_OK);
    assert_int_equal(info.access, MRP_ACCESS_LOCAL);
    assert_refused(mrp_region_remote_key(region, 0, &key), MRP_ERR_UNSUPPORTED, "access");
    pool_fixture_free(region);
    params.access = MRP_ACCESS_REMOTE_READ;
    assert_int_equal(mrp_region_register(f->pool, memory, 100, &params, &region), MRP_OK);
    assert_int_equal(
        mrp_registration_query(f->context, f->rails[0], memory, &info), MRP_OK);
    assert_int_equal(info.access, MRP_ACCESS_REMOTE_READ);
    assert_int_equal(mrp_region_remote_key(region, 0, &key), MRP_OK);
    pool_fixture_free(region);
}

static void register__wrong_arguments_are_refused(void **state)
{
    struct mrp_region_register_params params = MRP_REGION_REGISTER_PARAMS_INIT;
    struct pool_fixture *f = *state;
    struct mrp_pool_params pool = pool_fixture_params(f);
    struct mrp_region *region = NULL;
    struct mrp_provider *host;

    pool_fixture_create(f, NULL);
    assert_refused(mrp_region_register(f->pool, NULL, 1, NULL, &region), MRP_ERR_INVALID,
        "cannot register 1 bytes");
    assert_refused(mrp_region_register(f->pool, memory, 0, NULL, &region),
        MRP_ERR_INVALID, "cannot register 0 bytes");
    assert_refused(mrp_region_register(f->pool, memory, SIZE_MAX, NULL, &region),
        MRP_ERR_INVALID, "past the end of the address space");
    assert_refused(mrp_region_register(
                       f->pool, memory, SIZE_MAX - (uintptr_t)memory + 1, NULL, &region),
        MRP_ERR_INVALID, "past the end");
    assert_refused(
        mrp_region_register(f->pool, memory, 1, NULL, NULL), MRP_ERR_INVALID, "NULL");
    assert_refused(
        mrp_region_register(NULL, memory, 1, NULL, &region), MRP_ERR_STALE, "NULL");
    params.access = 1u << 7;
    assert_refused(mrp_region_register(f->pool, memory, 1, &params, &region),
        MRP_ERR_INVALID, "access is 0x80: unknown bits");
    params.struct_size = 1;
    assert_refused(mrp_region_register(f->pool, memory, 1, &params, &region),
        MRP_ERR_INVALID, "struct_size is 1");
    assert_int_equal(f->networks[0].n_register, 0);
    assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
    assert_int_equal(mrp_provider_open(f->context, "host", NULL, &host), MRP_OK);
    pool.rails = &host;
    pool.access = 0;
    pool_fixture_create(f, &pool);
    params.struct_size = sizeof params;
    params.access = MRP_ACCESS_REMOTE_WRITE;
    assert_refused(mrp_region_register(f->pool, memory, 1, &params, &region),
        MRP_ERR_UNSUPPORTED, "cannot grant access 0x8");
    assert_null(region);
}

/* Fail the n-th call on each rail, once and for good: on every rail or on none. */
static void register__failing_on_any_rail_leaves_none(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region = NULL;

    params.n_rails = 3;
    pool_fixture_create(f, &params);
    for (size_t rail = 0; rail < 3; rail++) {
        test_provider_fail_next(&f->networks[rail], 1, 1, MRP_ERR_REGISTER);
        region = register_at(f, memory, 100); /* tried twice */
        pool_fixture_check_registrations(f, 3);
        pool_fixture_free(region);
        test_provider_fail_next(&f->networks[rail], 1, 2, MRP_ERR_REGISTER);
        region = NULL;
        assert_refused(mrp_region_register(f->pool, memory, 100, NULL, &region),
            MRP_ERR_REGISTER, "fails as told");
        assert_null(region);
        pool_fixture_check_registrations(f, 3);
        test_provider_fail_next(&f->networks[rail], 1, 1, MRP_ERR_SYSTEM);
        assert_refused(mrp_region_register(f->pool, memory, 100, NULL, &region),
            MRP_ERR_SYSTEM, "fails as told"); /* not a matter of room: not tried again */
        pool_fixture_check_registrations(f, 3);
        assert_none(mrp_region_find(f->pool, memory), MRP_ERR_NOT_FOUND, "");
        pool_fixture_free(register_at(f, memory, 100));
    }
}

static void register__counts_against_max_registrations(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[3] = {NULL};

    params.max_registrations = 2;
    pool_fixture_create(f, &params);
    regions[0] = register_at(f, memory, 100);
    pool_fixture_free(pool_fixture_alloc(f, 2 * MRP_MIB)); /* idle: makes room */
    regions[1] = register_at(f, memory, 200);
    assert_int_equal(pool_fixture_stats(f->pool).n_evictions, 1);
    assert_refused(mrp_region_register(f->pool, memory, 300, NULL, &regions[2]),
        MRP_ERR_LIMIT, "2 of 2 registrations on rail 0 (first)");
    assert_none(mrp_region_alloc(f->pool, 1), MRP_ERR_LIMIT, "max_registrations");
    pool_fixture_free(regions[0]);
    regions[2] = register_at(f, memory, 300);
    pool_fixture_free(regions[1]);
    pool_fixture_free(regions[2]);
    pool_fixture_free(pool_fixture_alloc(f, 1));
}

/* A failed deregistration is told; the caller's memory is never unmapped. */
static void free__failing_to_deregister_is_told(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;

    pool_fixture_create(f, NULL);
    region = register_at(f, memory, 100);
    f->networks[0].deregister_fail_at = f->networks[0].n_deregister + 1;
    f->networks[0].deregister_fail_count = 1;
    assert_refused(mrp_region_free(region), MRP_ERR_REGISTER, "fails as told");
    assert_null(mrp_region_address(region));
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
    memory[0] = 1;
    pool_fixture_free(register_at(f, memory, 100));
    assert_int_equal(f->networks[0].n_live, 1); /* the lost one */
    f->networks[0].n_live = 0;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(register__leaves_the_data_alone),
        POOL_TEST(register__any_alignment_and_size),
        POOL_TEST(register__ignores_the_pools_room),
        POOL_TEST(register__may_overlap),
        POOL_TEST(register__inside_the_pools_own_memory),
        POOL_TEST(register__the_same_memory_in_two_pools),
        POOL_TEST(register__access_is_the_pools_or_its_own),
        POOL_TEST(register__wrong_arguments_are_refused),
        POOL_TEST(register__failing_on_any_rail_leaves_none),
        POOL_TEST(register__counts_against_max_registrations),
        POOL_TEST(free__failing_to_deregister_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
