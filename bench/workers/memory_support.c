/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the workers of mrpool-bench memory share besides the load.
 */
#include "memory_load.h"
#include "support.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define REGION_SIZE ((size_t)64 << 10)
#define PAGE 4096

/* -- telling -- */

void memory_tell_value(
    const char *name, unsigned threads, const char *unit, double number)
{
    printf("value %s %u %s %.9g\n", name, threads, unit, number);
}

void memory_tell_problem(const char *format, ...)
{
    va_list arguments;

    fputs("problem ", stdout);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

static size_t read_number(const char *text)
{
    return (size_t)strtoull(text, NULL, 10);
}

void memory_arguments_read(struct memory_arguments *arguments, int argc, char **argv)
{
    *arguments = (struct memory_arguments){
        .section = argc > 1 ? argv[1] : "", .plan = {.scale = 1}, .repetitions = 1};
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--quick") == 0) {
            arguments->quick = true;
            arguments->plan.scale = 0.02;
        } else if (strcmp(argv[i], "--no-rail") == 0) {
            arguments->no_rail = true;
        } else if (strcmp(argv[i], "--live") == 0 && i + 1 < argc) {
            arguments->plan.live = read_number(argv[++i]);
        } else if (strcmp(argv[i], "--idle-ms") == 0 && i + 1 < argc) {
            arguments->plan.idle_ms = (unsigned)read_number(argv[++i]);
        } else if (strcmp(argv[i], "--repetitions") == 0 && i + 1 < argc) {
            arguments->repetitions = (unsigned)read_number(argv[++i]);
        }
    }
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
}

size_t memory_resident(void)
{
    static int file = -1;
    char text[128] = "";
    const char *second;

    if (file < 0) {
        file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    }
    if (pread(file, text, sizeof text - 1, 0) <= 0) {
        return 0;
    }
    second = strchr(text, ' ');
    return second != NULL ? read_number(second + 1) * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

/* -- giving back -- */

static bool take_all(const struct memory_subject *subject, void **items, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        volatile char *bytes;

        items[i] = subject->alloc(REGION_SIZE);
        if (items[i] == NULL) {
            memory_tell_problem("%s", subject->problem());
            while (i > 0) {
                subject->free(items[--i]);
            }
            return false;
        }
        bytes = subject->address(items[i]);
        for (size_t k = 0; k < REGION_SIZE; k += PAGE) {
            bytes[k] = 1;
        }
    }
    return true;
}

bool memory_give_back(const struct memory_subject *subject, size_t size, unsigned rounds)
{
    size_t n = size / REGION_SIZE, before, left;
    void **items = mmap(NULL, n * sizeof *items, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    bool is_taken = items != MAP_FAILED;
    double start;

    for (unsigned round = 0; is_taken && round < rounds; round++) {
        before = memory_resident();
        is_taken = take_all(subject, items, n);
        start = worker_wall_ns();
        for (size_t i = 0; is_taken && i < n; i++) {
            subject->free(items[i]);
        }
        subject->trim();
        if (is_taken) {
            memory_tell_value("give-back", 1, "ns", worker_wall_ns() - start);
            left = subject->held != NULL ? subject->held() : memory_resident();
            before = subject->held != NULL ? 0 : before;
            memory_tell_value("given-back-left", 1, "bytes",
                left > before ? (double)(left - before) : 0);
        }
    }
    if (items != MAP_FAILED) {
        munmap(items, n * sizeof *items);
    }
    return is_taken;
}
