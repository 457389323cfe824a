/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A peer's chunk: keys imported once and given back once, tokens of that chunk resolved,
 * all others refused. Owner and peer are two contexts of one process.
 */
#include "mrpool/mrpool.h"
#include "refusal.h"
#include "support/test_providers.h"
#include "wire_bytes.h"

#include <stdlib.h>

#define KEYS_SIZE 512

struct fixture {
    struct test_provider networks[2], network; /* of owner and peer */
    struct mrp_context *owner, *peer;
    struct mrp_provider *rails[2], *provider;
    struct mrp_pool *pool;
    struct mrp_region *region;
    unsigned char keys[KEYS_SIZE];
    size_t size;
    struct mrp_token token;
};

/* Owner with two rails and one region, its keys packed for both; a peer. */
static struct fixture *make(uint32_t traits)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;

    assert_accepted(mrp_context_create(NULL, &f->owner));
    assert_accepted(mrp_context_create(NULL, &f->peer));
    for (size_t i = 0; i < 2; i++) {
        test_provider_init(&f->networks[i]);
        f->networks[i].traits = traits;
        assert_accepted(mrp_provider_create(
            f->owner, NULL, test_provider_ops(), &f->networks[i], &f->rails[i]));
    }
    test_provider_init(&f->network);
    f->network.traits = traits;
    assert_accepted(mrp_provider_create(
        f->peer, NULL, test_provider_ops(), &f->network, &f->provider));
    params.rails = f->rails;
    params.n_rails = 2;
    params.access = MRP_ACCESS_ALL;
    params.max_bytes = 64 << 20;
    assert_accepted(mrp_pool_create(f->owner, &params, &f->pool));
    f->region = mrp_region_alloc(f->pool, 1000);
    assert_non_null(f->region);
    f->size = sizeof f->keys;
    assert_accepted(mrp_region_key_pack(f->region, 3, f->keys, &f->size));
    assert_accepted(mrp_region_token(f->region, &f->token));
    return f;
}

static int set_up(void **state)
{
    *state = make(MRP_PROVIDER_REMOTE_KEY | MRP_PROVIDER_VIRTUAL_ADDRESS);
    return 0;
}

static int set_up_raw(void **state)
{
    *state = make(
        MRP_PROVIDER_REMOTE_KEY | MRP_PROVIDER_VIRTUAL_ADDRESS | MRP_PROVIDER_RAW_KEY);
    return 0;
}

static int set_up_offset(void **state)
{
    *state = make(MRP_PROVIDER_REMOTE_KEY);
    return 0;
}

/* What was imported has been released, by whomever. */
static int tear_down(void **state)
{
    struct fixture *f = *state;

    if (mrp_context_check(f->peer) == MRP_OK) {
        assert_accepted(mrp_context_destroy(f->peer));
    }
    assert_accepted(mrp_region_free(f->region));
    assert_accepted(mrp_context_destroy(f->owner));
    assert_int_equal(f->network.n_imported, f->network.n_released);
    assert_string_equal(f->network.first_error, "");
    for (size_t i = 0; i < 2; i++) {
        test_provider_fini(&f->networks[i]);
    }
    test_provider_fini(&f->network);
    free(f);
    return 0;
}

static struct mrp_remote *open_rail(struct fixture *f, unsigned rail)
{
    struct mrp_remote *remote = NULL;

    assert_accepted(mrp_remote_open(f->provider, NULL, rail, f->keys, f->size, &remote));
    assert_non_null(remote);
    return remote;
}

static size_t n_users(struct fixture *f)
{
    enum mrp_status status = mrp_provider_close(f->provider);

    return status == MRP_ERR_BUSY; /* none means that it is closed now */
}

/* -- where a token leads -- */

static void resolve__gives_what_the_owner_sees(void **state)
{
    struct fixture *f = *state;

    for (unsigned rail = 0; rail < 2; rail++) {
        struct mrp_remote *remote = open_rail(f, rail);
        struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;
        uint64_t key, address;

        assert_accepted(mrp_region_remote_key(f->region, rail, &key));
        assert_accepted(mrp_region_remote_addr(f->region, rail, &address));
        assert_accepted(mrp_remote_resolve(remote, &f->token, &found));
        assert_int_equal(found.key, key);
        assert_int_equal(found.address, address);
        assert_int_equal(found.size, 1000);
        assert_null(found.handle);
        assert_accepted(mrp_remote_close(remote));
    }
    assert_int_equal(f->network.n_imported, 0); /* 64 bits are used as they are */
}

static void resolve__imports_a_raw_key_once(void **state)
{
    struct fixture *f = *state;
    struct mrp_remote *remote = open_rail(f, 1);
    struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;
    uint64_t address;

    for (int i = 0; i < 10; i++) {
        assert_accepted(mrp_remote_resolve(remote, &f->token, &found));
    }
    assert_accepted(mrp_region_remote_addr(f->region, 1, &address));
    assert_int_equal(found.address, address);
    assert_non_null(found.handle);
    assert_int_equal(*(uint64_t *)found.handle, found.key);
    assert_int_equal(f->network.n_imported, 1);
    assert_int_equal(f->network.n_released, 0);
    assert_accepted(mrp_remote_close(remote));
    assert_int_equal(f->network.n_released, 1);
}

/* What the network ties imports to makes an import of any key. */
static void open__imports_for_an_endpoint(void **state)
{
    struct fixture *f = *state;
    struct mrp_remote *remote;

    assert_accepted(mrp_remote_open(f->provider, f, 0, f->keys, f->size, &remote));
    assert_int_equal(f->network.n_imported, 1);
    assert_accepted(mrp_remote_close(remote));
    assert_int_equal(f->network.n_released, 1);
}

static void resolve__counts_from_the_registration_where_the_network_does(void **state)
{
    struct fixture *f = *state;
    struct mrp_remote *remote = open_rail(f, 0);
    struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;
    struct mrp_region_info info = MRP_REGION_INFO_INIT;

    assert_accepted(mrp_region_query(f->region, &info));
    assert_accepted(mrp_remote_resolve(remote, &f->token, &found));
    assert_int_equal(
        found.address, (uintptr_t)info.address - (uintptr_t)info.chunk_address);
    assert_accepted(mrp_remote_close(remote));
}

static void resolve__with_the_null_module(void **state)
{
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;
    struct mrp_pool_params pool_params = MRP_POOL_PARAMS_INIT;
    struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_region *region;
    struct mrp_remote *remote;
    struct mrp_token token;
    struct mrp_pool *pool;
    unsigned char keys[KEYS_SIZE];
    size_t size = sizeof keys;
    (void)state;

    assert_accepted(mrp_context_create(NULL, &context));
    params.options = "keys=raw,addressing=offset";
    if (mrp_provider_open(context, "null", &params, &provider) != MRP_OK) {
        printf("SKIP: %s: %s\n", __func__, mrp_error_last()->text);
        assert_accepted(mrp_context_destroy(context));
        return;
    }
    pool_params.rails = &provider;
    pool_params.n_rails = 1;
    pool_params.access = MRP_ACCESS_ALL;
    assert_accepted(mrp_pool_create(context, &pool_params, &pool));
    region = mrp_region_alloc(pool, 77);
    assert_accepted(mrp_region_token(region, &token));
    assert_accepted(mrp_region_key_pack(region, 1, keys, &size));
    assert_accepted(mrp_remote_open(provider, NULL, 0, keys, size, &remote));
    assert_accepted(mrp_remote_resolve(remote, &token, &found));
    assert_int_equal(found.size, 77);
    assert_non_null(found.handle);
    assert_true(found.key > 0);
    assert_accepted(mrp_remote_close(remote));
    assert_accepted(mrp_region_free(region));
    assert_accepted(mrp_context_destroy(context));
}

/* -- tokens that do not belong -- */

static struct mrp_token change(
    const struct fixture *f, void (*edit)(struct mrp_wire_token *fields))
{
    struct mrp_wire_token fields;
    struct mrp_token token;

    assert_accepted(mrp_token_decode(&f->token, &fields));
    edit(&fields);
    mrp_token_encode(&fields, &token);
    return token;
}

static void of_another_pool(struct mrp_wire_token *fields)
{
    fields->pool ^= 1;
}

static void of_another_chunk(struct mrp_wire_token *fields)
{
    fields->chunk++;
}

static void of_another_time(struct mrp_wire_token *fields)
{
    fields->chunk_generation++;
}

static void that_begins_beyond(struct mrp_wire_token *fields)
{
    fields->offset = ((uint64_t)1 << 48) - 1;
}

static void that_ends_beyond(struct mrp_wire_token *fields)
{
    fields->length = ((uint64_t)1 << 48) - 1;
}

static void of_another_owner(struct mrp_wire_token *fields)
{
    fields->region_generation++;
}

static void refuse(struct fixture *f, const struct mrp_remote *remote,
    void (*edit)(struct mrp_wire_token *), enum mrp_status status, const char *word)
{
    struct mrp_token token = change(f, edit);
    struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;

    assert_refused(mrp_remote_resolve(remote, &token, &found), status, word);
    assert_int_equal(found.address, 0);
}

static void resolve__refuses_tokens_that_do_not_belong(void **state)
{
    struct fixture *f = *state;
    struct mrp_remote *remote = open_rail(f, 0);
    struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;
    struct mrp_token token;

    refuse(f, remote, of_another_pool, MRP_ERR_INVALID, "the token is of pool");
    refuse(f, remote, of_another_chunk, MRP_ERR_INVALID, "that chunk's keys");
    refuse(f, remote, of_another_time, MRP_ERR_STALE, "new keys");
    refuse(f, remote, that_begins_beyond, MRP_ERR_INVALID, "of a chunk of");
    refuse(f, remote, that_ends_beyond, MRP_ERR_INVALID, "of a chunk of");
    token = change(f, of_another_owner); /* only the owner can tell */
    assert_accepted(mrp_remote_resolve(remote, &token, &found));
    assert_accepted(mrp_remote_close(remote));
}

static void resolve__refuses_a_token_of_another_chunk_of_the_pool(void **state)
{
    struct fixture *f = *state;
    struct mrp_remote *remote = open_rail(f, 0);
    struct mrp_region *large = mrp_region_alloc(f->pool, 8 << 20);
    struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;
    struct mrp_token token;

    assert_non_null(large);
    assert_accepted(mrp_region_token(large, &token));
    assert_refused(mrp_remote_resolve(remote, &token, &found), MRP_ERR_INVALID,
        "open that chunk's keys");
    assert_accepted(mrp_region_free(large));
    assert_accepted(mrp_remote_close(remote));
}

static void token_chunk__finds_the_import_of_its_chunk(void **state)
{
    struct fixture *f = *state;
    struct mrp_remote *remote = open_rail(f, 0);
    struct mrp_region *large = mrp_region_alloc(f->pool, 8 << 20);
    struct mrp_chunk_id of_remote, of_token, of_other;
    struct mrp_token token;

    assert_non_null(large);
    assert_accepted(mrp_region_token(large, &token));
    assert_accepted(mrp_remote_chunk(remote, &of_remote));
    assert_accepted(mrp_token_chunk(&f->token, &of_token));
    assert_accepted(mrp_token_chunk(&token, &of_other));
    assert_memory_equal(&of_remote, &of_token, sizeof(of_token));
    assert_int_equal(of_remote.pool, of_other.pool);
    assert_int_not_equal(of_remote.chunk, of_other.chunk);
    token.bytes[9] ^= 1;
    assert_refused(mrp_token_chunk(&token, &of_other), MRP_ERR_INVALID, "corrupted");
    assert_refused(mrp_token_chunk(NULL, &of_other), MRP_ERR_INVALID, "token is NULL");
    assert_refused(mrp_token_chunk(&f->token, NULL), MRP_ERR_INVALID, "id is NULL");
    assert_refused(mrp_remote_chunk(remote, NULL), MRP_ERR_INVALID, "id is NULL");
    assert_accepted(mrp_region_free(large));
    assert_accepted(mrp_remote_close(remote));
    assert_refused(mrp_remote_chunk(remote, &of_remote), MRP_ERR_STALE, "destroyed");
}

static void resolve__refuses_damaged_tokens_and_missing_arguments(void **state)
{
    struct fixture *f = *state;
    struct mrp_remote *remote = open_rail(f, 0);
    struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;

    for (size_t bit = 0; bit < 8 * MRP_TOKEN_SIZE; bit++) {
        struct mrp_token damaged = f->token;

        damaged.bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        assert_int_equal(mrp_remote_resolve(remote, &damaged, &found), MRP_ERR_INVALID);
    }
    assert_refused(
        mrp_remote_resolve(remote, NULL, &found), MRP_ERR_INVALID, "token is NULL");
    assert_refused(mrp_remote_resolve(remote, &f->token, NULL), MRP_ERR_INVALID, "NULL");
    assert_refused(mrp_remote_resolve(NULL, &f->token, &found), MRP_ERR_STALE, "NULL");
    assert_refused(mrp_remote_resolve((struct mrp_remote *)0x1234, &f->token, &found),
        MRP_ERR_STALE, "0x1234");
    assert_accepted(mrp_remote_close(remote));
    assert_refused(
        mrp_remote_resolve(remote, &f->token, &found), MRP_ERR_STALE, "destroyed");
}

/* -- keys that cannot be opened -- */

static enum mrp_status try_open(
    const struct fixture *f, unsigned rail, const void *keys, size_t size)
{
    struct mrp_remote *remote = NULL;
    enum mrp_status status =
        mrp_remote_open(f->provider, NULL, rail, keys, size, &remote);

    assert_true((status == MRP_OK) == (remote != NULL));
    return status;
}

static void open__refuses_damaged_and_cut_keys(void **state)
{
    struct fixture *f = *state;

    for (size_t bit = 0; bit < 8 * f->size; bit++) {
        f->keys[bit / 8] ^= (unsigned char)(1 << bit % 8);
        assert_int_equal(try_open(f, 0, f->keys, f->size), MRP_ERR_INVALID);
        f->keys[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    for (size_t size = 0; size < f->size; size++) {
        unsigned char *cut = malloc(size == 0 ? 1 : size);

        memcpy(cut, f->keys, size);
        assert_int_equal(try_open(f, 0, cut, size), MRP_ERR_INVALID);
        free(cut);
    }
    assert_int_equal(f->network.n_imported, 0);
    assert_int_equal(n_users(f), 0);
}

static void open__refuses_missing_rails_and_arguments(void **state)
{
    struct fixture *f = *state;
    struct mrp_remote *remote;

    assert_refused(try_open(f, 2, f->keys, f->size), MRP_ERR_INVALID, "rail 2");
    f->size = sizeof f->keys;
    assert_accepted(mrp_region_key_pack(f->region, 1 << 1, f->keys, &f->size));
    assert_refused(try_open(f, 0, f->keys, f->size), MRP_ERR_INVALID, "rail 0");
    assert_refused(try_open(f, 1, NULL, f->size), MRP_ERR_INVALID, "packed is NULL");
    assert_refused(mrp_remote_open(f->provider, NULL, 1, f->keys, f->size, NULL),
        MRP_ERR_INVALID, "remote is NULL");
    assert_refused(mrp_remote_open(NULL, NULL, 1, f->keys, f->size, &remote),
        MRP_ERR_STALE, "provider is NULL");
    assert_int_equal(n_users(f), 0);
}

/* The bytes arrived as they were sent; the network itself does not want the key. */
static void open__a_key_the_network_refuses_leaves_nothing(void **state)
{
    struct fixture *f = *state;

    f->keys[MRP_KEYS_HEADER_SIZE + 16] ^= 1; /* the first entry's key */
    wire_seal(f->keys, f->size);
    assert_refused(try_open(f, 0, f->keys, f->size), MRP_ERR_INVALID, "corrupted");
    assert_accepted(mrp_remote_close(open_rail(f, 1)));
    assert_int_equal(f->network.n_imported, 1);
    assert_int_equal(n_users(f), 0);
}

static void open__a_raw_key_needs_a_provider_that_imports(void **state)
{
    struct fixture *f = *state;
    struct mrp_provider_ops ops = *test_provider_ops();
    struct mrp_provider *simple;
    struct mrp_remote *remote;

    ops.import_key = NULL;
    ops.close = NULL;
    assert_accepted(mrp_provider_create(f->peer, "simple", &ops, &f->network, &simple));
    assert_refused(mrp_remote_open(simple, NULL, 0, f->keys, f->size, &remote),
        MRP_ERR_UNSUPPORTED, "another network");
    assert_accepted(mrp_provider_close(simple));
}

static void query_narrow(void *state, struct mrp_provider_info *info)
{
    test_provider_ops()->query(state, info);
    info->key_size = 4;
}

/* As those of verbs, of 32 bits: one of libfabric's would be cut. */
static void open__refuses_a_number_that_is_too_large_for_the_network(void **state)
{
    struct fixture *f = *state;
    struct mrp_provider_ops ops = *test_provider_ops();
    unsigned char *key = f->keys + MRP_KEYS_HEADER_SIZE + 16;
    struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;
    struct mrp_provider *narrow;
    struct mrp_remote *remote;

    ops.query = query_narrow;
    ops.close = NULL;
    assert_accepted(mrp_provider_create(f->peer, "narrow", &ops, &f->network, &narrow));
    wire_put(key, 8, UINT32_MAX);
    wire_seal(f->keys, f->size);
    assert_accepted(mrp_remote_open(narrow, NULL, 0, f->keys, f->size, &remote));
    assert_accepted(mrp_remote_resolve(remote, &f->token, &found));
    assert_int_equal(found.key, UINT32_MAX);
    assert_accepted(mrp_remote_close(remote));
    wire_put(key, 8, (uint64_t)UINT32_MAX + 1);
    wire_seal(f->keys, f->size);
    assert_refused(mrp_remote_open(narrow, NULL, 0, f->keys, f->size, &remote),
        MRP_ERR_INVALID, "0x100000000 is none of provider narrow");
    assert_accepted(mrp_provider_close(narrow));
}

/* -- the life of an import -- */

static void close__twice_is_stale(void **state)
{
    struct fixture *f = *state;
    struct mrp_remote *remote = open_rail(f, 0);

    assert_refused(
        mrp_provider_close(f->provider), MRP_ERR_BUSY, "1 pools, imports or backends");
    assert_accepted(mrp_remote_close(remote));
    assert_refused(mrp_remote_close(remote), MRP_ERR_STALE, "destroyed");
    assert_refused(mrp_remote_close(NULL), MRP_ERR_STALE, "NULL");
    assert_refused(
        mrp_remote_close((struct mrp_remote *)f->provider), MRP_ERR_STALE, "not a");
    assert_int_equal(n_users(f), 0);
}

/* docs/SCALING.md: a chunk of each of 100,000 peers. */
static void open__serves_a_hundred_thousand_peers(void **state)
{
    struct fixture *f = *state;
    const size_t n_peers = 100000;
    struct mrp_remote **remotes = calloc(n_peers, sizeof(*remotes));
    struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;

    assert_non_null(remotes);
    for (size_t i = 0; i < n_peers; i++) {
        remotes[i] = open_rail(f, i % 2);
    }
    assert_accepted(mrp_remote_resolve(remotes[n_peers - 1], &f->token, &found));
    for (size_t i = 0; i < n_peers; i++) {
        assert_accepted(mrp_remote_close(remotes[i]));
    }
    free(remotes);
}

/* Imports nobody closed go with their provider, and their handles stay safe. */
static void destroy__releases_imports(void **state)
{
    struct fixture *f = *state;
    struct mrp_remote *remotes[5];
    struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;

    for (unsigned i = 0; i < 5; i++) {
        remotes[i] = open_rail(f, i % 2);
    }
    assert_accepted(mrp_remote_close(remotes[2])); /* from the middle, and the ends */
    assert_accepted(mrp_remote_close(remotes[4]));
    assert_accepted(mrp_remote_close(remotes[0]));
    assert_int_equal(f->network.n_released, 3);
    assert_accepted(mrp_context_destroy(f->peer));
    assert_int_equal(f->network.n_released, 5);
    assert_int_equal(f->network.n_closed, 1);
    for (unsigned i = 0; i < 5; i++) {
        assert_refused(mrp_remote_close(remotes[i]), MRP_ERR_STALE, "destroyed");
        assert_refused(mrp_remote_resolve(remotes[i], &f->token, &found), MRP_ERR_STALE,
            "destroyed");
    }
}

int main(void)
{
#define TEST(function, begin) cmocka_unit_test_setup_teardown(function, begin, tear_down)
    static const struct CMUnitTest tests[] = {
        TEST(resolve__gives_what_the_owner_sees, set_up),
        TEST(resolve__imports_a_raw_key_once, set_up_raw),
        TEST(open__imports_for_an_endpoint, set_up),
        TEST(resolve__counts_from_the_registration_where_the_network_does, set_up_offset),
        cmocka_unit_test(resolve__with_the_null_module),
        TEST(resolve__refuses_tokens_that_do_not_belong, set_up),
        TEST(resolve__refuses_a_token_of_another_chunk_of_the_pool, set_up),
        TEST(token_chunk__finds_the_import_of_its_chunk, set_up),
        TEST(resolve__refuses_damaged_tokens_and_missing_arguments, set_up),
        TEST(open__refuses_damaged_and_cut_keys, set_up_raw),
        TEST(open__refuses_missing_rails_and_arguments, set_up),
        TEST(open__a_key_the_network_refuses_leaves_nothing, set_up_raw),
        TEST(open__a_raw_key_needs_a_provider_that_imports, set_up_raw),
        TEST(open__refuses_a_number_that_is_too_large_for_the_network, set_up),
        TEST(close__twice_is_stale, set_up),
        TEST(open__serves_a_hundred_thousand_peers, set_up),
        TEST(destroy__releases_imports, set_up_raw),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
