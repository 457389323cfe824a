/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The verbs provider on a device: what it opens, lists and wraps, its limits, and that a
 * registration that is live keeps its domain.
 */
#include "mrpool/context.h"
#include "mrpool/pool.h"
#include "support/child.h"
#include "support/test_system.h"
#include "verbs_pair.h"

#include <errno.h>
#include <sys/wait.h>

static char memory[1 << 16] __attribute__((aligned(4096)));

/* -- opened -- */

struct device_list {
    size_t n_devices;
    char options[16][96], names[16][64];
};

static void note_device(const struct mrp_device *device, void *user)
{
    struct device_list *list = user;

    if (list->n_devices < 16) {
        snprintf(list->options[list->n_devices], sizeof(list->options[0]), "%s",
            device->options);
        snprintf(list->names[list->n_devices], sizeof(list->names[0]), "%s %s",
            device->name, device->domain);
        list->n_devices++;
    }
    assert_non_null(strstr(device->detail, "GIDs: "));
}

static void devices__each_opens_by_its_options(void **test)
{
    static struct device_list list;

    (void)test;
    list.n_devices = 0;
    assert_int_equal(verbs_ops()->devices(note_device, &list), MRP_OK);
    assert_true(list.n_devices > 0);
    for (size_t i = 0; i < list.n_devices; i++) {
        void *state;

        assert_int_equal(verbs_open(list.options[i], NULL, &state), MRP_OK);
        assert_string_equal(verbs_query(state).device, list.names[i]);
        verbs_close(state);
    }
}

static void open__native_is_what_it_says(void **test)
{
    struct ibv_port_attr port;
    const struct mrp_verbs_native *native;
    union ibv_gid gid;
    void *state;

    (void)test;
    assert_int_equal(verbs_open("", NULL, &state), MRP_OK);
    native = verbs_native(state);
    assert_int_equal(native->struct_size, sizeof(*native));
    assert_ptr_equal(native->pd->context, native->context);
    assert_int_equal(ibv_query_port(native->context, native->port, &port), 0);
    assert_int_equal(port.state, IBV_PORT_ACTIVE);
    assert_int_equal(
        ibv_query_gid(native->context, native->port, native->gid_index, &gid), 0);
    assert_int_equal(native->fork_safe, ibv_is_fork_initialized() != IBV_FORK_DISABLED);
    verbs_close(state);
}

static void open__names_what_is_not_there(void **test)
{
    void *state = test;

    assert_error(
        verbs_open("device=no_such", NULL, &state), MRP_ERR_UNAVAILABLE, "'no_such'");
    assert_error(verbs_open("port=200", NULL, &state), MRP_ERR_UNAVAILABLE, "port 200");
    assert_error(
        verbs_open("gid_index=65000", NULL, &state), MRP_ERR_UNAVAILABLE, "65000");
    assert_ptr_equal(state, test);
}

static void query__limits_are_the_devices(void **test)
{
    struct mrp_provider_info info;
    struct ibv_device_attr attr;
    void *state;

    (void)test;
    assert_int_equal(verbs_open("", NULL, &state), MRP_OK);
    info = verbs_query(state);
    assert_int_equal(ibv_query_device(verbs_native(state)->context, &attr), 0);
    assert_int_equal(info.max_registrations, attr.max_mr);
    assert_int_equal(
        info.max_size, attr.max_mr_size == UINT64_MAX ? 0 : attr.max_mr_size);
    assert_int_equal(info.key_size, 4);
    assert_int_equal(
        info.traits & (MRP_PROVIDER_RAW_KEY | MRP_PROVIDER_PINS), MRP_PROVIDER_PINS);
    assert_int_not_equal(info.traits & MRP_PROVIDER_REVOKES, 0);
    verbs_close(state);
}

/* Two of one device are two domains, and neither knows of the other. */
static void open__twice(void **test)
{
    struct mrp_registration made, other;
    void *first, *second;

    (void)test;
    assert_int_equal(verbs_open("", NULL, &first), MRP_OK);
    assert_int_equal(verbs_open("", NULL, &second), MRP_OK);
    assert_ptr_not_equal(verbs_native(first)->pd, verbs_native(second)->pd);
    assert_int_equal(
        verbs_register(first, memory, sizeof(memory), MRP_ACCESS_ALL, &made), MRP_OK);
    assert_int_equal(
        verbs_register(second, memory, sizeof(memory), MRP_ACCESS_ALL, &other), MRP_OK);
    assert_int_equal(verbs_deregister(first, &made), MRP_OK);
    verbs_close(first);
    assert_int_equal(verbs_deregister(second, &other), MRP_OK);
    verbs_close(second);
}

static void open__relaxed_ordering(void **test)
{
    struct mrp_registration made;
    void *state;

    (void)test;
    assert_int_equal(verbs_open("relaxed_ordering=on", NULL, &state), MRP_OK);
    assert_int_equal(
        verbs_register(state, memory, sizeof(memory), MRP_ACCESS_ALL, &made), MRP_OK);
    assert_int_equal(verbs_deregister(state, &made), MRP_OK);
    verbs_close(state);
}

static void open__on_demand_paging(void **test)
{
    struct mrp_registration made;
    void *state;

    (void)test;
    if (verbs_open("odp=on", NULL, &state) != MRP_OK) {
        assert_error(MRP_ERR_UNAVAILABLE, MRP_ERR_UNAVAILABLE, "on-demand paging");
        test_skip("open__on_demand_paging", mrp_error_last()->text);
        return;
    }
    assert_int_equal(
        verbs_register(state, memory, sizeof(memory), MRP_ACCESS_LOCAL, &made), MRP_OK);
    assert_int_equal(verbs_deregister(state, &made), MRP_OK);
    verbs_close(state);
}

/* -- wrapped -- */

/* A device and a domain of the test's own. */
struct own {
    struct ibv_context *context;
    struct ibv_pd *pd;
};

static struct own open_own(void)
{
    struct ibv_device **list = ibv_get_device_list(NULL);
    struct own own;

    assert_non_null(list);
    own.context = ibv_open_device(list[0]);
    ibv_free_device_list(list);
    assert_non_null(own.context);
    own.pd = ibv_alloc_pd(own.context);
    assert_non_null(own.pd);
    return own;
}

static void wrap__the_domain_goes_last(void **test)
{
    struct mrp_verbs_wrap_params params = MRP_VERBS_WRAP_PARAMS_INIT;
    struct mrp_pool_params pool_params = MRP_POOL_PARAMS_INIT;
    struct own own = open_own();
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_region *region;
    struct mrp_pool *pool;
    uint64_t key;

    (void)test;
    params.pd = own.pd;
    params.port = 1;
    assert_int_equal(mrp_context_create(NULL, &context), MRP_OK);
    assert_int_equal(mrp_verbs_provider_wrap(context, NULL, &params, &provider), MRP_OK);
    assert_ptr_equal(verbs_end_of(provider).pd, own.pd);
    pool_params.rails = &provider;
    pool_params.n_rails = 1;
    pool_params.access = MRP_ACCESS_ALL;
    pool_params.max_bytes = 4 << 20;
    assert_int_equal(mrp_pool_create(context, &pool_params, &pool), MRP_OK);
    region = mrp_region_alloc(pool, 1000);
    assert_non_null(region);

    /* too early: refused, and nothing is lost */
    assert_int_equal(ibv_dealloc_pd(own.pd), EBUSY);
    assert_int_equal(mrp_region_remote_key(region, 0, &key), MRP_OK);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    region = mrp_region_alloc(pool, 3 << 20); /* a chunk of its own */
    assert_non_null(region);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(mrp_pool_check(pool), MRP_OK);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
    assert_int_equal(ibv_dealloc_pd(own.pd), 0);
    assert_int_equal(ibv_close_device(own.context), 0);
}

static void wrap__one_domain_twice(void **test)
{
    struct mrp_verbs_wrap_params params = MRP_VERBS_WRAP_PARAMS_INIT;
    struct mrp_registration made, other;
    struct own own = open_own();
    void *first, *second;

    (void)test;
    params.pd = own.pd;
    assert_int_equal(verbs_open("", &params, &first), MRP_OK);
    assert_int_equal(verbs_open("", &params, &second), MRP_OK);
    assert_int_equal(verbs_register(first, memory, 4096, MRP_ACCESS_ALL, &made), MRP_OK);
    assert_int_equal(
        verbs_register(second, memory, 4096, MRP_ACCESS_ALL, &other), MRP_OK);
    assert_int_not_equal(made.remote_key, other.remote_key);
    assert_int_equal(verbs_deregister(first, &made), MRP_OK);
    assert_int_equal(verbs_deregister(second, &other), MRP_OK);
    verbs_close(first);
    verbs_close(second);
    assert_int_equal(ibv_dealloc_pd(own.pd), 0);
    assert_int_equal(ibv_close_device(own.context), 0);
}

/* -- fork -- */

static void run_child(struct mrp_pool *pool)
{
    struct mrp_context *context;
    struct mrp_provider *provider;

    EXPECT(mrp_region_alloc(pool, 100) == NULL);
    EXPECT(mrp_error_last()->status == MRP_ERR_FORKED);
    EXPECT(mrp_context_create(NULL, &context) == MRP_OK);
    EXPECT(mrp_provider_open(context, "verbs", NULL, &provider) == MRP_OK);
    EXPECT(mrp_context_destroy(context) == MRP_OK);
    _exit(0);
}

/* What the parent has registered it keeps where the device finds it: what it writes after
 * the fork is what the device reads. */
static void fork__leaves_the_parent_its_registrations(void **test)
{
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;
    struct mrp_pool_params pool_params = MRP_POOL_PARAMS_INIT;
    struct verbs_operation read = {.opcode = IBV_WR_RDMA_READ, .size = 64};
    struct mrp_region *region, *copy;
    struct mrp_provider *provider;
    struct mrp_context *context;
    struct mrp_wire from = MRP_WIRE_INIT, to = MRP_WIRE_INIT;
    struct mrp_pool *pool;
    struct verbs_end end;
    int status = -1;
    pid_t child;

    (void)test;
    params.options = "fork=on";
    assert_int_equal(mrp_context_create(NULL, &context), MRP_OK);
    assert_int_equal(mrp_provider_open(context, "verbs", &params, &provider), MRP_OK);
    pool_params.rails = &provider;
    pool_params.n_rails = 1;
    pool_params.access = MRP_ACCESS_ALL;
    pool_params.max_bytes = 4 << 20;
    assert_int_equal(mrp_pool_create(context, &pool_params, &pool), MRP_OK);
    region = mrp_region_alloc(pool, 64);
    copy = mrp_region_alloc(pool, 64);
    memset(mrp_region_address(region), 1, 64);
    memset(mrp_region_address(copy), 0, 64);

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        run_child(pool);
    }
    memset(mrp_region_address(region), 2, 64);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);

    assert_int_equal(mrp_resolve(pool, mrp_region_address(region), 64, 0, &from), MRP_OK);
    assert_int_equal(mrp_resolve(pool, mrp_region_address(copy), 64, 0, &to), MRP_OK);
    read.local = mrp_region_address(copy);
    read.lkey = (uint32_t)(uintptr_t)to.local_desc;
    read.remote_address = from.remote_addr;
    read.rkey = (uint32_t)from.remote_key;
    end = verbs_end_of(provider);
    assert_int_equal(verbs_try(&end, &end, &read), IBV_WC_SUCCESS);
    assert_memory_equal(mrp_region_address(copy), mrp_region_address(region), 64);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(mrp_region_free(copy), MRP_OK);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices__each_opens_by_its_options),
        cmocka_unit_test(open__native_is_what_it_says),
        cmocka_unit_test(open__names_what_is_not_there),
        cmocka_unit_test(query__limits_are_the_devices),
        cmocka_unit_test(open__twice),
        cmocka_unit_test(open__relaxed_ordering),
        cmocka_unit_test(open__on_demand_paging),
        cmocka_unit_test(wrap__the_domain_goes_last),
        cmocka_unit_test(wrap__one_domain_twice),
        cmocka_unit_test(fork__leaves_the_parent_its_registrations),
    };
    int missing = verbs_missing();

    return missing != 0 ? missing : cmocka_run_group_tests(tests, NULL, NULL);
}
