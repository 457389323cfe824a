/* SPDX-License-Identifier: BSD-3-Clause */
#include "test_system.h"

#include "sanitizers.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <unistd.h>

bool test_is_watched(void)
{
    const char *under = getenv("MRP_TEST_UNDER");

    return TEST_ASAN || TEST_TSAN || (under != NULL && under[0] != '\0');
}

void test_skip(const char *test, const char *reason)
{
    printf("SKIP: %s: %s\n", test, reason);
}

/* -- how memory is mapped -- */

size_t test_count_maps(void)
{
    FILE *file = fopen("/proc/self/maps", "re");
    size_t lines = 0;

    for (int c = file ? getc(file) : EOF; c != EOF; c = getc(file)) {
        lines += c == '\n';
    }
    if (file) {
        fclose(file);
    }
    return lines;
}

size_t test_status_size(const char *row)
{
    FILE *file = fopen("/proc/self/status", "re");
    size_t size = 0;
    char line[256];

    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, row, strlen(row)) == 0) {
            size = strtoul(line + strlen(row), NULL, 10) * 1024;
        }
    }
    if (file) {
        fclose(file);
    }
    return size;
}

/* The text behind the row's name; false if nothing is mapped there. */
static bool smaps_row(const void *address, const char *row, char *text, size_t size)
{
    FILE *file = fopen("/proc/self/smaps", "re");
    bool inside = false, found = false;
    char line[512];

    while (file && fgets(line, sizeof line, file)) {
        unsigned long first, end;
        if (sscanf(line, "%lx-%lx ", &first, &end) == 2) {
            inside = (uintptr_t)address >= first && (uintptr_t)address < end;
        } else if (inside && strncmp(line, row, strlen(row)) == 0) {
            snprintf(text, size, "%s", line + strlen(row));
            found = true;
        }
    }
    if (file) {
        fclose(file);
    }
    return found;
}

size_t test_smaps_size(const void *address, const char *row)
{
    char text[512];

    return smaps_row(address, row, text, sizeof text) ? strtoul(text, NULL, 10) * 1024
                                                      : SIZE_MAX;
}

bool test_smaps_flag(const void *address, const char *flag)
{
    char text[512], word[16];

    snprintf(word, sizeof word, " %s ", flag);
    return smaps_row(address, "VmFlags:", text, sizeof text) && strstr(text, word);
}

bool test_is_mapped(const void *address, size_t size)
{
    FILE *file = fopen("/proc/self/maps", "re");
    bool mapped = false;
    char line[512];

    while (file && fgets(line, sizeof line, file)) {
        unsigned long first, end;
        if (sscanf(line, "%lx-%lx ", &first, &end) == 2) {
            mapped =
                mapped || ((uintptr_t)address < end && (uintptr_t)address + size > first);
        }
    }
    if (file) {
        fclose(file);
    }
    return mapped;
}

/* -- huge pages -- */

struct huge_stock {
    size_t page_size;
    size_t before;
    bool changed;
};

static struct huge_stock stocks[] = {
    {(size_t)1 << 21, 0, false}, {(size_t)1 << 30, 0, false}};

#define N_STOCKS (sizeof stocks / sizeof stocks[0])

static FILE *huge_file(size_t page_size, const char *name, const char *mode)
{
    char path[128];

    snprintf(path, sizeof path, "/sys/kernel/mm/hugepages/hugepages-%zukB/%s",
        page_size / 1024, name);
    return fopen(path, mode);
}

static size_t huge_read(size_t page_size, const char *name)
{
    FILE *file = huge_file(page_size, name, "re");
    size_t value = 0;

    if (file) {
        if (fscanf(file, "%zu", &value) != 1) {
            value = 0;
        }
        fclose(file);
    }
    return value;
}

static void huge_write(size_t page_size, size_t value)
{
    FILE *file = huge_file(page_size, "nr_hugepages", "we");

    if (file) {
        fprintf(file, "%zu\n", value);
        fclose(file);
    }
}

static size_t huge_free(size_t page_size)
{
    return huge_read(page_size, "free_hugepages") -
        huge_read(page_size, "resv_hugepages");
}

bool test_huge_pages_set(size_t page_size, size_t free)
{
    size_t total = huge_read(page_size, "nr_hugepages");

    for (size_t i = 0; i < N_STOCKS; i++) {
        if (stocks[i].page_size == page_size && !stocks[i].changed) {
            stocks[i].before = total;
            stocks[i].changed = true;
        }
    }
    if (huge_free(page_size) != free) {
        huge_write(page_size, total - huge_free(page_size) + free);
    }
    return huge_free(page_size) == free;
}

void test_huge_pages_restore(void)
{
    for (size_t i = 0; i < N_STOCKS; i++) {
        if (stocks[i].changed) {
            huge_write(stocks[i].page_size, stocks[i].before);
            stocks[i].changed = false;
        }
    }
}

/* -- a failing system -- */

struct faulty_run {
    const struct test_fault *faults;
    size_t n_faults;
    const char *path, *cover;
    test_job *job;
    void *user;
    bool ran;
};

#define FILTER_MAX 64

static void filter_add(struct sock_filter *filter, unsigned short *n, unsigned code,
    uint32_t k, size_t if_not)
{
    filter[(*n)++] =
        (struct sock_filter)BPF_JUMP((unsigned short)code, k, 0, (unsigned char)if_not);
}

/* One block for each fault: leave it at the first thing that differs, else return errno.
 */
static unsigned short filter_build(
    const struct faulty_run *run, struct sock_filter *filter)
{
    unsigned short n = 0;

    for (size_t i = 0; i < run->n_faults; i++) {
        const struct test_fault *fault = &run->faults[i];
        filter_add(
            filter, &n, BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr), 0);
        filter_add(filter, &n, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)fault->call,
            2 * fault->n_when + 1);
        for (size_t j = 0; j < fault->n_when; j++) {
            size_t argument = (size_t)fault->when[j].argument;
            filter_add(filter, &n, BPF_LD | BPF_W | BPF_ABS,
                (uint32_t)(offsetof(struct seccomp_data, args) + 8 * argument), 0);
            filter_add(filter, &n, BPF_JMP | BPF_JEQ | BPF_K, fault->when[j].value,
                2 * (fault->n_when - j) - 1);
        }
        filter_add(filter, &n, BPF_RET | BPF_K,
            SECCOMP_RET_ERRNO | ((uint32_t)fault->native & SECCOMP_RET_DATA), 0);
    }
    filter_add(filter, &n, BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0);
    return n;
}

/* Both hold for the calling thread alone and end with it. */
static bool faults_install(const struct faulty_run *run)
{
    struct sock_filter filter[FILTER_MAX];
    struct sock_fprog program = {filter_build(run, filter), filter};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

static bool cover_install(const struct faulty_run *run)
{
    return unshare(CLONE_NEWNS) == 0 &&
        mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0 &&
        mount(run->cover, run->path, "none", MS_BIND, NULL) == 0;
}

static void *faulty_thread(void *user)
{
    struct faulty_run *run = user;

    if (run->path ? cover_install(run) : faults_install(run)) {
        run->job(run->user);
        run->ran = true;
    }
    return NULL;
}

static bool faulty_run(struct faulty_run *run)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, faulty_thread, run) != 0) {
        return false;
    }
    pthread_join(thread, NULL);
    return run->ran;
}

bool test_run_with_faults(
    const struct test_fault *faults, size_t n_faults, test_job *job, void *user)
{
    struct faulty_run run = {
        .faults = faults, .n_faults = n_faults, .job = job, .user = user};

    return n_faults * 7 < FILTER_MAX && faulty_run(&run);
}

bool test_run_with_file(const char *path, const char *text, test_job *job, void *user)
{
    char cover[] = "/tmp/mrp_test_XXXXXX";
    int file = mkstemp(cover);

    if (file < 0) {
        return false;
    }
    bool written = write(file, text, strlen(text)) == (ssize_t)strlen(text);
    struct faulty_run run = {.path = path, .cover = cover, .job = job, .user = user};
    close(file);
    written = written && faulty_run(&run);
    unlink(cover);
    return written;
}
