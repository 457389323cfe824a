/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the device itself refuses a peer that holds a key of a pool: a right that was not
 * granted, a byte past the chunk, memory whose registration has gone. And what it does
 * not: every operation between regions, over each rail of a pool.
 */
#include "mrpool/context.h"
#include "mrpool/pool.h"
#include "support/test_system.h"
#include "verbs_pair.h"

#define RAILS_MAX 2

/* A context with a pool over up to two devices, and memory to act from. */
struct network {
    struct mrp_context *context;
    struct mrp_provider *rails[RAILS_MAX];
    size_t n_rails;
    struct mrp_pool *pool; /* of the access that the case asks for */
    struct mrp_pool *actor; /* local access: where the peer acts from */
};

static struct mrp_pool *make_pool(struct network *network, uint32_t access)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_pool *pool;

    params.rails = network->rails;
    params.n_rails = network->n_rails;
    params.access = access;
    params.max_bytes = 4 << 20;
    params.chunk_min = 256 << 10;
    assert_int_equal(mrp_pool_create(network->context, &params, &pool), MRP_OK);
    return pool;
}

static void add_rail(const struct mrp_device *device, void *user)
{
    struct network *network = user;
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;

    params.options = device->options;
    if (network->n_rails < RAILS_MAX &&
        mrp_provider_open(network->context, "verbs", &params,
            &network->rails[network->n_rails]) == MRP_OK) {
        network->n_rails++;
    }
}

static struct network open_network(size_t n_rails, uint32_t access)
{
    struct network network = {.n_rails = 0};

    assert_int_equal(mrp_context_create(NULL, &network.context), MRP_OK);
    if (n_rails == 1) {
        assert_int_equal(
            mrp_provider_open(network.context, "verbs", NULL, &network.rails[0]), MRP_OK);
        network.n_rails = 1;
    } else {
        assert_int_equal(mrp_module_devices("verbs", add_rail, &network), MRP_OK);
    }
    network.pool = make_pool(&network, access);
    network.actor = make_pool(&network, MRP_ACCESS_LOCAL);
    return network;
}

static void close_network(struct network *network)
{
    assert_int_equal(mrp_pool_check(network->pool), MRP_OK);
    assert_int_equal(mrp_pool_check(network->actor), MRP_OK);
    assert_int_equal(mrp_context_destroy(network->context), MRP_OK);
}

static struct mrp_region *take(struct mrp_pool *pool, size_t size, int byte)
{
    struct mrp_region *region = mrp_region_alloc(pool, size);

    assert_non_null(region);
    memset(mrp_region_address(region), byte, mrp_region_capacity(region));
    return region;
}

/* From a local region to `offset` of another, as its key lets a peer do it. */
static struct verbs_operation operation_of(enum ibv_wr_opcode opcode,
    const struct mrp_region *local, const struct mrp_region *target, unsigned rail,
    size_t offset, uint32_t size)
{
    struct verbs_operation operation = {.opcode = opcode, .size = size};
    void *lkey = NULL;
    uint64_t rkey = 0;

    assert_int_equal(mrp_region_local_desc(local, rail, &lkey), MRP_OK);
    assert_int_equal(mrp_region_remote_key(target, rail, &rkey), MRP_OK);
    assert_int_equal(
        mrp_region_remote_addr(target, rail, &operation.remote_address), MRP_OK);
    assert_true(rkey <= UINT32_MAX);
    operation.local = mrp_region_address(local);
    operation.lkey = (uint32_t)(uintptr_t)lkey;
    operation.rkey = (uint32_t)rkey;
    operation.remote_address += offset;
    return operation;
}

static enum ibv_wc_status act(
    struct network *network, unsigned rail, const struct verbs_operation *operation)
{
    struct verbs_end end = verbs_end_of(network->rails[rail]);

    return verbs_try(&end, &end, operation);
}

/* -- rights -- */

/* Of write, read and compare-and-swap exactly those that the pool granted. */
static void device__grants_what_the_pool_does(void **test)
{
    static const enum ibv_wr_opcode opcodes[] = {
        IBV_WR_RDMA_WRITE, IBV_WR_RDMA_READ, IBV_WR_ATOMIC_CMP_AND_SWP};
    static const uint32_t rights[] = {
        MRP_ACCESS_REMOTE_WRITE, MRP_ACCESS_REMOTE_READ, MRP_ACCESS_REMOTE_ATOMIC};

    (void)test;
    for (size_t granted = 0; granted < 3; granted++) {
        struct network network = open_network(1, MRP_ACCESS_LOCAL | rights[granted]);
        struct mrp_region *target = take(network.pool, 64, 0x11);
        struct mrp_region *local = take(network.actor, 64, 0x22);

        for (size_t i = 0; i < 3; i++) {
            struct verbs_operation operation = operation_of(opcodes[i], local, target, 0,
                0, opcodes[i] == IBV_WR_ATOMIC_CMP_AND_SWP ? 8 : 64);
            unsigned char *bytes = mrp_region_address(target);

            operation.expected = 0x1111111111111111;
            operation.desired = 0x3333333333333333;
            assert_int_equal(act(&network, 0, &operation),
                i == granted ? IBV_WC_SUCCESS : IBV_WC_REM_ACCESS_ERR);
            assert_int_equal(bytes[0],
                i != granted ? 0x11
                    : i == 0 ? 0x22
                    : i == 1 ? 0x11
                             : 0x33);
            memset(bytes, 0x11, 64);
            memset(mrp_region_address(local), 0x22, 64);
        }
        assert_int_equal(mrp_region_free(local), MRP_OK);
        assert_int_equal(mrp_region_free(target), MRP_OK);
        close_network(&network);
    }
}

/* Without LOCAL_WRITE a region is a source only: the device does not receive into it. */
static void device__does_not_write_into_a_source(void **test)
{
    struct network network = open_network(1, MRP_ACCESS_ALL);
    struct mrp_pool *sources = make_pool(&network, MRP_ACCESS_LOCAL_READ);
    struct mrp_region *target = take(network.pool, 64, 0x11);
    struct mrp_region *source = take(sources, 64, 0x22);
    struct verbs_operation operation =
        operation_of(IBV_WR_RDMA_WRITE, source, target, 0, 0, 64);

    (void)test;
    assert_int_equal(act(&network, 0, &operation), IBV_WC_SUCCESS);
    assert_memory_equal(mrp_region_address(source), mrp_region_address(target), 64);
    memset(mrp_region_address(target), 0x33, 64);
    operation.opcode = IBV_WR_RDMA_READ;
    assert_int_equal(act(&network, 0, &operation), IBV_WC_LOC_PROT_ERR);
    assert_int_equal(((unsigned char *)mrp_region_address(source))[0], 0x22);
    assert_int_equal(mrp_region_free(source), MRP_OK);
    assert_int_equal(mrp_region_free(target), MRP_OK);
    close_network(&network);
}

/* -- bounds -- */

/* Up to the chunk's last byte, and none past it or before its first. */
static void device__ends_with_the_chunk(void **test)
{
    struct network network = open_network(1, MRP_ACCESS_ALL);
    struct mrp_region *target = take(network.pool, 64, 0x11);
    struct mrp_region *local = take(network.actor, 64, 0x22);
    struct mrp_region_info info = MRP_REGION_INFO_INIT;
    struct verbs_operation write =
        operation_of(IBV_WR_RDMA_WRITE, local, target, 0, 0, 64);
    uintptr_t chunk;
    uint64_t key;

    (void)test;
    assert_int_equal(mrp_region_query(target, &info), MRP_OK);
    chunk = (uintptr_t)info.chunk_address;
    assert_int_equal(mrp_region_remote_key(target, 0, &key), MRP_OK);
    write.remote_address = chunk + info.chunk_size - 64;
    assert_int_equal(act(&network, 0, &write), IBV_WC_SUCCESS);
    write.remote_address++;
    assert_int_equal(act(&network, 0, &write), IBV_WC_REM_ACCESS_ERR);
    write.remote_address = chunk + info.chunk_size;
    assert_int_equal(act(&network, 0, &write), IBV_WC_REM_ACCESS_ERR);
    write.remote_address = chunk - 1;
    assert_int_equal(act(&network, 0, &write), IBV_WC_REM_ACCESS_ERR);
    write.remote_address = chunk;
    write.rkey = (uint32_t)key ^ 1; /* a key of nobody's */
    assert_int_equal(act(&network, 0, &write), IBV_WC_REM_ACCESS_ERR);
    assert_int_equal(mrp_region_free(local), MRP_OK);
    assert_int_equal(mrp_region_free(target), MRP_OK);
    close_network(&network);
}

/* -- revocation -- */

static void device__refuses_what_has_been_deregistered(void **test)
{
    static unsigned char memory[65536] __attribute__((aligned(4096)));
    struct network network = open_network(1, MRP_ACCESS_ALL);
    struct mrp_region *local = take(network.actor, 64, 0x22), *target;
    struct verbs_operation write;

    (void)test;
    memset(memory, 0x11, sizeof(memory));
    assert_int_equal(
        mrp_region_register(network.pool, memory, sizeof(memory), NULL, &target), MRP_OK);
    write = operation_of(IBV_WR_RDMA_WRITE, local, target, 0, 0, 64);
    assert_int_equal(act(&network, 0, &write), IBV_WC_SUCCESS);
    assert_int_equal(memory[0], 0x22);
    memory[0] = 0x11;
    assert_int_equal(mrp_region_free(target), MRP_OK);
    assert_int_equal(act(&network, 0, &write), IBV_WC_REM_ACCESS_ERR);
    assert_int_equal(memory[0], 0x11);

    /* nor does the key come to life again with another registration of the memory */
    assert_int_equal(
        mrp_region_register(network.pool, memory, sizeof(memory), NULL, &target), MRP_OK);
    assert_int_equal(act(&network, 0, &write), IBV_WC_REM_ACCESS_ERR);
    assert_int_equal(memory[0], 0x11);
    assert_int_equal(mrp_region_free(target), MRP_OK);
    assert_int_equal(mrp_region_free(local), MRP_OK);
    close_network(&network);
}

/* -- rails -- */

/* One region, a key on each device, and each device takes its own only. */
static void rails__each_has_its_own_key(void **test)
{
    struct network network = open_network(RAILS_MAX, MRP_ACCESS_ALL);
    struct mrp_region *target, *local;

    (void)test;
    if (network.n_rails < RAILS_MAX) {
        test_skip("rails__each_has_its_own_key", "one device only");
        close_network(&network);
        return;
    }
    assert_string_not_equal(
        ibv_get_device_name(verbs_end_of(network.rails[0]).pd->context->device),
        ibv_get_device_name(verbs_end_of(network.rails[1]).pd->context->device));
    target = take(network.pool, 4096, 0x11);
    local = take(network.actor, 4096, 0x22);
    for (unsigned rail = 0; rail < RAILS_MAX; rail++) {
        struct verbs_operation write =
            operation_of(IBV_WR_RDMA_WRITE, local, target, rail, 0, 4096);
        struct verbs_operation read =
            operation_of(IBV_WR_RDMA_READ, local, target, rail, 0, 4096);

        memset(mrp_region_address(local), 0x40 + (int)rail, 4096);
        assert_int_equal(act(&network, rail, &write), IBV_WC_SUCCESS);
        assert_memory_equal(mrp_region_address(target), mrp_region_address(local), 4096);
        memset(mrp_region_address(target), 0x50 + (int)rail, 4096);
        assert_int_equal(act(&network, rail, &read), IBV_WC_SUCCESS);
        assert_memory_equal(mrp_region_address(target), mrp_region_address(local), 4096);
    }
    assert_int_equal(mrp_region_free(local), MRP_OK);
    assert_int_equal(mrp_region_free(target), MRP_OK);
    close_network(&network);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(device__grants_what_the_pool_does),
        cmocka_unit_test(device__does_not_write_into_a_source),
        cmocka_unit_test(device__ends_with_the_chunk),
        cmocka_unit_test(device__refuses_what_has_been_deregistered),
        cmocka_unit_test(rails__each_has_its_own_key),
    };
    int missing = verbs_missing();

    return missing != 0 ? missing : cmocka_run_group_tests(tests, NULL, NULL);
}
