/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Results as a table, JSON or CSV.
 */
#ifndef BENCH_REPORT_H
#define BENCH_REPORT_H

#include "harness.h"

/** Write the results to stdout as the options say. `print` makes the table between the
 * line that names the machine and the notes; in the other formats the notes go to stderr.
 *  @return false when stdout could not be written. */
bool bench_report(const struct bench *bench, void (*print)(const struct bench *bench));

/** Print prose under a table, broken between words to fit bench_columns, later lines indented by `indent`. */
void bench_print_prose(const char *text, int indent);

#endif
