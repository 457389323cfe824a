/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Helpers round the public error record, and info structs out (parameter structs in: base.h).
 */
#ifndef MRP_BASE_ERROR_H
#define MRP_BASE_ERROR_H

#include "mrpool/base.h"

/** Copy this library's info struct (info_size bytes) into the caller's, as much of it as
 * the caller's struct_size has room for. */
enum mrp_status mrp_info_write(
    void *given, const void *info, size_t info_size, const char *what);

/** mrp_fail_at for failures that are answers, on paths where formatting would cost more
 * than the question: no lookup of "is this yours?" should pay for printf. */
enum mrp_status mrp_fail_literal(
    const char *function, enum mrp_status status, const char *text);

/** Put the record back to what it was: for what fails on the way to a success. */
void mrp_error_restore(const struct mrp_error *before);

/** After an op of a stranger, before which the record was cleared: success puts it back
 * to `before`; a failure that came as a bare status gets a sentence, "provider x:
 * registration: ...". Returns the status. */
enum mrp_status mrp_error_settle(const struct mrp_error *before, enum mrp_status status,
    const char *who, const char *name, const char *what);

#endif
