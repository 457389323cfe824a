/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A table of text cells, aligned when it is printed.
 */
#ifndef BENCH_TABLE_H
#define BENCH_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#define BENCH_COLUMNS_MAX 12

struct bench_table;

/** Column titles; those that begin with '<' are aligned left, the others right. NULL when
 * there is no memory. */
struct bench_table *bench_table_create(const char *const *titles, size_t n_columns);

/** Add a row of n_columns cells; they are copied. */
void bench_table_add(struct bench_table *table, const char *const *cells);

/** An empty line and a line of text before the next row: the title of a group. */
void bench_table_group(struct bench_table *table, const char *title);

/** Print it to stdout, titles in bold on a terminal that has colours. */
void bench_table_print(const struct bench_table *table);

void bench_table_destroy(struct bench_table *table);

/** Columns of the terminal, 60 to 120; 80 where there is none. */
int bench_columns(void);

/** Whether stdout is a terminal whose user has not set NO_COLOR. */
bool bench_is_colourful(void);

#endif
