/* SPDX-License-Identifier: BSD-3-Clause
 *
 * From addresses to chunks: both parts against a plain list, and readers that meet a
 * writer.
 */
#include "context/address_map.h"

#include "context/chunk.h"
#include "refusal.h"

#include <stdatomic.h>
#include <stdlib.h>

/* The map looks into a chunk only for its pool: chunk i is of pool i % 3. */
static struct mrp_chunk chunks[256];

static struct mrp_chunk *chunk_of(size_t i)
{
    return &chunks[i];
}

static const struct mrp_pool *pool_of(size_t i)
{
    static const char pools[3];

    return (const struct mrp_pool *)&pools[i % 3];
}

static int give_pools(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < 256; i++) {
        mrp_store_relaxed(&chunks[i].view.pool, (struct mrp_pool *)(uintptr_t)pool_of(i));
    }
    return 0;
}

static uint64_t next_random(uint64_t *random)
{
    *random = *random * 6364136223846793005U + 1442695040888963407U;
    return *random >> 33;
}

/* -- aligned -- */

/* Addresses that no backend of this process gives: below them the kernel maps nothing. */
#define BASE ((uintptr_t)1 << 40)

static void aligned__is_found_in_its_granules_alone(void **unused)
{
    static const size_t sizes[] = {1, 4096, MRP_MAP_GRANULE - 1, MRP_MAP_GRANULE,
        MRP_MAP_GRANULE + 1, 5 * MRP_MAP_GRANULE,
        (MRP_MAP_LEAF_SIZE + 3) * MRP_MAP_GRANULE};
    struct mrp_address_map map;
    (void)unused;

    mrp_address_map_create(&map);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        /* not at the beginning of a leaf: the largest one spans three */
        uintptr_t base = BASE + MRP_MAP_GRANULE * (MRP_MAP_LEAF_SIZE - 1);
        uintptr_t last = base + sizes[i] - 1;

        assert_accepted(mrp_address_map_insert(&map, chunk_of(i), base, sizes[i], true));
        assert_ptr_equal(mrp_address_map_find_aligned(base), chunk_of(i));
        assert_ptr_equal(mrp_address_map_find_aligned(last), chunk_of(i));
        assert_null(mrp_address_map_find_aligned(base - 1));
        assert_null(mrp_address_map_find_aligned((last | (MRP_MAP_GRANULE - 1)) + 1));
        assert_null(mrp_address_map_find_range(&map, pool_of(i), base, 1));
        mrp_address_map_remove(&map, chunk_of(i), base, sizes[i], true);
        assert_null(mrp_address_map_find_aligned(base));
        assert_null(mrp_address_map_find_aligned(last));
    }
    mrp_address_map_destroy(&map);
}

static void aligned__any_address_may_be_asked_about(void **unused)
{
    (void)unused;
    assert_null(mrp_address_map_find_aligned(0));
    for (int bit = 0; bit < 64; bit++) {
        uintptr_t address = (uintptr_t)1 << bit;

        assert_null(mrp_address_map_find_aligned(address));
        assert_null(mrp_address_map_find_aligned(~address));
    }
    assert_null(mrp_address_map_find_aligned(UINTPTR_MAX));
}

static void aligned__memory_beyond_48_bits_is_refused(void **unused)
{
    struct mrp_address_map map;
    (void)unused;

    mrp_address_map_create(&map);
    assert_refused(mrp_address_map_insert(&map, chunk_of(0),
                       (uintptr_t)1 << MRP_MAP_ADDRESS_BITS, MRP_MAP_GRANULE, true),
        MRP_ERR_UNSUPPORTED, "48 address bits");
    assert_refused(mrp_address_map_insert(&map, chunk_of(0),
                       ((uintptr_t)1 << MRP_MAP_ADDRESS_BITS) - MRP_MAP_GRANULE,
                       2 * MRP_MAP_GRANULE, true),
        MRP_ERR_UNSUPPORTED, "48 address bits");
    assert_null(mrp_address_map_find_aligned(
        ((uintptr_t)1 << MRP_MAP_ADDRESS_BITS) - MRP_MAP_GRANULE));
    mrp_address_map_destroy(&map);
}

#define GRANULES 200

struct aligned_model {
    struct mrp_address_map map;
    size_t owner[GRANULES]; /* index + 1 of the chunk; 0: nobody */
    size_t first[64], count[64];
};

static void check_granules(const struct aligned_model *model)
{
    for (size_t i = 0; i < GRANULES; i++) {
        uintptr_t address = BASE + i * MRP_MAP_GRANULE + i * 4099;

        assert_ptr_equal(mrp_address_map_find_aligned(address),
            model->owner[i] == 0 ? NULL : chunk_of(model->owner[i] - 1));
    }
}

static void fill_owner(struct aligned_model *model, size_t chunk, size_t owner)
{
    for (size_t i = 0; i < model->count[chunk]; i++) {
        model->owner[model->first[chunk] + i] = owner;
    }
}

static bool is_free(const struct aligned_model *model, size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++) {
        if (i >= GRANULES || model->owner[i] != 0) {
            return false;
        }
    }
    return true;
}

static void change_aligned(struct aligned_model *model, size_t chunk, uint64_t *random)
{
    size_t first = next_random(random) % GRANULES, count = 1 + next_random(random) % 9;
    uintptr_t base = BASE + model->first[chunk] * MRP_MAP_GRANULE;

    if (model->count[chunk] > 0) {
        mrp_address_map_remove(&model->map, chunk_of(chunk), base,
            model->count[chunk] * MRP_MAP_GRANULE, true);
        fill_owner(model, chunk, 0);
        model->count[chunk] = 0;
    } else if (is_free(model, first, count)) {
        model->first[chunk] = first;
        model->count[chunk] = count;
        assert_accepted(mrp_address_map_insert(&model->map, chunk_of(chunk),
            BASE + first * MRP_MAP_GRANULE, count * MRP_MAP_GRANULE, true));
        fill_owner(model, chunk, chunk + 1);
    }
}

static void aligned__agrees_with_a_plain_list(void **unused)
{
    struct aligned_model *model = calloc(1, sizeof *model);
    uint64_t random = 1;
    (void)unused;

    mrp_address_map_create(&model->map);
    for (int step = 0; step < 5000; step++) {
        change_aligned(model, next_random(&random) % 64, &random);
        if (step % 10 == 0) {
            check_granules(model);
        }
    }
    for (size_t chunk = 0; chunk < 64; chunk++) {
        if (model->count[chunk] > 0) {
            change_aligned(model, chunk, &random);
        }
    }
    check_granules(model);
    mrp_address_map_destroy(&model->map);
    free(model);
}

/* -- ranges -- */

#define RANGES 60
#define SPACE 2000 /* bytes that they lie in, wherever that is */

struct range_model {
    struct mrp_address_map map;
    size_t start[RANGES], size[RANGES]; /* size 0: not in the map */
};

/* Some range of the pool that covers all of it is right, none where none does. */
static bool is_right(const struct range_model *model, size_t pool, size_t at, size_t size,
    const struct mrp_chunk *found)
{
    bool is_covered = false;

    for (size_t i = pool; i < RANGES; i += 3) {
        bool covers = at >= model->start[i] && at - model->start[i] < model->size[i] &&
            model->size[i] - (at - model->start[i]) >= size;

        if (covers && found == chunk_of(i)) {
            return true;
        }
        is_covered |= covers;
    }
    return found == NULL && !is_covered;
}

static void check_space(struct range_model *model)
{
    for (size_t at = 0; at < SPACE + 100; at++) {
        for (size_t pool = 0; pool < 3; pool++) {
            size_t size = 1 + at * 7 % 20;

            assert_true(is_right(model, pool, at, size,
                mrp_address_map_find_range(&model->map, pool_of(pool), BASE + at, size)));
        }
    }
}

static void change_range(struct range_model *model, size_t i, uint64_t *random)
{
    if (model->size[i] > 0) {
        mrp_address_map_remove(
            &model->map, chunk_of(i), BASE + model->start[i], model->size[i], false);
        model->size[i] = 0;
        return;
    }
    model->start[i] = next_random(random) % SPACE;
    model->size[i] =
        1 + next_random(random) % (i % 7 == 0 ? SPACE - model->start[i] : 30);
    assert_accepted(mrp_address_map_insert(
        &model->map, chunk_of(i), BASE + model->start[i], model->size[i], false));
}

static void ranges__agree_with_a_plain_list(void **unused)
{
    struct range_model *model = calloc(1, sizeof *model);
    (void)unused;

    for (uint64_t seed = 1; seed <= 4; seed++) {
        uint64_t random = seed;

        mrp_address_map_create(&model->map);
        memset(model->size, 0, sizeof model->size);
        check_space(model);
        for (int step = 0; step < 400; step++) {
            change_range(model, next_random(&random) % RANGES, &random);
            check_space(model);
        }
        for (size_t i = 0; i < RANGES; i++) {
            if (model->size[i] > 0) {
                change_range(model, i, &random);
            }
        }
        check_space(model);
        mrp_address_map_destroy(&model->map);
    }
    free(model);
}

/* The same range twice: each is taken out for itself. Other pools see neither. */
static void ranges__two_alike_are_two(void **unused)
{
    struct mrp_address_map map;
    (void)unused;

    mrp_address_map_create(&map);
    assert_accepted(mrp_address_map_insert(&map, chunk_of(1), BASE, 100, false));
    assert_accepted(mrp_address_map_insert(&map, chunk_of(4), BASE, 100, false));
    assert_non_null(mrp_address_map_find_range(&map, pool_of(1), BASE, 1));
    assert_null(mrp_address_map_find_range(&map, pool_of(2), BASE, 1));
    mrp_address_map_remove(&map, chunk_of(1), BASE, 100, false);
    assert_ptr_equal(
        mrp_address_map_find_range(&map, pool_of(1), BASE + 99, 1), chunk_of(4));
    assert_null(mrp_address_map_find_range(&map, pool_of(1), BASE + 99, 2));
    assert_null(mrp_address_map_find_range(&map, pool_of(1), BASE + 100, 1));
    assert_null(mrp_address_map_find_range(&map, pool_of(1), BASE, SIZE_MAX));
    mrp_address_map_remove(&map, chunk_of(4), BASE, 100, false);
    assert_null(mrp_address_map_find_range(&map, pool_of(1), BASE, 1));
    mrp_address_map_destroy(&map);
}

static void ranges__of_each_map_are_its_own(void **unused)
{
    struct mrp_address_map first, second;
    (void)unused;

    mrp_address_map_create(&first);
    mrp_address_map_create(&second);
    assert_accepted(mrp_address_map_insert(&first, chunk_of(1), BASE, 100, false));
    assert_null(mrp_address_map_find_range(&second, pool_of(1), BASE, 1));
    mrp_address_map_destroy(&first);
    assert_null(mrp_address_map_find_range(&second, pool_of(1), BASE, 1));
    mrp_address_map_destroy(&second);
}

/* -- readers that meet a writer -- */

#define READERS 3
#define STANDING 8 /* ranges and chunks that stay */

struct meeting {
    struct mrp_address_map map;
    atomic_bool stop;
    atomic_size_t n_wrong, n_reads;
};

static uintptr_t standing_range(size_t i)
{
    return BASE + i * 1000 + 500;
}

static uintptr_t standing_chunk(size_t i)
{
    return 2 * BASE + i * 2 * MRP_MAP_GRANULE;
}

static void *read_standing(void *user)
{
    struct meeting *meeting = user;
    uint64_t random = 7;

    while (!meeting->stop) {
        size_t i = next_random(&random) % STANDING;
        const struct mrp_chunk *coming;

        meeting->n_wrong += mrp_address_map_find_range(&meeting->map, pool_of(i),
                                standing_range(i) + 3, 7) != chunk_of(i);
        meeting->n_wrong +=
            mrp_address_map_find_aligned(standing_chunk(i)) != chunk_of(100 + i);
        /* what comes and goes is there or not, never something else */
        coming = mrp_address_map_find_range(
            &meeting->map, pool_of(50 + i), standing_range(i) + 200, 100);
        meeting->n_wrong += coming != NULL && coming != chunk_of(50 + i);
        coming = mrp_address_map_find_aligned(standing_chunk(i) + MRP_MAP_GRANULE);
        meeting->n_wrong += coming != NULL && coming != chunk_of(150 + i);
        meeting->n_reads++;
    }
    return NULL;
}

static void write_coming(struct meeting *meeting)
{
    for (size_t i = 0; i < STANDING; i++) {
        assert_accepted(mrp_address_map_insert(
            &meeting->map, chunk_of(50 + i), standing_range(i) + 200, 100, false));
        assert_accepted(mrp_address_map_insert(&meeting->map, chunk_of(150 + i),
            standing_chunk(i) + MRP_MAP_GRANULE, MRP_MAP_GRANULE, true));
    }
    for (size_t i = STANDING; i-- > 0;) {
        mrp_address_map_remove(
            &meeting->map, chunk_of(50 + i), standing_range(i) + 200, 100, false);
        mrp_address_map_remove(&meeting->map, chunk_of(150 + i),
            standing_chunk(i) + MRP_MAP_GRANULE, MRP_MAP_GRANULE, true);
    }
}

static void set_standing(struct meeting *meeting)
{
    for (size_t i = 0; i < STANDING; i++) {
        assert_accepted(mrp_address_map_insert(
            &meeting->map, chunk_of(i), standing_range(i), 10, false));
        assert_accepted(mrp_address_map_insert(
            &meeting->map, chunk_of(100 + i), standing_chunk(i), MRP_MAP_GRANULE, true));
    }
}

static void find__what_stays_is_always_found(void **unused)
{
    struct meeting *meeting = calloc(1, sizeof *meeting);
    pthread_t readers[READERS];
    (void)unused;

    mrp_address_map_create(&meeting->map);
    set_standing(meeting);
    for (size_t i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&readers[i], NULL, read_standing, meeting), 0);
    }
    for (int round = 0; round < 500 || meeting->n_reads < 10000; round++) {
        write_coming(meeting);
    }
    meeting->stop = true;
    for (size_t i = 0; i < READERS; i++) {
        pthread_join(readers[i], NULL);
    }
    assert_int_equal(meeting->n_wrong, 0);
    for (size_t i = 0; i < STANDING; i++) {
        mrp_address_map_remove(
            &meeting->map, chunk_of(100 + i), standing_chunk(i), MRP_MAP_GRANULE, true);
    }
    mrp_address_map_destroy(&meeting->map);
    free(meeting);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(aligned__is_found_in_its_granules_alone),
        cmocka_unit_test(aligned__any_address_may_be_asked_about),
        cmocka_unit_test(aligned__memory_beyond_48_bits_is_refused),
        cmocka_unit_test(aligned__agrees_with_a_plain_list),
        cmocka_unit_test(ranges__agree_with_a_plain_list),
        cmocka_unit_test(ranges__two_alike_are_two),
        cmocka_unit_test(ranges__of_each_map_are_its_own),
        cmocka_unit_test(find__what_stays_is_always_found),
    };

    return cmocka_run_group_tests(tests, give_pools, NULL);
}
