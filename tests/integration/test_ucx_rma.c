/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Two processes, each with a provider of the module's own context: one puts, gets and
 * counts in a pool region of the other, by token and packed keys, over sockets and over
 * shared memory, in memory of mrpool's and of UCX's own.
 */
#include "ucx_station.h"

#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

struct rma_case {
    const char *name, *options;
    bool is_ucx_memory;
    bool is_mapped; /* the initiator reaches it by plain loads and stores */
};

static const struct rma_case cases[] = {
    {"tcp", "tls=tcp", false, false},
    {"shared memory", "tls=posix+sysv", false, false},
    {"posix, memory of UCX's", "tls=posix", true, true},
    {"sysv, memory of UCX's", "tls=sysv", true, true},
    {"all, memory of UCX's", "", true, true},
    {"tcp, memory of UCX's", "tls=tcp", true, false},
    {"InfiniBand", "tls=rc", false, false},
};

static const size_t sizes[] = {1, 8, 100, 4097, 70001, 1500000};
#define N_SIZES (sizeof sizes / sizeof sizes[0])

/* One of the two. */
struct side {
    const struct rma_case *test;
    int channel;
    bool is_target;
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_pool *pool;
    struct station station;
};

struct message {
    size_t size;
    unsigned char bytes[2048];
};

/* -- the channel; who waits progresses the worker -- */

static void tell(struct side *side, const void *bytes, size_t size)
{
    struct message message = {size, {0}};

    STATION_CHECK(size <= sizeof message.bytes);
    if (size > 0) {
        memcpy(message.bytes, bytes, size);
    }
    STATION_CHECK(send(side->channel, &message, sizeof message, MSG_NOSIGNAL) ==
        (ssize_t)sizeof message);
}

static size_t hear(struct side *side, void *bytes, size_t room)
{
    struct message message;
    time_t start = station_now();
    ssize_t size;

    while ((size = recv(side->channel, &message, sizeof message, MSG_DONTWAIT)) < 0) {
        STATION_CHECK(station_now() - start < STATION_SECONDS);
        if (side->station.worker == NULL ||
            ucp_worker_progress(side->station.worker) == 0) {
            sched_yield();
        }
    }
    STATION_CHECK(size == (ssize_t)sizeof message && message.size <= room); /* 0: gone */
    if (message.size > 0) {
        memcpy(bytes, message.bytes, message.size);
    }
    return message.size;
}

/* Both are here. */
static void meet(struct side *side)
{
    tell(side, NULL, 0);
    STATION_CHECK(hear(side, NULL, 0) == 0);
}

/* -- opening -- */

static void open_memory(struct side *side)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    enum mrp_status status;

    STATION_CHECK(mrp_context_create(NULL, &side->context) == MRP_OK);
    status = station_provider(side->context, NULL, side->test->options, &side->provider);
    if (status == MRP_ERR_UNAVAILABLE) {
        printf("SKIP: %s: %s\n", side->test->name, mrp_error_last()->text);
        fflush(stdout);
        exit(77);
    }
    STATION_CHECK(status == MRP_OK);
    params.rails = &side->provider;
    params.n_rails = 1;
    params.access = MRP_ACCESS_ALL;
    if (side->test->is_ucx_memory) {
        STATION_CHECK(
            mrp_provider_backend(side->provider, NULL, &params.backend) == MRP_OK);
    }
    STATION_CHECK(mrp_pool_create(side->context, &params, &side->pool) == MRP_OK);
}

static void open_side(struct side *side)
{
    unsigned char address[2048];

    open_memory(side);
    station_open(&side->station, station_native(side->provider)->context);
    tell(side, side->station.address, side->station.address_size);
    hear(side, address, sizeof address);
    station_connect(&side->station, address);
}

static void close_side(struct side *side)
{
    meet(side); /* before either leaves, as flushing takes two */
    station_disconnect(&side->station);
    meet(side);
    station_close(&side->station);
    STATION_CHECK(mrp_pool_check(side->pool) == MRP_OK);
    STATION_CHECK(mrp_context_destroy(side->context) == MRP_OK);
}

/* -- what is moved -- */

static unsigned char pattern(size_t i, unsigned seed)
{
    return (unsigned char)(i * 31 + (i >> 8) + seed);
}

static void fill(struct mrp_region *region, unsigned seed)
{
    unsigned char *bytes = mrp_region_address(region);

    for (size_t i = 0; i < mrp_region_size(region); i++) {
        bytes[i] = pattern(i, seed);
    }
}

static bool is_filled(struct mrp_region *region, unsigned seed)
{
    const unsigned char *bytes = mrp_region_address(region);

    for (size_t i = 0; i < mrp_region_size(region); i++) {
        if (bytes[i] != pattern(i, seed)) {
            fprintf(
                stderr, "byte %zu of %zu is %#x\n", i, mrp_region_size(region), bytes[i]);
            return false;
        }
    }
    return true;
}

static struct mrp_region *take(struct side *side, size_t size, unsigned seed)
{
    struct mrp_region *region = mrp_region_alloc(side->pool, size);

    STATION_CHECK(region != NULL);
    fill(region, seed);
    return region;
}

/* -- the target -- */

static void offer(struct side *side, struct mrp_region *region)
{
    unsigned char keys[2048];
    size_t size = sizeof keys;
    struct mrp_token token;

    STATION_CHECK(mrp_region_token(region, &token) == MRP_OK);
    STATION_CHECK(mrp_region_key_pack(region, 1, keys, &size) == MRP_OK);
    tell(side, token.bytes, sizeof token.bytes);
    tell(side, keys, size);
}

static void run_target(struct side *side)
{
    for (size_t i = 0; i < N_SIZES; i++) {
        struct mrp_region *region = take(side, sizes[i], 1);

        offer(side, region);
        meet(side); /* it has been put */
        STATION_CHECK(is_filled(region, 2));
        fill(region, 3);
        meet(side); /* it may be got */
        meet(side);
        STATION_CHECK(is_filled(region, 3));
        STATION_CHECK(mrp_region_free(region) == MRP_OK);
    }
}

static void run_target_atomics(struct side *side)
{
    struct mrp_region *region = take(side, 16, 0);
    uint64_t *words = mrp_region_address(region);

    words[0] = 1000;
    words[1] = 7;
    offer(side, region);
    meet(side);
    STATION_CHECK(words[0] == 1000 + 100 * 3);
    STATION_CHECK(words[1] == 8);
    STATION_CHECK(mrp_region_free(region) == MRP_OK);
}

/* -- the initiator -- */

static struct mrp_remote *import(struct side *side, struct mrp_remote_region *found)
{
    struct mrp_remote *remote;
    unsigned char keys[2048];
    struct mrp_token token;
    size_t size;
    void *here;

    STATION_CHECK(hear(side, token.bytes, sizeof token.bytes) == sizeof token.bytes);
    size = hear(side, keys, sizeof keys);
    STATION_CHECK(mrp_remote_open(side->provider, side->station.ep, 0, keys, size,
                      &remote) == MRP_OK);
    STATION_CHECK(mrp_remote_resolve(remote, &token, found) == MRP_OK);
    STATION_CHECK((ucp_rkey_ptr(found->handle, found->address, &here) == UCS_OK) ==
        side->test->is_mapped);
    return remote;
}

static ucp_request_param_t with_memh(struct mrp_region *region)
{
    ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_MEMH};
    void *memh;

    STATION_CHECK(mrp_region_local_desc(region, 0, &memh) == MRP_OK);
    param.memh = memh;
    return param;
}

static void run_initiator(struct side *side)
{
    for (size_t i = 0; i < N_SIZES; i++) {
        struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;
        struct mrp_region *region = take(side, sizes[i], 2);
        struct mrp_remote *remote = import(side, &found);
        ucp_request_param_t param = with_memh(region);

        STATION_CHECK(found.size == sizes[i]);
        station_wait(&side->station,
            ucp_put_nbx(side->station.ep, mrp_region_address(region), sizes[i],
                found.address, found.handle, &param));
        station_flush(&side->station);
        meet(side);
        meet(side);
        station_wait(&side->station,
            ucp_get_nbx(side->station.ep, mrp_region_address(region), sizes[i],
                found.address, found.handle, &param));
        STATION_CHECK(is_filled(region, 3));
        STATION_CHECK(mrp_remote_close(remote) == MRP_OK);
        meet(side);
        STATION_CHECK(mrp_region_free(region) == MRP_OK);
    }
}

static uint64_t atomic(struct side *side, ucp_atomic_op_t operation, uint64_t operand,
    uint64_t reply, const struct mrp_remote_region *found, size_t offset)
{
    struct mrp_region *region = take(side, sizeof reply, 0);
    uint64_t *fetched = mrp_region_address(region), result;
    const ucp_request_param_t param = {
        .op_attr_mask = UCP_OP_ATTR_FIELD_DATATYPE | UCP_OP_ATTR_FIELD_REPLY_BUFFER,
        .datatype = ucp_dt_make_contig(sizeof reply),
        .reply_buffer = fetched};

    *fetched = reply;
    station_wait(&side->station,
        ucp_atomic_op_nbx(side->station.ep, operation, &operand, 1,
            found->address + offset, found->handle, &param));
    station_flush(&side->station);
    result = *fetched;
    STATION_CHECK(mrp_region_free(region) == MRP_OK);
    return result;
}

static void run_initiator_atomics(struct side *side)
{
    struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;
    struct mrp_remote *remote = import(side, &found);

    for (uint64_t i = 0; i < 100; i++) {
        STATION_CHECK(atomic(side, UCP_ATOMIC_OP_ADD, 3, 0, &found, 0) == 1000 + 3 * i);
    }
    STATION_CHECK(atomic(side, UCP_ATOMIC_OP_CSWAP, 6, 9, &found, 8) == 7); /* differs */
    STATION_CHECK(atomic(side, UCP_ATOMIC_OP_CSWAP, 7, 8, &found, 8) == 7);
    STATION_CHECK(mrp_remote_close(remote) == MRP_OK);
    meet(side);
}

/* -- two processes -- */

/* Not in the first process: UCX stays out of it, so that each child has its own. */
static void run_side(const struct rma_case *test, int channel, bool is_target)
{
    struct side side = {.test = test, .channel = channel, .is_target = is_target};

    alarm(2 * STATION_SECONDS);
    open_side(&side);
    if (is_target) {
        run_target(&side);
        run_target_atomics(&side);
    } else {
        run_initiator(&side);
        run_initiator_atomics(&side);
    }
    close_side(&side);
    exit(0);
}

static int wait_for(pid_t child)
{
    int status = 0;

    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void rma__between_two_processes(void **state)
{
    const struct rma_case *test = *state;
    int channels[2], first, second;
    pid_t children[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, channels), 0);
    fflush(stdout);
    for (int i = 0; i < 2; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            close(channels[1 - i]);
            run_side(test, channels[i], i == 1);
        }
    }
    close(channels[0]);
    close(channels[1]);
    first = wait_for(children[0]);
    second = wait_for(children[1]);
    if (first == 77 && second == 77) {
        skip();
    }
    assert_int_equal(first, 0);
    assert_int_equal(second, 0);
}

int main(void)
{
    enum {
        N_CASES = sizeof cases / sizeof cases[0]
    };
    struct CMUnitTest tests[N_CASES];

    for (size_t i = 0; i < N_CASES; i++) {
        tests[i] = (struct CMUnitTest){.name = cases[i].name,
            .test_func = rma__between_two_processes,
            .initial_state = (void *)(uintptr_t)&cases[i]};
    }
    return _cmocka_run_group_tests("rma", tests, N_CASES, NULL, NULL);
}
