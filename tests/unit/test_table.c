/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Tables and lines for people: units, widths, what is left out, where lines break.
 */
#include "base/table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *page;
static size_t page_size;

static FILE *open_page(void)
{
    FILE *file = open_memstream(&page, &page_size);

    assert_non_null(file);
    return file;
}

static void expect_page(FILE *file, const char *wanted)
{
    fclose(file);
    assert_string_equal(page, wanted);
    free(page);
}

static void size__is_in_units_that_people_read(void **state)
{
    (void)state;
    assert_string_equal(mrp_size_words(0).text, "0 B");
    assert_string_equal(mrp_size_words(1023).text, "1023 B");
    assert_string_equal(mrp_size_words(1024).text, "1 KiB");
    assert_string_equal(mrp_size_words(1536).text, "1.5 KiB");
    assert_string_equal(mrp_size_words((size_t)3 << 29).text, "1.5 GiB");
    assert_string_equal(mrp_size_words((size_t)1 << 52).text, "4096 TiB");
    assert_string_equal(mrp_size_words(MRP_UNLIMITED).text, "unlimited");
}

static void count__has_commas(void **state)
{
    (void)state;
    assert_string_equal(mrp_count_words(0).text, "0");
    assert_string_equal(mrp_count_words(999).text, "999");
    assert_string_equal(mrp_count_words(1000).text, "1,000");
    assert_string_equal(mrp_count_words(12345678).text, "12,345,678");
    assert_string_equal(mrp_count_words(UINT64_MAX).text, "18,446,744,073,709,551,615");
}

static void age__has_two_units_at_most(void **state)
{
    const uint64_t second = 1000000000;

    (void)state;
    assert_string_equal(mrp_age_words(second - 1).text, "0 s");
    assert_string_equal(mrp_age_words(59 * second).text, "59 s");
    assert_string_equal(mrp_age_words(60 * second).text, "1 min");
    assert_string_equal(mrp_age_words(3599 * second).text, "59 min");
    assert_string_equal(mrp_age_words(3720 * second).text, "1 h 2 min");
    assert_string_equal(mrp_age_words(90000 * second).text, "1 d 1 h");
}

static void percent__of_anything(void **state)
{
    (void)state;
    assert_int_equal(mrp_percent(0, 0), 0);
    assert_int_equal(mrp_percent(1, 3), 33);
    assert_int_equal(mrp_percent(SIZE_MAX, SIZE_MAX), 100);
    assert_int_equal(mrp_percent(7, 5), 100);
    assert_int_equal(mrp_percent(SIZE_MAX / 2, SIZE_MAX), 50);
}

static void table__aligns_and_leaves_out(void **state)
{
    static const char *const heads[] = {"<name", "count", "nothing", "<remark"};
    struct mrp_table table;
    FILE *file = open_page();

    (void)state;
    mrp_table_open(&table, file, 4, heads);
    mrp_table_cell(&table, "a");
    mrp_table_cell(&table, "%d", 5);
    mrp_table_cell(&table, "%s", "");
    mrp_table_cell(&table, "first");
    mrp_table_end_row(&table, "");
    mrp_table_cell(&table, "\xc3\xa4\xc3\xb6\xc3\xbc-long");
    mrp_table_cell(&table, "123456");
    mrp_table_end_row(&table, "do something");
    mrp_table_cell(&table, "two\nlines");
    mrp_table_cell(&table, "%s", "");
    mrp_table_cell(&table, "%s", "");
    mrp_table_cell(&table, "last");
    mrp_table_end_row(&table, "");
    assert_true(mrp_table_close(&table));
    expect_page(file,
        "  name        count  remark\n"
        "  a               5  first\n"
        "! \xc3\xa4\xc3\xb6\xc3\xbc-long   123456\n"
        "    -> do something\n"
        "  two?lines          last\n");
}

static void table__without_rows_is_nothing(void **state)
{
    static const char *const heads[] = {"<name", "count"};
    struct mrp_table table;
    FILE *file = open_page();

    (void)state;
    mrp_table_open(&table, file, 2, heads);
    assert_true(mrp_table_close(&table));
    expect_page(file, "");
}

static void table__that_is_wide_has_narrow_gaps(void **state)
{
    static const char *const heads[] = {"<a", "<b", "<c"};
    struct mrp_table table;
    FILE *file = open_page();

    (void)state;
    mrp_table_open(&table, file, 3, heads);
    mrp_table_cell(
        &table, "%.*s", 48, "------------------------------------------------");
    mrp_table_cell(
        &table, "%.*s", 47, "------------------------------------------------");
    mrp_table_cell(&table, "x");
    mrp_table_end_row(&table, "");
    assert_true(mrp_table_close(&table));
    fclose(file);
    assert_int_equal(strcspn(strchr(page, '\n') + 1, "\n"), 2 + 48 + 1 + 47 + 1 + 1);
    free(page);
}

static void table__grows(void **state)
{
    static const char *const heads[] = {"n"};
    struct mrp_table table;
    FILE *file = open_page();
    size_t n_lines = 0;

    (void)state;
    mrp_table_open(&table, file, 1, heads);
    for (int i = 0; i < 1000; i++) {
        mrp_table_cell(&table, "%d", i);
        mrp_table_end_row(&table, "");
    }
    assert_true(mrp_table_close(&table));
    fclose(file);
    for (const char *line = page; (line = strchr(line, '\n')) != NULL; line++) {
        n_lines++;
    }
    assert_int_equal(n_lines, 1001);
    assert_non_null(strstr(page, "\n  999\n"));
    free(page);
}

static void line__breaks_between_words(void **state)
{
    FILE *file = open_page();

    (void)state;
    mrp_print_line(file, "", "%s %s",
        "a line of words that goes on for longer than a page of one hundred columns is "
        "wide, so it has",
        "to break");
    expect_page(file,
        "  a line of words that goes on for longer than a page of one hundred "
        "columns is wide, so it has to\n"
        "  break\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size__is_in_units_that_people_read),
        cmocka_unit_test(count__has_commas),
        cmocka_unit_test(age__has_two_units_at_most),
        cmocka_unit_test(percent__of_anything),
        cmocka_unit_test(table__aligns_and_leaves_out),
        cmocka_unit_test(table__without_rows_is_nothing),
        cmocka_unit_test(table__that_is_wide_has_narrow_gaps),
        cmocka_unit_test(table__grows),
        cmocka_unit_test(line__breaks_between_words),
    };

    return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
