/* SPDX-License-Identifier: BSD-3-Clause
 *
 * UCX writes to stderr why it fails, and returns a code that says less. Between begin and
 * end a thread's complaints are kept instead, to become the text of the error record.
 */
#ifndef MRP_UCX_LOG_H
#define MRP_UCX_LOG_H

#include <stdbool.h>
#include <stddef.h>

struct mrp_ucx_log {
    char text[320]; /* ": " and what was said, warnings and errors; "" if nothing */
    size_t size;
    struct mrp_ucx_log *outer;
};

void mrp_ucx_log_begin(struct mrp_ucx_log *log);

/* What was said stays in log->text. `has_failed` false: and is said after all, as
 * warnings that UCX gives while it succeeds are for whoever runs the program. */
void mrp_ucx_log_end(struct mrp_ucx_log *log, bool has_failed);

#endif
