/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tokens: from a region to 32 bytes and back, by the owner; everything else is refused.
 */
#include "context/wire.h"
#include "pool/pool.h"
#include "support/pool_fixture.h"

static char memory[5000];

static struct mrp_token token_of(const struct mrp_region *region)
{
    struct mrp_token token;

    memset(&token, 0xee, sizeof token);
    assert_int_equal(mrp_region_token(region, &token), MRP_OK);
    return token;
}

static void check_back(struct pool_fixture *f, struct mrp_region *region)
{
    struct mrp_token token = token_of(region);
    struct mrp_region *found = NULL;

    assert_int_equal(mrp_token_resolve(f->pool, &token, &found), MRP_OK);
    assert_ptr_equal(found, region);
}

static void refuse_token(struct mrp_pool *pool, const struct mrp_token *token,
    enum mrp_status status, const char *words)
{
    struct mrp_region *untouched = (struct mrp_region *)pool, *found = untouched;

    assert_refused(mrp_token_resolve(pool, token, &found), status, words);
    assert_ptr_equal(found, untouched);
}

static void resolve__leads_back(void **state)
{
    static const size_t sizes[] = {0, 1, 1000, 20000, 64 * MRP_KIB, MRP_MIB, 9 * MRP_MIB};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);
    struct mrp_region *regions[70];

    params.headroom = 10;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 70; i++) {
        regions[i] = pool_fixture_alloc(f, sizes[i % 7]);
    }
    for (size_t i = 0; i < 70; i++) {
        check_back(f, regions[i]);
    }
    assert_int_equal(mrp_region_free_many(regions, 70, NULL), MRP_OK);
}

static void resolve__is_stale_after_free(void **state)
{
    static const size_t sizes[] = {1, 20000, 9 * MRP_MIB};
    struct pool_fixture *f = *state;

    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < 3; i++) {
        struct mrp_region *region = pool_fixture_alloc(f, sizes[i]);
        struct mrp_token token = token_of(region);

        pool_fixture_free(region);
        refuse_token(f->pool, &token, MRP_ERR_STALE, "given back since");
        assert_ptr_equal(pool_fixture_alloc(f, sizes[i]), region);
        refuse_token(f->pool, &token, MRP_ERR_STALE, "given back since");
        check_back(f, region); /* its new one is good */
        pool_fixture_free(region);
    }
}

static void resolve__is_stale_after_the_chunk_went(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region;
    struct mrp_token token;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 9 * MRP_MIB);
    token = token_of(region);
    pool_fixture_free(region);
    assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    refuse_token(f->pool, &token, MRP_ERR_STALE, "given back since");
    region = pool_fixture_alloc(f, 9 * MRP_MIB); /* the same chunk number again */
    refuse_token(f->pool, &token, MRP_ERR_STALE, "given back since");
    check_back(f, region);
    pool_fixture_free(region);
}

/* The same chunk number, another descriptor, as many owners: only the chunk differs. */
static void resolve__is_stale_for_the_next_chunk_of_that_number(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region, *next, *slice;
    struct mrp_token token;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 9 * MRP_MIB);
    token = token_of(region);
    next = pool_fixture_alloc(f, 100);
    pool_fixture_free(region);
    assert_int_equal(mrp_context_trim(f->context, 0), MRP_OK);
    assert_int_equal(mrp_region_slice(next, 0, 1, &slice), MRP_OK);
    assert_ptr_equal(slice, region); /* the descriptor is taken */
    region = pool_fixture_alloc(f, 9 * MRP_MIB);
    assert_ptr_not_equal(region, slice);
    assert_int_equal(pool_fixture_query(region).generation, 1);
    refuse_token(f->pool, &token, MRP_ERR_STALE, "given back since");
    pool_fixture_free(slice);
    pool_fixture_free(next);
    pool_fixture_free(region);
}

static void resolve__of_registered_memory_that_overlaps(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *whole, *same, *part, *owner, *inside;

    pool_fixture_create(f, NULL);
    assert_int_equal(mrp_region_register(f->pool, memory, 5000, NULL, &whole), MRP_OK);
    check_back(f, whole);
    assert_int_equal(mrp_region_register(f->pool, memory, 5000, NULL, &same), MRP_OK);
    assert_int_equal(mrp_region_register(f->pool, memory + 10, 90, NULL, &part), MRP_OK);
    owner = pool_fixture_alloc(f, 1000);
    assert_int_equal(
        mrp_region_register(f->pool, mrp_region_address(owner), 1000, NULL, &inside),
        MRP_OK);
    check_back(f, whole);
    check_back(f, same);
    check_back(f, part);
    check_back(f, owner);
    check_back(f, inside);
    pool_fixture_free(inside);
    pool_fixture_free(owner);
    pool_fixture_free(part);
    pool_fixture_free(same);
    pool_fixture_free(whole);
}

static void resolve__of_a_slice_is_its_root(void **state)
{
    static const size_t sizes[] = {1000, 9 * MRP_MIB};
    struct pool_fixture *f = *state;

    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < 2; i++) {
        struct mrp_region *root = pool_fixture_alloc(f, sizes[i]), *slice, *found = NULL;
        struct mrp_token token;

        assert_int_equal(mrp_region_slice(root, 100, 200, &slice), MRP_OK);
        token = token_of(slice);
        assert_int_equal(mrp_token_resolve(f->pool, &token, &found), MRP_OK);
        assert_ptr_equal(found, root);
        pool_fixture_free(slice);
        pool_fixture_free(root);
        refuse_token(f->pool, &token, MRP_ERR_STALE, "given back since");
    }
}

static void resolve__of_another_pool_is_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region, *theirs;
    struct mrp_token token;
    struct mrp_pool *other;

    pool_fixture_create(f, NULL);
    assert_int_equal(mrp_pool_create(f->context, NULL, &other), MRP_OK);
    region = pool_fixture_alloc(f, 100);
    theirs = mrp_region_alloc(other, 100);
    token = token_of(region);
    refuse_token(other, &token, MRP_ERR_INVALID, "the token is of pool");
    token = token_of(theirs);
    refuse_token(f->pool, &token, MRP_ERR_INVALID, "the token is of pool");
    assert_int_equal(mrp_region_free(theirs), MRP_OK);
    assert_int_equal(mrp_pool_destroy(other), MRP_OK);
    pool_fixture_free(region);
}

/* Any single bit, and any byte replaced. */
static void resolve__of_a_corrupted_token_is_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region, *found;
    struct mrp_token good, bad;
    size_t n_taken = 0;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 100);
    good = token_of(region);
    for (size_t bit = 0; bit < 8 * MRP_TOKEN_SIZE; bit++) {
        bad = good;
        bad.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        refuse_token(f->pool, &bad, MRP_ERR_INVALID, "");
    }
    for (size_t byte = 0; byte < MRP_TOKEN_SIZE; byte++) {
        for (unsigned value = 0; value < 256; value++) {
            bad = good;
            bad.bytes[byte] = (uint8_t)value;
            n_taken += mrp_token_resolve(f->pool, &bad, &found) == MRP_OK;
        }
    }
    assert_int_equal(n_taken, MRP_TOKEN_SIZE); /* those that are the good one */
    memset(&bad, 0, sizeof bad);
    refuse_token(f->pool, &bad, MRP_ERR_INVALID, "");
    memset(&bad, 0xff, sizeof bad);
    refuse_token(f->pool, &bad, MRP_ERR_INVALID, "");
    pool_fixture_free(region);
}

/* Under a check that is right: more bytes than the region has, or others than its own. */
static void resolve__of_bytes_that_are_not_the_regions_is_refused(void **state)
{
    static const size_t sizes[] = {100, 20000, 9 * MRP_MIB};
    struct pool_fixture *f = *state;
    struct mrp_pool_params params = pool_fixture_params(f);

    params.headroom = 64;
    pool_fixture_create(f, &params);
    for (size_t i = 0; i < 3; i++) {
        struct mrp_region *region = pool_fixture_alloc(f, sizes[i]), *found;
        size_t capacity = mrp_region_capacity(region);
        struct mrp_token token = token_of(region);
        struct mrp_wire_token fields, forged;

        assert_int_equal(mrp_token_decode(&token, &fields), MRP_OK);
        forged = fields;
        forged.length = capacity;
        mrp_token_encode(&forged, &token);
        assert_int_equal(mrp_token_resolve(f->pool, &token, &found), MRP_OK);
        forged.length = capacity + 1;
        mrp_token_encode(&forged, &token);
        refuse_token(f->pool, &token, MRP_ERR_STALE, "token");
        forged.offset = fields.offset + capacity;
        forged.length = 1;
        mrp_token_encode(&forged, &token);
        refuse_token(f->pool, &token, MRP_ERR_STALE, "token");
        forged.offset = fields.offset - 1; /* the headroom's last byte */
        mrp_token_encode(&forged, &token);
        refuse_token(f->pool, &token, MRP_ERR_STALE, "token");
        pool_fixture_free(region);
    }
}

static void token__null_arguments_are_refused(void **state)
{
    struct pool_fixture *f = *state;
    struct mrp_region *region, *found;
    struct mrp_token token;

    pool_fixture_create(f, NULL);
    region = pool_fixture_alloc(f, 1);
    token = token_of(region);
    assert_refused(mrp_region_token(region, NULL), MRP_ERR_INVALID, "NULL");
    assert_refused(mrp_region_token(NULL, &token), MRP_ERR_STALE, "NULL");
    assert_refused(mrp_token_resolve(f->pool, NULL, &found), MRP_ERR_INVALID, "NULL");
    assert_refused(mrp_token_resolve(f->pool, &token, NULL), MRP_ERR_INVALID, "NULL");
    assert_refused(mrp_token_resolve(NULL, &token, &found), MRP_ERR_STALE, "NULL");
    pool_fixture_free(region);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(resolve__leads_back),
        POOL_TEST(resolve__is_stale_after_free),
        POOL_TEST(resolve__is_stale_after_the_chunk_went),
        POOL_TEST(resolve__is_stale_for_the_next_chunk_of_that_number),
        POOL_TEST(resolve__of_registered_memory_that_overlaps),
        POOL_TEST(resolve__of_a_slice_is_its_root),
        POOL_TEST(resolve__of_another_pool_is_refused),
        POOL_TEST(resolve__of_a_corrupted_token_is_refused),
        POOL_TEST(resolve__of_bytes_that_are_not_the_regions_is_refused),
        POOL_TEST(token__null_arguments_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
