/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Slices: a part of a region, with its keys, that keeps the whole of it alive.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"

static struct mrp_region *slice_of(struct mrp_region *parent, size_t offset, size_t size)
{
    struct mrp_region *slice = NULL;

    assert_int_equal(mrp_region_slice(parent, offset, size, &slice), MRP_OK);
    assert_ptr_equal(
        mrp_region_address(slice), (char *)mrp_region_address(parent) + offset);
    assert_int_equal(mrp_region_size(slice), size);
    assert_int_equal(mrp_region_capacity(slice), size);
    return slice;
}

static void slice__holds_its_root(void **state)
{
    static const size_t sizes[] = {1000, 2 * MRP_MIB};
    struct pool_fixture *f = *state;

    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < 2; i++) {
        struct mrp_region *root = pool_fixture_alloc(f, sizes[i]);
        struct mrp_region *slice = slice_of(root, 100, 200);
        struct mrp_region_info info = pool_fixture_query(slice);

        assert_int_equal(info.kind, MRP_REGION_SLICE);
        assert_ptr_equal(info.parent, root);
        assert_int_equal(info.references, 1);
        assert_int_equal(info.tier, pool_fixture_query(root).tier);
        assert_ptr_equal(info.chunk_address, pool_fixture_query(root).chunk_address);
        assert_int_equal(pool_fixture_query(root).references, 2);
        assert_int_equal(pool_fixture_stats(f->pool).n_slices, 1);
        assert_refused(mrp_region_free(root), MRP_ERR_BUSY, "2 references");
        assert_int_equal(mrp_region_release(root), MRP_OK);
        assert_non_null(mrp_region_address(root)); /* the slice has it */
        pool_fixture_free(slice);
        assert_null(mrp_region_address(root));
        assert_null(mrp_region_address(slice));
        assert_int_equal(pool_fixture_stats(f->pool).n_slices, 0);
        assert_int_equal(pool_fixture_stats(f->pool).n_large, 0);
    }
    assert_int_equal(pool_fixture_stats(f->pool).n_idle, 1);
}

static void slice__of_a_slice_holds_the_same_root(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *root, *outer, *inner, *innermost;

    pool_fixture_create(f, NULL);
    root = pool_fixture_alloc(f, 1000);
    outer = slice_of(root, 100, 500);
    inner = slice_of(outer, 10, 490);
    innermost = slice_of(inner, 489, 1);
    assert_ptr_equal(pool_fixture_query(inner).parent, root);
    assert_ptr_equal(pool_fixture_query(innermost).parent, root);
    assert_int_equal(pool_fixture_query(root).references, 4);
    assert_int_equal(mrp_region_release(root), MRP_OK);
    pool_fixture_free(outer);
    assert_refused(mrp_region_slice(outer, 0, 1, &outer), MRP_ERR_STALE, "");
    pool_fixture_free(inner);
    assert_int_equal(pool_fixture_query(root).references, 1);
    assert_ptr_equal(
        mrp_region_address(innermost), (char *)mrp_region_address(root) + 599);
    pool_fixture_free(innermost);
    assert_refused(mrp_region_free(root), MRP_ERR_STALE, "");
}

static void slice__can_be_retained_itself(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *root, *slice;

    pool_fixture_create(f, NULL);
    root = pool_fixture_alloc(f, 64);
    slice = slice_of(root, 0, 64);
    assert_int_equal(mrp_region_retain(slice), MRP_OK);
    assert_refused(mrp_region_free(slice), MRP_ERR_BUSY, "2 references");
    assert_int_equal(mrp_region_release(slice), MRP_OK);
    assert_int_equal(mrp_region_release(slice), MRP_OK);
    assert_refused(mrp_region_release(slice), MRP_ERR_STALE, "");
    pool_fixture_free(root);
}

static void slice__out_of_range_is_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *root, *slice, *untouched = NULL;

    pool_fixture_create(f, NULL);
    root = pool_fixture_alloc(f, 100); /* of 128: only what was asked for counts */
    assert_refused(mrp_region_slice(root, 0, 101, &untouched), MRP_ERR_INVALID,
        "a slice of 101 bytes at 0 runs past the region's 100 bytes");
    assert_refused(mrp_region_slice(root, 101, 0, &untouched), MRP_ERR_INVALID, "at 101");
    assert_refused(mrp_region_slice(root, 50, 51, &untouched), MRP_ERR_INVALID, "past");
    assert_refused(
        mrp_region_slice(root, 1, SIZE_MAX, &untouched), MRP_ERR_INVALID, "past");
    assert_refused(
        mrp_region_slice(root, SIZE_MAX, 1, &untouched), MRP_ERR_INVALID, "past");
    assert_refused(mrp_region_slice(root, 0, 1, NULL), MRP_ERR_INVALID, "NULL");
    slice = slice_of(root, 100, 0);
    pool_fixture_free(slice);
    slice = slice_of(root, 50, 50);
    assert_refused(mrp_region_slice(slice, 1, 50, &untouched), MRP_ERR_INVALID, "past");
    assert_refused(mrp_region_set_length(slice, 51), MRP_ERR_INVALID, "50 bytes");
    assert_int_equal(mrp_region_set_length(slice, 50), MRP_OK);
    pool_fixture_free(slice);
    assert_null(untouched);
    pool_fixture_free(root);
    assert_refused(mrp_region_slice(root, 0, 1, &untouched), MRP_ERR_STALE, "");
}

static void slice__has_the_keys_of_its_root(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *root, *slice;
    uint64_t of_root, of_slice;
    size_t root_offset, slice_offset;
    void *root_native, *slice_native;

    pool_fixture_create(f, NULL);
    root = pool_fixture_alloc(f, 5000);
    slice = slice_of(root, 1234, 100);
    assert_int_equal(mrp_region_remote_key(root, 0, &of_root), MRP_OK);
    assert_int_equal(mrp_region_remote_key(slice, 0, &of_slice), MRP_OK);
    assert_int_equal(of_root, of_slice);
    assert_int_equal(mrp_region_remote_addr(root, 0, &of_root), MRP_OK);
    assert_int_equal(mrp_region_remote_addr(slice, 0, &of_slice), MRP_OK);
    assert_int_equal(of_root + 1234, of_slice);
    assert_int_equal(
        mrp_region_registration(root, 0, &root_native, &root_offset), MRP_OK);
    assert_int_equal(
        mrp_region_registration(slice, 0, &slice_native, &slice_offset), MRP_OK);
    assert_ptr_equal(root_native, slice_native);
    assert_int_equal(root_offset + 1234, slice_offset);
    assert_ptr_equal(mrp_region_find(f->pool, mrp_region_address(slice)), root);
    assert_refused(mrp_ptr_free(f->pool, mrp_region_address(slice)), MRP_ERR_STALE,
        "1234 bytes inside");
    pool_fixture_free(slice);
    pool_fixture_free(root);
}

static void slice__of_registered_memory(void **state)
{
    static char memory[1000];
    struct pool_fixture *f = *state;
    struct mrp_region *root, *slice;

    pool_fixture_create(f, NULL);
    assert_int_equal(mrp_region_register(f->pool, memory, 1000, NULL, &root), MRP_OK);
    slice = slice_of(root, 999, 1);
    assert_int_equal(mrp_region_release(root), MRP_OK);
    assert_int_equal(f->networks[0].n_live, 1);
    pool_fixture_free(slice);
    assert_int_equal(f->networks[0].n_live, 0);
}

/* Thousands of them: bare descriptors come in groups and are used again. */
static void slice__ten_thousand_of_one_region(void **state)
{
    static struct mrp_region *slices[10000];
    struct pool_fixture *f = *state;
    struct mrp_region *root;

    pool_fixture_create(f, NULL);
    root = pool_fixture_alloc(f, 10000);
    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0; i < 10000; i++) {
            slices[i] = slice_of(root, i, 1);
        }
        assert_int_equal(pool_fixture_query(root).references, 10001);
        assert_int_equal(pool_fixture_stats(f->pool).n_slices, 10000);
        assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
        assert_int_equal(mrp_region_free_many(slices, 10000, NULL), MRP_OK);
    }
    assert_int_equal(f->networks[0].n_register, 1);
    assert_true(f->pool->depots[MRP_CLASS_BARE].n_regions <= 10000 + 64);
    pool_fixture_free(root);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(slice__holds_its_root),
        POOL_TEST(slice__of_a_slice_holds_the_same_root),
        POOL_TEST(slice__can_be_retained_itself),
        POOL_TEST(slice__out_of_range_is_refused),
        POOL_TEST(slice__has_the_keys_of_its_root),
        POOL_TEST(slice__of_registered_memory),
        POOL_TEST(slice__ten_thousand_of_one_region),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
