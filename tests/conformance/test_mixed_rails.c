/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One pool on every network that this machine has, at once: regions carry the descriptors
 * and keys of all of them, and networks come and go while regions live. As ranks of MPI
 * (test_mpi.sh) with a window of it beside the others.
 */
#include "mrpool/mrpool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct network {
    const char *module, *options;
};

static const struct network networks[] = {
    {"ofi", "provider=tcp"},
    {"ofi", "provider=sockets"},
    {"ofi", "provider=shm"},
    {"ofi", "provider=verbs"},
    {"ucx", "tls=tcp+self"},
    {"ucx", "tls=posix+sysv+self"},
    {"verbs", NULL},
    {"mpi", "window=dynamic"},
    {"mpich", "window=dynamic"},
    {"null", NULL},
    {"null", "addressing=offset"},
    {"null", "keys=raw"},
    {"host", NULL}, /* local access alone, from here on */
    {"uring", NULL},
};
#define N_NETWORKS (sizeof(networks) / sizeof(networks[0]))

struct rails {
    struct mrp_context *context;
    struct mrp_provider *all[N_NETWORKS];
    struct mrp_provider_info infos[N_NETWORKS];
    size_t n;
};

/* MPI's is for programs that are ranks of it: tests/conformance/test_mpi.sh says whose. */
static bool is_for_us(const struct network *network)
{
    const char *ranks = getenv("MRP_TEST_RANKS");

    return strncmp(network->module, "mpi", 3) != 0 ||
        (ranks != NULL && strcmp(ranks, network->module) == 0);
}

/* Open what there is; of what is missing, say why. `access`: what they have to grant. */
static void open_all(struct rails *rails, uint32_t access)
{
    static bool said[N_NETWORKS];

    memset(rails, 0, sizeof(*rails));
    assert_int_equal(mrp_context_create(NULL, &rails->context), MRP_OK);
    for (size_t i = 0; i < N_NETWORKS; i++) {
        struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;
        struct mrp_provider_info *info = &rails->infos[rails->n];
        struct mrp_provider *provider;

        if (!is_for_us(&networks[i])) {
            continue;
        }
        params.options = networks[i].options;
        if (mrp_provider_open(rails->context, networks[i].module, &params, &provider) !=
            MRP_OK) {
            assert_int_equal(mrp_error_last()->status, MRP_ERR_UNAVAILABLE);
            assert_int_not_equal(strncmp(networks[i].module, "mpi", 3), 0);
            if (!said[i]) {
                printf("SKIP: mixed rails, %s %s: %s\n", networks[i].module,
                    networks[i].options != NULL ? networks[i].options : "",
                    mrp_error_last()->text);
            }
            said[i] = true;
            continue;
        }
        *info = (struct mrp_provider_info)MRP_PROVIDER_INFO_INIT;
        assert_int_equal(mrp_provider_query(provider, info), MRP_OK);
        if ((access & ~info->access) == 0) {
            rails->all[rails->n++] = provider;
        }
    }
    assert_true(rails->n >= 3); /* null is always there */
}

static struct mrp_pool *make_pool(struct rails *rails, size_t n_rails, uint32_t access)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_pool *pool = NULL;

    params.rails = rails->all;
    params.n_rails = n_rails;
    params.access = access;
    params.max_bytes = (size_t)8 << 20; /* within an ordinary memlock */
    if (mrp_pool_create(rails->context, &params, &pool) != MRP_OK) {
        fail_msg("%s", mrp_error_last()->text);
    }
    return pool;
}

static const size_t sizes[] = {64, 1000, 16384, 65536, 1000000, 1500000};
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

static void take_all(struct mrp_pool *pool, struct mrp_region **regions)
{
    for (size_t i = 0; i < N_SIZES; i++) {
        regions[i] = mrp_region_alloc(pool, sizes[i]);
        if (regions[i] == NULL) {
            fail_msg("%s", mrp_error_last()->text);
        }
        memset(mrp_region_address(regions[i]), (int)i, sizes[i]);
    }
}

static void give_all(struct mrp_region **regions)
{
    for (size_t i = 0; i < N_SIZES; i++) {
        assert_int_equal(mrp_region_free(regions[i]), MRP_OK);
    }
}

/* What each rail is, its regions have. */
static void check_rail(const struct rails *rails, const struct mrp_region *region,
    unsigned rail, bool remote)
{
    const struct mrp_provider_info *info = &rails->infos[rail];
    uint64_t key, address;
    void *desc, *native;
    size_t offset;

    assert_int_equal(mrp_region_local_desc(region, rail, &desc), MRP_OK);
    if ((info->traits & MRP_PROVIDER_LOCAL_DESC) != 0) {
        assert_non_null(desc);
    }
    assert_int_equal(mrp_region_registration(region, rail, &native, &offset), MRP_OK);
    assert_non_null(native);
    if (!remote) {
        return;
    }
    assert_int_equal(mrp_region_remote_addr(region, rail, &address), MRP_OK);
    if ((info->traits & MRP_PROVIDER_VIRTUAL_ADDRESS) != 0) {
        assert_true(address == (uintptr_t)mrp_region_address(region));
    } else {
        assert_true(address == offset);
    }
    assert_int_equal(mrp_region_remote_key(region, rail, &key),
        (info->traits & MRP_PROVIDER_RAW_KEY) != 0 ? MRP_ERR_UNSUPPORTED : MRP_OK);
}

static void check_counts(const struct rails *rails, size_t n_rails)
{
    for (size_t i = 0; i < n_rails; i++) {
        struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;
        struct mrp_provider_info first = MRP_PROVIDER_INFO_INIT;

        assert_int_equal(mrp_provider_query(rails->all[i], &info), MRP_OK);
        assert_int_equal(mrp_provider_query(rails->all[0], &first), MRP_OK);
        assert_int_equal(info.n_registrations, first.n_registrations);
        assert_int_equal(info.registered_size, first.registered_size);
    }
}

static void run_all_at_once(uint32_t access, bool remote)
{
    struct mrp_region *regions[N_SIZES];
    struct rails rails;
    struct mrp_pool *pool;

    open_all(&rails, access);
    pool = make_pool(&rails, rails.n, access);
    for (int round = 0; round < 3; round++) {
        take_all(pool, regions);
        for (size_t i = 0; i < N_SIZES; i++) {
            for (unsigned rail = 0; rail < rails.n; rail++) {
                check_rail(&rails, regions[i], rail, remote);
            }
        }
        check_counts(&rails, rails.n);
        give_all(regions);
    }
    assert_int_equal(mrp_pool_check(pool), MRP_OK);
    assert_int_equal(mrp_pool_destroy(pool), MRP_OK);
    for (size_t i = 0; i < rails.n; i++) {
        assert_int_equal(mrp_provider_close(rails.all[i]), MRP_OK);
    }
    assert_int_equal(mrp_context_destroy(rails.context), MRP_OK);
}

static void mixed__all_networks_with_local_access(void **state)
{
    (void)state;
    run_all_at_once(MRP_ACCESS_LOCAL, false);
}

static void mixed__all_networks_with_remote_access(void **state)
{
    (void)state;
    run_all_at_once(MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE, true);
}

/* One token for all of them, and the keys of all in one packet. */
static void mixed__keys_of_all_networks_in_one_packet(void **state)
{
    uint32_t access = MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE;
    unsigned char keys[64 * 256];
    size_t size = sizeof(keys);
    struct mrp_region *region;
    struct mrp_token token;
    struct mrp_pool *pool;
    struct rails rails;

    (void)state;
    open_all(&rails, access);
    pool = make_pool(&rails, rails.n, access);
    region = mrp_region_alloc(pool, 5000);
    assert_non_null(region);
    assert_int_equal(mrp_region_token(region, &token), MRP_OK);
    assert_int_equal(
        mrp_region_key_pack(region, ((uint64_t)1 << rails.n) - 1, keys, &size), MRP_OK);
    for (unsigned rail = 0; rail < rails.n; rail++) {
        struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;
        struct mrp_remote *remote;
        enum mrp_status status =
            mrp_remote_open(rails.all[rail], NULL, rail, keys, size, &remote);
        uint64_t address;

        if (strcmp(rails.infos[rail].module, "ucx") == 0) {
            assert_int_equal(status, MRP_ERR_INVALID); /* it needs an endpoint */
            continue;
        }
        assert_int_equal(status, MRP_OK);
        assert_int_equal(mrp_remote_resolve(remote, &token, &found), MRP_OK);
        assert_int_equal(mrp_region_remote_addr(region, rail, &address), MRP_OK);
        assert_true(found.address == address);
        assert_int_equal(found.size, 5000);
        assert_int_equal(mrp_remote_close(remote), MRP_OK);
    }
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(mrp_context_destroy(rails.context), MRP_OK);
}

/* Each network joins a pool in use and leaves it; the first one is there all the time. */
static void mixed__networks_come_and_go(void **state)
{
    struct mrp_region *regions[N_SIZES];
    struct mrp_pool *pool;
    struct rails rails;

    (void)state;
    open_all(&rails, MRP_ACCESS_LOCAL);
    pool = make_pool(&rails, 1, MRP_ACCESS_LOCAL);
    take_all(pool, regions);
    for (unsigned i = 1; i < rails.n; i++) {
        unsigned rail = 99;

        if (mrp_pool_rail_add(pool, rails.all[i], MRP_RAIL_EAGER, &rail) != MRP_OK) {
            fail_msg("%s: %s", rails.infos[i].name, mrp_error_last()->text);
        }
        assert_int_equal(rail, i);
        for (size_t k = 0; k < N_SIZES; k++) {
            check_rail(&rails, regions[k], rail, false);
        }
    }
    check_counts(&rails, rails.n);
    for (unsigned i = 1; i < rails.n; i += 2) { /* every other one */
        void *desc;

        assert_int_equal(mrp_pool_rail_remove(pool, i), MRP_OK);
        assert_int_equal(
            mrp_region_local_desc(regions[0], i, &desc), MRP_ERR_UNSUPPORTED);
        assert_int_equal(mrp_provider_close(rails.all[i]), MRP_OK);
    }
    for (unsigned i = 2; i < rails.n; i += 2) {
        check_rail(&rails, regions[1], i, false);
    }
    for (size_t i = 0; i < N_SIZES; i++) {
        const unsigned char *bytes = mrp_region_address(regions[i]);

        assert_int_equal(bytes[0], i);
        assert_int_equal(bytes[sizes[i] - 1], i);
    }
    give_all(regions);
    assert_int_equal(mrp_pool_check(pool), MRP_OK);
    assert_int_equal(mrp_context_destroy(rails.context), MRP_OK);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(mixed__all_networks_with_local_access),
        cmocka_unit_test(mixed__all_networks_with_remote_access),
        cmocka_unit_test(mixed__keys_of_all_networks_in_one_packet),
        cmocka_unit_test(mixed__networks_come_and_go),
    };

    return cmocka_run_group_tests_name("mixed_rails", tests, NULL, NULL);
}
