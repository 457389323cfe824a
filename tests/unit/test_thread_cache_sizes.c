/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Whatever stands about the payload: a region holds what was asked for, also when a
 * thread's cache had it at hand, and sizes that overflow are refused.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"
#include "support/test_system.h"

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))
#define RING 64

static const size_t dense[] = {1, 63, 64, 65, 100, 128, 129, 4096};
static const size_t sparse[] = {48, 200, 1000, 1024, 1500, 9000, 65536};
static const size_t crowded[] = {
    704, 4160, 4224, 9024, 9088, 70016}; /* of one bin some */
static const size_t tight[] = {24, 88, 152, 216, 728};

/* What a pool's blocks look like. */
static const struct geometry {
    size_t headroom, tailroom, alignment;
    const size_t *block_sizes;
    size_t n_block_sizes;
} geometries[] = {
    {0, 0, 0, NULL, 0},
    {64, 0, 0, NULL, 0},
    {1, 0, 0, NULL, 0},
    {0, 40, 0, NULL, 0}, /* of the smallest block more than half is tailroom */
    {0, 1, 0, NULL, 0},
    {0, 63, 0, NULL, 0},
    {0, 64, 0, NULL, 0},
    {64, 46, 0, NULL, 0},
    {64, 24, 0, NULL, 0},
    {128, 30, 0, NULL, 0},
    {128, 72, 0, NULL, 0},
    {192, 8, 0, NULL, 0},
    {250, 250, 0, NULL, 0},
    {1000, 3, 0, NULL, 0},
    {0, 0, 4096, NULL, 0},
    {1, 1, 4096, NULL, 0},
    {0, 0, 16384, NULL, 0},
    {3, 300, 256, NULL, 0},
    {65536, 65536, 0, NULL, 0},
    {0, 0, 0, dense, N_OF(dense)},
    {0, 0, 0, sparse, N_OF(sparse)},
    {0, 0, 1024, sparse, N_OF(sparse)},
    {0, 0, 0, crowded, N_OF(crowded)},
    {64, 0, 0, crowded, N_OF(crowded)},
    {100, 7, 0, sparse, N_OF(sparse)},
    {0, 40, 0, tight, N_OF(tight)}, /* blocks without a rest */
    {0, 0, 0, sparse, 1},
};

static void create(
    struct pool_fixture *f, const struct geometry *geometry, enum mrp_checks checks)
{
    struct mrp_pool_params params = pool_fixture_params(f);

    params.max_bytes = 512 * MRP_MIB;
    params.headroom = geometry->headroom;
    params.tailroom = geometry->tailroom;
    params.alignment = geometry->alignment;
    params.block_sizes = geometry->block_sizes;
    params.n_block_sizes = geometry->n_block_sizes;
    params.checks = (uint32_t)checks;
    pool_fixture_create(f, &params);
}

static void destroy(struct pool_fixture *f)
{
    struct mrp_pool *pool = f->pool;

    if (mrp_pool_check(pool) != MRP_OK || mrp_pool_destroy(pool) != MRP_OK) {
        fail_msg("%s", mrp_error_last()->text);
    }
    f->pool = NULL;
}

/* -- what is given fits -- */

struct held {
    struct mrp_region *region;
    size_t size;
    unsigned char mark;
};

static struct mrp_region *take(struct mrp_pool *pool, size_t size, bool is_inline)
{
    struct mrp_region *region =
        is_inline ? mrp_region_alloc_inline(pool, size) : mrp_region_alloc(pool, size);

    if (region == NULL) {
        fail_msg("%zu bytes: %s", size, mrp_error_last()->text);
    }
    return region;
}

static void check_region(
    const struct geometry *geometry, const struct mrp_region *region, size_t size)
{
    size_t alignment = geometry->alignment == 0 ? 64 : geometry->alignment;
    enum mrp_checks checks = mrp_region_pool(region)->checks;

    assert_true(mrp_region_capacity(region) >= size);
    assert_int_equal((uintptr_t)mrp_region_address(region) % alignment, 0);
    assert_int_equal(mrp_region_size(region),
        checks == MRP_CHECKS_NONE ? mrp_region_capacity(region) : size);
}

/* Nobody else's bytes: the first and the last one are as they were left. */
static void begin_use(struct held *held)
{
    unsigned char *bytes = mrp_region_address(held->region);

    if (held->size > 0) {
        bytes[0] = bytes[held->size - 1] = held->mark;
    }
}

static void end_use(struct held *held, bool is_inline)
{
    const unsigned char *bytes = mrp_region_address(held->region);

    if (held->size > 0) {
        assert_int_equal(bytes[0], held->mark);
        assert_int_equal(bytes[held->size - 1], held->mark);
    }
    assert_int_equal(
        is_inline ? mrp_region_free_inline(held->region) : mrp_region_free(held->region),
        MRP_OK);
    held->region = NULL;
}

/* Every magnitude is as likely as any other. */
static size_t random_size(uint64_t *seed, size_t most)
{
    size_t magnitude = (size_t)1 << pool_fixture_random(seed) % 18;
    size_t size = pool_fixture_random(seed) % 8 == 0
        ? magnitude - 1 + pool_fixture_random(seed) % 3
        : pool_fixture_random(seed) % (2 * magnitude);

    return mrp_min(size, most);
}

static void use(struct pool_fixture *f, const struct geometry *geometry, size_t n_rounds)
{
    size_t most = f->pool->classes.max_payload;
    struct held ring[RING] = {{NULL, 0, 0}};
    uint64_t seed = 7;

    for (size_t i = 0; i < n_rounds; i++) {
        struct held *held = &ring[pool_fixture_random(&seed) % RING];
        bool is_inline = pool_fixture_random(&seed) % 2 == 0;
        struct mrp_region *again;

        if (held->region != NULL) {
            end_use(held, is_inline);
        }
        held->size = random_size(&seed, most);
        held->mark = (unsigned char)i;
        held->region = take(f->pool, held->size, is_inline);
        check_region(geometry, held->region, held->size);
        /* now the cache has one at hand, and it is the smallest that will do */
        assert_int_equal(mrp_region_free(held->region), MRP_OK);
        again = take(f->pool, held->size, !is_inline);
        check_region(geometry, again, held->size);
        assert_int_equal(again->size_class, mrp_class_of(&f->pool->classes, held->size));
        held->region = again;
        begin_use(held);
    }
    for (size_t i = 0; i < RING; i++) {
        if (ring[i].region != NULL) {
            end_use(&ring[i], false);
        }
    }
}

static void sizes__fit(void **state)
{
    size_t n_rounds = test_is_watched() ? 200 : 4000;
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < N_OF(geometries); i++) {
        for (int checks = MRP_CHECKS_NONE; checks <= MRP_CHECKS_FULL; checks++) {
            create(f, &geometries[i], (enum mrp_checks)checks);
            use(f, &geometries[i], n_rounds);
            destroy(f);
        }
    }
}

/* -- what cannot be is refused -- */

/* One free region of every class that is cached, with the calling thread. */
static void fill_caches(struct pool_fixture *f)
{
    const struct mrp_size_classes *classes = &f->pool->classes;
    struct mrp_region *regions[MRP_CLASSES_MAX];

    for (size_t i = 0; i < classes->n_classes; i++) {
        regions[i] = take(f->pool, classes->classes[i].capacity, false);
    }
    for (size_t i = 0; i < classes->n_classes; i++) {
        assert_int_equal(mrp_region_free(regions[i]), MRP_OK);
    }
}

static void check_refused(struct pool_fixture *f, size_t size)
{
    for (int form = 0; form < 4; form++) {
        struct mrp_region *region = NULL;
        enum mrp_status status;

        mrp_error_clear();
        if (form == 3) {
            assert_int_equal(mrp_region_alloc_many(f->pool, size, 1, &region), 0);
        } else {
            region = form == 0 ? mrp_region_alloc(f->pool, size)
                : form == 1    ? mrp_region_alloc_inline(f->pool, size)
                               : mrp_region_alloc_with(f->pool, size, NULL);
        }
        if (region != NULL) {
            fail_msg("SIZE_MAX - %zu bytes, headroom %zu, tailroom %zu: a region of %zu",
                SIZE_MAX - size, f->pool->classes.lead, f->pool->classes.tailroom,
                mrp_region_capacity(region));
        }
        status = mrp_error_last()->status;
        assert_true(status == MRP_ERR_INVALID || status == MRP_ERR_LIMIT);
    }
}

static void sizes__near_the_end_of_numbers_are_refused(void **state)
{
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < N_OF(geometries); i++) {
        for (int checks = MRP_CHECKS_NONE; checks <= MRP_CHECKS_FULL; checks++) {
            size_t room = geometries[i].headroom + geometries[i].tailroom;
            size_t step = room > 1200 || test_is_watched() ? 61 : 1;

            create(f, &geometries[i], (enum mrp_checks)checks);
            fill_caches(f);
            for (size_t less = 0; less < room + 300; less += step) {
                check_refused(f, SIZE_MAX - less);
            }
            for (unsigned bit = 40; bit < 64; bit++) {
                check_refused(f, (size_t)1 << bit);
                check_refused(f, ((size_t)1 << bit) - room);
            }
            check_refused(f, SIZE_MAX / 2);
            destroy(f);
        }
    }
}

/* A size beyond the last class is nobody's, however full the caches. */
static void sizes__just_beyond_a_class_take_the_next(void **state)
{
    struct pool_fixture *f = *state;

    for (size_t i = 0; i < N_OF(geometries); i++) {
        for (int checks = MRP_CHECKS_NONE; checks <= MRP_CHECKS_FULL; checks++) {
            const struct mrp_size_classes *classes;

            create(f, &geometries[i], (enum mrp_checks)checks);
            fill_caches(f);
            classes = &f->pool->classes;
            for (size_t class = 0; class + 1 < classes->n_classes; class ++) {
                size_t last = classes->classes[class].capacity;
                struct mrp_region *region = take(f->pool, last + 1, class % 2 == 0);

                check_region(&geometries[i], region, last + 1);
                assert_int_equal(region->size_class, class + 1);
                assert_int_equal(mrp_region_free(region), MRP_OK);
                region = take(f->pool, last, class % 2 != 0);
                assert_int_equal(region->size_class, class);
                assert_int_equal(mrp_region_free(region), MRP_OK);
            }
            destroy(f);
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        POOL_TEST(sizes__fit),
        POOL_TEST(sizes__near_the_end_of_numbers_are_refused),
        POOL_TEST(sizes__just_beyond_a_class_take_the_next),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
