/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One handler is pushed for good: UCX's list of them has no lock, and popping takes off
 * whichever is last. On threads that keep nothing it passes everything on.
 */
#include "log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

/* From 1.18 on this header brings some along that are written in GNU's dialect of C. */
#define asm __asm__
#include <ucs/debug/log_def.h>
#undef asm

static _Thread_local struct mrp_ucx_log *keeping;
static pthread_once_t once = PTHREAD_ONCE_INIT;

__attribute__((format(printf, 6, 0))) static ucs_log_func_rc_t keep(const char *file,
    unsigned line, const char *function, ucs_log_level_t level,
    const ucs_log_component_config_t *component, const char *message, va_list arguments)
{
    struct mrp_ucx_log *log = keeping;

    (void)file;
    (void)line;
    (void)function;
    (void)component;
    if (log == NULL || (level != UCS_LOG_LEVEL_ERROR && level != UCS_LOG_LEVEL_WARN)) {
        return UCS_LOG_FUNC_RC_CONTINUE;
    }
    if (log->size < sizeof log->text - 3) { /* else it is full: the first says most */
        char *end = log->text + log->size;
        size_t room = sizeof log->text - log->size;
        int size = snprintf(end, room, ": ");

        size += vsnprintf(end + size, room - (size_t)size, message, arguments);
        log->size += (size_t)size < room ? (size_t)size : room - 1;
    }
    return UCS_LOG_FUNC_RC_STOP;
}

static void push(void)
{
    ucs_log_push_handler(keep);
}

void mrp_ucx_log_begin(struct mrp_ucx_log *log)
{
    pthread_once(&once, push);
    log->text[0] = '\0';
    log->size = 0;
    log->outer = keeping;
    keeping = log;
}

void mrp_ucx_log_end(struct mrp_ucx_log *log, bool has_failed)
{
    keeping = log->outer;
    if (!has_failed && log->size > 2) {
        ucs_log_dispatch(__FILE__, __LINE__, __func__, UCS_LOG_LEVEL_WARN,
            &ucs_global_opts.log_component, "%s", log->text + 2);
    }
}
