/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench pool: the allocators that are compared, and the processes that run them.
 */
#ifndef BENCH_POOL_WORKERS_H
#define BENCH_POOL_WORKERS_H

#include "harness.h"
#include "workers/protocol.h"

#include <sys/types.h>

enum pool_family {
    FAMILY_MRPOOL,
    FAMILY_MALLOC,
    FAMILY_POOL /* other pools of fixed-size objects */
};

struct pool_subject {
    const char *name; /* as --subjects takes it */
    enum pool_family family;
    const char *program; /* worker-<program> */
    const char *checks; /* mrpool: "none", or NULL for the default */
    const char *preload; /* file names of its library, tried in turn; NULL: none */
    const char *sign; /* what its library's path must have in it */
    const char *package; /* where it comes from */
};

#define POOL_SUBJECTS 14
extern const struct pool_subject pool_subjects[POOL_SUBJECTS];

/** Index of the subject of that name; -1 when there is none. */
int pool_subject_find(const char *name);

struct pool_worker {
    const struct pool_subject *subject;
    pid_t pid; /* 0: not running */
    int to, from;
    char described[512]; /* in its own words */
};

/** Start the worker; false when it is missing, which is noted. */
bool pool_worker_start(
    struct bench *bench, struct pool_worker *worker, const struct pool_subject *subject);

/** Run the program, with a library before all others (NULL: none): worker->to is its
 *  standard input, worker->from its output. */
bool pool_worker_spawn(struct pool_worker *worker, const char *path,
    const char *const *arguments, const char *preload);

/** False when the worker has died or does not answer; it is stopped then. What it could
 *  not do stands in the reply. */
bool pool_worker_ask(struct pool_worker *worker, const struct worker_request *request,
    struct worker_reply *reply);

void pool_worker_stop(struct pool_worker *worker);

/** What a worker writes line by line; `file` is worker->from. */
struct worker_lines {
    int file;
    size_t n, next;
    char text[4096];
};

/** The next line without its end; NULL when there is none, or nothing for a minute. */
const char *worker_next_line(struct worker_lines *lines);

/** The command line of a worker, NULL-terminated, for tools that run it themselves.
 *  @return false when the program is not there. */
#define POOL_ARGUMENTS_MAX 4
bool pool_worker_command(const struct pool_subject *subject, char *path, size_t size,
    const char *arguments[POOL_ARGUMENTS_MAX]);

#endif
