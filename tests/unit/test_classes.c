/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Size classes: every request gets the smallest block that holds it, and every byte of a
 * slab leads back to its block.
 */
#include "pool/classes.h"

#include "mrpool/inline.h"
#include "support/pool_fixture.h"

static const size_t default_tiers[MRP_TIERS] = {
    MRP_KIB, 16 * MRP_KIB, 64 * MRP_KIB, MRP_MIB};

static struct mrp_size_classes build(
    const size_t *tiers, size_t lead, size_t tailroom, size_t alignment)
{
    struct mrp_size_classes classes;

    mrp_size_classes_build(&classes, tiers, NULL, 0, lead, tailroom, alignment);
    return classes;
}

static unsigned tier_of_size(const size_t *tiers, size_t size)
{
    unsigned tier = 0;

    while (size > tiers[tier]) {
        tier++;
    }
    return tier;
}

/* The class of a size holds it, and the one before does not. */
static const struct mrp_size_class *check_fit(
    const struct mrp_size_classes *classes, size_t size)
{
    unsigned index = mrp_class_of(classes, size);
    const struct mrp_size_class *class = &classes->classes[index];

    assert_true(index < classes->n_classes);
    assert_true(class->capacity >= size);
    assert_true(index == 0 || classes->classes[index - 1].capacity < size);
    assert_true(class->block_size >= classes->lead + class->capacity + classes->tailroom);
    assert_int_equal(class->block_size % classes->alignment, 0);
    return class;
}

static void check_default_size(const struct mrp_size_classes *classes, size_t size)
{
    const struct mrp_size_class *class = check_fit(classes, size);

    assert_int_equal(class->block_size, class->capacity);
    assert_int_equal(class->tier, tier_of_size(default_tiers, size));
    if (size >= 256) {
        assert_true((class->capacity - size) * 4 <= size);
    } else {
        assert_int_equal(class->capacity, mrp_align_up(mrp_max(size, 1), MRP_LINE));
    }
}

static void class_of__every_size_up_to_70_kib(void **state)
{
    struct mrp_size_classes classes = build(default_tiers, 0, 0, MRP_LINE);
    (void)state;

    for (size_t size = 0; size <= 70 * MRP_KIB; size++) {
        check_default_size(&classes, size);
    }
}

static void class_of__every_boundary_up_to_1_mib(void **state)
{
    struct mrp_size_classes classes = build(default_tiers, 0, 0, MRP_LINE);
    (void)state;

    for (size_t i = 0; i + 1 < classes.n_classes; i++) {
        for (size_t size = classes.classes[i].capacity - 2;
             size <= classes.classes[i].capacity + 2; size++) {
            check_default_size(&classes, size);
        }
    }
    check_default_size(&classes, MRP_MIB);
    assert_int_equal(classes.max_payload, MRP_MIB);
    assert_int_equal(classes.classes[0].capacity, 64);
    assert_int_equal(classes.n_classes, 4 + 4 * 12);
}

static void bin_of__is_the_inverse_of_its_bounds(void **state)
{
    unsigned last = (unsigned)mrp_v1_bin(SIZE_MAX);
    (void)state;

    assert_int_equal(last, MRP_BINS - 1);
    assert_int_equal(mrp_v1_bin(1), 1);
    assert_int_equal(mrp_v1_bin(64), 1);
    for (unsigned bin = 1; bin <= last; bin++) {
        size_t lower = mrp_bin_lower(bin), upper = mrp_bin_upper(bin);

        if (bin == 2 || bin == 3 || bin == 4 || bin == 6 || bin == 8) {
            continue; /* empty: the classes below 256 are 64 apart */
        }
        if (bin > 9) {
            assert_int_equal(mrp_v1_bin(lower + 1), bin);
            assert_true(mrp_v1_bin(lower) < bin);
        }
        assert_int_equal(mrp_v1_bin(upper - 1), bin);
        if (bin < last) {
            assert_int_equal(mrp_v1_bin(upper), bin);
            assert_true(mrp_v1_bin(upper + 1) > bin);
        }
    }
}

static void build__custom_limits_are_where_tiers_end(void **state)
{
    static const size_t limits[][MRP_TIERS] = {
        {64, 128, 192, 256},
        {256, 512, 1024, 2048},
        {2 * MRP_KIB, 4 * MRP_KIB, 5 * MRP_KIB, 96 * MRP_KIB},
        {MRP_KIB, MRP_MIB, 16 * MRP_MIB, MRP_GIB},
    };
    (void)state;

    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        struct mrp_size_classes classes = build(limits[i], 0, 0, MRP_LINE);

        assert_int_equal(classes.max_payload, limits[i][3]);
        for (size_t tier = 0; tier < MRP_TIERS; tier++) {
            size_t limit = limits[i][tier];

            assert_int_equal(check_fit(&classes, limit)->tier, tier);
            if (tier + 1 < MRP_TIERS) {
                assert_int_equal(check_fit(&classes, limit + 1)->tier, tier + 1);
            }
        }
    }
}

static void build__room_and_alignment_in_every_combination(void **state)
{
    static const size_t headrooms[] = {0, 1, 64, 128, 1000, 64 * MRP_KIB};
    static const size_t tailrooms[] = {0, 1, 13, 64, 4097, 64 * MRP_KIB};
    static const size_t alignments[] = {64, 128, 4096, 16 * MRP_KIB};
    (void)state;

    for (size_t h = 0; h < 6; h++) {
        for (size_t t = 0; t < 6; t++) {
            for (size_t a = 0; a < 4; a++) {
                struct mrp_size_classes classes =
                    build(default_tiers, mrp_align_up(headrooms[h], alignments[a]),
                        tailrooms[t], alignments[a]);

                assert_true(classes.n_classes <= MRP_CLASSES_MAX);
                assert_true(classes.max_payload >= MRP_MIB);
                for (size_t size = 0; size <= MRP_MIB; size += 1 + size / 97) {
                    check_fit(&classes, size);
                }
                check_fit(&classes, MRP_MIB);
            }
        }
    }
}

static void build__block_sizes_are_taken_as_they_are(void **state)
{
    static const size_t sizes[] = {
        1, 100, 101, 120, 4096, 5000, 9000, 1u << 20, 1u << 30};
    size_t n = sizeof sizes / sizeof sizes[0];
    struct mrp_size_classes classes;
    (void)state;

    mrp_size_classes_build(&classes, default_tiers, sizes, n, 0, 0, MRP_LINE);
    assert_int_equal(classes.n_classes, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(check_fit(&classes, sizes[i])->capacity, sizes[i]);
        assert_int_equal(
            check_fit(&classes, i == 0 ? 0 : sizes[i - 1] + 1)->capacity, sizes[i]);
    }
}

/* A byte of each block's ends; blocks sampled, the first and last ones all. */
static void check_blocks(const struct mrp_size_class *class)
{
    size_t size = class->block_size, n_blocks = 128 * MRP_MIB / size + 2;
    size_t step = n_blocks > 4096 ? n_blocks / 2048 : 1;

    for (size_t block = 0; block < n_blocks;
         block += block < 64 || block + step + 64 > n_blocks ? 1 : step) {
        assert_int_equal(mrp_block_of(class, block * size), block);
        assert_int_equal(mrp_block_of(class, block * size + 1), block);
        assert_int_equal(mrp_block_of(class, block * size + size / 2), block);
        assert_int_equal(mrp_block_of(class, block * size + size - 1), block);
    }
}

static void block_of__divides_exactly_over_128_mib(void **state)
{
    static const size_t limits[MRP_TIERS] = {
        MRP_KIB, 16 * MRP_KIB, 64 * MRP_KIB, 128 * MRP_MIB};
    static const size_t odd[] = {64 * 3 - 5, 64 * 7, 64 * 11, 64 * 641, 64 * 6700417};
    struct mrp_size_classes classes = build(limits, 0, 0, MRP_LINE);
    (void)state;

    for (size_t i = 0; i < classes.n_classes; i++) {
        check_blocks(&classes.classes[i]);
    }
    mrp_size_classes_build(&classes, default_tiers, odd, 5, 0, 0, MRP_LINE);
    for (size_t i = 0; i < classes.n_classes; i++) {
        check_blocks(&classes.classes[i]);
    }
}

static void block_of__divides_exactly_where_it_is_random(void **state)
{
    struct mrp_size_classes classes = build(default_tiers, 0, 0, MRP_LINE);
    uint64_t seed = 1;
    (void)state;

    for (size_t i = 0; i < 2000000; i++) {
        const struct mrp_size_class *class = &classes.classes[i % classes.n_classes];
        size_t offset = pool_fixture_random(&seed) % (128 * MRP_MIB);

        assert_int_equal(mrp_block_of(class, offset), offset / class->block_size);
    }
}

static void divide__magazines_are_bounded(void **state)
{
    struct mrp_size_classes classes = build(default_tiers, 0, 0, MRP_LINE);
    (void)state;

    for (size_t size = 16 * MRP_KIB; size <= 2 * MRP_MIB; size *= 2) {
        mrp_size_classes_divide(&classes, size);
        for (size_t i = 0; i < classes.n_classes; i++) {
            const struct mrp_size_class *class = &classes.classes[i];

            assert_in_range(class->magazine_capacity, 1, 126);
            assert_true(class->magazine_capacity == 1 ||
                class->magazine_capacity * class->block_size <= size);
            assert_int_equal(class->bin == 0, class->magazine_capacity == 1);
        }
    }
}

/* What a thread's cache finds by the size alone is of the class that serves the size. */
static void check_bin(const struct mrp_size_classes *classes, size_t size)
{
    unsigned bin =
        (unsigned)mrp_v1_bin(size + classes->lead + classes->tailroom); /* may overflow */

    for (size_t i = 0; i < classes->n_classes; i++) {
        if (classes->classes[i].bin == bin) {
            assert_true(size <= classes->max_payload);
            assert_int_equal(mrp_class_of(classes, size), i);
        }
    }
}

static void check_bins(struct mrp_size_classes *classes)
{
    uint64_t seed = 4711;

    mrp_size_classes_divide(classes, 2 * MRP_MIB);
    for (size_t i = 0; i < classes->n_classes; i++) {
        for (size_t j = 0; j < i; j++) {
            assert_true(classes->classes[i].bin == 0 ||
                classes->classes[i].bin != classes->classes[j].bin);
        }
        assert_in_range(classes->classes[i].bin, 0, MRP_V1_BINS - 1);
    }
    for (size_t size = 0; size < 20000; size++) {
        check_bin(classes, size);
        check_bin(classes, SIZE_MAX - size);
        check_bin(classes, pool_fixture_random(&seed) >> size % 32);
    }
}

static void divide__bins_agree_with_classes(void **state)
{
    static const size_t leads[] = {0, 64, 100, 320, 4096}, tails[] = {0, 1, 64, 1000};
    static const size_t sizes[] = {1, 64, 100, 4000, 4096, 4097, 100000, 1048576};
    struct mrp_size_classes classes;
    (void)state;

    for (size_t i = 0; i < sizeof leads / sizeof leads[0]; i++) {
        for (size_t j = 0; j < sizeof tails / sizeof tails[0]; j++) {
            for (size_t alignment = MRP_LINE; alignment <= 16384; alignment *= 4) {
                size_t lead = mrp_align_up(leads[i], alignment);

                classes = build(default_tiers, lead, tails[j], alignment);
                check_bins(&classes);
                mrp_size_classes_build(&classes, default_tiers, sizes,
                    sizeof sizes / sizeof sizes[0], lead, tails[j], alignment);
                check_bins(&classes);
            }
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(class_of__every_size_up_to_70_kib),
        cmocka_unit_test(class_of__every_boundary_up_to_1_mib),
        cmocka_unit_test(bin_of__is_the_inverse_of_its_bounds),
        cmocka_unit_test(build__custom_limits_are_where_tiers_end),
        cmocka_unit_test(build__room_and_alignment_in_every_combination),
        cmocka_unit_test(build__block_sizes_are_taken_as_they_are),
        cmocka_unit_test(block_of__divides_exactly_over_128_mib),
        cmocka_unit_test(block_of__divides_exactly_where_it_is_random),
        cmocka_unit_test(divide__magazines_are_bounded),
        cmocka_unit_test(divide__bins_agree_with_classes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
