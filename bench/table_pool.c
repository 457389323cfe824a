/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The tables of mrpool-bench pool: what was to be reached, and everything.
 */
#include "pool.h"
#include "report.h"
#include "table.h"
#include "units.h"

#include <stdio.h>
#include <string.h>

/* What a group of rows is about, in words. */
static const struct {
    const char *name, *words;
} titles_of[] = {
    {CASE_PAIR, "pair: alloc, free"},
    {CASE_BATCH, "batch: 32 allocs, then 32 frees; per pair"},
    {CASE_BULK, "bulk: one call for 32 regions, one to give them back; per pair"},
    {CASE_HANDOVER, "producer to consumer: one thread allocates, another frees"},
    {CASE_RANDOM, "random sizes up to this one"},
    {CASE_LARSON, "larson-like: threads replaced, regions inherited"},
    {CASE_P9999, "p99.99 of alloc at steady load, less the clock's own median"},
    {CASE_INSTRUCTIONS, "instructions of a pair, the loop included"},
    {CASE_GROWTH, "growth from empty, registered with host, against the same by hand"},
    {CASE_FIRST_TOUCH, "first pair of a new thread, its registration included"},
    {CASE_REFUSED, "a request to a pool at its cap"},
    {CASE_RECOVER, "at the cap: refused, free, alloc"},
};
#define N_TITLES (sizeof titles_of / sizeof titles_of[0])

static struct bench_text value_text(const struct bench_result *result)
{
    struct bench_text text = {""};

    if (result == NULL) {
        return text;
    }
    if (strcmp(result->unit, "ns") == 0) {
        return bench_time_text(result->median);
    }
    if (strcmp(result->unit, "bytes") == 0) {
        return bench_size_text((size_t)result->median);
    }
    snprintf(text.text, sizeof text.text, "%.0f", result->median);
    return text;
}

/* The name of a form of mrpool without what all of them share. */
static const char *short_name(const char *subject)
{
    static const char prefix[] = "mrpool-";

    if (strcmp(subject, "mrpool") == 0) {
        return "shared";
    }
    return strncmp(subject, prefix, sizeof prefix - 1) == 0 ? subject + sizeof prefix - 1
                                                            : subject;
}

/* -- the table of targets --------------------------------------------------------------
 */

/* "D 1.06/1.1": what it is of DPDK, and what it may be. */
static void add_goal(
    char *text, size_t size, const char *of, const struct bench_goal *goal)
{
    size_t used = strlen(text);

    if (goal != NULL && goal->against != NULL) {
        snprintf(text + used, size - used, "%s%s %.*f/%g", used > 0 ? " " : "", of,
            goal->is < 10 ? 2 : 0, goal->is, goal->at_most);
    } else if (goal != NULL && strcmp(goal->result->unit, "ns") == 0) {
        snprintf(
            text + used, size - used, "at most %s", bench_time_text(goal->at_most).text);
    } else if (goal != NULL) {
        snprintf(text + used, size - used, "at most %g", goal->at_most);
    }
}

/* The goal of a result against that one; `other` finds the one that is neither DPDK nor
 * a malloc. */
static const struct bench_goal *goal_of(const struct bench *bench,
    const struct bench_result *result, const struct bench_result *against)
{
    for (size_t i = 0; i < bench->n_goals; i++) {
        if (bench->goals[i].result == result && bench->goals[i].against == against) {
            return &bench->goals[i];
        }
    }
    return NULL;
}

struct row {
    const struct bench_result *result, *dpdk, *fastest, *other;
    const struct bench_goal *of_dpdk, *of_malloc, *of_other, *absolute;
};

static struct row row_of(const struct bench *bench, const struct pool_target *target,
    const struct bench_result *result)
{
    size_t size = result->size;
    unsigned threads = result->threads;
    struct row row = {.result = result,
        .dpdk = pool_find(bench, target->name, "dpdk", size, threads),
        .fastest = pool_fastest_malloc(bench, target->name, size, threads)};

    if (target->of_other > 0) {
        row.other = target->other != NULL
            ? pool_find(bench, target->other, "mrpool", size, threads)
            : pool_find(bench, target->name, target->subject, size, 1);
    }
    row.of_dpdk = row.dpdk != NULL ? goal_of(bench, result, row.dpdk) : NULL;
    row.of_malloc = row.fastest != NULL ? goal_of(bench, result, row.fastest) : NULL;
    row.of_other = row.other != NULL ? goal_of(bench, result, row.other) : NULL;
    row.absolute = target->at_most > 0 ? goal_of(bench, result, NULL) : NULL;
    return row;
}

static const char *verdict_of(const struct row *row)
{
    const struct bench_goal *goals[] = {
        row->of_dpdk, row->of_malloc, row->of_other, row->absolute};
    const char *verdict = "";

    for (size_t i = 0; i < sizeof goals / sizeof goals[0]; i++) {
        if (goals[i] != NULL && !bench_is_reached(goals[i])) {
            return "NO";
        }
        verdict = goals[i] != NULL ? "ok" : verdict;
    }
    return verdict;
}

static void add_row(struct bench_table *table, const struct row *row)
{
    const struct bench_result *result = row->result;
    char form[32], fastest[32] = "", bounds[48] = "";
    struct bench_text size = bench_size_text(result->size);
    struct bench_text own = value_text(result), dpdk = value_text(row->dpdk);

    snprintf(
        form, sizeof form, "%s %u", short_name(pool_subject_of(result)), result->threads);
    if (row->fastest != NULL) {
        snprintf(fastest, sizeof fastest, "%.10s %.12s", pool_subject_of(row->fastest),
            value_text(row->fastest).text);
    }
    add_goal(bounds, sizeof bounds, "D", row->of_dpdk);
    add_goal(bounds, sizeof bounds, "M", row->of_malloc);
    add_goal(bounds, sizeof bounds, result->threads > 1 ? "1 thread" : "by hand",
        row->of_other);
    add_goal(bounds, sizeof bounds, "", row->absolute);
    bench_table_add(table,
        (const char *const[]){
            form, size.text, own.text, dpdk.text, fastest, bounds, verdict_of(row)});
}

/* The rows of one case. @return how many */
static size_t add_rows(
    struct bench_table *table, const struct bench *bench, const char *name)
{
    size_t n = 0;

    for (size_t i = 0; i < pool_n_targets; i++) {
        const struct pool_target *target = &pool_targets[i];

        for (size_t k = 0; k < bench->n_results && strcmp(target->name, name) == 0; k++) {
            if (pool_target_applies(target, bench->results[k])) {
                struct row row = row_of(bench, target, bench->results[k]);

                add_row(table, &row);
                n++;
            }
        }
    }
    return n;
}

static void print_targets(const struct bench *bench)
{
    static const char *const titles[] = {
        "<form", "size", "mrpool", "DPDK", "fastest malloc", "<is/at most", "<"};
    struct bench_table *table =
        bench_table_create(titles, sizeof titles / sizeof titles[0]);
    size_t n_rows = 0;

    if (table == NULL) {
        return;
    }
    for (size_t i = 0; i < N_TITLES; i++) {
        bench_table_group(table, titles_of[i].words);
        n_rows += add_rows(table, bench, titles_of[i].name);
    }
    if (n_rows > 0) {
        putchar('\n');
        bench_print_prose(
            "CPU time of all threads per operation, median; form and number of threads "
            "of mrpool. D 1.06/1.1: it costs 1.06 times what DPDK does, and may cost 1.1 "
            "times as much; M: of the fastest malloc. Lines without a bound are for "
            "comparison.",
            0);
        bench_table_print(table);
    }
    bench_table_destroy(table);
}

/* -- what is held back -----------------------------------------------------------------
 */

static void print_stranded(const struct bench *bench)
{
    static const char *const titles[] = {"<threads", "size", "mrpool", "DPDK"};
    struct bench_table *table = bench_table_create(titles, 4);
    size_t n_rows = 0;

    if (table == NULL) {
        return;
    }
    for (size_t i = 0; i < bench->n_results; i++) {
        const struct bench_result *result = bench->results[i];
        struct bench_text dpdk;
        char threads[16];

        if (strcmp(result->name, CASE_STRANDED "/mrpool") != 0 ||
            result->size < POOL_LARGE) {
            continue;
        }
        if (n_rows++ == 0) {
            puts("\nFree regions kept by thread caches, after the batches");
        }
        snprintf(threads, sizeof threads, "%u", result->threads);
        dpdk = value_text(
            pool_find(bench, CASE_STRANDED, "dpdk", result->size, result->threads));
        bench_table_add(table,
            (const char *const[]){threads, bench_size_text(result->size).text,
                value_text(result).text, dpdk.text});
    }
    if (n_rows > 0) {
        bench_table_print(table);
    }
    bench_table_destroy(table);
}

static void print_summary(const struct bench *bench)
{
    size_t n_reached = 0;
    char text[160];

    for (size_t i = 0; i < bench->n_goals; i++) {
        n_reached += bench_is_reached(&bench->goals[i]);
    }
    if (bench->n_goals == 0 || bench->options->quick) {
        return;
    }
    snprintf(text, sizeof text, "%zu of %zu bounds reached; the others say NO above.",
        n_reached, bench->n_goals);
    putchar('\n');
    bench_print_prose(text, 0);
}

void pool_print(const struct bench *bench)
{
    if (bench->n_results == 0) {
        return;
    }
    print_targets(bench);
    print_stranded(bench);
    print_summary(bench);
}

/* -- everything ------------------------------------------------------------------------
 */

static bool is_first_of_case(const struct bench *bench, size_t i)
{
    const struct bench_result *result = bench->results[i];
    size_t length = (size_t)(pool_subject_of(result) - result->name);

    for (size_t k = 0; k < i; k++) {
        const struct bench_result *before = bench->results[k];

        if (before->threads == result->threads &&
            strncmp(before->name, result->name, length) == 0) {
            return false;
        }
    }
    return true;
}

/* A table of one case on so many threads: subjects down, sizes across. */
static void print_case(const struct bench *bench, const struct bench_result *first,
    const size_t *sizes, size_t n_sizes)
{
    int length = (int)(pool_subject_of(first) - first->name) - 1;
    char name[48], group[80], titles[1 + POOL_SIZES_MAX][16] = {"<"};
    const char *row[1 + POOL_SIZES_MAX];
    struct bench_table *table;

    snprintf(name, sizeof name, "%.*s", length, first->name);
    snprintf(group, sizeof group, "%s, %u thread%s", name, first->threads,
        first->threads == 1 ? "" : "s");
    row[0] = "<";
    for (size_t s = 0; s < n_sizes; s++) {
        snprintf(
            titles[1 + s], sizeof titles[0], "%.15s", bench_size_text(sizes[s]).text);
        row[1 + s] = titles[1 + s];
    }
    printf("\n%s\n", group);
    table = bench_table_create(row, 1 + n_sizes);
    for (size_t i = 0; table != NULL && i < POOL_SUBJECTS; i++) {
        struct bench_text cells[POOL_SIZES_MAX];
        bool is_there = false;

        row[0] = pool_subjects[i].name;
        for (size_t s = 0; s < n_sizes; s++) {
            const struct bench_result *result =
                pool_find(bench, name, pool_subjects[i].name, sizes[s], first->threads);

            is_there = is_there || result != NULL;
            cells[s] = value_text(result);
            row[1 + s] = cells[s].text;
        }
        if (is_there) {
            bench_table_add(table, row);
        }
    }
    if (table != NULL) {
        bench_table_print(table);
    }
    bench_table_destroy(table);
}

static size_t find_sizes(const struct bench *bench, size_t *sizes)
{
    size_t n = 0;

    for (size_t i = 0; i < bench->n_results; i++) {
        size_t k = 0;

        while (k < n && sizes[k] != bench->results[i]->size) {
            k++;
        }
        if (k == n && n < BENCH_COLUMNS_MAX - 1 &&
            strncmp(bench->results[i]->name, CASE_GROWTH, strlen(CASE_GROWTH)) != 0) {
            sizes[n++] = bench->results[i]->size;
        }
    }
    return n;
}

void pool_print_all(const struct bench *bench)
{
    size_t sizes[POOL_SIZES_MAX];
    size_t n_sizes = find_sizes(bench, sizes);

    pool_print(bench);
    for (size_t i = 0; i < bench->n_results; i++) {
        if (is_first_of_case(bench, i) &&
            strncmp(bench->results[i]->name, CASE_GROWTH, strlen(CASE_GROWTH)) != 0) {
            print_case(bench, bench->results[i], sizes, n_sizes);
        }
    }
}
