/* SPDX-License-Identifier: BSD-3-Clause */
#include "table_reg.h"

#include "measure_reg.h"
#include "report.h"
#include "table.h"
#include "units.h"

#include <stdio.h>
#include <string.h>

#define WORDS_SIZE \
    ((size_t)64 << 10) /* what the last line speaks of, if it was measured */

static bool is_case(const struct bench_result *result, const char *name)
{
    return strcmp(result->name, name) == 0;
}

/* "12.3 ns" of a case of the same provider, pages and size; "-" when it was not measured.
 */
static struct bench_text median_of(
    const struct bench *bench, const struct bench_result *result, const char *name)
{
    const struct bench_subject subject = {
        result->provider, result->pages, result->size, 1};
    const struct bench_result *found = bench_find(bench, &subject, name);

    return bench_time_text(found != NULL ? found->median : -1);
}

static struct bench_text spread_of(const struct bench_result *result)
{
    struct bench_text spread;

    snprintf(spread.text, sizeof spread.text, "%.12s - %.12s",
        bench_time_text(result->min).text, bench_time_text(result->max).text);
    return spread;
}

/* The spread is the first that a narrow screen does without: JSON and CSV have it. */
static bool shows_spread(void)
{
    return bench_columns() >= 100;
}

static const char *page_words(const char *pages)
{
    if (strcmp(pages, "thp") == 0) {
        return "transparent huge pages";
    }
    return strcmp(pages, "2m") == 0 ? "2 MiB pages" : "4 KiB pages";
}

/* Results come grouped by provider and pages; a new group gets a title. */
static void start_group(struct bench_table *table, const struct bench_result *result,
    const struct bench_result **last)
{
    char title[96], label[64];

    if (*last == NULL || strcmp((*last)->provider, result->provider) != 0 ||
        strcmp((*last)->pages, result->pages) != 0) {
        bench_target_label(result->provider, label, sizeof label);
        snprintf(title, sizeof title, "%s, %s", label, page_words(result->pages));
        bench_table_group(table, title);
    }
    *last = result;
}

static void print_steps(const struct bench *bench)
{
    static const char *const titles[] = {"size", "mmap", "touch", "register",
        "deregister", "munmap", "register min - max"};
    struct bench_table *table = bench_table_create(titles, shows_spread() ? 7 : 6);
    const struct bench_result *last = NULL;

    if (table == NULL) {
        return;
    }
    puts("\nWhat a registration is made of: CPU time per buffer, median");
    for (size_t i = 0; i < bench->n_results; i++) {
        const struct bench_result *result = bench->results[i];

        if (is_case(result, CASE_REGISTER)) {
            const struct bench_text cells[] = {bench_size_text(result->size),
                median_of(bench, result, CASE_MMAP), median_of(bench, result, CASE_TOUCH),
                bench_time_text(result->median),
                median_of(bench, result, CASE_DEREGISTER),
                median_of(bench, result, CASE_MUNMAP), spread_of(result)};
            const char *row[] = {cells[0].text, cells[1].text, cells[2].text,
                cells[3].text, cells[4].text, cells[5].text, cells[6].text};

            start_group(table, result, &last);
            bench_table_add(table, row);
        }
    }
    bench_table_print(table);
    bench_table_destroy(table);
}

static void print_messages(const struct bench *bench)
{
    static const char *const titles[] = {"size", "per message", "through mrpool", "pool",
        "ratio", "per message min - max", "pool min - max"};
    struct bench_table *table = bench_table_create(titles, shows_spread() ? 7 : 5);
    const struct bench_result *last = NULL;

    if (table == NULL) {
        return;
    }
    putchar('\n');
    bench_print_prose(
        "Registering and deregistering a buffer per message, against a region "
        "of the pool, taken and freed: CPU time per message; ratio = per "
        "message / pool",
        0);
    for (size_t i = 0; i < bench->n_results; i++) {
        const struct bench_result *result = bench->results[i];

        if (is_case(result, CASE_POOL) && result->baseline != NULL) {
            const struct bench_text cells[] = {bench_size_text(result->size),
                bench_time_text(result->baseline->median),
                median_of(bench, result, CASE_MESSAGE_MRPOOL),
                bench_time_text(result->median), bench_ratio_text(bench_ratio(result)),
                spread_of(result->baseline), spread_of(result)};
            const char *row[] = {cells[0].text, cells[1].text, cells[2].text,
                cells[3].text, cells[4].text, cells[5].text, cells[6].text};

            start_group(table, result, &last);
            bench_table_add(table, row);
        }
    }
    bench_table_print(table);
    bench_table_destroy(table);
}

/* The size to speak of: 64 KiB, else the first that was measured. */
static size_t words_size(const struct bench *bench)
{
    size_t first = 0;

    for (size_t i = bench->n_results; i-- > 0;) {
        if (is_case(bench->results[i], CASE_POOL)) {
            first = bench->results[i]->size;
            if (first == WORDS_SIZE) {
                break;
            }
        }
    }
    return first;
}

static void print_words(const struct bench *bench)
{
    size_t size = words_size(bench);
    const char *before = "";
    char words[2000], label[64];
    size_t used;

    if (size == 0 || bench->options->quick) {
        return;
    }
    used = (size_t)snprintf(words, sizeof words,
        "%s from the pool against registering it per message:",
        bench_size_text(size).text);
    for (size_t i = 0; i < bench->n_results && used < sizeof words; i++) {
        const struct bench_result *result = bench->results[i];

        if (is_case(result, CASE_POOL) && result->size == size) {
            bench_target_label(result->provider, label, sizeof label);
            used += (size_t)snprintf(words + used, sizeof words - used,
                "%s %s %s against %s (%s)", before, label,
                bench_time_text(result->median).text,
                bench_time_text(result->baseline->median).text,
                bench_ratio_text(bench_ratio(result)).text);
            before = ";";
        }
    }
    putchar('\n');
    bench_print_prose(words, 0);
}

void reg_print(const struct bench *bench)
{
    if (bench->n_results == 0) {
        return;
    }
    print_steps(bench);
    print_messages(bench);
    print_words(bench);
}
