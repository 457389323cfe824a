/* SPDX-License-Identifier: BSD-3-Clause */
#include "pool_workers.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE_MS 60000 /* an answer takes a second at most */

const struct pool_subject pool_subjects[POOL_SUBJECTS] = {
    {"glibc", FAMILY_MALLOC, "malloc", NULL, NULL, "libc", NULL},
    {"jemalloc", FAMILY_MALLOC, "malloc", NULL, "libjemalloc.so.2", "jemalloc",
        "libjemalloc2"},
    {"mimalloc", FAMILY_MALLOC, "malloc", NULL, "libmimalloc.so.2", "mimalloc",
        "libmimalloc2.0"},
    {"tcmalloc", FAMILY_MALLOC, "malloc", NULL,
        "libtcmalloc_minimal.so.4 libtcmalloc.so.4", "tcmalloc", "libtcmalloc-minimal4"},
    {"mutex", FAMILY_POOL, "mutex", NULL, NULL, NULL, NULL},
    {"boost", FAMILY_POOL, "boost", NULL, NULL, NULL, "libboost-dev"},
    {"dpdk", FAMILY_POOL, "dpdk", NULL, NULL, NULL, "libdpdk-dev"},
    {"ucx", FAMILY_POOL, "ucx", NULL, NULL, NULL, "libucx-dev"},
    {"mrpool", FAMILY_MRPOOL, "mrpool", NULL, NULL, NULL, NULL},
    {"mrpool-plt", FAMILY_MRPOOL, "plt", NULL, NULL, NULL, NULL},
    {"mrpool-static", FAMILY_MRPOOL, "static", NULL, NULL, NULL, NULL},
    {"mrpool-inline", FAMILY_MRPOOL, "inline", NULL, NULL, NULL, NULL},
    {"mrpool-none", FAMILY_MRPOOL, "mrpool", "none", NULL, NULL, NULL},
    {"mrpool-inline-none", FAMILY_MRPOOL, "inline", "none", NULL, NULL, NULL},
};

int pool_subject_find(const char *name)
{
    for (int i = 0; i < POOL_SUBJECTS; i++) {
        if (strcmp(pool_subjects[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

/* -- where the programs are ------------------------------------------------------------
 */

/* Beside mrpool-bench in the build folder; where it was installed; beside an installed
 * tree that has been moved. */
bool pool_worker_command(const struct pool_subject *subject, char *path, size_t size,
    const char *arguments[POOL_ARGUMENTS_MAX])
{
    static const char *const folders[] = {"workers", "../libexec/mrpool"};
    char own[2048];
    ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
    char *slash;

    own[length > 0 ? length : 0] = '\0';
    slash = strrchr(own, '/');
    if (slash != NULL) {
        *slash = '\0';
    }
    snprintf(path, size, "%s/worker-%s", MRP_WORKER_DIR, subject->program);
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        char candidate[4096];

        snprintf(candidate, sizeof candidate, "%s/%s/worker-%s", own, folders[i],
            subject->program);
        if (access(candidate, X_OK) == 0) {
            snprintf(path, size, "%s", candidate);
            break;
        }
    }
    arguments[0] = path;
    arguments[1] = subject->checks != NULL ? "--checks" : NULL;
    arguments[2] = subject->checks;
    arguments[3] = NULL;
    return access(path, X_OK) == 0;
}

/* -- starting --------------------------------------------------------------------------
 */

/* What libraries print is nobody's business: replies carry what goes wrong. */
static _Noreturn void become(
    const char *path, const char *const *arguments, const char *preload, int in, int out)
{
    int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);

    if (dup2(in, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 &&
        (nothing < 0 || dup2(nothing, STDERR_FILENO) >= 0) &&
        (preload == NULL || setenv("LD_PRELOAD", preload, 1) == 0)) {
        execv(path, (char *const *)(uintptr_t)arguments);
    }
    _exit(127);
}

bool pool_worker_spawn(struct pool_worker *worker, const char *path,
    const char *const *arguments, const char *preload)
{
    int to[2], from[2];

    if (pipe2(to, O_CLOEXEC) != 0) {
        return false;
    }
    if (pipe2(from, O_CLOEXEC) != 0) {
        close(to[0]);
        close(to[1]);
        return false;
    }
    worker->pid = fork();
    if (worker->pid == 0) {
        become(path, arguments, preload, to[0], from[1]);
    }
    close(to[0]);
    close(from[1]);
    worker->to = to[1];
    worker->from = from[0];
    if (worker->pid < 0) {
        pool_worker_stop(worker);
        return false;
    }
    return true;
}

/* A worker is the subject only if it says so: a preload that is not found, or one that
 * does not take over malloc, leaves glibc's. */
static bool is_itself(struct pool_worker *worker)
{
    struct worker_request request = {.pattern = PATTERN_HELLO, .n_threads = 1};
    struct worker_reply reply;

    if (!pool_worker_ask(worker, &request, &reply)) {
        return false;
    }
    snprintf(worker->described, sizeof worker->described, "%s", reply.text);
    return worker->subject->sign == NULL ||
        strstr(worker->described, worker->subject->sign) != NULL;
}

bool pool_worker_start(
    struct bench *bench, struct pool_worker *worker, const struct pool_subject *subject)
{
    const char *arguments[POOL_ARGUMENTS_MAX];
    const char *preload = subject->preload != NULL ? subject->preload : "";
    const char *of = subject->package != NULL ? " (package " : "";
    char path[4096], library[64];

    *worker = (struct pool_worker){.subject = subject};
    if (!pool_worker_command(subject, path, sizeof path, arguments)) {
        bench_note(bench, "%s: built without it%s%s%s", subject->name, of,
            subject->package != NULL ? subject->package : "",
            subject->package != NULL ? ")" : "");
        return false;
    }
    do {
        size_t length = strcspn(preload, " ");

        snprintf(library, sizeof library, "%.*s", (int)length, preload);
        if (pool_worker_spawn(worker, path, arguments, length > 0 ? library : NULL) &&
            is_itself(worker)) {
            if (subject->family != FAMILY_MRPOOL) {
                bench_compared(bench, subject->name, worker->described);
            }
            return true;
        }
        pool_worker_stop(worker);
        preload += length + (preload[length] == ' ');
    } while (*preload != '\0');
    bench_note(bench, "%s: %s%s%s%s", subject->name,
        subject->preload != NULL ? "not installed" : "its worker does not start", of,
        subject->package != NULL ? subject->package : "",
        subject->package != NULL ? ")" : "");
    return false;
}

void pool_worker_stop(struct pool_worker *worker)
{
    if (worker->to > 0) {
        close(worker->to);
        close(worker->from);
    }
    if (worker->pid > 0) {
        kill(worker->pid, SIGKILL); /* it has nothing to put in order */
        while (waitpid(worker->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    worker->pid = 0;
    worker->to = worker->from = 0;
}

/* -- asking ----------------------------------------------------------------------------
 */

static bool read_reply(int from, struct worker_reply *reply)
{
    char *to = (char *)reply;
    size_t missing = sizeof *reply;

    while (missing > 0) {
        struct pollfd ready = {.fd = from, .events = POLLIN};
        ssize_t got;

        if (poll(&ready, 1, PATIENCE_MS) <= 0) {
            return false;
        }
        got = read(from, to, missing);
        if (got <= 0) {
            return false;
        }
        to += got;
        missing -= (size_t)got;
    }
    return true;
}

bool pool_worker_ask(struct pool_worker *worker, const struct worker_request *request,
    struct worker_reply *reply)
{
    if (worker->pid == 0) {
        return false;
    }
    if (write(worker->to, request, sizeof *request) == sizeof *request &&
        read_reply(worker->from, reply)) {
        reply->text[sizeof reply->text - 1] = '\0';
        return true;
    }
    pool_worker_stop(worker);
    return false;
}

/* -- those that tell instead of answering ------------------------------------------------
 */

const char *worker_next_line(struct worker_lines *lines)
{
    for (;;) {
        struct pollfd ready = {.fd = lines->file, .events = POLLIN};
        char *begin = lines->text + lines->next;
        char *end = memchr(begin, '\n', lines->n - lines->next);
        ssize_t got;

        if (end != NULL) {
            *end = '\0';
            lines->next = (size_t)(end - lines->text) + 1;
            return begin;
        }
        lines->n -= lines->next;
        memmove(lines->text, begin, lines->n);
        lines->next = 0;
        if (lines->n == sizeof lines->text || poll(&ready, 1, PATIENCE_MS) <= 0) {
            return NULL;
        }
        got = read(lines->file, lines->text + lines->n, sizeof lines->text - lines->n);
        if (got <= 0) {
            return NULL;
        }
        lines->n += (size_t)got;
    }
}
