/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/table.h"

#include "base/align.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define CELL_SIZE 96 /* a name of 63 bytes and a few words */
#define REMEDY_SIZE 320
#define INDENT 2
#define REMEDY_INDENT 4
#define GAP 2

struct mrp_table_row {
    char cells[MRP_TABLE_COLUMNS][CELL_SIZE];
    char remedy[REMEDY_SIZE];
};

/* -- numbers in words -- */

struct mrp_words mrp_size_words(size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    struct mrp_words words;
    double value = (double)size;
    size_t unit = 0;

    if (size == MRP_UNLIMITED) {
        snprintf(words.text, sizeof words.text, "unlimited");
        return words;
    }
    for (; value >= 1024 && unit < 4; unit++) {
        value /= 1024;
    }
    snprintf(words.text, sizeof words.text,
        value == (double)(size_t)value ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return words;
}

struct mrp_words mrp_count_words(uint64_t count)
{
    struct mrp_words words;
    char digits[24];
    size_t n = (size_t)snprintf(digits, sizeof digits, "%" PRIu64, count), to = 0;

    for (size_t i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0) {
            words.text[to++] = ',';
        }
        words.text[to++] = digits[i];
    }
    words.text[to] = '\0';
    return words;
}

struct mrp_words mrp_age_words(uint64_t nanoseconds)
{
    uint64_t seconds = nanoseconds / 1000000000;
    struct mrp_words words;

    if (seconds < 60) {
        snprintf(words.text, sizeof words.text, "%" PRIu64 " s", seconds);
    } else if (seconds < 3600) {
        snprintf(words.text, sizeof words.text, "%" PRIu64 " min", seconds / 60);
    } else if (seconds < 86400) {
        snprintf(words.text, sizeof words.text, "%" PRIu64 " h %" PRIu64 " min",
            seconds / 3600, seconds / 60 % 60);
    } else {
        snprintf(words.text, sizeof words.text, "%" PRIu64 " d %" PRIu64 " h",
            seconds / 86400, seconds / 3600 % 24);
    }
    return words;
}

unsigned mrp_percent(size_t part, size_t whole)
{
    return whole == 0 ? 0
                      : (unsigned)((double)mrp_min(part, whole) * 100 / (double)whole);
}

/* -- lines -- */

/* Bytes that continue a UTF-8 character take no column of their own. */
static size_t width_of(const char *text)
{
    size_t width = 0;

    for (; *text != '\0'; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

static void print_bytes(FILE *file, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];

        fputc(byte < ' ' || byte == 0x7f ? '?' : byte, file);
    }
}

void mrp_print_plain(FILE *file, const char *text)
{
    print_bytes(file, text, strlen(text));
}

/* Bytes of `text` that fit into `room` columns, ending between words; a word that is
 * longer runs over. */
static size_t fitting(const char *text, size_t room)
{
    size_t end = strcspn(text, " "), width = 0, at = 0;

    while (text[end] != '\0') {
        size_t next = end + 1 + strcspn(text + end + 1, " ");

        for (; at < next; at++) {
            width += ((unsigned char)text[at] & 0xc0) != 0x80;
        }
        if (width > room) {
            break;
        }
        end = next;
    }
    return end;
}

/* From `column` on, where the cursor is; each further line begins there too. */
static void print_wrapped(FILE *file, size_t column, const char *text)
{
    while (*text != '\0') {
        size_t size = fitting(text, MRP_PAGE_COLUMNS - column);

        print_bytes(file, text, size);
        text += size;
        text += strspn(text, " ");
        if (*text != '\0') {
            fprintf(file, "\n%*s", (int)column, "");
        }
    }
    fputc('\n', file);
}

static void print_remedy(FILE *file, const char *remedy)
{
    if (remedy[0] != '\0') {
        fprintf(file, "%*s-> ", REMEDY_INDENT, "");
        print_wrapped(file, REMEDY_INDENT + 3, remedy);
    }
}

void mrp_print_line(FILE *file, const char *remedy, const char *format, ...)
{
    char text[1280]; /* a backtrace, and a few words */
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    fprintf(file, "%-*s", INDENT, remedy[0] != '\0' ? "!" : "");
    print_wrapped(file, INDENT, text);
    print_remedy(file, remedy);
}

/* -- tables -- */

void mrp_table_open(
    struct mrp_table *table, FILE *file, size_t n_columns, const char *const *heads)
{
    *table = (struct mrp_table){.file = file, .n_columns = n_columns, .heads = heads};
}

/* The row being filled; NULL without memory for it. */
static struct mrp_table_row *current_row(struct mrp_table *table)
{
    if (table->n_rows == table->capacity) {
        size_t capacity = mrp_max(8, 2 * table->capacity);
        struct mrp_table_row *rows = realloc(table->rows, capacity * sizeof *rows);

        if (rows == NULL) {
            table->is_short = true;
            return NULL;
        }
        memset(&rows[table->capacity], 0, (capacity - table->capacity) * sizeof *rows);
        table->rows = rows;
        table->capacity = capacity;
    }
    return &table->rows[table->n_rows];
}

void mrp_table_cell(struct mrp_table *table, const char *format, ...)
{
    struct mrp_table_row *row = current_row(table);
    va_list arguments;

    if (row != NULL) {
        va_start(arguments, format);
        vsnprintf(row->cells[table->column], CELL_SIZE, format, arguments);
        va_end(arguments);
    }
    table->column++;
}

void mrp_table_end_row(struct mrp_table *table, const char *remedy)
{
    struct mrp_table_row *row = current_row(table);

    if (row != NULL) {
        snprintf(row->remedy, sizeof row->remedy, "%s", remedy);
        table->n_rows++;
    }
    table->column = 0;
}

static bool is_left(const struct mrp_table *table, size_t column)
{
    return table->heads[column][0] == '<';
}

/* Widths of the columns, 0 of those left out; returns the blanks between two. */
static size_t measure(const struct mrp_table *table, size_t *widths)
{
    size_t total = INDENT, n_columns = 0;

    for (size_t column = 0; column < table->n_columns; column++) {
        widths[column] = 0;
        for (size_t i = 0; i < table->n_rows; i++) {
            widths[column] =
                mrp_max(widths[column], width_of(table->rows[i].cells[column]));
        }
        if (widths[column] > 0) {
            const char *head = table->heads[column] + is_left(table, column);

            widths[column] = mrp_max(widths[column], width_of(head));
            total += widths[column];
            n_columns++;
        }
    }
    return total + (n_columns - 1) * GAP <= MRP_PAGE_COLUMNS ? GAP : 1;
}

/* Blanks are printed when something follows, so that none trail. */
static void print_cells(const struct mrp_table *table, const size_t *widths, size_t gap,
    const struct mrp_table_row *row)
{
    size_t blanks = 0;

    for (size_t column = 0; column < table->n_columns; column++) {
        const char *text = row != NULL ? row->cells[column]
                                       : table->heads[column] + is_left(table, column);
        size_t width = width_of(text);
        size_t missing = widths[column] - mrp_min(width, widths[column]);

        if (widths[column] == 0) {
            continue;
        }
        blanks += is_left(table, column) ? 0 : missing;
        if (width > 0) {
            fprintf(table->file, "%*s", (int)blanks, "");
            mrp_print_plain(table->file, text);
            blanks = 0;
        } else {
            blanks += width;
        }
        blanks += gap + (is_left(table, column) ? missing : 0);
    }
    fputc('\n', table->file);
}

bool mrp_table_close(struct mrp_table *table)
{
    size_t widths[MRP_TABLE_COLUMNS], gap = measure(table, widths);

    for (size_t i = 0; i <= table->n_rows && table->n_rows > 0; i++) {
        const struct mrp_table_row *row = i == 0 ? NULL : &table->rows[i - 1];

        fprintf(table->file, "%-*s", INDENT,
            row != NULL && row->remedy[0] != '\0' ? "!" : "");
        print_cells(table, widths, gap, row);
        if (row != NULL) {
            print_remedy(table->file, row->remedy);
        }
    }
    free(table->rows);
    return !table->is_short;
}
