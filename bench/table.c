/* SPDX-License-Identifier: BSD-3-Clause */
#include "table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CELL_SIZE 48
#define COLUMNS_MIN 60
#define COLUMNS_MAX 120
#define COLUMNS_USUAL 80 /* where there is no terminal to ask */

struct row {
    char group[96]; /* title of the group that begins here, or "" */
    char cells[BENCH_COLUMNS_MAX][CELL_SIZE];
};

struct bench_table {
    size_t n_columns;
    bool is_left[BENCH_COLUMNS_MAX];
    int widths[BENCH_COLUMNS_MAX];
    char group[96]; /* for the row that comes next */
    struct row *rows; /* the first holds the titles */
    size_t n_rows, capacity;
};

bool bench_is_colourful(void)
{
    const char *no_color = getenv("NO_COLOR");
    const char *terminal = getenv("TERM");

    return isatty(STDOUT_FILENO) && (no_color == NULL || no_color[0] == '\0') &&
        terminal != NULL && strcmp(terminal, "dumb") != 0;
}

int bench_columns(void)
{
    struct winsize size;

    if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 ||
        size.ws_col == 0) {
        return COLUMNS_USUAL;
    }
    return size.ws_col < COLUMNS_MIN ? COLUMNS_MIN
        : size.ws_col > COLUMNS_MAX  ? COLUMNS_MAX
                                     : size.ws_col;
}

struct bench_table *bench_table_create(const char *const *titles, size_t n_columns)
{
    struct bench_table *table = calloc(1, sizeof *table);
    const char *cells[BENCH_COLUMNS_MAX];

    if (table == NULL) {
        return NULL;
    }
    table->n_columns = n_columns;
    for (size_t i = 0; i < n_columns; i++) {
        table->is_left[i] = titles[i][0] == '<';
        cells[i] = titles[i] + table->is_left[i];
    }
    bench_table_add(table, cells);
    return table;
}

void bench_table_add(struct bench_table *table, const char *const *cells)
{
    struct row *row;

    if (table->n_rows == table->capacity) {
        size_t capacity = table->capacity == 0 ? 32 : 2 * table->capacity;
        struct row *rows = realloc(table->rows, capacity * sizeof *rows);

        if (rows == NULL) {
            return;
        }
        table->rows = rows;
        table->capacity = capacity;
    }
    row = &table->rows[table->n_rows++];
    memcpy(row->group, table->group, sizeof row->group);
    table->group[0] = '\0';
    for (size_t i = 0; i < table->n_columns; i++) {
        int width = snprintf(row->cells[i], CELL_SIZE, "%s", cells[i]);

        if (width > table->widths[i]) {
            table->widths[i] = width < CELL_SIZE ? width : CELL_SIZE - 1;
        }
    }
}

void bench_table_group(struct bench_table *table, const char *title)
{
    snprintf(table->group, sizeof table->group, "%s", title);
}

/* No blanks at the end of a line: empty cells there are left out, a text is not filled
 * up. */
static void print_row(const struct bench_table *table, const struct row *row)
{
    size_t n = table->n_columns;

    while (n > 0 && row->cells[n - 1][0] == '\0') {
        n--;
    }
    for (size_t i = 0; i < n; i++) {
        int width = table->is_left[i] ? -table->widths[i] : table->widths[i];

        printf("  %*s", i + 1 == n && width < 0 ? 0 : width, row->cells[i]);
    }
}

void bench_table_print(const struct bench_table *table)
{
    bool colourful = bench_is_colourful();

    for (size_t i = 0; i < table->n_rows; i++) {
        if (table->rows[i].group[0] != '\0') {
            printf("\n%s%s%s\n", colourful ? "\033[1m" : "", table->rows[i].group,
                colourful ? "\033[0m" : "");
        }
        fputs(i == 0 && colourful ? "\033[4m" : "", stdout);
        print_row(table, &table->rows[i]);
        puts(i == 0 && colourful ? "\033[0m" : "");
    }
}

void bench_table_destroy(struct bench_table *table)
{
    if (table != NULL) {
        free(table->rows);
        free(table);
    }
}
