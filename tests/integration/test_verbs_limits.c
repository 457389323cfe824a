/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Limits that the kernel sets to registrations: memlock for an ordinary user, and objects
 * per rdma cgroup. Each case is a child of its own.
 */
#include "base/align.h"
#include "mrpool/context.h"
#include "mrpool/pool.h"
#include "support/child.h"
#include "support/test_system.h"
#include "verbs_module.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY 65534
#define SKIPPED 77
#define MEMLOCK (2 * MRP_MIB)
#define CGROUP "/sys/fs/cgroup"
#define FOLDER CGROUP "/mrpool-test"
#define N_OBJECTS 8

static unsigned char memory[4 * MRP_MIB] __attribute__((aligned(4096)));

static void run_child(const char *test, const char *reason, void (*job)(void))
{
    int status = -1;
    pid_t child;

    fflush(NULL);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        job();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == SKIPPED) {
        test_skip(test, reason);
        return;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
}

static struct mrp_provider *open_verbs(struct mrp_context **context)
{
    struct mrp_provider *provider;

    EXPECT(mrp_context_create(NULL, context) == MRP_OK);
    EXPECT(mrp_provider_open(*context, "verbs", NULL, &provider) == MRP_OK);
    return provider;
}

/* -- memlock -- */

static void become_ordinary(void)
{
    struct rlimit limit = {MEMLOCK, MEMLOCK};

    setenv("MRPOOL_PAGES", "4k", 1);
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 ||
        (getuid() == 0 && (setgid(NOBODY) != 0 || setuid(NOBODY) != 0))) {
        _exit(SKIPPED);
    }
}

/* The provider itself: what fits works, what does not says which numbers met. */
static void use_up_memlock(void)
{
    struct mrp_registration first, second;
    const char *text;
    void *state;

    become_ordinary();
    if (verbs_open("", NULL, &state) != MRP_OK) {
        _exit(SKIPPED);
    }
    EXPECT(verbs_register(state, memory, 4 * MRP_MIB, MRP_ACCESS_ALL, &first) ==
        MRP_ERR_LIMIT);
    EXPECT(mrp_error_last()->native == ENOMEM);
    EXPECT(strstr(mrp_error_last()->text, ": 0 bytes of 2097152 pinned") != NULL);
    EXPECT(verbs_register(state, memory, MRP_MIB, MRP_ACCESS_ALL, &first) == MRP_OK);
    EXPECT(verbs_register(state, memory, MRP_MIB + 4096, MRP_ACCESS_ALL, &second) ==
        MRP_ERR_LIMIT);
    text = mrp_error_last()->text;
    EXPECT(strstr(text, "ibv_reg_mr") != NULL && strstr(text, "1052672 bytes") != NULL);
    EXPECT(strstr(text, "1048576 bytes of 2097152 pinned") != NULL);
    EXPECT(strstr(text, "ulimit -l") != NULL);
    EXPECT(verbs_register(state, memory, MRP_MIB, MRP_ACCESS_ALL, &second) == MRP_OK);
    EXPECT(verbs_deregister(state, &first) == MRP_OK);
    EXPECT(verbs_deregister(state, &second) == MRP_OK);
    verbs_close(state);
}

static void register__names_memlock(void **test)
{
    (void)test;
    run_child("register__names_memlock",
        "may not set the limit, drop to an ordinary user, or open the device as such",
        use_up_memlock);
}

/* A default pool fits itself into the limit, and ends where its budget does. */
static void fill_pool(void)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_region *regions[64];
    struct mrp_provider *provider;
    struct mrp_context *context;
    struct mrp_pool *pool;
    void *state;
    size_t n = 0;

    become_ordinary();
    if (verbs_open("", NULL, &state) != MRP_OK) {
        _exit(SKIPPED);
    }
    verbs_close(state);
    provider = open_verbs(&context);
    params.rails = &provider;
    params.n_rails = 1;
    params.access = MRP_ACCESS_ALL;
    EXPECT(mrp_pool_create(context, &params, &pool) == MRP_OK);
    while (n < 64 && (regions[n] = mrp_region_alloc(pool, 64 * MRP_KIB)) != NULL) {
        n++;
    }
    EXPECT(n >= 16 && n <= 32);
    EXPECT(mrp_error_last()->status == MRP_ERR_LIMIT);
    EXPECT(strstr(mrp_error_last()->text, "memlock") != NULL);
    EXPECT(mrp_region_free_many(regions, n, NULL) == MRP_OK);
    EXPECT(mrp_region_alloc(pool, 3 * MRP_MIB) == NULL);
    EXPECT(mrp_error_last()->status == MRP_ERR_LIMIT);
    EXPECT(mrp_pool_check(pool) == MRP_OK);
    EXPECT(mrp_context_destroy(context) == MRP_OK);
}

static void pool__fits_into_memlock(void **test)
{
    (void)test;
    run_child("pool__fits_into_memlock",
        "may not set the limit, drop to an ordinary user, or open the device as such",
        fill_pool);
}

/* -- objects of a cgroup -- */

static bool write_file(const char *path, const char *text)
{
    int file = open(path, O_WRONLY | O_CLOEXEC);
    bool done = file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text);

    if (file >= 0) {
        close(file);
    }
    return done;
}

static bool has_controller(const char *path, const char *name)
{
    char text[256] = "";
    FILE *file = fopen(path, "re");
    bool found = false;

    while (file != NULL && fscanf(file, "%255s", text) == 1) {
        found = found || strcmp(text, name) == 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return found;
}

/* A few objects on each device: a context's, a domain's and those of registrations. */
static bool limit_objects(void)
{
    struct ibv_device **list = ibv_get_device_list(NULL);
    bool done = list != NULL;
    char text[256];

    for (size_t i = 0; done && list[i] != NULL; i++) {
        snprintf(text, sizeof(text), "%s hca_object=%d", ibv_get_device_name(list[i]),
            N_OBJECTS);
        done = write_file(FOLDER "/rdma.max", text);
    }
    if (list != NULL) {
        ibv_free_device_list(list);
    }
    return done;
}

/* Run the job in a cgroup of its own, seen through a mount of our own, and take both away
 * again however it ends. */
static void run_in_cgroup(void (*job)(void))
{
    int status = SKIPPED << 8;
    bool is_new;
    pid_t child;

    if (unshare(CLONE_NEWNS) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("cgroup2", CGROUP, "cgroup2", 0, NULL) != 0) {
        _exit(SKIPPED);
    }
    is_new = !has_controller(CGROUP "/cgroup.subtree_control", "rdma");
    if ((is_new && !write_file(CGROUP "/cgroup.subtree_control", "+rdma")) ||
        mkdir(FOLDER, 0755) != 0) {
        _exit(SKIPPED);
    }
    child = fork();
    if (child == 0) {
        if (!limit_objects() || !write_file(FOLDER "/cgroup.procs", "0")) {
            _exit(SKIPPED);
        }
        job();
        _exit(0);
    }
    EXPECT(child > 0 && waitpid(child, &status, 0) == child);
    EXPECT(rmdir(FOLDER) == 0);
    EXPECT(!is_new || write_file(CGROUP "/cgroup.subtree_control", "-rdma"));
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void use_up_cgroup(void)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_region *regions[N_OBJECTS + 1] = {NULL};
    struct mrp_provider *provider;
    struct mrp_context *context;
    struct mrp_pool *pool;
    char count[64];
    size_t n = 0;

    provider = open_verbs(&context);
    params.rails = &provider;
    params.n_rails = 1;
    params.access = MRP_ACCESS_ALL;
    params.max_bytes = 4 * MRP_MIB;
    EXPECT(mrp_pool_create(context, &params, &pool) == MRP_OK);
    while (n <= N_OBJECTS &&
        mrp_region_register(pool, memory + 4096 * n, 4096, NULL, &regions[n]) == MRP_OK) {
        n++;
    }
    EXPECT(n > 0 && n < N_OBJECTS);
    EXPECT(mrp_error_last()->status == MRP_ERR_LIMIT);
    EXPECT(mrp_error_last()->native == EAGAIN);
    EXPECT(strstr(mrp_error_last()->text, "hca_object") != NULL);
    snprintf(count, sizeof(count), " %zu registrations here", n);
    EXPECT(strstr(mrp_error_last()->text, count) != NULL);

    /* and works again as soon as one has gone */
    EXPECT(mrp_region_free(regions[0]) == MRP_OK);
    EXPECT(mrp_region_register(pool, memory, 4096, NULL, &regions[0]) == MRP_OK);
    EXPECT(mrp_region_free_many(regions, n, NULL) == MRP_OK);
    EXPECT(mrp_pool_check(pool) == MRP_OK);
    EXPECT(mrp_context_destroy(context) == MRP_OK);
}

static void use_up_own_cgroup(void)
{
    run_in_cgroup(use_up_cgroup);
}

static void register__names_the_cgroup(void **test)
{
    (void)test;
    run_child("register__names_the_cgroup", "no cgroup of rdma that may be changed",
        use_up_own_cgroup);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(register__names_memlock),
        cmocka_unit_test(pool__fits_into_memlock),
        cmocka_unit_test(register__names_the_cgroup),
    };
    int missing = verbs_missing();

    return missing != 0 ? missing : cmocka_run_group_tests(tests, NULL, NULL);
}
