/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the network is told of a region: descriptor, key, address, registration; by the
 * region, by its address, and by the context's registry, which all agree.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"

/* A pool over one network that is like this. */
static void create_over(struct pool_fixture *f, uint32_t traits, uint32_t access)
{
    struct mrp_pool_params params = pool_fixture_params(f);
    static struct mrp_provider *rail;
    static struct test_provider network;

    test_provider_init(&network);
    network.traits = traits;
    assert_int_equal(
        mrp_provider_create(f->context, "network", test_provider_ops(), &network, &rail),
        MRP_OK);
    params.rails = &rail;
    params.access = access;
    pool_fixture_create(f, &params);
}

/* All ways to a region's keys lead to the same. */
static void check_agreement(
    struct pool_fixture *f, const struct mrp_region *region, unsigned rail)
{
    struct mrp_registration_info info = MRP_REGISTRATION_INFO_INIT;
    struct mrp_region_info query = pool_fixture_query(region);
    struct mrp_wire wire = MRP_WIRE_INIT;
    void *native = NULL, *desc = &native;
    uint64_t key = 0, address = 0;
    size_t offset = 0;

    assert_int_equal(
        mrp_resolve(f->pool, query.address, query.size, rail, &wire), MRP_OK);
    assert_int_equal(mrp_region_registration(region, rail, &native, &offset), MRP_OK);
    assert_int_equal(mrp_region_local_desc(region, rail, &desc), MRP_OK);
    assert_int_equal(mrp_region_remote_key(region, rail, &key), MRP_OK);
    assert_int_equal(mrp_region_remote_addr(region, rail, &address), MRP_OK);
    assert_ptr_equal(wire.native, native);
    assert_ptr_equal(wire.local_desc, desc);
    assert_true(wire.has_remote_key);
    assert_int_equal(wire.remote_key, key);
    assert_int_equal(wire.remote_addr, address);
    assert_int_equal(wire.offset, offset);
    assert_ptr_equal((char *)query.chunk_address + offset, query.address);
    assert_int_equal(wire.offset + wire.bytes_left, query.chunk_size);
    assert_int_equal(
        mrp_registration_query(f->context, f->rails[rail], query.address, &info), MRP_OK);
    assert_ptr_equal(info.address, query.chunk_address);
    assert_int_equal(info.size, query.chunk_size);
    assert_ptr_equal(info.pool, f->pool);
    assert_ptr_equal(info.native.native, native);
    assert_int_equal(info.native.remote_key, key);
    assert_int_equal(info.native.remote_base + offset, address);
}

static void keys__agree_by_region_address_and_registry(void **state)
{
    static const size_t sizes[] = {1, 5000, 60000, MRP_MIB, 3 * MRP_MIB};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[60];

    params.n_rails = 3;
    params.headroom = 32;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 60; i++) {
        regions[i] = pool_fixture_alloc(f, sizes[i % 5]);
    }
    for (size_t i = 0; i < 60; i++) {
        for (unsigned rail = 0; rail < 3; rail++) {
            check_agreement(f, regions[i], rail);
        }
    }
    assert_int_equal(mrp_region_free_many(regions, 60, NULL), MRP_OK);
}

static void keys__differ_by_chunk_and_rail(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *one, *other;
    uint64_t keys[3];
    void *native[2];
    size_t offset;

    params.n_rails = 2;
    pool_fixture_create(f, &params);
    one = pool_fixture_alloc(f, 2 * MRP_MIB);
    other = pool_fixture_alloc(f, 2 * MRP_MIB);
    f->networks[1].last_serial = 40; /* the second network numbers differently */
    pool_fixture_free(pool_fixture_alloc(f, 3 * MRP_MIB));
    assert_int_equal(mrp_region_remote_key(one, 0, &keys[0]), MRP_OK);
    assert_int_equal(mrp_region_remote_key(other, 0, &keys[1]), MRP_OK);
    assert_int_not_equal(keys[0], keys[1]);
    pool_fixture_free(one);
    one = pool_fixture_alloc(f, 3 * MRP_MIB);
    assert_int_equal(mrp_region_remote_key(one, 0, &keys[0]), MRP_OK);
    assert_int_equal(mrp_region_remote_key(one, 1, &keys[1]), MRP_OK);
    assert_int_not_equal(keys[0], keys[1]);
    assert_int_equal(mrp_region_registration(one, 0, &native[0], &offset), MRP_OK);
    assert_int_equal(mrp_region_registration(one, 1, &native[1], &offset), MRP_OK);
    assert_ptr_not_equal(native[0], native[1]);
    pool_fixture_free(one);
    pool_fixture_free(other);
}

static void remote_addr__is_virtual_where_the_network_says_so(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    uint64_t address;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 100);
    assert_int_equal(mrp_region_remote_addr(region, 0, &address), MRP_OK);
    assert_int_equal(address, (uintptr_t)mrp_region_address(region));
    pool_fixture_free(region);
}

static void remote_addr__is_an_offset_where_it_does_not(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_wire wire = MRP_WIRE_INIT;
    struct mrp_region_info info;
    struct mrp_region *regions[2];
    uint64_t address;

    create_over(f, MRP_PROVIDER_REMOTE_KEY, MRP_ACCESS_ALL);
    for (size_t i = 0; i < 2; i++) {
        regions[i] = pool_fixture_alloc(f, 5000);
        info = pool_fixture_query(regions[i]);
        assert_int_equal(mrp_region_remote_addr(regions[i], 0, &address), MRP_OK);
        assert_int_equal(
            address, (uintptr_t)info.address - (uintptr_t)info.chunk_address);
        assert_int_equal(
            mrp_resolve(f->pool, (char *)info.address + 7, 1, 0, &wire), MRP_OK);
        assert_int_equal(wire.remote_addr, address + 7);
    }
    assert_int_equal(mrp_region_free_many(regions, 2, NULL), MRP_OK);
}

static void local_desc__is_what_the_network_gave(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    struct mrp_wire wire = MRP_WIRE_INIT;
    void *desc = NULL, *native = NULL;
    size_t offset;

    create_over(f, MRP_PROVIDER_LOCAL_DESC, 0);
    region = pool_fixture_alloc(f, 100);
    assert_int_equal(mrp_region_local_desc(region, 0, &desc), MRP_OK);
    assert_int_equal(mrp_region_registration(region, 0, &native, &offset), MRP_OK);
    assert_int_equal((uintptr_t)desc, ~(uintptr_t)native); /* as test_providers has it */
    assert_int_equal(
        mrp_resolve(f->pool, mrp_region_address(region), 1, 0, &wire), MRP_OK);
    assert_ptr_equal(wire.local_desc, desc);
    pool_fixture_free(region);
}

static void local_desc__is_null_where_none_is_needed(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    void *desc = f;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 100);
    assert_int_equal(mrp_region_local_desc(region, 0, &desc), MRP_OK);
    assert_null(desc);
    pool_fixture_free(region);
}

/* The network made a key; nobody asked for remote access, so nobody gets it. */
static void remote_key__is_not_given_without_remote_access(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_wire wire = MRP_WIRE_INIT;
    struct mrp_region *region;
    uint64_t value = 5;
    size_t size = 100;
    char packed[100];

    create_over(
        f, MRP_PROVIDER_REMOTE_KEY | MRP_PROVIDER_VIRTUAL_ADDRESS, MRP_ACCESS_LOCAL);
    region = pool_fixture_alloc(f, 100);
    assert_refused(mrp_region_remote_key(region, 0, &value), MRP_ERR_UNSUPPORTED,
        "grants no remote access");
    assert_refused(mrp_region_remote_addr(region, 0, &value), MRP_ERR_UNSUPPORTED,
        "no remote access");
    assert_refused(
        mrp_region_key_pack(region, 1, packed, &size), MRP_ERR_UNSUPPORTED, "access 0x3");
    assert_int_equal(value, 5);
    assert_int_equal(
        mrp_resolve(f->pool, mrp_region_address(region), 1, 0, &wire), MRP_OK);
    assert_false(wire.has_remote_key);
    assert_int_equal(wire.remote_key, 0);
    pool_fixture_free(region);
}

static void remote_key__of_a_network_without_keys(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_wire wire = MRP_WIRE_INIT;
    struct mrp_region *region;
    uint64_t value = 5;

    create_over(f, 0, MRP_ACCESS_ALL);
    region = pool_fixture_alloc(f, 100);
    assert_refused(mrp_region_remote_key(region, 0, &value), MRP_ERR_UNSUPPORTED,
        "rail 0 (network) is of a network without remote keys");
    assert_int_equal(
        mrp_resolve(f->pool, mrp_region_address(region), 1, 0, &wire), MRP_OK);
    assert_false(wire.has_remote_key);
    pool_fixture_free(region);
}

static void remote_key__larger_than_64_bits_travels_packed(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_wire wire = MRP_WIRE_INIT;
    struct mrp_region *region;
    uint64_t value = 5;
    size_t size = 0;

    create_over(f,
        MRP_PROVIDER_REMOTE_KEY | MRP_PROVIDER_RAW_KEY | MRP_PROVIDER_VIRTUAL_ADDRESS,
        MRP_ACCESS_ALL);
    region = pool_fixture_alloc(f, 100);
    assert_refused(mrp_region_remote_key(region, 0, &value), MRP_ERR_UNSUPPORTED,
        "send them with mrp_region_key_pack");
    assert_int_equal(value, 5);
    assert_int_equal(mrp_region_remote_addr(region, 0, &value), MRP_OK);
    assert_int_equal(value, (uintptr_t)mrp_region_address(region));
    assert_int_equal(
        mrp_resolve(f->pool, mrp_region_address(region), 1, 0, &wire), MRP_OK);
    assert_false(wire.has_remote_key);
    assert_int_equal(wire.remote_key, 0);
    assert_int_equal(mrp_region_key_pack(region, 1, NULL, &size), MRP_OK);
    assert_true(size > 8);
    pool_fixture_free(region);
}

static void rail__out_of_range_is_refused(void **state)
{
    static const unsigned wrong[] = {1, 2, 63, 64, 65, 1u << 31, UINT32_MAX};
    struct pool_fixture *f = *state;
    struct mrp_wire wire = MRP_WIRE_INIT;
    struct mrp_region *region;
    uint64_t value;
    size_t size;
    void *pointer;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 100);
    for (size_t i = 0; i < 7; i++) {
        unsigned rail = wrong[i];

        assert_refused(mrp_region_local_desc(region, rail, &pointer), MRP_ERR_UNSUPPORTED,
            "has 1 rails");
        assert_refused(mrp_region_remote_key(region, rail, &value), MRP_ERR_UNSUPPORTED,
            "has 1 rails");
        assert_refused(mrp_region_remote_addr(region, rail, &value), MRP_ERR_UNSUPPORTED,
            "has 1 rails");
        assert_refused(mrp_region_registration(region, rail, &pointer, &size),
            MRP_ERR_UNSUPPORTED, "has 1 rails");
        assert_refused(mrp_resolve(f->pool, mrp_region_address(region), 1, rail, &wire),
            MRP_ERR_UNSUPPORTED, "has 1 rails");
    }
    pool_fixture_free(region);
}

static void rail__there_is_none_in_a_pool_of_0(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_wire wire = MRP_WIRE_INIT;
    struct mrp_region *region;
    void *desc;

    params.n_rails = 0;
    params.rails = NULL;
    pool_fixture_create(f, &params);
    region = pool_fixture_alloc(f, 100);
    assert_refused(
        mrp_region_local_desc(region, 0, &desc), MRP_ERR_UNSUPPORTED, "has 0 rails");
    assert_refused(mrp_resolve(f->pool, mrp_region_address(region), 1, 0, &wire),
        MRP_ERR_UNSUPPORTED, "has 0 rails");
    assert_ptr_equal(mrp_region_find(f->pool, mrp_region_address(region)), region);
    pool_fixture_free(region);
}

/* A structure of a program built against an older header is filled as far as it goes. */
static void resolve__fills_as_much_as_the_caller_has(void **state)
{
    struct mrp_wire wire = MRP_WIRE_INIT;
    struct pool_fixture *f = *state;
    struct mrp_region *region;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 100);
    wire.struct_size = offsetof(struct mrp_wire, remote_addr);
    wire.remote_addr = 77;
    assert_int_equal(
        mrp_resolve(f->pool, mrp_region_address(region), 1, 0, &wire), MRP_OK);
    assert_int_not_equal(wire.remote_key, 0);
    assert_int_equal(wire.remote_addr, 77);
    wire.struct_size = 0;
    assert_refused(mrp_resolve(f->pool, mrp_region_address(region), 1, 0, &wire),
        MRP_ERR_INVALID, "struct_size is 0");
    assert_refused(mrp_resolve(f->pool, mrp_region_address(region), 1, 0, NULL),
        MRP_ERR_INVALID, "NULL");
    pool_fixture_free(region);
}

/* Keys of a live region stay while others come and go. */
static void keys__of_live_regions_never_change(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *kept;
    uint64_t before, after;

    pool_fixture_create(f, NULL);
    kept = pool_fixture_alloc(f, 2 * MRP_MIB);
    assert_int_equal(mrp_region_remote_key(kept, 0, &before), MRP_OK);
    for (size_t i = 0; i < 50; i++) {
        pool_fixture_free(pool_fixture_alloc(f, (i + 2) * MRP_MIB));
        assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
        assert_int_equal(mrp_region_remote_key(kept, 0, &after), MRP_OK);
        assert_int_equal(before, after);
    }
    pool_fixture_free(kept);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(keys__agree_by_region_address_and_registry),
        POOL_TEST(keys__differ_by_chunk_and_rail),
        POOL_TEST(remote_addr__is_virtual_where_the_network_says_so),
        POOL_TEST(remote_addr__is_an_offset_where_it_does_not),
        POOL_TEST(local_desc__is_what_the_network_gave),
        POOL_TEST(local_desc__is_null_where_none_is_needed),
        POOL_TEST(remote_key__is_not_given_without_remote_access),
        POOL_TEST(remote_key__of_a_network_without_keys),
        POOL_TEST(remote_key__larger_than_64_bits_travels_packed),
        POOL_TEST(rail__out_of_range_is_refused),
        POOL_TEST(rail__there_is_none_in_a_pool_of_0),
        POOL_TEST(resolve__fills_as_much_as_the_caller_has),
        POOL_TEST(keys__of_live_regions_never_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
