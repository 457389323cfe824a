/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Lookups beside everything that comes and goes: memory that is kept is found each time,
 * with its own keys; of memory that vanishes the answer is right or none.
 */
#include "stress.h"

#define PARTS 8
#define PART_SIZE ((size_t)8192)

struct load {
    struct stress_world world;
    struct mrp_pool *other; /* registers the same memory */
    char *stable; /* registered by both pools throughout */
    char *fleeting; /* registered now and then */
    struct mrp_region *pooled[64];
    size_t rounds;
    pthread_mutex_t mutex;
    struct mrp_token token; /* of the last large region, under the mutex */
    atomic_bool is_over;
};

/* The answer is of one registration that covers the address. */
static void check_wire(const struct mrp_wire *wire, const char *address, size_t size)
{
    STRESS_CHECK(wire->remote_addr == (uintptr_t)address);
    STRESS_CHECK(wire->has_remote_key);
    STRESS_CHECK(wire->native != NULL && wire->bytes_left >= size);
}

static void look_up_stable(struct load *load, struct stress_thread *thread)
{
    size_t offset = stress_random(thread) % (PARTS * PART_SIZE);
    char *address = load->stable + offset;
    struct mrp_pool *pool = offset % 2 == 0 ? load->world.pool : load->other;
    size_t size = 1 + stress_random(thread) % (PARTS * PART_SIZE - offset);
    struct mrp_wire wire = MRP_WIRE_INIT;

    if (STRESS_CHECK(mrp_resolve(pool, address, size, 0, &wire) == MRP_OK)) {
        check_wire(&wire, address, size);
    }
    STRESS_CHECK(mrp_region_find(pool, address) != NULL);
}

static void look_up_fleeting(struct load *load, struct stress_thread *thread)
{
    char *address = load->fleeting + stress_random(thread) % (PARTS * PART_SIZE);
    struct mrp_wire wire = MRP_WIRE_INIT;
    enum mrp_status status = mrp_resolve(load->world.pool, address, 1, 0, &wire);

    if (status == MRP_OK) {
        check_wire(&wire, address, 1);
    } else {
        STRESS_CHECK(status == MRP_ERR_NOT_FOUND);
    }
    mrp_region_find(load->world.pool, address);
}

static void look_up_pooled(struct load *load, struct stress_thread *thread)
{
    struct mrp_region *region = load->pooled[stress_random(thread) % 64];
    char *address = mrp_region_address(region);
    size_t offset = stress_random(thread) % mrp_region_capacity(region);
    struct mrp_wire wire = MRP_WIRE_INIT;

    STRESS_CHECK(mrp_region_find(load->world.pool, address + offset) == region);
    STRESS_CHECK(mrp_resolve(load->world.pool, address, mrp_region_capacity(region), 0,
                     &wire) == MRP_OK);
    check_wire(&wire, address, mrp_region_capacity(region));
    STRESS_CHECK(mrp_region_find(load->other, address) == NULL);
}

/* Tokens of what is kept, and of large regions that may have gone. */
static void look_up_tokens(struct load *load, struct stress_thread *thread)
{
    size_t i = stress_random(thread) % 64;
    struct mrp_region *found;
    struct mrp_token token;

    STRESS_CHECK(mrp_region_token(load->pooled[i], &token) == MRP_OK);
    STRESS_CHECK(mrp_token_resolve(load->world.pool, &token, &found) == MRP_OK &&
        found == load->pooled[i]);
    pthread_mutex_lock(&load->mutex);
    token = load->token;
    pthread_mutex_unlock(&load->mutex);
    STRESS_CHECK(mrp_token_resolve(load->world.pool, &token, &found) == MRP_OK ||
        mrp_error_last()->status == MRP_ERR_STALE);
}

static void look_up(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    while (!atomic_load(&load->is_over) && stress_goes_on()) {
        look_up_stable(load, thread);
        look_up_fleeting(load, thread);
        look_up_pooled(load, thread);
        look_up_tokens(load, thread);
    }
}

/* Parts of both buffers, in both pools; chunks of their own; growth. */
static void come_and_go(struct stress_thread *thread)
{
    struct load *load = thread->shared;

    for (size_t round = 0; round < load->rounds && stress_goes_on(); round++) {
        struct mrp_pool *pool =
            stress_random(thread) % 2 == 0 ? load->world.pool : load->other;
        char *base = stress_random(thread) % 2 == 0 ? load->stable : load->fleeting;
        size_t first = stress_random(thread) % PARTS;
        size_t n_parts = 1 + stress_random(thread) % (PARTS - first);
        struct mrp_region *part, *large;

        if (!STRESS_CHECK(mrp_region_register(pool, base + first * PART_SIZE,
                              n_parts * PART_SIZE, NULL, &part) == MRP_OK)) {
            break;
        }
        large = mrp_region_alloc(
            load->world.pool, 2 * MRP_MIB + stress_random(thread) % 4 * MRP_MIB);
        STRESS_CHECK(large != NULL);
        pthread_mutex_lock(&load->mutex);
        STRESS_CHECK(mrp_region_token(large, &load->token) == MRP_OK);
        pthread_mutex_unlock(&load->mutex);
        STRESS_CHECK(
            mrp_region_find(load->world.pool, mrp_region_address(large)) == large);
        STRESS_CHECK(mrp_region_free(large) == MRP_OK);
        STRESS_CHECK(mrp_region_free(part) == MRP_OK);
    }
    atomic_store(&load->is_over, true);
}

static void look_up_or_change(struct stress_thread *thread)
{
    if (thread->number % 2 == 0) {
        look_up(thread);
    } else {
        come_and_go(thread);
    }
}

static void prepare(struct load *load, struct mrp_region *stable[2])
{
    struct mrp_context_params context_params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    context_params.retained_count = 2;
    pthread_mutex_init(&load->mutex, NULL);
    stress_create_context(&load->world, &context_params);
    params.chunk_min = 4 * MRP_MIB;
    load->world.pool = stress_add_pool(&load->world, &params);
    load->other = stress_add_pool(&load->world, &params);
    assert_non_null(load->other);
    for (size_t i = 0; i < 64; i++) {
        load->pooled[i] = mrp_region_alloc(load->world.pool, (size_t)64 << i % 12);
        assert_non_null(load->pooled[i]);
    }
    assert_int_equal(mrp_region_token(load->pooled[0], &load->token), MRP_OK);
    assert_int_equal(mrp_region_register(load->world.pool, load->stable,
                         PARTS * PART_SIZE, NULL, &stable[0]),
        MRP_OK);
    assert_int_equal(mrp_region_register(
                         load->other, load->stable, PARTS * PART_SIZE, NULL, &stable[1]),
        MRP_OK);
}

static void lookup__while_memory_comes_and_goes(void **state)
{
    static char stable[PARTS * PART_SIZE], fleeting[PARTS * PART_SIZE];
    struct load load = {
        .stable = stable, .fleeting = fleeting, .rounds = stress_rounds(6000)};
    struct mrp_region *regions[2];

    (void)state;
    prepare(&load, regions);
    stress_run(STRESS_THREADS, look_up_or_change, &load);
    assert_int_equal(mrp_region_free(regions[0]), MRP_OK);
    assert_int_equal(mrp_region_free(regions[1]), MRP_OK);
    for (size_t i = 0; i < 64; i++) {
        assert_int_equal(mrp_region_free(load.pooled[i]), MRP_OK);
    }
    assert_int_equal(mrp_pool_check(load.other), MRP_OK);
    assert_int_equal(mrp_pool_destroy(load.other), MRP_OK);
    stress_destroy(&load.world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lookup__while_memory_comes_and_goes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
