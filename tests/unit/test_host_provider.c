/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The host provider, through its table: what it locks is read back from the kernel.
 */
#include "mrpool/provider.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

extern const struct mrp_provider_ops mrp_provider_host;

#define N_PAGES 12 /* fit into 64 KiB, the memlock limit of many containers */
#define TOO_MANY_PAGES 48
#define N_THREADS 4
#define UNPRIVILEGED 65534

/* -- helpers -- */

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static unsigned char *map_pages(size_t n_pages)
{
    void *memory = mmap(NULL, n_pages * page_size(), PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_ptr_not_equal(memory, MAP_FAILED);
    return memory;
}

static void unmap_pages(unsigned char *memory, size_t n_pages)
{
    assert_int_equal(munmap(memory, n_pages * page_size()), 0);
}

static struct mrp_register_request request_of(void *address, size_t size)
{
    struct mrp_register_request request = {
        .struct_size = sizeof(request),
        .address = address,
        .size = size,
        .access = MRP_ACCESS_LOCAL,
        .dmabuf_fd = -1,
    };

    return request;
}

static enum mrp_status take(
    void *address, size_t size, struct mrp_registration *registration)
{
    struct mrp_register_request request = request_of(address, size);

    memset(registration, 0, sizeof(*registration));
    registration->struct_size = sizeof(*registration);
    return mrp_provider_host.register_memory(NULL, &request, registration);
}

static enum mrp_status give(const struct mrp_registration *registration)
{
    return mrp_provider_host.deregister_memory(NULL, registration);
}

/* Mark the pages between begin and end that lie in memory. */
static void mark(bool *locked, const unsigned char *memory, size_t n_pages,
    uintptr_t begin, uintptr_t end)
{
    for (size_t i = 0; i < n_pages; i++) {
        uintptr_t page = (uintptr_t)memory + i * page_size();

        locked[i] = locked[i] || (page >= begin && page < end);
    }
}

/* Which pages the kernel holds locked: the flag "lo" of their mappings. */
static void read_locked(bool *locked, const unsigned char *memory, size_t n_pages)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    char line[4096];
    unsigned long begin = 0, end = 0, first, last;

    assert_non_null(file);
    memset(locked, 0, n_pages * sizeof(*locked));
    while (fgets(line, sizeof(line), file) != NULL) {
        if (sscanf(line, "%lx-%lx ", &first, &last) == 2) {
            begin = first;
            end = last;
        } else if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, " lo ") != NULL) {
            mark(locked, memory, n_pages, begin, end);
        }
    }
    fclose(file);
}

static bool is_locked(const unsigned char *page)
{
    bool locked;

    read_locked(&locked, page, 1);
    return locked;
}

/* Run check in a child that may lock only limit bytes; true when it exits with 0. */
static bool holds_with_memlock(rlim_t limit, bool (*check)(void))
{
    pid_t child = fork();
    int status = -1;

    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit memlock = {limit, limit};

        if (setrlimit(RLIMIT_MEMLOCK, &memlock) != 0 ||
            (geteuid() == 0 &&
                (setgid(UNPRIVILEGED) != 0 || setuid(UNPRIVILEGED) != 0))) {
            _exit(2);
        }
        _exit(check() ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* -- what it locks -- */

static void register__locks_whole_pages(void **state)
{
    unsigned char *memory = map_pages(4);
    struct mrp_registration registration;
    bool locked[4];

    (void)state;
    /* two bytes either side of a page boundary */
    assert_int_equal(take(memory + 2 * page_size() - 1, 2, &registration), MRP_OK);
    read_locked(locked, memory, 4);
    assert_false(locked[0]);
    assert_true(locked[1]);
    assert_true(locked[2]);
    assert_false(locked[3]);
    assert_int_equal(give(&registration), MRP_OK);
    read_locked(locked, memory, 4);
    assert_false(locked[1] || locked[2]);
    unmap_pages(memory, 4);
}

static void register__gives_no_keys(void **state)
{
    unsigned char *memory = map_pages(1);
    struct mrp_registration registration;

    (void)state;
    assert_int_equal(take(memory, 1, &registration), MRP_OK);
    assert_non_null(registration.native);
    assert_null(registration.local_desc);
    assert_null(registration.key_blob);
    assert_int_equal(registration.key_size, 0);
    assert_int_equal(give(&registration), MRP_OK);
    unmap_pages(memory, 1);
}

static void deregister__shared_page_stays_locked(void **state)
{
    unsigned char *memory = map_pages(3);
    struct mrp_registration low, high;
    size_t page = page_size();
    bool locked[3];

    (void)state;
    assert_int_equal(take(memory, page + 100, &low), MRP_OK);
    assert_int_equal(take(memory + page + 100, 2 * page - 100, &high), MRP_OK);
    assert_int_equal(give(&low), MRP_OK);
    read_locked(locked, memory, 3);
    assert_false(locked[0]);
    assert_true(locked[1] && locked[2]);
    assert_int_equal(give(&high), MRP_OK);
    read_locked(locked, memory, 3);
    assert_false(locked[1] || locked[2]);
    unmap_pages(memory, 3);
}

static void deregister__same_range_twice_is_counted(void **state)
{
    unsigned char *memory = map_pages(1);
    struct mrp_registration first, second;

    (void)state;
    assert_int_equal(take(memory, page_size(), &first), MRP_OK);
    assert_int_equal(take(memory, page_size(), &second), MRP_OK);
    assert_int_equal(give(&second), MRP_OK);
    assert_true(is_locked(memory));
    assert_int_equal(give(&first), MRP_OK);
    assert_false(is_locked(memory));
    unmap_pages(memory, 1);
}

/* A hole in the middle of what is given up: both sides are unlocked, the hole is not. */
static void deregister__inner_range_stays_locked(void **state)
{
    unsigned char *memory = map_pages(5);
    struct mrp_registration outer, inner;
    bool locked[5];

    (void)state;
    assert_int_equal(take(memory, 5 * page_size(), &outer), MRP_OK);
    assert_int_equal(take(memory + 2 * page_size(), page_size(), &inner), MRP_OK);
    assert_int_equal(give(&outer), MRP_OK);
    read_locked(locked, memory, 5);
    assert_false(locked[0] || locked[1] || locked[3] || locked[4]);
    assert_true(locked[2]);
    assert_int_equal(give(&inner), MRP_OK);
    assert_false(is_locked(memory + 2 * page_size()));
    unmap_pages(memory, 5);
}

static void deregister__after_unmap_is_reported(void **state)
{
    unsigned char *memory = map_pages(1);
    struct mrp_registration registration;

    (void)state;
    assert_int_equal(take(memory, page_size(), &registration), MRP_OK);
    unmap_pages(memory, 1);
    assert_int_equal(give(&registration), MRP_ERR_REGISTER);
    assert_int_equal(mrp_error_last()->native, ENOMEM);
    assert_non_null(strstr(mrp_error_last()->text, "before unmapping"));
}

/* -- what it refuses -- */

static void register__refuses_unmapped_range(void **state)
{
    unsigned char *memory = map_pages(3);
    struct mrp_registration registration;

    (void)state;
    assert_int_equal(munmap(memory + page_size(), page_size()), 0);
    assert_int_equal(take(memory, 3 * page_size(), &registration), MRP_ERR_INVALID);
    assert_non_null(strstr(mrp_error_last()->text, "not all mapped"));
    /* and keeps no part of it */
    assert_false(is_locked(memory));
    assert_false(is_locked(memory + 2 * page_size()));
    assert_int_equal(munmap(memory, page_size()), 0);
    assert_int_equal(munmap(memory + 2 * page_size(), page_size()), 0);
}

/* The failed attempt must not unlock what it shares with a live registration. */
static void register__failure_keeps_others_locked(void **state)
{
    unsigned char *memory = map_pages(2);
    struct mrp_registration held, failed;

    (void)state;
    assert_int_equal(munmap(memory + page_size(), page_size()), 0);
    assert_int_equal(take(memory, page_size(), &held), MRP_OK);
    assert_int_equal(take(memory, 2 * page_size(), &failed), MRP_ERR_INVALID);
    assert_true(is_locked(memory));
    assert_int_equal(give(&held), MRP_OK);
    assert_false(is_locked(memory));
    unmap_pages(memory, 1);
}

static void register__inaccessible_page_is_no_limit(void **state)
{
    unsigned char *memory = map_pages(2);
    struct mrp_registration registration;

    (void)state;
    assert_int_equal(mprotect(memory + page_size(), page_size(), PROT_NONE), 0);
    assert_int_equal(take(memory, 2 * page_size(), &registration), MRP_ERR_SYSTEM);
    assert_non_null(strstr(mrp_error_last()->text, "PROT_NONE"));
    assert_false(is_locked(memory));
    assert_false(is_locked(memory + page_size()));
    unmap_pages(memory, 2);
}

static void register__refuses_what_it_cannot_do(void **state)
{
    unsigned char *memory = map_pages(1);
    struct mrp_registration registration = {.struct_size = sizeof(registration)};
    struct mrp_register_request request = request_of(memory, page_size());

    (void)state;
    request.native_flags = 1;
    assert_int_equal(mrp_provider_host.register_memory(NULL, &request, &registration),
        MRP_ERR_UNSUPPORTED);
    assert_false(is_locked(memory));
    unmap_pages(memory, 1);
}

static void register__refuses_impossible_ranges(void **state)
{
    unsigned char *memory = map_pages(1);
    struct mrp_registration registration;

    (void)state;
    assert_int_equal(take(memory, 0, &registration), MRP_ERR_INVALID);
    assert_int_equal(take(memory, SIZE_MAX, &registration), MRP_ERR_INVALID);
    assert_int_equal(
        take(memory, SIZE_MAX - (uintptr_t)memory + 1, &registration), MRP_ERR_INVALID);
    assert_false(is_locked(memory));
    unmap_pages(memory, 1);
}

static bool error_names_the_limit(void)
{
    unsigned char *memory = map_pages(TOO_MANY_PAGES);
    struct mrp_registration first, second;
    const struct mrp_error *error = mrp_error_last();
    char wanted[64];

    if (take(memory, 4 * page_size(), &first) != MRP_OK ||
        take(memory, TOO_MANY_PAGES * page_size(), &second) != MRP_ERR_LIMIT) {
        return false;
    }
    snprintf(wanted, sizeof(wanted), "%zu bytes asked for, %zu locked already",
        TOO_MANY_PAGES * page_size(), 4 * page_size());
    return error->status == MRP_ERR_LIMIT && error->native == ENOMEM &&
        strstr(error->text, wanted) != NULL &&
        strstr(error->text, "65536 soft, 65536 hard") != NULL &&
        strstr(error->text, "ulimit -l") != NULL && give(&first) == MRP_OK &&
        take(memory, 8 * page_size(), &first) == MRP_OK && give(&first) == MRP_OK;
}

static void register__limit_error_carries_the_numbers(void **state)
{
    (void)state;
    assert_true(holds_with_memlock(64 << 10, error_names_the_limit));
}

static bool nothing_may_be_locked(void)
{
    struct mrp_registration registration;

    return take(map_pages(1), 1, &registration) == MRP_ERR_LIMIT &&
        mrp_error_last()->native == EPERM &&
        strstr(mrp_error_last()->text, "RLIMIT_MEMLOCK is 0 soft") != NULL;
}

static void register__limit_zero_is_a_limit(void **state)
{
    (void)state;
    assert_true(holds_with_memlock(0, nothing_may_be_locked));
}

/* -- open and query -- */

static void open__refuses_native(void **state)
{
    struct mrp_provider_open_request request = {sizeof(request), NULL, &request, NULL};
    void *opened = &request;

    (void)state;
    assert_int_equal(mrp_provider_host.open(&request, &opened), MRP_ERR_INVALID);
    assert_ptr_equal(opened, &request);
    request.native = NULL;
    assert_int_equal(mrp_provider_host.open(&request, &opened), MRP_OK);
}

static void query__says_what_it_is(void **state)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;

    (void)state;
    mrp_provider_host.query(NULL, &info);
    assert_string_equal(info.device, "");
    assert_int_equal(info.traits, MRP_PROVIDER_PINS);
    assert_int_equal(info.access, MRP_ACCESS_LOCAL);
    assert_int_equal(info.memory_kinds, 1 << MRP_MEMORY_HOST);
    assert_int_equal(info.key_size, 0);
    assert_int_equal(info.max_size, 0);
    assert_int_equal(info.max_registrations, 0);
}

/* -- many -- */

struct holding {
    struct mrp_registration registration;
    size_t first, last; /* pages, inclusive */
    bool is_held;
};

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1664525U + 1013904223U;
    return *seed >> 8;
}

static void toggle(
    struct holding *holding, unsigned char *memory, unsigned *seed, unsigned *counts)
{
    if (!holding->is_held) {
        size_t begin = next_random(seed) % (N_PAGES * page_size());
        size_t size = 1 + next_random(seed) % (N_PAGES * page_size() - begin);

        holding->first = begin / page_size();
        holding->last = (begin + size - 1) / page_size();
        assert_int_equal(take(memory + begin, size, &holding->registration), MRP_OK);
    } else {
        assert_int_equal(give(&holding->registration), MRP_OK);
    }
    holding->is_held = !holding->is_held;
    for (size_t page = holding->first; page <= holding->last; page++) {
        counts[page] += holding->is_held ? 1U : -1U;
    }
}

static void assert_locked_as_counted(const unsigned char *memory, const unsigned *counts)
{
    bool locked[N_PAGES];

    read_locked(locked, memory, N_PAGES);
    for (size_t page = 0; page < N_PAGES; page++) {
        assert_int_equal(locked[page], counts[page] > 0);
    }
}

/* 24 slots at a time, so that pages are held by anything from none to many of them. */
static void register__random_overlaps_match_a_count_per_page(void **state)
{
    unsigned char *memory = map_pages(N_PAGES);
    struct holding holdings[24];
    unsigned counts[N_PAGES] = {0}, seed = 20240607;

    (void)state;
    memset(holdings, 0, sizeof(holdings));
    for (int step = 0; step < 2000; step++) {
        /* now full, now nearly empty */
        size_t n_slots = step / 100 % 2 == 0 ? 24 : 3;

        toggle(&holdings[next_random(&seed) % n_slots], memory, &seed, counts);
        if (step % 10 == 0) {
            assert_locked_as_counted(memory, counts);
        }
    }
    for (size_t i = 0; i < 24; i++) {
        if (holdings[i].is_held) {
            toggle(&holdings[i], memory, &seed, counts);
        }
    }
    assert_locked_as_counted(memory, counts);
    unmap_pages(memory, N_PAGES);
}

struct worker {
    unsigned char *memory;
    unsigned seed;
    size_t n_wrong;
};

/* Failures are counted: cmocka's assertions belong to the first thread. */
static void *register_and_look(void *user)
{
    struct worker *worker = user;

    for (int i = 0; i < 2000; i++) {
        size_t first = next_random(&worker->seed) % N_PAGES;
        size_t n_pages = 1 + next_random(&worker->seed) % (N_PAGES - first);
        unsigned char *address = worker->memory + first * page_size();
        struct mrp_registration registration;

        if (take(address, n_pages * page_size(), &registration) != MRP_OK) {
            worker->n_wrong++;
            continue;
        }
        worker->n_wrong += i % 50 == 0 && !is_locked(address);
        worker->n_wrong += give(&registration) != MRP_OK;
    }
    return NULL;
}

/* Without the account's mutex this fails in every run under ThreadSanitizer, in about every
 * second run without. */
static void register__threads_keep_each_others_pages(void **state)
{
    unsigned char *memory = map_pages(N_PAGES);
    struct worker workers[N_THREADS];
    pthread_t threads[N_THREADS];
    unsigned none[N_PAGES] = {0};

    (void)state;
    for (unsigned i = 0; i < N_THREADS; i++) {
        workers[i] = (struct worker){memory, i, 0};
        assert_int_equal(
            pthread_create(&threads[i], NULL, register_and_look, &workers[i]), 0);
    }
    for (unsigned i = 0; i < N_THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(workers[i].n_wrong, 0);
    }
    assert_locked_as_counted(memory, none);
    unmap_pages(memory, N_PAGES);
}

/* A child inherits no locks: were the parent's account kept, the page would stay locked.
 */
static void fork__child_starts_with_an_empty_account(void **state)
{
    /* static: Valgrind looks for leaks in the child too, where nobody gives it back */
    static struct mrp_registration held;
    unsigned char *memory = map_pages(1);
    struct mrp_registration child_s;
    int status = -1;
    pid_t child;

    (void)state;
    assert_int_equal(take(memory, 1, &held), MRP_OK);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        bool was_locked = is_locked(memory);
        bool is_taken = take(memory, 1, &child_s) == MRP_OK && is_locked(memory);
        bool is_given = give(&child_s) == MRP_OK && !is_locked(memory);

        _exit(!was_locked && is_taken && is_given ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(is_locked(memory));
    assert_int_equal(give(&held), MRP_OK);
    unmap_pages(memory, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(register__locks_whole_pages),
        cmocka_unit_test(register__gives_no_keys),
        cmocka_unit_test(deregister__shared_page_stays_locked),
        cmocka_unit_test(deregister__same_range_twice_is_counted),
        cmocka_unit_test(deregister__inner_range_stays_locked),
        cmocka_unit_test(deregister__after_unmap_is_reported),
        cmocka_unit_test(register__refuses_unmapped_range),
        cmocka_unit_test(register__failure_keeps_others_locked),
        cmocka_unit_test(register__inaccessible_page_is_no_limit),
        cmocka_unit_test(register__refuses_what_it_cannot_do),
        cmocka_unit_test(register__refuses_impossible_ranges),
        cmocka_unit_test(register__limit_error_carries_the_numbers),
        cmocka_unit_test(register__limit_zero_is_a_limit),
        cmocka_unit_test(open__refuses_native),
        cmocka_unit_test(query__says_what_it_is),
        cmocka_unit_test(register__random_overlaps_match_a_count_per_page),
        cmocka_unit_test(register__threads_keep_each_others_pages),
        cmocka_unit_test(fork__child_starts_with_an_empty_account),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
