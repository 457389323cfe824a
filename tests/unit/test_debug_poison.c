/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Poison: what is written to a free block is found when the block is given out again.
 */
#include "debug.h"
#include "pool/depot.h"

/* A block that is free: its address, and what wrote there is found with these words. The
 * next region is sound; the one written to comes no more. */
static void check_found(
    struct pool_fixture *f, size_t size, const void *address, const char *words)
{
    struct mrp_region *next;

    assert_none(mrp_region_alloc(f->pool, size), MRP_ERR_CORRUPT, words);
    assert_non_null(strstr(mrp_error_last()->text, "was written to while it was free"));
    for (int i = 0; i < 3; i++) {
        next = pool_fixture_alloc(f, size);
        assert_ptr_not_equal(mrp_region_address(next), address);
        pool_fixture_free(next);
    }
}

/* What was set aside is missing: mrp_pool_check says so. Repaired, for the teardown. */
static void repair(struct pool_fixture *f, struct mrp_region *region, size_t offset)
{
    uint32_t poison = MRP_POISON;

    assert_refused(mrp_pool_check(f->pool), MRP_ERR_CORRUPT, "were cut");
    write_late(mrp_payload(region), offset, ((unsigned char *)&poison)[offset % 4]);
    mrp_depot_put(f->pool, region);
    assert_int_equal(mrp_pool_check(f->pool), MRP_OK);
}

static void poison__fills_free_blocks(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    uint32_t word;

    debug_create(f, MRP_DEBUG_POISON);
    assert_int_equal(f->pool->debug, MRP_DEBUG_POISON);
    assert_int_equal(f->pool->cache_slot, MRP_NO_SLOT);
    for (size_t size = 1; size <= 3 * MRP_MIB; size = size * 3 + 1) {
        unsigned char *address;

        region = pool_fixture_alloc(f, size);
        address = mrp_region_address(region);
        for (int round = 0; round < 2; round++) { /* as cut, as freed */
            for (size_t i = 0; i + 4 <= mrp_region_capacity(region); i += 4) {
                memcpy(&word, address + i, 4);
                assert_int_equal(word, 0xdeadbeef);
            }
            memset(address, 0x55, mrp_region_capacity(region));
            pool_fixture_free(region);
            assert_ptr_equal(pool_fixture_alloc(f, size), region);
        }
        pool_fixture_free(region);
    }
}

static void poison__finds_a_write_after_free_with_its_offset(void **state)
{
    static const size_t offsets[] = {0, 1, 63, 64, 1234, 4094, 4095};
    struct pool_fixture *f = *state;

    debug_create(f, MRP_DEBUG_POISON);
    for (size_t i = 0; i < N_OF(offsets); i++) {
        struct mrp_region *region = pool_fixture_alloc(f, 4096);
        char *address = mrp_region_address(region), words[64];
        uint32_t word;

        assert_int_equal(mrp_region_capacity(region), 4096);
        memset(address, 1, 4096);
        pool_fixture_free(region);
        write_late(address, offsets[i], 0x42);
        write_late(address, 4095, 0x42); /* the first one counts */
        memcpy(&word, address + offsets[i] / 4 * 4, 4);
        snprintf(words, sizeof words, "at byte %zu of its 4096", offsets[i]);
        check_found(f, 4096, address, words);
        write_late(address, 4095, 0xde);
        pool_fixture_free(pool_fixture_alloc(f, 4096));
        repair(f, region, offsets[i]);
    }
}

static void poison__names_what_it_finds(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    char *address, words[128];

    debug_create(f, MRP_DEBUG_POISON);
    region = pool_fixture_alloc(f, 300);
    address = mrp_region_address(region);
    pool_fixture_free(region);
    write_late(address, 42, 0x11);
    snprintf(words, sizeof words, "region %p of pool ", (void *)region);
    assert_none(mrp_region_alloc(f->pool, 300), MRP_ERR_CORRUPT, words);
    assert_non_null(strstr(mrp_error_last()->text, "stands 0xde11beef, not 0xdeadbeef"));
    assert_null(strstr(mrp_error_last()->text, "last owner"));
    repair(f, region, 42);
}

static void poison__names_the_last_owner(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct mrp_region *region;

    request.tag = "halo exchange";
    for (int round = 0; round < 2; round++) {
        debug_create(f, MRP_DEBUG_POISON | (round == 0 ? 0 : MRP_DEBUG_ORIGINS));
        region = round == 0 ? mrp_region_alloc_with(f->pool, 300, &request)
                            : mrp_region_alloc(f->pool, 300);
        assert_non_null(region);
        pool_fixture_free(region);
        write_late(mrp_payload(region), 0, 0x11);
        assert_none(mrp_region_alloc(f->pool, 300), MRP_ERR_CORRUPT,
            round == 0 ? "; its last owner: halo exchange" : "(test_debug_poison)");
        repair(f, region, 0);
        debug_destroy(f);
    }
}

/* Also those that were cut, and never anybody's. */
static void poison__finds_a_write_to_a_block_never_given_out(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    char *neighbour;

    debug_create(f, MRP_DEBUG_POISON);
    region = pool_fixture_alloc(f, 256);
    neighbour = (char *)mrp_region_address(region) + 256;
    neighbour[3] = 0x77; /* past the end of what it owns */
    for (size_t n = 0;; n++) {
        struct mrp_region *next = mrp_region_alloc(f->pool, 256);

        assert_true(n < 100000);
        if (next == NULL) {
            break;
        }
        assert_ptr_not_equal(mrp_region_address(next), neighbour);
    }
    pool_fixture_check_error(MRP_ERR_CORRUPT, "at byte 3 of its 256", __FILE__, __LINE__);
    mrp_pool_destroy(f->pool);
    f->pool = NULL;
}

static void poison__finds_a_write_to_an_idle_large_region(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region, *next;
    char *address;

    debug_create(f, MRP_DEBUG_POISON);
    region = pool_fixture_alloc(f, 3 * MRP_MIB);
    address = mrp_region_address(region);
    pool_fixture_free(region);
    assert_ptr_equal(pool_fixture_alloc(f, 3 * MRP_MIB), region);
    assert_int_equal(f->networks[0].n_register, 1);
    pool_fixture_free(region);
    write_late(address, 2 * MRP_MIB + 5, 0);
    assert_none(
        mrp_region_alloc(f->pool, 3 * MRP_MIB), MRP_ERR_CORRUPT, "at byte 2097157 of");
    next = pool_fixture_alloc(f, 3 * MRP_MIB);
    assert_ptr_not_equal(mrp_region_address(next), address);
    pool_fixture_free(next);
    assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    assert_int_equal(f->networks[0].n_live, 1); /* set aside until the pool goes */
}

/* Its memory is written to by peers only as far as the payload goes: what stands before
 * and behind it is not looked at. */
static void poison__leaves_headroom_and_tailroom(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *region;
    char *address;
    size_t capacity;

    params.debug = MRP_DEBUG_POISON;
    params.headroom = 64;
    params.tailroom = 13;
    pool_fixture_create(f, &params);
    region = pool_fixture_alloc(f, 1000);
    address = mrp_region_address(region);
    capacity = mrp_region_capacity(region);
    assert_int_not_equal(capacity % 4, 0);
    memset(address - 64, 7, 64 + capacity + 13);
    pool_fixture_free(region);
    assert_int_equal(address[-1], 7);
    assert_int_equal(address[capacity], 7);
    address[-1] = address[capacity] = 8;
    assert_ptr_equal(pool_fixture_alloc(f, 1000), region);
    pool_fixture_free(region);
    write_late(address, capacity - 1, 8); /* in a word that is not whole */
    assert_none(mrp_region_alloc(f->pool, 1000), MRP_ERR_CORRUPT, "while it was free");
    write_late(address, capacity - 1,
        ((const unsigned char[]){0xef, 0xbe, 0xad, 0xde})[(capacity - 1) % 4]);
    mrp_depot_put(f->pool, region);
}

static enum mrp_status fill_user(struct mrp_region *region, void *user, void *unused)
{
    (void)unused;
    memcpy(user, "once", 5);
    memcpy(mrp_region_address(region), "gone", 5);
    return MRP_OK;
}

static void poison__comes_after_region_init_and_leaves_user_data(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    params.debug = MRP_DEBUG_POISON;
    params.user_size = 16;
    params.region_init = fill_user;
    pool_fixture_create(f, &params);
    for (size_t size = 100; size <= 2 * MRP_MIB; size += 2 * MRP_MIB - 100) {
        for (int round = 0; round < 2; round++) {
            struct mrp_region *region = pool_fixture_alloc(f, size);
            const unsigned char *address = mrp_region_address(region);

            assert_string_equal(mrp_region_user(region), "once");
            assert_int_equal(address[0], 0xef);
            pool_fixture_free(region);
        }
    }
}

static void poison__works_on_every_way_in_and_out(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region_request request = MRP_REGION_REQUEST_INIT;
    struct mrp_region *regions[100], *slice;
    char zero[500] = {0};
    void *address;

    debug_create(f, MRP_DEBUG_POISON);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(mrp_region_alloc_many(f->pool, 500, 100, regions), 100);
        for (size_t i = 0; i < 100; i++) {
            memset(mrp_region_address(regions[i]), 3, 500);
        }
        assert_int_equal(mrp_region_free_many(regions, 100, NULL), MRP_OK);
        request.flags = MRP_REQUEST_ZERO;
        regions[0] = mrp_region_alloc_with(f->pool, 500, &request);
        assert_memory_equal(mrp_region_address(regions[0]), zero, 500);
        assert_int_equal(mrp_region_slice(regions[0], 100, 100, &slice), MRP_OK);
        pool_fixture_free(slice);
        assert_int_equal(((char *)mrp_region_address(regions[0]))[100], 0);
        assert_int_equal(mrp_region_slice(regions[0], 100, 100, &slice), MRP_OK);
        assert_int_equal(mrp_region_release(regions[0]), MRP_OK);
        pool_fixture_free(slice); /* the last hold */
        address = mrp_ptr_alloc(f->pool, 500);
        memset(address, 1, 500);
        assert_int_equal(mrp_ptr_free(f->pool, address), MRP_OK);
    }
}

/* The caller's own memory is not ours to write to. */
static void poison__leaves_registered_memory(void **state)
{
    struct pool_fixture *f = *state;
    char memory[256] = "mine";
    struct mrp_region *region;

    debug_create(f, MRP_DEBUG_POISON | MRP_DEBUG_MEMCHECK);
    assert_int_equal(
        mrp_region_register(f->pool, memory, sizeof memory, NULL, &region), MRP_OK);
    assert_string_equal(memory, "mine");
    pool_fixture_free(region);
    assert_string_equal(memory, "mine");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(poison__fills_free_blocks),
        POOL_TEST(poison__finds_a_write_after_free_with_its_offset),
        POOL_TEST(poison__names_what_it_finds),
        POOL_TEST(poison__names_the_last_owner),
        POOL_TEST(poison__finds_a_write_to_a_block_never_given_out),
        POOL_TEST(poison__finds_a_write_to_an_idle_large_region),
        POOL_TEST(poison__leaves_headroom_and_tailroom),
        POOL_TEST(poison__comes_after_region_init_and_leaves_user_data),
        POOL_TEST(poison__works_on_every_way_in_and_out),
        POOL_TEST(poison__leaves_registered_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
