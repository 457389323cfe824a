/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The uring provider with a ring of its own: what it pins, what it refuses, and what it
 * says where io_uring is switched off.
 */
#include "uring_station.h"

#include "support/child.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* -- buffers -- */

static void register__pins_and_gives_back(void **test)
{
    struct station station = station_open(NULL);
    unsigned char *memory = map_memory(MIB);
    size_t before = pinned();
    struct mrp_region *region;

    (void)test;
    assert_int_equal(
        mrp_region_register(station.pool, memory, MIB, NULL, &region), MRP_OK);
    assert_int_equal(pinned(), before + MIB);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(pinned(), before);
    assert_int_equal(munmap(memory, MIB), 0);
    station_close(&station);
}

/* Regions of one chunk share a buffer; the bytes that go through it are the region's. */
static void native__requests_use_the_buffers(void **test)
{
    struct station station = station_open("entries=4");
    struct mrp_region *from = mrp_region_alloc(station.pool, 1000);
    struct mrp_region *to = mrp_region_alloc(station.pool, 1000);
    const void *native = NULL;
    const struct mrp_uring_native *shown;
    int pipes[2];

    (void)test;
    assert_non_null(from);
    assert_non_null(to);
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(mrp_provider_native(station.provider, &native), MRP_OK);
    shown = native;
    assert_int_equal(shown->struct_size, sizeof(*shown));
    assert_int_equal(shown->first, 0);
    assert_int_equal(shown->count, 1024);
    memset(mrp_region_address(from), 0x5a, 1000);
    memset(mrp_region_address(to), 0, 1000);
    submit(shown->ring, false, pipes[1], mrp_region_address(from), 1000, index_of(from));
    assert_int_equal(complete(shown->ring), 1000);
    submit(shown->ring, true, pipes[0], mrp_region_address(to), 1000, index_of(to));
    assert_int_equal(complete(shown->ring), 1000);
    assert_memory_equal(mrp_region_address(from), mrp_region_address(to), 1000);
    close(pipes[0]);
    close(pipes[1]);
    assert_int_equal(mrp_region_free(from), MRP_OK);
    assert_int_equal(mrp_region_free(to), MRP_OK);
    station_close(&station);
}

/* A request that still names a buffer which has been given back finds no other memory
 * there: the entry is the last to be used again. */
static void deregister__late_request_is_refused(void **test)
{
    struct station station = station_open("buffers=3");
    unsigned char *memory = map_memory(MIB);
    struct mrp_region *first, *second;
    const void *native = NULL;
    struct io_uring *ring;
    int pipes[2], index;

    (void)test;
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(mrp_provider_native(station.provider, &native), MRP_OK);
    ring = ((const struct mrp_uring_native *)native)->ring;
    assert_int_equal(
        mrp_region_register(station.pool, memory, 4096, NULL, &first), MRP_OK);
    index = index_of(first);
    assert_int_equal(mrp_region_free(first), MRP_OK);
    assert_int_equal(
        mrp_region_register(station.pool, memory, 4096, NULL, &second), MRP_OK);
    assert_int_not_equal(index_of(second), index);
    submit(ring, false, pipes[1], memory, 100, index);
    assert_int_equal(complete(ring), -EFAULT);
    assert_int_equal(mrp_region_free(second), MRP_OK);
    close(pipes[0]);
    close(pipes[1]);
    assert_int_equal(munmap(memory, MIB), 0);
    station_close(&station);
}

/* What is under way keeps its pages: neither revoked nor moved to anything else. */
static void deregister__request_under_way_ends_as_it_began(void **test)
{
    struct station station = station_open(NULL);
    unsigned char *memory = map_memory(4096);
    struct mrp_region *region;
    const void *native = NULL;
    struct io_uring *ring;
    size_t before = pinned();
    int pipes[2];

    (void)test;
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(mrp_provider_native(station.provider, &native), MRP_OK);
    ring = ((const struct mrp_uring_native *)native)->ring;
    assert_int_equal(
        mrp_region_register(station.pool, memory, 4096, NULL, &region), MRP_OK);
    submit(ring, true, pipes[0], memory, 4, index_of(region));
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_true(pinned() > before);
    assert_int_equal(write(pipes[1], "late", 4), 4);
    assert_int_equal(complete(ring), 4);
    assert_memory_equal(memory, "late", 4);
    close(pipes[0]);
    close(pipes[1]);
    assert_int_equal(munmap(memory, 4096), 0);
    station_close(&station);
}

/* -- refusals -- */

static void assert_refused(const struct station *station, void *address, size_t size,
    enum mrp_status expected, const char *word)
{
    struct mrp_region *region;

    assert_error(
        mrp_region_register(station->pool, address, size, NULL, &region), expected, word);
}

static void register__memory_that_cannot_be_pinned(void **test)
{
    struct station station = station_open(NULL);
    unsigned char *memory = map_memory(3 * 4096);
    size_t too_large = ((size_t)1 << 30) + 1;
    unsigned char *large = mmap(NULL, too_large, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;

    (void)test;
    assert_ptr_not_equal(large, MAP_FAILED);
    assert_int_equal(munmap(memory + 4096, 4096), 0);
    assert_refused(&station, memory, 8192, MRP_ERR_INVALID, "mapped, writable");
    assert_int_equal(mprotect(memory, 4096, PROT_READ), 0);
    assert_refused(&station, memory, 4096, MRP_ERR_INVALID, "mapped, writable");
    assert_refused(&station, large, too_large, MRP_ERR_LIMIT, "at most 1073741824");
    assert_int_equal(mrp_provider_query(station.provider, &info), MRP_OK);
    assert_int_equal(info.n_registrations, 0);
    assert_int_equal(info.max_size, (size_t)1 << 30);
    assert_int_equal(munmap(memory, 4096), 0);
    assert_int_equal(munmap(memory + 8192, 4096), 0);
    assert_int_equal(munmap(large, too_large), 0);
    station_close(&station);
}

static void register__table_is_full(void **test)
{
    struct station station = station_open("buffers=2");
    unsigned char *memory = map_memory(4096);
    struct mrp_region *regions[2];

    (void)test;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(
            mrp_region_register(station.pool, memory, 4096, NULL, &regions[i]), MRP_OK);
    }
    assert_refused(&station, memory, 4096, MRP_ERR_LIMIT, "2");
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(mrp_region_free(regions[i]), MRP_OK);
    }
    assert_int_equal(munmap(memory, 4096), 0);
    station_close(&station);
}

static void pool_create__remote_access_is_refused(void **test)
{
    struct station station = station_open(NULL);
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_pool *pool;

    (void)test;
    params.rails = &station.provider;
    params.n_rails = 1;
    params.access = MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE_READ;
    assert_int_equal(
        mrp_pool_create(station.context, &params, &pool), MRP_ERR_UNSUPPORTED);
    station_close(&station);
}

/* -- memlock: counted per user, so a user that no other test is -- */

#define SOMEBODY 61234
#define SKIPPED 77

static void register_as_somebody(void)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct rlimit limit = {MIB, MIB};
    struct station station;
    struct mrp_region *first, *second;
    unsigned char *memory;
    const char *text;

    /* more than memlock, or the context would keep to it by itself */
    params.max_pinned = 16 * MIB;
    EXPECT(mrp_context_create(&params, &station.context) == MRP_OK);
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || setgid(SOMEBODY) != 0 ||
        setuid(SOMEBODY) != 0) {
        _exit(SKIPPED);
    }
    memory =
        mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(
        mrp_provider_open(station.context, "uring", NULL, &station.provider) == MRP_OK);
    EXPECT(station_pool(&station) == MRP_OK);
    EXPECT(mrp_region_register(station.pool, memory, MIB / 2, NULL, &first) == MRP_OK);
    EXPECT(
        mrp_region_register(station.pool, memory, MIB, NULL, &second) == MRP_ERR_LIMIT);
    text = mrp_error_last()->text;
    EXPECT(strstr(text, "524288 pinned") != NULL);
    EXPECT(strstr(text, "RLIMIT_MEMLOCK is 1048576") != NULL);
    EXPECT(strstr(text, "ulimit -l") != NULL);
    EXPECT(mrp_region_free(first) == MRP_OK);
    /* some kernels count the ring itself too */
    EXPECT(
        mrp_region_register(station.pool, memory, MIB / 4 * 3, NULL, &second) == MRP_OK);
    EXPECT(mrp_region_free(second) == MRP_OK);
    EXPECT(mrp_context_destroy(station.context) == MRP_OK);
}

static void register__memlock_limit_is_explained(void **test)
{
    pid_t child = fork();
    int status = -1;

    (void)test;
    assert_true(child >= 0);
    if (child == 0) {
        register_as_somebody();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == SKIPPED) {
        test_skip("register__memlock_limit_is_explained",
            "may not set the limit or become another user");
        return;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* -- where io_uring is not to be had: the kernel's answers, by a seccomp filter -- */

struct attempt {
    enum mrp_status opened, listed;
    char text[512];
};

static void visit_none(const struct mrp_device *device, void *user)
{
    (void)device;
    (void)user;
}

static void try_to_open(void *user)
{
    struct attempt *attempt = user;
    struct mrp_context *context;
    struct mrp_provider *provider;

    attempt->opened = mrp_context_create(NULL, &context);
    if (attempt->opened == MRP_OK) {
        attempt->opened = mrp_provider_open(context, "uring", NULL, &provider);
        snprintf(attempt->text, sizeof(attempt->text), "%s", mrp_error_last()->text);
        attempt->listed = mrp_module_devices("uring", visit_none, NULL);
        mrp_context_destroy(context);
    }
}

static void open__says_why_there_is_no_io_uring(void **test)
{
    static const struct {
        int native;
        enum mrp_status status;
        const char *word;
    } answers[] = {
        {EPERM, MRP_ERR_UNAVAILABLE, "seccomp"},
        {ENOSYS, MRP_ERR_UNAVAILABLE, "has no io_uring"},
        {ENOMEM, MRP_ERR_UNAVAILABLE, "memlock"},
        {EMFILE, MRP_ERR_LIMIT, "ulimit -n"},
    };

    (void)test;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        const struct test_fault fault = {
            .call = SYS_io_uring_setup, .native = answers[i].native};
        struct attempt attempt = {MRP_OK, MRP_OK, ""};

        if (!test_run_with_faults(&fault, 1, try_to_open, &attempt)) {
            test_skip("open__says_why_there_is_no_io_uring", "no seccomp filter");
            return;
        }
        assert_int_equal(attempt.opened, answers[i].status);
        assert_int_equal(attempt.listed, answers[i].status);
        assert_non_null(strstr(attempt.text, answers[i].word));
    }
}

/* Before 5.19 there are no sparse tables, but tables of nothing. */
static void open__without_sparse_tables(void **test)
{
    const struct test_fault fault = {.call = SYS_io_uring_register,
        .native = EINVAL,
        .n_when = 1,
        .when = {{1, IORING_REGISTER_BUFFERS2}}};
    struct attempt attempt = {MRP_OK, MRP_OK, ""};

    (void)test;
    if (!test_run_with_faults(&fault, 1, try_to_open, &attempt)) {
        test_skip("open__without_sparse_tables", "no seccomp filter");
        return;
    }
    assert_int_equal(attempt.opened, MRP_OK);
    assert_int_equal(attempt.listed, MRP_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(register__pins_and_gives_back, wait_until_unpinned),
        cmocka_unit_test(native__requests_use_the_buffers),
        cmocka_unit_test(deregister__late_request_is_refused),
        cmocka_unit_test_setup(
            deregister__request_under_way_ends_as_it_began, wait_until_unpinned),
        cmocka_unit_test(register__memory_that_cannot_be_pinned),
        cmocka_unit_test(register__table_is_full),
        cmocka_unit_test(pool_create__remote_access_is_refused),
        cmocka_unit_test(register__memlock_limit_is_explained),
        cmocka_unit_test(open__says_why_there_is_no_io_uring),
        cmocka_unit_test(open__without_sparse_tables),
    };
    int skipped = skip_without_uring();

    return skipped != 0 ? skipped : cmocka_run_group_tests(tests, NULL, NULL);
}
