/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tokens and packed keys as an adversary, or a broken wire, would send them: some 400,000
 * strings, the same in every run. Nothing is read out of bounds (the bytes end where their
 * allocation ends), and what is accepted is what was packed, or bears a check that is right.
 *
 * How much may be accepted. The check has 16 bits: of changes at random one in 65,536
 * passes it. Few changed bits, and any run of up to 16, never do (test_wire.c). What a
 * passing token names is looked up in the pool like any other: pool (32 bits at random),
 * chunk, generations and bounds must be those of a live region.
 */
#include "pool/pool.h"
#include "support/pool_fixture.h"
#include "wire_bytes.h"

#include <stdlib.h>

#define N_REGIONS 12
#define ROUNDS 100000

static size_t below(uint64_t *random, size_t n)
{
    return (size_t)(wire_random(random) % n);
}

static void change(uint64_t *random, unsigned char *bytes, size_t size)
{
    for (size_t n = 1 + below(random, 8); n > 0; n--) {
        bytes[below(random, size)] = (unsigned char)wire_random(random);
    }
}

static void fill_random(uint64_t *random, unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        bytes[i] = (unsigned char)wire_random(random);
    }
}

/* A hundred thousand changes of which a 65,536th is expected to pass: 1.5; more than 12
 * would be one in 10^7. */
static void check_rate(size_t n_accepted)
{
    print_message("%zu of %d passed a check of 16 bits\n", n_accepted, ROUNDS);
    assert_in_range(n_accepted, 0, 12);
}

/* -- tokens -- */

struct scene {
    struct mrp_region *regions[N_REGIONS];
    struct mrp_token tokens[N_REGIONS];
};

static void make_scene(struct pool_fixture *f, struct scene *scene)
{
    static const size_t sizes[] = {1, 1000, 20000, 2 * MRP_MIB};

    pool_fixture_create(f, NULL);
    for (size_t i = 0; i < N_REGIONS; i++) {
        scene->regions[i] = pool_fixture_alloc(f, sizes[i % 4]);
        assert_int_equal(mrp_region_token(scene->regions[i], &scene->tokens[i]), MRP_OK);
    }
}

static void end_scene(struct scene *scene)
{
    for (size_t i = 0; i < N_REGIONS; i++) {
        pool_fixture_free(scene->regions[i]);
    }
}

/* On the heap, so that a tool sees what is read beyond it. */
static bool resolve(struct pool_fixture *f, const struct scene *scene,
    const unsigned char bytes[MRP_TOKEN_SIZE])
{
    struct mrp_token *token = malloc(sizeof *token);
    struct mrp_region *found = NULL;
    enum mrp_status status;
    bool is_one = false;

    assert_non_null(token);
    memcpy(token->bytes, bytes, sizeof token->bytes);
    status = mrp_token_resolve(f->pool, token, &found);
    free(token);
    for (size_t i = 0; i < N_REGIONS; i++) {
        is_one = is_one || found == scene->regions[i];
    }
    assert_true(is_one == (status == MRP_OK)); /* a live region, or none */
    assert_true(status == MRP_OK || status == MRP_ERR_INVALID || status == MRP_ERR_STALE);
    return status == MRP_OK;
}

static void token__changed_at_random(void **state)
{
    struct pool_fixture *f = *state;
    size_t n_accepted = 0;
    uint64_t random = 11;
    struct scene scene;

    make_scene(f, &scene);
    for (size_t round = 0; round < ROUNDS; round++) {
        const struct mrp_token *whole = &scene.tokens[round % N_REGIONS];
        struct mrp_token token = *whole;

        change(&random, token.bytes, sizeof token.bytes);
        if (memcmp(token.bytes, whole->bytes, sizeof token.bytes) != 0) {
            n_accepted += resolve(f, &scene, token.bytes);
        }
    }
    check_rate(n_accepted);
    end_scene(&scene);
}

static void token__of_random_bytes(void **state)
{
    struct pool_fixture *f = *state;
    unsigned char bytes[MRP_TOKEN_SIZE];
    uint64_t random = 12;
    struct scene scene;

    make_scene(f, &scene);
    for (size_t round = 0; round < ROUNDS; round++) {
        fill_random(&random, bytes, sizeof bytes);
        if (round % 2 == 0) { /* as far as a forger gets without knowing the pool */
            bytes[0] = 1;
            bytes[1] = 0;
            wire_seal(bytes, sizeof bytes);
        }
        assert_false(resolve(f, &scene, bytes));
    }
    end_scene(&scene);
}

/* Who knows pool and chunk, and lies about the rest, gets a live region or nothing. */
static void token__forged_with_the_right_check(void **state)
{
    struct pool_fixture *f = *state;
    size_t n_accepted = 0;
    uint64_t random = 13;
    struct scene scene;

    make_scene(f, &scene);
    for (size_t round = 0; round < ROUNDS / 2; round++) {
        struct mrp_token token = scene.tokens[round % N_REGIONS];
        size_t first = below(&random, 2) == 0 ? 16 : 8; /* the offset on, or the chunk */

        change(&random, token.bytes + first, sizeof token.bytes - first);
        wire_seal(token.bytes, sizeof token.bytes);
        n_accepted += resolve(f, &scene, token.bytes);
    }
    assert_true(n_accepted > 0); /* lengths that fit, and offsets within */
    end_scene(&scene);
}

/* -- packed keys -- */

static struct mrp_provider *open_raw(
    struct pool_fixture *f, struct test_provider *network)
{
    struct mrp_provider *provider;

    test_provider_init(network);
    network->traits |= MRP_PROVIDER_RAW_KEY;
    assert_int_equal(
        mrp_provider_create(f->context, "raw", test_provider_ops(), network, &provider),
        MRP_OK);
    return provider;
}

/* Import exactly these bytes; what is accepted is looked at and given back. */
static bool import(struct mrp_provider *provider, unsigned rail,
    const unsigned char *bytes, size_t size, const struct mrp_token *token)
{
    unsigned char *exact = malloc(size > 0 ? size : 1);
    struct mrp_remote_region region = MRP_REMOTE_REGION_INIT;
    struct mrp_remote *remote = NULL;
    enum mrp_status status;

    assert_non_null(exact);
    memcpy(exact, bytes, size);
    status = mrp_remote_open(provider, NULL, rail, exact, size, &remote);
    free(exact);
    assert_true((remote != NULL) == (status == MRP_OK));
    if (status != MRP_OK) {
        return false;
    }
    status = mrp_remote_resolve(remote, token, &region);
    assert_true(status == MRP_OK || status == MRP_ERR_INVALID || status == MRP_ERR_STALE);
    assert_int_equal(mrp_remote_close(remote), MRP_OK);
    return true;
}

struct blob {
    unsigned char bytes[512];
    size_t size;
    struct mrp_token token;
    struct mrp_region *region;
};

/* Keys of two rails, of 8 and of 32 bytes. */
static void pack(struct pool_fixture *f, struct mrp_provider *raw, struct blob *blob)
{
    unsigned rail;

    pool_fixture_create(f, NULL);
    assert_int_equal(mrp_pool_rail_add(f->pool, raw, MRP_RAIL_EAGER, &rail), MRP_OK);
    blob->region = pool_fixture_alloc(f, 1000);
    blob->size = sizeof blob->bytes;
    assert_int_equal(
        mrp_region_key_pack(blob->region, 3, blob->bytes, &blob->size), MRP_OK);
    assert_int_equal(mrp_region_token(blob->region, &blob->token), MRP_OK);
}

static void end_blob(struct pool_fixture *f, struct mrp_provider *raw,
    struct test_provider *network, struct blob *blob)
{
    assert_int_equal(network->n_imported, network->n_released);
    pool_fixture_free(blob->region);
    assert_int_equal(mrp_pool_rail_remove(f->pool, 1), MRP_OK);
    assert_int_equal(mrp_provider_close(raw), MRP_OK);
    assert_string_equal(network->first_error, "");
    test_provider_fini(network);
}

static void keys__changed_at_random(void **state)
{
    struct pool_fixture *f = *state;
    struct test_provider network;
    struct mrp_provider *raw = open_raw(f, &network);
    size_t n_accepted = 0;
    uint64_t random = 14;
    struct blob blob;

    pack(f, raw, &blob);
    assert_true(import(f->rails[0], 0, blob.bytes, blob.size, &blob.token));
    assert_true(import(raw, 1, blob.bytes, blob.size, &blob.token));
    for (size_t round = 0; round < ROUNDS; round++) {
        unsigned char bytes[sizeof blob.bytes];
        unsigned rail = round % 2;
        size_t size = blob.size;

        memcpy(bytes, blob.bytes, sizeof bytes);
        change(&random, bytes, size);
        if (round % 5 == 0) { /* and cut */
            size = below(&random, size);
        }
        if (size != blob.size || memcmp(bytes, blob.bytes, size) != 0) {
            n_accepted +=
                import(rail == 0 ? f->rails[0] : raw, rail, bytes, size, &blob.token);
        }
    }
    check_rate(n_accepted);
    end_blob(f, raw, &network, &blob);
}

/* Any bytes at all, of any size, under a check that is right: within bounds. */
static void keys__of_random_bytes_with_the_right_check(void **state)
{
    struct pool_fixture *f = *state;
    struct test_provider network;
    struct mrp_provider *raw = open_raw(f, &network);
    uint64_t random = 15;
    struct blob blob;

    pack(f, raw, &blob);
    for (size_t round = 0; round < ROUNDS; round++) {
        unsigned char bytes[sizeof blob.bytes];
        size_t size = below(&random, sizeof bytes);

        memcpy(bytes, blob.bytes, blob.size);
        if (round % 2 == 0) {
            fill_random(&random, bytes, size);
        } else {
            size = blob.size;
            change(&random, bytes, size);
        }
        if (size >= 32) {
            bytes[0] = 1;
            wire_put(bytes + 4, 4, size);
            wire_seal(bytes, size);
        }
        import(round % 4 < 2 ? f->rails[0] : raw, (unsigned)(wire_random(&random) % 3),
            bytes, size, &blob.token);
    }
    end_blob(f, raw, &network, &blob);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        POOL_TEST(token__changed_at_random),
        POOL_TEST(token__of_random_bytes),
        POOL_TEST(token__forged_with_the_right_check),
        POOL_TEST(keys__changed_at_random),
        POOL_TEST(keys__of_random_bytes_with_the_right_check),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
