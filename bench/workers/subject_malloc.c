/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Worker for malloc: the C library's, or whichever was preloaded into this process.
 */
#include "support.h"

#include <dlfcn.h>
#include <gnu/libc-version.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUBJECT_TRAITS SUBJECT_ANY_SIZE

/* Which library malloc is of, as its file is called once links are followed: a preload
 * that was not found is only a warning. */
static void subject_describe(char *text, size_t size)
{
    void *symbol = dlsym(RTLD_DEFAULT, "malloc");
    char path[PATH_MAX] = "?";
    const char *slash;
    Dl_info info;

    if (symbol != NULL && dladdr(symbol, &info) != 0 &&
        realpath(info.dli_fname, path) == NULL) {
        snprintf(path, sizeof path, "%s", info.dli_fname);
    }
    slash = strrchr(path, '/');
    snprintf(text, size, "%s%s%s", slash != NULL ? slash + 1 : path,
        strstr(path, "libc.so") != NULL ? " " : "",
        strstr(path, "libc.so") != NULL ? gnu_get_libc_version() : "");
}

static bool subject_open(const struct worker_request *request, struct worker_reply *reply)
{
    (void)request;
    (void)reply;
    return true;
}

static void subject_close(void)
{
}

WORKER_INLINE void *subject_handle(void)
{
    return NULL;
}

WORKER_INLINE void *subject_alloc(void *handle, size_t size)
{
    (void)handle;
    return malloc(size);
}

WORKER_INLINE void subject_free(void *handle, void *item)
{
    (void)handle;
    free(item);
}

#define SUBJECT_STRANDED -1 /* it does not tell */
#include "plain.h"
#include "worker.h"
