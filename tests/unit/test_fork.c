/* SPDX-License-Identifier: BSD-3-Clause
 *
 * After fork: the child is refused every handle of its parent and touches nothing of it,
 * makes its own, and the parent goes on as if nothing had been.
 */
#include "mrpool/mrpool.h"
#include "recording_backend.h"
#include "refusal.h"
#include "support/child.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the parent has when it forks. */
struct family {
    struct test_provider network;
    struct recording_backend recorder;
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_backend *backend;
    struct mrp_pool *pool;
    struct mrp_region *region;
    struct mrp_remote *remote;
    void *block;
};

static void open_remote(struct family *family)
{
    unsigned char keys[512];
    size_t size = sizeof keys;

    assert_accepted(mrp_region_key_pack(family->region, 1, keys, &size));
    assert_accepted(
        mrp_remote_open(family->provider, NULL, 0, keys, size, &family->remote));
}

static int set_up(void **state)
{
    struct family *family = calloc(1, sizeof *family);
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;

    *state = family;
    test_provider_init(&family->network);
    assert_accepted(mrp_context_create(NULL, &family->context));
    assert_accepted(mrp_backend_create_custom(
        family->context, NULL, recording_ops(), &family->recorder, &family->backend));
    assert_accepted(mrp_provider_create(
        family->context, NULL, test_provider_ops(), &family->network, &family->provider));
    params.backend = family->backend;
    params.rails = &family->provider;
    params.n_rails = 1;
    params.access = MRP_ACCESS_ALL;
    params.max_bytes = 4 << 20;
    assert_accepted(mrp_pool_create(family->context, &params, &family->pool));
    family->region = mrp_region_alloc(family->pool, 1000);
    assert_non_null(family->region);
    memset(mrp_region_address(family->region), 0x42, 1000);
    open_remote(family);
    info.size = 100;
    info.backend = family->backend;
    family->block = mrp_memory_alloc(family->context, &info);
    assert_non_null(family->block);
    return 0;
}

/* The parent's end is a clean one, whatever its children did. */
static int tear_down(void **state)
{
    struct family *family = *state;
    const unsigned char *bytes = mrp_region_address(family->region);

    assert_int_equal(bytes[0], 0x42);
    assert_int_equal(bytes[999], 0x42);
    assert_accepted(mrp_remote_close(family->remote));
    assert_accepted(mrp_region_free(family->region));
    assert_accepted(mrp_memory_free(family->context, family->block));
    assert_accepted(mrp_pool_check(family->pool));
    assert_accepted(mrp_context_destroy(family->context));
    assert_string_equal(family->network.first_error, "");
    assert_int_equal(family->network.n_live, 0);
    assert_int_equal(family->recorder.n_mapped, family->recorder.n_unmapped);
    test_provider_fini(&family->network);
    free(family);
    return 0;
}

/* Run the job in a child, which is given 20 seconds. */
static void in_child(void (*job)(struct family *family), struct family *family)
{
    pid_t child;
    int status;

    fflush(NULL);
    child = fork();
    if (child == 0) {
        alarm(20);
        job(family);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        print_error("child: %s %d\n", WIFSIGNALED(status) ? "signal" : "exit status",
            WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static bool is_forked(enum mrp_status status)
{
    return status == MRP_ERR_FORKED && mrp_error_last()->status == MRP_ERR_FORKED &&
        strstr(mrp_error_last()->text, "parent") != NULL;
}

/* -- what is refused -- */

static void use_context(struct family *family)
{
    struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;
    struct mrp_context_stats stats = MRP_CONTEXT_STATS_INIT;
    struct mrp_backend *backend;
    struct mrp_provider *provider;
    struct mrp_pool *pool;

    EXPECT(is_forked(mrp_context_check(family->context)));
    EXPECT(is_forked(status_of(mrp_memory_alloc(family->context, &info))));
    EXPECT(is_forked(mrp_memory_free(family->context, family->block)));
    EXPECT(is_forked(mrp_memory_query(family->context, family->block, &info)));
    EXPECT(is_forked(mrp_context_stats(family->context, &stats)));
    EXPECT(is_forked(mrp_context_trim(family->context, 0)));
    EXPECT(is_forked(mrp_backend_create(family->context, "malloc", NULL, &backend)));
    EXPECT(is_forked(mrp_backend_find(family->context, "blocks", &backend)));
    EXPECT(is_forked(mrp_provider_open(family->context, "host", NULL, &provider)));
    EXPECT(is_forked(mrp_pool_create(family->context, NULL, &pool)));
    EXPECT(is_forked(mrp_context_destroy(family->context)));
    EXPECT(is_forked(mrp_context_destroy(family->context)));
}

static void use_objects(struct family *family)
{
    struct mrp_backend_info backend = MRP_BACKEND_INFO_INIT;
    struct mrp_provider_info provider = MRP_PROVIDER_INFO_INIT;
    struct mrp_remote_region remote = MRP_REMOTE_REGION_INIT;
    struct mrp_token token = {{0}};
    struct mrp_pool_stats stats = {.struct_size = sizeof stats};
    struct mrp_region *region;

    EXPECT(is_forked(mrp_backend_query(family->backend, &backend)));
    EXPECT(is_forked(mrp_backend_destroy(family->backend)));
    EXPECT(is_forked(mrp_provider_query(family->provider, &provider)));
    EXPECT(is_forked(mrp_provider_close(family->provider)));
    EXPECT(is_forked(mrp_remote_resolve(family->remote, &token, &remote)));
    EXPECT(is_forked(mrp_remote_close(family->remote)));
    EXPECT(is_forked(status_of(mrp_region_alloc(family->pool, 1000))));
    EXPECT(is_forked(mrp_pool_stats(family->pool, &stats)));
    EXPECT(is_forked(mrp_region_register(family->pool, &token, 32, NULL, &region)));
    EXPECT(is_forked(mrp_pool_drained(family->pool, 1, NULL)));
    EXPECT(is_forked(mrp_pool_destroy(family->pool)));
}

static void use_region(struct family *family)
{
    struct mrp_token token;
    uint64_t key;

    EXPECT(is_forked(mrp_region_free(family->region)));
    EXPECT(is_forked(mrp_region_abandon(family->region, 1)));
    EXPECT(is_forked(mrp_region_retain(family->region)));
    EXPECT(is_forked(mrp_region_release(family->region)));
    EXPECT(is_forked(mrp_region_remote_key(family->region, 0, &key)));
    EXPECT(is_forked(mrp_region_token(family->region, &token)));
}

/* Neither the network nor the backend has heard of the child. */
static void check_untouched(struct family *family)
{
    size_t n_register = family->network.n_register;

    use_context(family);
    use_objects(family);
    use_region(family);
    EXPECT(family->network.n_register == n_register);
    EXPECT(family->network.n_deregister == 0);
    EXPECT(family->network.n_closed == 0);
    EXPECT(family->network.n_released == 0);
    EXPECT(family->recorder.n_unmapped == 0);
    EXPECT(family->recorder.n_destroyed == 0);
}

static void child__is_refused_the_context(void **state)
{
    in_child(use_context, *state);
}

static void child__is_refused_backend_provider_pool_and_import(void **state)
{
    in_child(use_objects, *state);
}

static void child__is_refused_regions(void **state)
{
    in_child(use_region, *state);
}

static void child__touches_nothing_of_its_parents(void **state)
{
    in_child(check_untouched, *state);
}

/* -- what it may do -- */

static void make_own(struct family *family)
{
    struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;
    struct mrp_context *context, *other;
    struct mrp_region *region;
    struct mrp_pool *pool;
    (void)family;

    EXPECT(mrp_context_create(NULL, &context) == MRP_OK);
    info.size = 100;
    info.flags = MRP_MEMORY_PINNED;
    EXPECT(mrp_memory_free(context, mrp_memory_alloc(context, &info)) == MRP_OK);
    EXPECT(mrp_pool_create(context, NULL, &pool) == MRP_OK);
    region = mrp_region_alloc(pool, 100);
    EXPECT(region != NULL);
    memset(mrp_region_address(region), 1, 100);
    EXPECT(mrp_region_free(region) == MRP_OK);
    EXPECT(mrp_context_default(&other) == MRP_OK);
    EXPECT(other != context);
    EXPECT(mrp_context_check(other) == MRP_OK);
    EXPECT(mrp_context_destroy(other) == MRP_OK);
    EXPECT(mrp_context_destroy(context) == MRP_OK);
}

static void child__makes_its_own(void **state)
{
    struct mrp_context *standing;

    assert_accepted(mrp_context_default(&standing));
    in_child(make_own, *state);
    assert_accepted(mrp_context_check(standing));
    assert_accepted(mrp_context_destroy(standing));
}

static void make_grandchild(struct family *family)
{
    struct mrp_context *context;
    pid_t child;
    int status;

    EXPECT(mrp_context_create(NULL, &context) == MRP_OK);
    child = fork();
    if (child == 0) {
        EXPECT(is_forked(mrp_context_check(family->context)));
        EXPECT(is_forked(mrp_context_check(context)));
        make_own(family);
        _exit(0);
    }
    EXPECT(waitpid(child, &status, 0) == child);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    EXPECT(mrp_context_destroy(context) == MRP_OK);
}

static void child__may_fork_again(void **state)
{
    in_child(make_grandchild, *state);
}

/* The exit handlers of a child that leaves by exit() leave the parent's things alone. */
static void leave_by_exit(struct family *family)
{
    (void)family;
    exit(0);
}

static void child__may_leave_by_exit(void **state)
{
    const char *under = getenv("MRP_TEST_UNDER");

    if (under != NULL && strstr(under, "address") != NULL) {
        printf("SKIP: %s: what the parent holds is a leak of the child's\n", __func__);
        return;
    }
    in_child(leave_by_exit, *state);
}

/* -- while others are at work -- */

#define THREADS 3
#define FORKS 100

struct crowd {
    atomic_bool stop;
    atomic_size_t n_wrong, n_rounds;
};

static void *create_and_destroy(void *user)
{
    struct crowd *crowd = user;

    while (!crowd->stop) {
        struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;
        struct mrp_context *context = NULL, *standing = NULL;

        crowd->n_wrong += mrp_context_create(NULL, &context) != MRP_OK;
        info.size = 10;
        crowd->n_wrong +=
            mrp_memory_free(context, mrp_memory_alloc(context, &info)) != MRP_OK;
        crowd->n_wrong += mrp_context_destroy(context) != MRP_OK;
        if (mrp_context_default(&standing) == MRP_OK) {
            mrp_context_destroy(standing); /* another thread may have */
        }
        crowd->n_rounds++;
    }
    return NULL;
}

static void fork__while_threads_create_and_destroy(void **state)
{
    struct crowd crowd = {.stop = false};
    const char *under = getenv("MRP_TEST_UNDER");
    pthread_t threads[THREADS];

    if (under != NULL && strcmp(under, "thread") == 0) {
        printf("SKIP: %s: ThreadSanitizer does not support it\n", __func__);
        return;
    }
    if (under != NULL && strstr(under, "address") != NULL) {
        printf("SKIP: %s: AddressSanitizer's malloc does not outlive a fork\n", __func__);
        return;
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(
            pthread_create(&threads[i], NULL, create_and_destroy, &crowd), 0);
    }
    while (crowd.n_rounds < THREADS) {
        sched_yield();
    }
    for (size_t i = 0; i < FORKS; i++) {
        in_child(make_own, *state);
    }
    crowd.stop = true;
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(crowd.n_wrong, 0);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    static const struct CMUnitTest tests[] = {
        TEST(child__is_refused_the_context),
        TEST(child__is_refused_backend_provider_pool_and_import),
        TEST(child__is_refused_regions),
        TEST(child__touches_nothing_of_its_parents),
        TEST(child__makes_its_own),
        TEST(child__may_fork_again),
        TEST(child__may_leave_by_exit),
        TEST(fork__while_threads_create_and_destroy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
