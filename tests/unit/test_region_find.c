/* SPDX-License-Identifier: BSD-3-Clause
 *
 * From any address to its region, and from a range of addresses to what the wire needs.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"

#include <stdlib.h>
#include <sys/mman.h>

static void find__every_byte_of_a_region(void **state)
{
    static const size_t sizes[] = {0, 1, 64, 65, 300, 1000, 5000, 60000};
    struct pool_fixture *f = *state;
    struct mrp_region *regions[80];

    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < 80; i++) {
        regions[i] = pool_fixture_alloc(f, sizes[i % 8]);
    }
    for (size_t i = 0; i < 80; i++) {
        char *address = mrp_region_address(regions[i]);
        size_t capacity = mrp_region_capacity(regions[i]);

        for (size_t j = 0; j < capacity; j++) {
            if (mrp_region_find(f->pool, address + j) != regions[i]) {
                fail_msg("byte %zu of %zu leads elsewhere", j, capacity);
            }
        }
    }
    assert_int_equal(mrp_region_free_many(regions, 80, NULL), MRP_OK);
}

static void find__headroom_and_tailroom_belong_to_the_region(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[20];

    params.headroom = 100;
    params.tailroom = 50;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 20; i++) {
        regions[i] = pool_fixture_alloc(f, i < 18 ? i * 300 : 2 * MRP_MIB);
    }
    for (size_t i = 0; i < 20; i++) {
        char *address = mrp_region_address(regions[i]);
        size_t capacity = mrp_region_capacity(regions[i]);

        assert_ptr_equal(mrp_region_find(f->pool, address - 100), regions[i]);
        assert_ptr_equal(mrp_region_find(f->pool, address - 1), regions[i]);
        assert_ptr_equal(mrp_region_find(f->pool, address + capacity + 49), regions[i]);
        pool_fixture_free(regions[i]);
    }
}

/* All of a pool's blocks, in chunks that are cut in every way. */
static void find__every_region_of_a_mixed_pool(void **state)
{
    static struct mrp_region *regions[20000];
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    uint64_t seed = 3;
    size_t n = 0;

    params.max_bytes = 64 * MRP_MIB;
    pool_fixture_create(f, &params);
    while (n < 20000) {
        size_t size = (size_t)1 << pool_fixture_random(&seed) % 21;

        regions[n] = mrp_region_alloc(f->pool, pool_fixture_random(&seed) % size);
        if (regions[n] == NULL) {
            assert_int_equal(mrp_error_last()->status, MRP_ERR_LIMIT);
            break;
        }
        n++;
    }
    for (size_t i = 0; i < n; i++) {
        char *address = mrp_region_address(regions[i]);
        size_t capacity = mrp_region_capacity(regions[i]);

        assert_ptr_equal(mrp_region_find(f->pool, address), regions[i]);
        assert_ptr_equal(mrp_region_find(f->pool, address + capacity - 1), regions[i]);
        assert_ptr_equal(
            mrp_region_find(f->pool, address + pool_fixture_random(&seed) % capacity),
            regions[i]);
    }
    assert_int_equal(mrp_region_free_many(regions, n, NULL), MRP_OK);
}

static void find__foreign_addresses_are_none(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    struct mrp_region_info info;
    char *heap = malloc(100), on_stack;
    const void *foreign[10];
    struct mrp_wire wire = MRP_WIRE_INIT;

    pool_fixture_create(f, NULL);
    foreign[0] = heap;
    foreign[1] = &on_stack;
    foreign[2] = NULL;
    foreign[3] = (void *)UINTPTR_MAX;
    foreign[4] = (void *)((uintptr_t)1 << 47);
    foreign[5] = (void *)((uintptr_t)1 << 63);
    foreign[6] = f->pool;
    region = pool_fixture_alloc(f, 10);
    info = pool_fixture_query(region);
    foreign[7] = region;
    foreign[8] = (char *)info.chunk_address + info.chunk_size;
    foreign[9] = (char *)info.chunk_address - 1;
    for (size_t i = 0; i < 10; i++) {
        assert_none(mrp_region_find(f->pool, foreign[i]), MRP_ERR_NOT_FOUND, "no region");
        assert_refused(
            mrp_resolve(f->pool, foreign[i], 1, 0, &wire), MRP_ERR_NOT_FOUND, "no chunk");
    }
    /* memory of the chunk that is not cut yet is in the chunk, but in no region */
    assert_none(
        mrp_region_find(f->pool, (char *)info.chunk_address + info.chunk_size - 1),
        MRP_ERR_NOT_FOUND, "no region");
    assert_none(mrp_region_find(NULL, heap), MRP_ERR_STALE, "NULL");
    assert_refused(mrp_resolve(NULL, heap, 1, 0, &wire), MRP_ERR_STALE, "NULL");
    free(heap);
    pool_fixture_free(region);
}

/* What is left behind the last block of a slab is in no region: the sizes make 64 blocks
 * of a slab, so that the next slab's descriptors follow at once. */
static void find__the_end_of_a_slab_is_no_region(void **state)
{
    static const size_t sizes[] = {510 * 64};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[128], *found;
    char *base;

    params.block_sizes = sizes;
    params.n_block_sizes = 1;
    params.chunk_min = params.chunk_max = 128 * MRP_MIB;
    params.max_bytes = 256 * MRP_MIB;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 128; i++) {
        regions[i] = pool_fixture_alloc(f, 1);
    }
    base = pool_fixture_query(regions[0]).chunk_address;
    for (size_t offset = 0; offset < 4 * MRP_MIB; offset += 64) {
        found = mrp_region_find(f->pool, base + offset);
        if (found != NULL) {
            char *address = mrp_region_address(found);

            assert_non_null(address);
            assert_true(address <= base + offset && base + offset < address + sizes[0]);
        } else {
            assert_int_equal(mrp_error_last()->status, MRP_ERR_NOT_FOUND);
            assert_true(offset % (2 * MRP_MIB) >= 64 * sizes[0]);
        }
    }
    assert_int_equal(mrp_region_free_many(regions, 128, NULL), MRP_OK);
}

/* And so for every class, in chunks whose rests are cut as they come. */
static void find__the_rest_of_a_chunk_is_no_region(void **state)
{
    struct pool_fixture *f = *state;

    for (size_t size = 192; size < 16 * MRP_KIB; size += size / 4) {
        struct mrp_pool_params params = pool_fixture_params(f);
        static struct mrp_region *regions[2000];
        struct mrp_region_info info;
        size_t n = 0, n_found = 0;

        params.max_bytes = 256 * MRP_KIB;
        pool_fixture_create(f, &params);
        while ((regions[n] = mrp_region_alloc(f->pool, size)) != NULL) {
            n++;
        }
        info = pool_fixture_query(regions[0]);
        for (size_t offset = 0; offset < info.chunk_size; offset += 64) {
            struct mrp_region *found =
                mrp_region_find(f->pool, (char *)info.chunk_address + offset);

            assert_true(found == NULL || mrp_region_address(found) != NULL);
            n_found += found != NULL;
        }
        assert_int_equal(n_found * 64, n * info.capacity);
        assert_int_equal(mrp_region_free_many(regions, n, NULL), MRP_OK);
        assert_int_equal(mrp_pool_destroy(f->pool), MRP_OK);
        f->pool = NULL;
    }
}

static void find__of_a_slice_is_its_root(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *root, *slice;

    pool_fixture_create(f, NULL);
    root = pool_fixture_alloc(f, 2 * MRP_MIB);
    assert_int_equal(mrp_region_slice(root, MRP_MIB, 5, &slice), MRP_OK);
    assert_ptr_equal(mrp_region_find(f->pool, mrp_region_address(slice)), root);
    pool_fixture_free(slice);
    pool_fixture_free(root);
}

static void find__large_regions_until_they_are_evicted(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_wire wire = MRP_WIRE_INIT;
    struct mrp_region *region;
    char *address;
    size_t last;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 5 * MRP_MIB);
    address = mrp_region_address(region);
    last = mrp_region_capacity(region) - 1;
    assert_ptr_equal(mrp_region_find(f->pool, address), region);
    assert_ptr_equal(mrp_region_find(f->pool, address + 3 * MRP_MIB + 1), region);
    assert_ptr_equal(mrp_region_find(f->pool, address + last), region);
    assert_none(mrp_region_find(f->pool, address + last + 1), MRP_ERR_NOT_FOUND, "");
    pool_fixture_free(region);
    assert_ptr_equal(mrp_region_find(f->pool, address), region); /* idle, and free */
    assert_refused(mrp_ptr_free(f->pool, address), MRP_ERR_STALE, "already");
    assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    assert_none(mrp_region_find(f->pool, address), MRP_ERR_NOT_FOUND, "no region");
    assert_refused(
        mrp_resolve(f->pool, address, 1, 0, &wire), MRP_ERR_NOT_FOUND, "no chunk");
    assert_refused(mrp_ptr_free(f->pool, address), MRP_ERR_STALE, "no live region");
}

static void find__registered_memory_that_overlaps(void **state)
{
    static char around[12000];
    char *memory = around + 1000;
    struct pool_fixture *f = *state;
    struct mrp_region *whole, *part, *found;

    pool_fixture_create(f, NULL);
    assert_int_equal(mrp_region_register(f->pool, memory, 10000, NULL, &whole), MRP_OK);
    assert_int_equal(
        mrp_region_register(f->pool, memory + 1000, 1000, NULL, &part), MRP_OK);
    assert_ptr_equal(mrp_region_find(f->pool, memory), whole);
    assert_ptr_equal(mrp_region_find(f->pool, memory + 999), whole);
    found = mrp_region_find(f->pool, memory + 1500);
    assert_true(found == whole || found == part);
    assert_ptr_equal(mrp_region_find(f->pool, memory + 2000), whole);
    assert_ptr_equal(mrp_region_find(f->pool, memory + 9999), whole);
    assert_none(mrp_region_find(f->pool, memory - 1), MRP_ERR_NOT_FOUND, "");
    assert_none(mrp_region_find(f->pool, memory + 10000), MRP_ERR_NOT_FOUND, "");
    pool_fixture_free(whole);
    assert_none(mrp_region_find(f->pool, memory + 999), MRP_ERR_NOT_FOUND, "");
    assert_ptr_equal(mrp_region_find(f->pool, memory + 1000), part);
    assert_none(mrp_region_find(f->pool, memory + 2000), MRP_ERR_NOT_FOUND, "");
    pool_fixture_free(part);
    assert_none(mrp_region_find(f->pool, memory + 1500), MRP_ERR_NOT_FOUND, "");
}

static void find__is_of_one_pool(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *ours, *theirs;
    struct mrp_wire wire = MRP_WIRE_INIT;
    struct mrp_pool *other;

    pool_fixture_create(f, NULL);
    assert_int_equal(mrp_pool_create(f->context, NULL, &other), MRP_OK);
    for (size_t size = 10; size < 20 * MRP_MIB; size *= 100) {
        ours = pool_fixture_alloc(f, size);
        theirs = mrp_region_alloc(other, size);
        assert_none(
            mrp_region_find(other, mrp_region_address(ours)), MRP_ERR_NOT_FOUND, "");
        assert_none(
            mrp_region_find(f->pool, mrp_region_address(theirs)), MRP_ERR_NOT_FOUND, "");
        assert_refused(mrp_resolve(f->pool, mrp_region_address(theirs), 1, 0, &wire),
            MRP_ERR_NOT_FOUND, "");
        assert_ptr_equal(mrp_region_pool(theirs), other);
        pool_fixture_free(ours);
        assert_int_equal(mrp_region_free(theirs), MRP_OK);
    }
    assert_int_equal(mrp_pool_destroy(other), MRP_OK);
}

static void resolve__sizes_end_with_the_registration(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_wire wire = MRP_WIRE_INIT;
    struct mrp_region_info info;
    struct mrp_region *region;
    char *end;

    pool_fixture_create(f, NULL);
    for (size_t size = 100; size < 3 * MRP_MIB; size *= 20) {
        region = pool_fixture_alloc(f, size);
        info = pool_fixture_query(region);
        end = (char *)info.chunk_address + info.chunk_size;
        assert_int_equal(
            mrp_resolve(f->pool, info.chunk_address, info.chunk_size, 0, &wire), MRP_OK);
        assert_int_equal(wire.bytes_left, info.chunk_size);
        assert_int_equal(mrp_resolve(f->pool, end - 1, 1, 0, &wire), MRP_OK);
        assert_int_equal(wire.bytes_left, 1);
        wire.bytes_left = 99;
        assert_refused(
            mrp_resolve(f->pool, end - 1, 2, 0, &wire), MRP_ERR_INVALID, "2 bytes at");
        assert_refused(mrp_resolve(f->pool, info.address, SIZE_MAX, 0, &wire),
            MRP_ERR_INVALID, "run past the registration");
        assert_int_equal(wire.bytes_left, 99);
        pool_fixture_free(region);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(find__every_byte_of_a_region),
        POOL_TEST(find__headroom_and_tailroom_belong_to_the_region),
        POOL_TEST(find__every_region_of_a_mixed_pool),
        POOL_TEST(find__foreign_addresses_are_none),
        POOL_TEST(find__the_end_of_a_slab_is_no_region),
        POOL_TEST(find__the_rest_of_a_chunk_is_no_region),
        POOL_TEST(find__of_a_slice_is_its_root),
        POOL_TEST(find__large_regions_until_they_are_evicted),
        POOL_TEST(find__registered_memory_that_overlaps),
        POOL_TEST(find__is_of_one_pool),
        POOL_TEST(resolve__sizes_end_with_the_registration),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
