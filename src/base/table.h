/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Text for people, on lines of at most 100 columns: tables whose columns are as wide as
 * what is in them, and numbers in units that people read.
 *
 *     mrp_table_open(&table, file, n, heads);
 *     mrp_table_cell(&table, "%s", name);           cell by cell,
 *     mrp_table_end_row(&table, remedy);            row by row
 *     mrp_table_close(&table);                      prints it
 */
#ifndef MRP_BASE_TABLE_H
#define MRP_BASE_TABLE_H

#include "mrpool/base.h"

#include <stdio.h>

#define MRP_TABLE_COLUMNS 12
#define MRP_PAGE_COLUMNS 100

/** A short text, by value: good as an argument of printf. */
struct mrp_words {
    char text[32];
};

struct mrp_words mrp_size_words(size_t size); /**< "1.5 GiB" */
struct mrp_words mrp_count_words(uint64_t count); /**< "16,384" */
struct mrp_words mrp_age_words(uint64_t nanoseconds); /**< "1 h 2 min" */

/** How much of `whole` a part is, 0 to 100 and rounded down; 0 of nothing. */
unsigned mrp_percent(size_t part, size_t whole);

struct mrp_table_row;
struct mrp_table {
    FILE *file;
    size_t n_columns, n_rows, capacity, column;
    const char *const *heads;
    struct mrp_table_row *rows;
    bool is_short; /* there was no memory for a row */
};

/** A table of `n_columns`. A head that begins with '<' is that of a column aligned to the
 *  left; a column whose cells are all empty is left out, with its head. The heads stay
 *  until the table is closed. */
void mrp_table_open(
    struct mrp_table *table, FILE *file, size_t n_columns, const char *const *heads);

/** The next cell of the row. Control characters are shown as '?'. */
void mrp_table_cell(struct mrp_table *table, const char *format, ...) MRP_PRINTF(2, 3);

/** End the row. A remedy that is not empty marks it with a '!', and stands below it. */
void mrp_table_end_row(struct mrp_table *table, const char *remedy);

/** Print the table, unless it has no rows. False: there was no memory for all of it. */
bool mrp_table_close(struct mrp_table *table);

/** One line, broken between words, that begins at column 2; with a remedy as above. */
void mrp_print_line(FILE *file, const char *remedy, const char *format, ...)
    MRP_PRINTF(3, 4);

/** Text as it may stand in a line: control characters as '?'. */
void mrp_print_plain(FILE *file, const char *text);

#endif
