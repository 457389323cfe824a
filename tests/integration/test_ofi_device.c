/* SPDX-License-Identifier: BSD-3-Clause
 *
 * libfabric over a verbs device: what the device refuses a peer that holds a key of a
 * pool, what an ordinary user's memlock leaves, and pools over several devices and kinds
 * of providers at once. tests/soft-roce/ runs it where there are such devices.
 */
#include "mrpool/context.h"
#include "mrpool/pool.h"
#include "ofi_writer.h"
#include "support/child.h"
#include "support/test_system.h"

#include <sys/resource.h>

#define NOBODY 65534
#define SKIPPED 77
#define OWN 0x11
#define WRITTEN 0x5a
#define RAILS_MAX 8

/* -- rights and bounds of a key -- */

static struct peer_case verbs = {"verbs", "verbs", NULL, FI_EP_MSG, WRITER_MR_ALL,
    FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY, false, true};

/* A region of a pool over the peer's domain, and how a peer finds it. */
struct target {
    struct mrp_region *region;
    struct mrp_region_info info;
    uint64_t address, key;
};

static struct target make_target(struct peer *peer, uint32_t access)
{
    struct mrp_ofi_wrap_params wrap = MRP_OFI_WRAP_PARAMS_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct target target = {.info = MRP_REGION_INFO_INIT};
    struct mrp_provider *provider;
    struct mrp_context *context;
    struct mrp_pool *pool;

    wrap.domain = peer->domain;
    wrap.info = peer->info;
    params.rails = &provider;
    params.n_rails = 1;
    params.access = access;
    params.max_bytes = 4 << 20;
    PEER_CHECK(mrp_context_create(NULL, &context) == MRP_OK);
    PEER_CHECK(mrp_ofi_provider_wrap(context, NULL, &wrap, &provider) == MRP_OK);
    PEER_CHECK(mrp_pool_create(context, &params, &pool) == MRP_OK);
    target.region = mrp_region_alloc(pool, 4096);
    PEER_CHECK(target.region != NULL);
    PEER_CHECK(mrp_region_query(target.region, &target.info) == MRP_OK);
    PEER_CHECK(mrp_region_remote_addr(target.region, 0, &target.address) == MRP_OK);
    PEER_CHECK(mrp_region_remote_key(target.region, 0, &target.key) == MRP_OK);
    memset(target.info.chunk_address, OWN, target.info.chunk_size);
    return target;
}

static void write_into_a_source(struct peer *peer, pid_t writer)
{
    struct target target = make_target(peer, MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE_READ);
    enum writer_result result =
        writer_write(peer, target.address, target.key, 1000, WRITTEN);
    bool is_changed = !writer_holds(mrp_region_address(target.region), 4096, OWN);

    (void)writer;
    if (getenv("FI_MR_CACHE_MAX_COUNT") == NULL) {
        /* libfabric's doing: what the caller asked for does not reach the device */
        printf("a write to what is to be read only, with libfabric's cache: %s\n",
            is_changed ? "GOES THROUGH" : "is refused");
    } else {
        PEER_CHECK(result == WRITER_REFUSED);
        PEER_CHECK(!is_changed);
    }
    fflush(stdout);
    writer_end(peer);
}

static void device__does_not_write_into_a_source(void **state)
{
    (void)state;
    setenv("FI_MR_CACHE_MAX_COUNT", "0", 1);
    writer_test(&verbs, write_into_a_source);
    unsetenv("FI_MR_CACHE_MAX_COUNT");
}

static void device__with_a_cache_writes_anywhere(void **state)
{
    (void)state;
    writer_test(&verbs, write_into_a_source);
}

struct described {
    size_t n_verbs, n_cached;
};

static void count_cached(const struct mrp_device *device, void *user)
{
    struct described *described = user;

    if (strncmp(device->name, "verbs", 5) == 0) {
        described->n_verbs++;
        described->n_cached += strstr(device->detail, "FI_MR_CACHE_MAX_COUNT=0") != NULL;
    }
}

/* Of the cache beside ours, and not where it is off. */
static void devices__tell_of_the_cache(void **state)
{
    struct described with = {0, 0}, without = {0, 0};

    (void)state;
    if (mrp_module_devices("ofi", count_cached, &with) != MRP_OK || with.n_verbs == 0) {
        printf("SKIP: devices__tell_of_the_cache: no verbs device\n");
        return;
    }
    setenv("FI_MR_CACHE_MAX_COUNT", "0", 1);
    assert_int_equal(mrp_module_devices("ofi", count_cached, &without), MRP_OK);
    unsetenv("FI_MR_CACHE_MAX_COUNT");
    assert_int_equal(with.n_cached, with.n_verbs);
    assert_int_equal(without.n_verbs, with.n_verbs);
    assert_int_equal(without.n_cached, 0);
}

/* The last bytes of the chunk take a write, one that ends a byte later is refused. */
static void write_past_the_chunk(struct peer *peer, pid_t writer)
{
    struct target target = make_target(peer, MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE);
    unsigned char *chunk = target.info.chunk_address;
    size_t size = target.info.chunk_size;
    uint64_t end = target.address +
        (uint64_t)(chunk + size - (unsigned char *)mrp_region_address(target.region));

    (void)writer;
    PEER_CHECK(writer_write(peer, end - 1000, target.key, 1000, WRITTEN) == WRITER_DONE);
    PEER_CHECK(writer_sees(peer, chunk + size - 1000, 1000, WRITTEN));
    memset(chunk + size - 1000, OWN, 1000);
    PEER_CHECK(
        writer_write(peer, end - 999, target.key, 1000, WRITTEN) == WRITER_REFUSED);
    PEER_CHECK(writer_holds(chunk, size, OWN));
    writer_end(peer);
}

static void device__ends_with_the_chunk(void **state)
{
    (void)state;
    writer_test(&verbs, write_past_the_chunk);
}

static void write_with_a_wrong_key(struct peer *peer, pid_t writer)
{
    struct target target = make_target(peer, MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE);

    (void)writer;
    PEER_CHECK(writer_write(peer, target.address, target.key ^ 1, 1000, WRITTEN) ==
        WRITER_REFUSED);
    PEER_CHECK(writer_holds(target.info.chunk_address, target.info.chunk_size, OWN));
    writer_end(peer);
}

static void device__takes_no_other_key(void **state)
{
    (void)state;
    writer_test(&verbs, write_with_a_wrong_key);
}

/* -- memlock of an ordinary user -- */

static struct mrp_provider *open_verbs(struct mrp_context *context)
{
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;
    struct mrp_provider *provider = NULL;

    params.options = "provider=verbs,endpoint=msg";
    return mrp_provider_open(context, "ofi", &params, &provider) == MRP_OK ? provider
                                                                           : NULL;
}

/* In a child: the module is loaded and the device opened before, by who may. */
static struct mrp_pool *become_ordinary(size_t memlock, struct mrp_context **context)
{
    struct rlimit limit = {memlock, memlock};
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_provider *provider;
    struct mrp_pool *pool;

    setenv("MRPOOL_PAGES", "4k", 1);
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) {
        _exit(SKIPPED);
    }
    EXPECT(mrp_context_create(NULL, context) == MRP_OK);
    provider = open_verbs(*context);
    if (provider == NULL ||
        (getuid() == 0 && (setgid(NOBODY) != 0 || setuid(NOBODY) != 0))) {
        _exit(SKIPPED);
    }
    params.rails = &provider;
    params.n_rails = 1;
    params.access = MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE;
    EXPECT(mrp_pool_create(*context, &params, &pool) == MRP_OK);
    return pool;
}

/* Budgets come from the limit, so that the pool ends where they do, with a reason. */
static void fill_pool(void)
{
    struct mrp_region *regions[64];
    struct mrp_context *context;
    struct mrp_pool *pool = become_ordinary(8 << 20, &context);
    size_t n = 0;

    while (n < 64 && (regions[n] = mrp_region_alloc(pool, 256 << 10)) != NULL) {
        memset(mrp_region_address(regions[n]), 1, 256 << 10);
        n++;
    }
    EXPECT(n >= 8 && n <= 32);
    EXPECT(strstr(mrp_error_last()->text, "memlock") != NULL);
    EXPECT(mrp_error_last()->status == MRP_ERR_LIMIT);
    EXPECT(mrp_region_free_many(regions, n, NULL) == MRP_OK);
    EXPECT(mrp_pool_check(pool) == MRP_OK);
    EXPECT(mrp_context_destroy(context) == MRP_OK);
}

/* More than the limit in one piece of the caller's: the kernel refuses, and it is told. */
static void register_too_much(void)
{
    struct mrp_context *context;
    struct mrp_pool *pool = become_ordinary(1 << 20, &context);
    size_t size = 4 << 20;
    void *memory = aligned_alloc(4096, size);
    struct mrp_region *region;

    EXPECT(memory != NULL);
    EXPECT(mrp_region_register(pool, memory, size, NULL, &region) != MRP_OK);
    printf("%s\n", mrp_error_last()->text);
    fflush(stdout);
    EXPECT(mrp_error_last()->status == MRP_ERR_LIMIT ||
        mrp_error_last()->status == MRP_ERR_REGISTER ||
        mrp_error_last()->status == MRP_ERR_MEMORY);
    EXPECT(strstr(mrp_error_last()->text, "memlock") != NULL ||
        strstr(mrp_error_last()->text, "ulimit -l") != NULL);
    EXPECT(mrp_context_destroy(context) == MRP_OK);
    free(memory);
}

static void run_child(const char *test, void (*job)(void))
{
    pid_t child;
    int code;

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        job();
        ofi_exit_unchecked();
    }
    code = writer_exit_of(child);
    if (code == SKIPPED) {
        test_skip(test, "no verbs device of libfabric's, or not root");
        return;
    }
    assert_int_equal(code, 0);
}

static void memlock__bounds_the_pool(void **state)
{
    (void)state;
    run_child("memlock__bounds_the_pool", fill_pool);
}

static void memlock__is_named(void **state)
{
    (void)state;
    run_child("memlock__is_named", register_too_much);
}

/* -- several rails -- */

struct rails {
    struct mrp_context *context;
    struct mrp_provider *providers[RAILS_MAX];
    size_t n;
    const char *module, *prefix; /* of the options of the devices wanted */
};

static void open_rail(const struct mrp_device *device, void *user)
{
    struct rails *rails = user;
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;

    params.options = device->options;
    if (rails->n < RAILS_MAX &&
        strncmp(device->options, rails->prefix, strlen(rails->prefix)) == 0 &&
        mrp_provider_open(rails->context, rails->module, &params,
            &rails->providers[rails->n]) == MRP_OK) {
        rails->n++;
    }
}

static size_t open_rails(struct rails *rails, const char *module, const char *prefix)
{
    size_t n = rails->n;

    rails->module = module;
    rails->prefix = prefix;
    mrp_module_devices(module, open_rail, rails);
    return rails->n - n;
}

/* Each rail has registered each chunk once, and its key comes with the region. */
static void use_rails(struct rails *rails, uint32_t access)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_pool_stats stats = {.struct_size = sizeof(stats)};
    struct mrp_region *regions[16];
    struct mrp_pool *pool;
    size_t n_chunks = 0;

    params.rails = rails->providers;
    params.n_rails = rails->n;
    params.access = access;
    params.max_bytes = 8 << 20;
    EXPECT(mrp_pool_create(rails->context, &params, &pool) == MRP_OK);
    for (size_t i = 0; i < 16; i++) {
        regions[i] = mrp_region_alloc(pool, i * 10000);
        EXPECT(regions[i] != NULL);
        for (unsigned rail = 0; rail < rails->n; rail++) {
            struct mrp_wire wire = MRP_WIRE_INIT;

            EXPECT(mrp_resolve(pool, mrp_region_address(regions[i]), 1, rail, &wire) ==
                MRP_OK);
            EXPECT(wire.native != NULL);
        }
    }
    EXPECT(mrp_pool_stats(pool, &stats) == MRP_OK);
    for (unsigned rail = 0; rail < rails->n; rail++) {
        struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;

        EXPECT(mrp_provider_query(rails->providers[rail], &info) == MRP_OK);
        n_chunks = rail == 0 ? info.n_registrations : n_chunks;
        EXPECT(info.n_registrations == n_chunks && n_chunks > 0);
        printf("rail %u: %s %s, %zu registrations\n", rail, info.module, info.device,
            info.n_registrations);
    }
    EXPECT(stats.n_registrations == n_chunks);
    EXPECT(mrp_region_free_many(regions, 16, NULL) == MRP_OK);
    EXPECT(mrp_pool_check(pool) == MRP_OK);
    EXPECT(mrp_pool_destroy(pool) == MRP_OK);
    fflush(stdout);
}

static void use_two_devices(void)
{
    struct rails rails = {.n = 0};

    EXPECT(mrp_context_create(NULL, &rails.context) == MRP_OK);
    if (open_rails(&rails, "ofi", "provider=verbs,") < 2) {
        _exit(SKIPPED);
    }
    use_rails(&rails, MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE);
    EXPECT(mrp_context_destroy(rails.context) == MRP_OK);
}

static void use_every_kind(void)
{
    struct rails rails = {.n = 0};

    EXPECT(mrp_context_create(NULL, &rails.context) == MRP_OK);
    if (open_rails(&rails, "ofi", "provider=verbs,") == 0) {
        _exit(SKIPPED);
    }
    open_rails(&rails, "verbs", "");
    open_rails(&rails, "ucx", "tls=rc");
    if (mrp_provider_open(rails.context, "host", NULL, &rails.providers[rails.n]) ==
        MRP_OK) {
        rails.n++;
    }
    use_rails(&rails, MRP_ACCESS_LOCAL);
    EXPECT(mrp_context_destroy(rails.context) == MRP_OK);
}

static void rails__two_devices(void **state)
{
    (void)state;
    run_child("rails__two_devices", use_two_devices);
}

static void rails__of_every_kind(void **state)
{
    (void)state;
    run_child("rails__of_every_kind", use_every_kind);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(device__does_not_write_into_a_source),
        cmocka_unit_test(device__with_a_cache_writes_anywhere),
        cmocka_unit_test(device__ends_with_the_chunk),
        cmocka_unit_test(device__takes_no_other_key),
        cmocka_unit_test(memlock__bounds_the_pool),
        cmocka_unit_test(memlock__is_named),
        cmocka_unit_test(devices__tell_of_the_cache),
        cmocka_unit_test(rails__two_devices),
        cmocka_unit_test(rails__of_every_kind),
    };

    verbs.node = getenv("MRP_TEST_VERBS_ADDRESS");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
