/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Worker of mrpool-bench memory for malloc: the C library's, or whichever was preloaded.
 * What it holds is what the process has become larger by; trimming is each library's own
 * way of it, found in the process.
 */
#include "memory_load.h"
#include "support.h"

#include <dlfcn.h>
#include <errno.h>
#include <gnu/libc-version.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GIVE_BACK ((size_t)1 << 30)
#define GIVE_BACK_QUICK ((size_t)32 << 20)

static int (*jemalloc_control)(
    const char *name, void *old, size_t *old_size, void *new, size_t new_size);
static void (*mimalloc_collect)(bool force);

/* dlsym gives an object pointer; POSIX wants it to hold a function's. */
static void find(const char *name, void *function)
{
    void *symbol = dlsym(RTLD_DEFAULT, name);

    memcpy(function, &symbol, sizeof symbol);
}

static void trim(void)
{
    if (jemalloc_control != NULL) {
        jemalloc_control("thread.tcache.flush", NULL, NULL, NULL, 0);
        jemalloc_control("arena.4096.purge", NULL, NULL, NULL, 0); /* of all arenas */
    } else if (mimalloc_collect != NULL) {
        mimalloc_collect(true);
    } else {
        malloc_trim(0);
    }
}

static void *address_of(void *item)
{
    return item;
}

static const char *problem(void)
{
    return "malloc gave nothing";
}

/* As subject_malloc.c: a preload that was not found is only a warning. */
static void tell_library(void)
{
    void *symbol = dlsym(RTLD_DEFAULT, "malloc");
    char path[PATH_MAX] = "?";
    const char *slash;
    Dl_info info;
    bool is_libc;

    if (symbol != NULL && dladdr(symbol, &info) != 0 &&
        realpath(info.dli_fname, path) == NULL) {
        snprintf(path, sizeof path, "%s", info.dli_fname);
    }
    slash = strrchr(path, '/');
    is_libc = strstr(path, "libc.so") != NULL;
    printf("text %s%s%s\n", slash != NULL ? slash + 1 : path, is_libc ? " " : "",
        is_libc ? gnu_get_libc_version() : "");
}

int main(int argc, char **argv)
{
    const struct memory_subject subject = {
        malloc, address_of, free, trim, NULL, NULL, problem, NULL};
    struct memory_arguments arguments;
    bool is_done = false;

    memory_arguments_read(&arguments, argc, argv);
    find("mallctl", &jemalloc_control);
    find("mi_collect", &mimalloc_collect);
    tell_library();
    if (strcmp(arguments.section, "load") == 0) {
        is_done = memory_load(&subject, &arguments.plan);
    } else if (strcmp(arguments.section, "trim") == 0) {
        is_done = memory_give_back(&subject,
            arguments.quick ? GIVE_BACK_QUICK : GIVE_BACK, arguments.repetitions);
    }
    puts("end");
    return is_done ? EXIT_SUCCESS : EXIT_FAILURE;
}
