/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The ucx provider in one process: what it opens, refuses and says, and the memory that
 * UCX allocates.
 */
#include "context/context.h"
#include "ucx_station.h"

#include <fcntl.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>

#include <cmocka.h>

#define MIB ((size_t)1 << 20)

struct fixture {
    struct mrp_context *context;
    struct mrp_provider *provider;
};

static struct fixture set_up(const char *options)
{
    struct fixture fixture;

    assert_int_equal(mrp_context_create(NULL, &fixture.context), MRP_OK);
    if (station_provider(fixture.context, NULL, options, &fixture.provider) != MRP_OK) {
        fail_msg("%s: %s", options, mrp_error_last()->text);
    }
    return fixture;
}

static void tear_down(struct fixture *fixture)
{
    assert_int_equal(mrp_provider_close(fixture->provider), MRP_OK);
    assert_int_equal(mrp_context_destroy(fixture->context), MRP_OK);
}

static void assert_error(enum mrp_status got, enum mrp_status wanted, const char *text)
{
    if (got != wanted || strstr(mrp_error_last()->text, text) == NULL) {
        fail_msg("%s, not %s with \"%s\": %s", mrp_status_name(got),
            mrp_status_name(wanted), text, mrp_error_last()->text);
    }
}

static struct mrp_provider_info query(const struct fixture *fixture)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;

    assert_int_equal(mrp_provider_query(fixture->provider, &info), MRP_OK);
    return info;
}

static struct mrp_pool *create_pool(const struct fixture *fixture,
    struct mrp_backend *backend, const struct mrp_pool_params *more)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_provider *rails[] = {fixture->provider};
    struct mrp_pool *pool;

    if (more != NULL) {
        params = *more;
    }
    if (params.rails == NULL) {
        params.rails = rails;
        params.n_rails = 1;
    }
    params.backend = backend;
    params.access = params.access != 0 ? params.access : MRP_ACCESS_ALL;
    params.max_bytes = 8 * MIB;
    params.chunk_min = MIB / 4;
    if (mrp_pool_create(fixture->context, &params, &pool) != MRP_OK) {
        fail_msg("%s", mrp_error_last()->text);
    }
    return pool;
}

/* -- opening -- */

/* The reason is in the record, and nowhere else. */
static void open__without_a_transport_says_why_and_prints_nothing(void **state)
{
    struct mrp_provider *provider;
    struct mrp_context *context;
    FILE *caught = tmpfile();
    int saved = dup(STDERR_FILENO);
    enum mrp_status status;
    long printed;

    (void)state;
    assert_non_null(caught);
    assert_int_equal(mrp_context_create(NULL, &context), MRP_OK);
    fflush(stderr);
    assert_true(dup2(fileno(caught), STDERR_FILENO) >= 0);
    status = station_provider(context, NULL, "tls=nonsense", &provider);
    fflush(stderr);
    fflush(stdout);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    close(saved);
    printed = lseek(fileno(caught), 0, SEEK_END);
    fclose(caught);
    assert_error(status, MRP_ERR_UNAVAILABLE, "nonsense");
    assert_non_null(strstr(mrp_error_last()->text, "MRPOOL_UCX_TLS"));
    assert_non_null(strstr(mrp_error_last()->text, "tcp")); /* what there is instead */
    assert_int_equal(printed, 0);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
}

static void open__refuses_settings_that_mean_nothing(void **state)
{
    struct mrp_provider *provider;
    struct mrp_context *context;

    (void)state;
    assert_int_equal(mrp_context_create(NULL, &context), MRP_OK);
    assert_error(station_provider(context, NULL, "features=rma+magic", &provider),
        MRP_ERR_INVALID, "magic");
    assert_error(station_provider(context, NULL, "features=", &provider), MRP_ERR_INVALID,
        "empty");
    assert_error(station_provider(context, NULL, "config=no setting", &provider),
        MRP_ERR_INVALID, "no setting");
    assert_error(station_provider(context, NULL, "config=NUM_EPS=", &provider),
        MRP_ERR_INVALID, "UCX_NUM_EPS="); /* UCX is to say so: nothing is dropped */
    assert_error(station_provider(context, NULL, "threads=some", &provider),
        MRP_ERR_INVALID, "some");
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
}

static void open__twice_gives_two_contexts(void **state)
{
    struct fixture one = set_up("tls=tcp+self"), other = one;

    (void)state;
    assert_int_equal(
        station_provider(one.context, NULL, "tls=tcp+self", &other.provider), MRP_OK);
    assert_ptr_not_equal(
        station_native(one.provider)->context, station_native(other.provider)->context);
    assert_int_equal(mrp_provider_close(other.provider), MRP_OK);
    tear_down(&one);
}

static void open__settings_reach_ucx(void **state)
{
    struct fixture fixture =
        set_up("tls=tcp+self,rcache=n,threads=single,features=rma,config=NUM_EPS=3");
    const struct mrp_ucx_native *native = station_native(fixture.provider);

    (void)state;
    assert_int_equal(native->features, UCP_FEATURE_RMA);
    assert_int_equal(native->thread_mode, UCS_THREAD_MODE_SINGLE);
    assert_string_equal(native->registration_cache, "n");
    assert_false(native->keeps_registrations); /* it has none to keep */
    assert_non_null(strstr(native->resources, "tcp/"));
    assert_non_null(strstr(native->resources, "self"));
    assert_null(strstr(native->resources, "posix"));
    assert_non_null(strstr(query(&fixture).device, "tcp/"));
    assert_non_null(strstr(query(&fixture).device, "rcache n"));
    tear_down(&fixture);
    fixture = set_up("config=UCX_TLS=self;RCACHE_ENABLE=n");
    native = station_native(fixture.provider);
    assert_int_equal(native->thread_mode, UCS_THREAD_MODE_MULTI);
    assert_string_equal(native->resources, "self");
    assert_string_equal(native->registration_cache, "n");
    tear_down(&fixture);
}

/* Without the feature UCX transfers nothing, so there is nothing to grant. */
static void open__grants_what_the_features_are_for(void **state)
{
    struct fixture fixture = set_up("tls=self,features=rma");

    (void)state;
    assert_int_equal(query(&fixture).access, MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE);
    tear_down(&fixture);
    fixture = set_up("tls=self,features=am+tag");
    assert_int_equal(query(&fixture).access, MRP_ACCESS_LOCAL);
    assert_int_equal(query(&fixture).key_size, 0);
    assert_int_equal(query(&fixture).traits & MRP_PROVIDER_REMOTE_KEY, 0);
    tear_down(&fixture);
    fixture = set_up("tls=self,revokes=on");
    assert_int_equal(query(&fixture).access, MRP_ACCESS_ALL);
    assert_true((query(&fixture).traits & MRP_PROVIDER_REVOKES) != 0);
    tear_down(&fixture);
    fixture = set_up("tls=self");
    assert_int_equal(query(&fixture).traits & MRP_PROVIDER_REVOKES, 0);
    tear_down(&fixture);
}

static void count_device(const struct mrp_device *device, void *user)
{
    struct mrp_provider *provider;
    struct mrp_context *context;

    assert_int_equal(mrp_context_create(NULL, &context), MRP_OK);
    if (station_provider(context, NULL, device->options, &provider) != MRP_OK) {
        fail_msg("%s: %s", device->options, mrp_error_last()->text);
    }
    assert_non_null(strstr(station_native(provider)->resources, device->name));
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
    ++*(size_t *)user;
}

static void devices__are_opened_by_their_options(void **state)
{
    size_t n_devices = 0;

    (void)state;
    assert_int_equal(mrp_module_devices("ucx", count_device, &n_devices), MRP_OK);
    assert_true(n_devices > 0);
}

/* -- registering -- */

static void register__refuses_what_ucx_cannot_do(void **state)
{
    struct fixture fixture = set_up("tls=tcp+self");
    struct mrp_pool *pool = create_pool(&fixture, NULL, NULL);
    struct mrp_region_register_params params = MRP_REGION_REGISTER_PARAMS_INIT;
    struct mrp_region *region;
    static unsigned char bytes[4096];

    (void)state;
    params.native_flags = UCP_MEM_MAP_ALLOCATE;
    assert_error(mrp_region_register(pool, bytes, sizeof bytes, &params, &region),
        MRP_ERR_INVALID, "mrp_provider_backend");
    params.native_flags = UCP_MEM_MAP_NONBLOCK;
    assert_int_equal(
        mrp_region_register(pool, bytes, sizeof bytes, &params, &region), MRP_OK);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(mrp_pool_destroy(pool), MRP_OK);
    tear_down(&fixture);
}

/* Two caches do not pin each other's memory: UCX's finds what the pool registered. */
static void registration_cache__finds_what_pools_registered(void **state)
{
    struct fixture fixture = set_up("tls=tcp+self,rcache=y");
    struct mrp_pool *pool = create_pool(&fixture, NULL, NULL);
    struct mrp_region *region = mrp_region_alloc(pool, 10000);
    ucp_context_h context = station_native(fixture.provider)->context;
    ucp_mem_map_params_t params = {
        .field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH};
    unsigned major, minor, release;
    ucp_mem_h found;
    void *memh;

    (void)state;
    assert_non_null(region);
    assert_int_equal(mrp_region_local_desc(region, 0, &memh), MRP_OK);
    params.address = mrp_region_address(region);
    params.length = 10000;
    STATION_CALL(ucp_mem_map(context, &params, &found));
    ucp_get_version(&major, &minor, &release);
    if (major == 1 && minor < 14) {
        assert_ptr_equal(found, memh);
    } else {
        printf("SKIP: registration_cache: UCX %u.%u does not show it\n", major, minor);
    }
    STATION_CALL(ucp_mem_unmap(context, found));
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(mrp_pool_destroy(pool), MRP_OK);
    tear_down(&fixture);
}

/* -- memory that UCX allocates -- */

static struct mrp_backend *backend_of(const struct fixture *fixture)
{
    struct mrp_backend *backend;

    if (mrp_provider_backend(fixture->provider, NULL, &backend) != MRP_OK) {
        fail_msg("%s", mrp_error_last()->text);
    }
    return backend;
}

static size_t key_size(struct mrp_region *region)
{
    unsigned char keys[2048];
    size_t size = sizeof keys;

    assert_int_equal(mrp_region_key_pack(region, 1, keys, &size), MRP_OK);
    return size;
}

/* Chunks of such memory are registered by the handle they came with, and their keys name
 * the shared memory, which those of other memory cannot. */
static void backend__memory_keeps_the_handle_it_came_with(void **state)
{
    struct fixture fixture = set_up("tls=posix+sysv+self");
    struct mrp_backend *backend = backend_of(&fixture);
    struct mrp_pool *shared = create_pool(&fixture, backend, NULL);
    struct mrp_pool *plain = create_pool(&fixture, NULL, NULL);
    struct mrp_region *one = mrp_region_alloc(shared, 1000), *part;
    struct mrp_region *other = mrp_region_alloc(plain, 1000);
    struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;
    struct mrp_system system = MRP_SYSTEM_INIT;
    void *memh, *part_memh;

    (void)state;
    assert_non_null(one);
    assert_non_null(other);
    assert_int_equal(mrp_backend_query(backend, &info), MRP_OK);
    assert_int_equal(mrp_system_query(&system), MRP_OK);
    assert_string_equal(info.kind, "ucx");
    if (system.huge_2m_total == 0) { /* aligned to 2 MiB, and yet not a byte too much */
        assert_int_equal(info.mapped_size, MIB / 4);
    }
    memset(mrp_region_address(one), 0x5a, 1000);
    assert_true(key_size(one) > key_size(other));
    assert_int_equal(mrp_region_local_desc(one, 0, &memh), MRP_OK);
    assert_int_equal(
        mrp_region_register(shared, mrp_region_address(one), 100, NULL, &part), MRP_OK);
    assert_int_equal(mrp_region_local_desc(part, 0, &part_memh), MRP_OK);
    assert_ptr_equal(part_memh, memh);
    assert_int_equal(mrp_region_free(part), MRP_OK);
    assert_int_equal(*(unsigned char *)mrp_region_address(one), 0x5a);
    assert_int_equal(mrp_region_free(one), MRP_OK);
    assert_int_equal(mrp_region_free(other), MRP_OK);
    assert_int_equal(mrp_provider_close(fixture.provider), MRP_ERR_BUSY);
    assert_int_equal(mrp_pool_destroy(shared), MRP_OK);
    assert_int_equal(mrp_pool_destroy(plain), MRP_OK);
    assert_int_equal(mrp_provider_close(fixture.provider), MRP_ERR_BUSY);
    assert_int_equal(mrp_context_trim(fixture.context, 0), MRP_OK);
    assert_int_equal(mrp_backend_destroy(backend), MRP_OK);
    tear_down(&fixture);
}

static size_t mapped_size(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    size_t pages = 0;

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%zu", &pages), 1);
    fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Grows and gives back, again and again: aligned, written from end to end, nothing left. */
static void grow_and_trim(const struct fixture *fixture, struct mrp_backend *backend)
{
    struct mrp_pool *pool = create_pool(fixture, backend, NULL);
    static const size_t sizes[] = {64, 5000, 70000, 3 * MIB};
    enum {
        N_SIZES = sizeof sizes / sizeof sizes[0]
    };
    struct mrp_region *regions[N_SIZES];

    for (size_t i = 0; i < N_SIZES; i++) {
        regions[i] = mrp_region_alloc(pool, sizes[i]);
        if (regions[i] == NULL) {
            fail_msg("%zu bytes: %s", sizes[i], mrp_error_last()->text);
        }
        memset(mrp_region_address(regions[i]), 0x33, mrp_region_capacity(regions[i]));
    }
    assert_int_equal(mrp_pool_check(pool), MRP_OK);
    for (size_t i = 0; i < N_SIZES; i++) {
        assert_int_equal(mrp_region_free(regions[i]), MRP_OK);
    }
    assert_int_equal(mrp_pool_destroy(pool), MRP_OK);
    assert_int_equal(mrp_context_trim(fixture->context, 0), MRP_OK);
}

static void try_memory(const char *options)
{
    struct fixture fixture = set_up(options);
    struct mrp_backend *backend = backend_of(&fixture);
    struct mrp_backend_info info = MRP_BACKEND_INFO_INIT;
    const char *under = getenv("MRP_TEST_UNDER");
    size_t before = 0;

    for (int i = 0; i < 20; i++) {
        grow_and_trim(&fixture, backend);
        before = i == 3 ? mapped_size() : before; /* what is kept for good is there */
    }
    if (under == NULL || under[0] == '\0') { /* a sanitizer's heap keeps what was freed */
        assert_true(mapped_size() <= before + 4 * MIB);
    }
    assert_int_equal(mrp_backend_query(backend, &info), MRP_OK);
    assert_int_equal(info.n_mappings, 0);
    assert_int_equal(info.mapped_size, 0);
    assert_int_equal(query(&fixture).n_registrations, 0);
    assert_int_equal(mrp_backend_destroy(backend), MRP_OK);
    tear_down(&fixture);
}

static void backend__of_every_kind_that_ucx_allocates(void **state)
{
    (void)state;
    try_memory("tls=sysv+posix+self");
    try_memory("tls=posix+self");
    try_memory("tls=tcp,config=ALLOC_PRIO=mmap");
    try_memory("tls=tcp,rcache=n,config=ALLOC_PRIO=heap"); /* at no address of choice */
    try_memory("tls=posix+self,rcache=n,threads=single");
}

static void backend__refuses_what_it_cannot_choose(void **state)
{
    struct fixture fixture = set_up("tls=posix+self");
    struct mrp_backend *backend = backend_of(&fixture);
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_pool *pool;

    (void)state;
    params.rails = &fixture.provider;
    params.n_rails = 1;
    params.backend = backend;
    params.access = MRP_ACCESS_ALL;
    params.node = MRP_NODE(0);
    assert_error(
        mrp_pool_create(fixture.context, &params, &pool), MRP_ERR_UNSUPPORTED, "node");
    assert_int_equal(mrp_backend_destroy(backend), MRP_OK);
    tear_down(&fixture);
}

/* Another rail registers the same memory in its own way. */
static void backend__serves_other_rails_too(void **state)
{
    struct fixture fixture = set_up("tls=posix+self");
    struct mrp_backend *backend = backend_of(&fixture);
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_provider *rails[2] = {fixture.provider, NULL};
    struct mrp_region *region;
    struct mrp_pool *pool;
    void *one, *other;

    (void)state;
    assert_int_equal(
        station_provider(fixture.context, "second", "tls=tcp,rcache=n", &rails[1]),
        MRP_OK);
    params.rails = rails;
    params.n_rails = 2;
    pool = create_pool(&fixture, backend, &params);
    region = mrp_region_alloc(pool, 100);
    assert_non_null(region);
    assert_int_equal(mrp_region_local_desc(region, 0, &one), MRP_OK);
    assert_int_equal(mrp_region_local_desc(region, 1, &other), MRP_OK);
    assert_ptr_not_equal(one, other);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(mrp_pool_destroy(pool), MRP_OK);
    assert_int_equal(mrp_context_trim(fixture.context, 0), MRP_OK);
    assert_int_equal(mrp_provider_close(rails[1]), MRP_OK);
    assert_int_equal(mrp_backend_destroy(backend), MRP_OK);
    tear_down(&fixture);
}

/* A context that goes takes all along, in whatever order it was made. */
static void backend__goes_with_the_context(void **state)
{
    struct fixture fixture = set_up("tls=posix+self");
    struct mrp_pool *pool = create_pool(&fixture, backend_of(&fixture), NULL);

    (void)state;
    assert_non_null(mrp_region_alloc(pool, 5000));
    assert_int_equal(mrp_context_destroy(fixture.context), MRP_ERR_LEAKED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open__without_a_transport_says_why_and_prints_nothing),
        cmocka_unit_test(open__refuses_settings_that_mean_nothing),
        cmocka_unit_test(open__twice_gives_two_contexts),
        cmocka_unit_test(open__settings_reach_ucx),
        cmocka_unit_test(open__grants_what_the_features_are_for),
        cmocka_unit_test(devices__are_opened_by_their_options),
        cmocka_unit_test(register__refuses_what_ucx_cannot_do),
        cmocka_unit_test(registration_cache__finds_what_pools_registered),
        cmocka_unit_test(backend__memory_keeps_the_handle_it_came_with),
        cmocka_unit_test(backend__of_every_kind_that_ucx_allocates),
        cmocka_unit_test(backend__refuses_what_it_cannot_choose),
        cmocka_unit_test(backend__serves_other_rails_too),
        cmocka_unit_test(backend__goes_with_the_context),
    };

    /* no heap of a UCX thread's own, 64 MiB of addresses, beside what mapped_size is for */
    mallopt(M_ARENA_MAX, 1);

    return cmocka_run_group_tests(tests, NULL, NULL);
}
