/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Backend mmap: several threads populate one mapping.
 * ctest: RUN_SERIAL TRUE
 *
 * That a mapping of 66 MiB is divided in two shows in the second piece: of 32 MiB, which
 * a fault can tell from the first, of 34.
 */
#include "backend_mmap_job.h"
#include "mrpool/context.h"

#include <dirent.h>
#include <errno.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#define POPULATE_WRITE 23 /* MADV_POPULATE_WRITE */
#define SIZE (66 * MIB)
#define SECOND_PIECE (32 * MIB)

#define FAULT_SECOND_PIECE(error) \
    { \
        .call = SYS_madvise, .native = (error), .n_when = 2, .when = { \
            {1, SECOND_PIECE}, \
            {2, POPULATE_WRITE} \
        } \
    }

static struct job job_in_parallel(size_t size, unsigned n_threads)
{
    struct job job = job_of(MRP_PAGES_4K, size, 64);

    job.params.prefault_threads = n_threads;
    return job;
}

static size_t count_threads(void)
{
    DIR *tasks = opendir("/proc/self/task");
    size_t n = 0;

    assert_non_null(tasks);
    for (struct dirent *entry = readdir(tasks); entry; entry = readdir(tasks)) {
        n += entry->d_name[0] != '.';
    }
    closedir(tasks);
    return n;
}

/* What has been joined may be listed for another instant. */
static void check_no_thread_left(size_t n_before)
{
    for (int i = 0; i < 1000 && count_threads() > n_before; i++) {
        usleep(1000);
    }
    assert_int_equal(count_threads(), n_before);
}

/* A tool's own thread comes with the first that is made. */
static size_t count_threads_before(void)
{
    struct mrp_mapping mapping = job_ok(job_in_parallel(SIZE, 2));

    unmap(&mapping);
    usleep(10000);
    return count_threads();
}

static bool is_resident(const struct mrp_mapping *mapping)
{
    size_t n = mapping->size / (size_t)sysconf(_SC_PAGESIZE), n_resident = 0;
    unsigned char *resident = malloc(n);

    assert_non_null(resident);
    assert_int_equal(mincore(mapping->address, mapping->size, resident), 0);
    for (size_t i = 0; i < n; i++) {
        n_resident += resident[i] & 1;
    }
    free(resident);
    return n_resident == n;
}

static void map__in_parallel_populates_every_page(void **unused)
{
    static const struct {
        size_t size;
        unsigned n_threads;
    } cases[] = {
        {SIZE, 1}, {SIZE, 2}, {SIZE + 4096, 0}, {130 * MIB + 4096, 64}, {31 * MIB, 64}};
    size_t n_threads = test_is_watched() ? count_threads_before() : count_threads();
    (void)unused;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mrp_mapping mapping =
            job_ok(job_in_parallel(cases[i].size, cases[i].n_threads));
        assert_true(mapping.prefaulted);
        assert_true(is_resident(&mapping));
        unmap(&mapping);
    }
    check_no_thread_left(n_threads);
}

static void map__in_parallel_on_kernels_before_5_14(void **unused)
{
    static const struct test_fault old[] = {
        {.call = SYS_madvise,
            .native = EINVAL,
            .n_when = 1,
            .when = {{2, POPULATE_WRITE}}},
    };
    struct job job = job_in_parallel(SIZE, 2);
    (void)unused;

    if (!test_run_with_faults(old, 1, job_run, &job)) {
        test_skip(__func__, "no seccomp filters here");
        return;
    }
    assert_int_equal(job.status, MRP_OK);
    assert_true(is_resident(&job.mapping));
    unmap(&job.mapping);
}

static void map__one_piece_fails_the_attempt(void **unused)
{
    static const struct {
        struct test_fault fault;
        enum mrp_status status;
    } cases[] = {
        {FAULT_SECOND_PIECE(ENOMEM), MRP_ERR_MEMORY},
        {FAULT_SECOND_PIECE(EHWPOISON), MRP_ERR_SYSTEM},
        {FAULT_SECOND_PIECE(EFAULT), MRP_ERR_SYSTEM},
    };
    size_t n_threads = count_threads_before(), n_maps = 0;
    (void)unused;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct job job = job_in_parallel(SIZE, 2);
        if (!test_run_with_faults(&cases[i].fault, 1, job_run, &job)) {
            test_skip(__func__, "no seccomp filters here");
            return;
        }
        assert_refused(&job, cases[i].status, "populating of 69206016 bytes");
        check_no_thread_left(n_threads);
        if (i > 0 && !test_is_watched()) { /* the first threads leave stacks behind */
            assert_in_range(test_count_maps(), 1, n_maps);
        }
        n_maps = test_count_maps();
    }
}

static void map__without_threads_does_it_alone(void **unused)
{
    static const struct test_fault none[] = {
        {.call = SYS_clone3, .native = EAGAIN},
        {.call = SYS_clone, .native = EAGAIN},
    };
    struct job job = job_in_parallel(SIZE, 2);
    (void)unused;

    if (!test_run_with_faults(none, 2, job_run, &job)) {
        test_skip(__func__, "no seccomp filters here");
        return;
    }
    assert_int_equal(job.status, MRP_OK);
    assert_int_equal(job.error.status, MRP_OK);
    assert_true(is_resident(&job.mapping));
    unmap(&job.mapping);
}

/* -- signals -- */

static volatile sig_atomic_t n_signals, n_strays;
static pid_t mapper;

static void note_signal(int number)
{
    (void)number;
    n_signals++;
    n_strays += (pid_t)syscall(SYS_gettid) != mapper;
}

/* The profiling timer's signals go to any thread that takes them, most of all to one that
 * runs. */
static void map__helpers_take_no_signal(void **unused)
{
    struct sigaction action = {.sa_handler = note_signal}, before;
    struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    sigset_t mask;
    (void)unused;

    if (test_is_watched()) {
        test_skip(__func__, "the tool delays signals");
        return;
    }
    mapper = (pid_t)syscall(SYS_gettid);
    assert_int_equal(sigaction(SIGPROF, &action, &before), 0);
    assert_int_equal(setitimer(ITIMER_PROF, &often, NULL), 0);
    for (int i = 0; i < 50 && n_signals < 20; i++) {
        struct mrp_mapping mapping = job_ok(job_in_parallel(256 * MIB, 4));
        unmap(&mapping);
    }
    setitimer(ITIMER_PROF, &never, NULL);
    sigaction(SIGPROF, &before, NULL);
    assert_true(n_signals > 0);
    assert_int_equal(n_strays, 0);
    assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &mask), 0);
    assert_false(sigismember(&mask, SIGPROF));
}

/* -- nodes -- */

static bool has_policy(void *address)
{
    int mode = -1;

    assert_int_equal(syscall(SYS_get_mempolicy, &mode, NULL, 0, address, MPOL_F_ADDR), 0);
    return mode != MPOL_DEFAULT;
}

struct faulty_job {
    struct job job;
    const struct test_fault *faults;
    size_t n_faults;
    bool ran;
};

static void run_faulty(void *user)
{
    struct faulty_job *faulty = user;

    faulty->ran =
        test_run_with_faults(faulty->faults, faulty->n_faults, job_run, &faulty->job);
}

/* Where there are several nodes, the pages of an unbound mapping are those of the thread
 * that maps, and no policy stays behind; where that cannot be had it touches them alone.
 */
static void map__unbound_pages_are_the_callers(void **unused)
{
    static const struct test_fault forbidden[] = {
        {.call = SYS_mbind, .native = EPERM}, FAULT_SECOND_PIECE(ENOMEM)};
    struct faulty_job faulty = {
        .job = job_in_parallel(SIZE, 2), .faults = forbidden, .n_faults = 2};
    struct job job = job_in_parallel(SIZE, 2);
    const char *file = "/sys/devices/system/node/has_memory";
    (void)unused;

    if (syscall(SYS_get_mempolicy, NULL, NULL, 0, NULL, 0) != 0 ||
        !test_run_with_file(file, "0-1\n", job_run, &job)) {
        test_skip(__func__, "no NUMA policies or no mount namespaces here");
        return;
    }
    assert_int_equal(job.status, MRP_OK);
    assert_int_equal(job.mapping.node, 0);
    assert_true(is_resident(&job.mapping));
    assert_false(has_policy(job.mapping.address));
    unmap(&job.mapping);
    if (!test_run_with_file(file, "0-1\n", run_faulty, &faulty) || !faulty.ran) {
        test_skip(__func__, "no seccomp filters here");
        return;
    }
    assert_int_equal(faulty.job.status, MRP_OK);
    assert_true(is_resident(&faulty.job.mapping));
    unmap(&faulty.job.mapping);
}

/* -- parameters -- */

static void create__threads_out_of_range(void **unused)
{
    struct mrp_backend_params params = MRP_BACKEND_PARAMS_INIT;
    struct mrp_context *context = NULL;
    struct mrp_backend *backend = NULL;
    (void)unused;

    assert_int_equal(mrp_context_create(NULL, &context), MRP_OK);
    params.prefault_threads = 65;
    assert_int_equal(
        mrp_backend_create(context, "mmap", &params, &backend), MRP_ERR_INVALID);
    assert_non_null(strstr(mrp_error_last()->text, "prefault_threads is 65"));
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
    setenv("MRPOOL_PREFAULT_THREADS", "0", 1);
    assert_int_equal(mrp_context_create(NULL, &context), MRP_ERR_INVALID);
    assert_non_null(strstr(mrp_error_last()->text, "MRPOOL_PREFAULT_THREADS=0"));
    unsetenv("MRPOOL_PREFAULT_THREADS");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(map__in_parallel_populates_every_page),
        cmocka_unit_test(map__in_parallel_on_kernels_before_5_14),
        cmocka_unit_test(map__one_piece_fails_the_attempt),
        cmocka_unit_test(map__without_threads_does_it_alone),
        cmocka_unit_test(map__helpers_take_no_signal),
        cmocka_unit_test(map__unbound_pages_are_the_callers),
        cmocka_unit_test(create__threads_out_of_range),
    };

    return cmocka_run_group_tests(tests, NULL, restore);
}
