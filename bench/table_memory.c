/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The tables of mrpool-bench memory.
 */
#include "memory.h"
#include "report.h"
#include "table.h"
#include "units.h"

#include <stdio.h>
#include <string.h>

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
    snprintf(text.text, sizeof text.text,
        strcmp(result->unit, "count") == 0 ? "%.0f" : "%.2f", result->median);
    return text;
}

static struct bench_text text_of(
    const struct bench *bench, const char *name, const char *subject, unsigned threads)
{
    return value_text(memory_find(bench, name, subject, threads));
}

static struct bench_text mib_text(const struct bench_result *result)
{
    struct bench_text text = {""};

    if (result != NULL) {
        snprintf(text.text, sizeof text.text, "%.0f", result->median / (1 << 20));
    }
    return text;
}

/* A row of values: cases of one subject. False: it has none of them. */
static bool add_row(struct bench_table *table, const struct bench *bench,
    const char *title, const char *subject, unsigned threads, const char *const *cases,
    size_t n_cases)
{
    struct bench_text cells[BENCH_COLUMNS_MAX];
    const char *row[BENCH_COLUMNS_MAX] = {title};
    bool has_any = false;

    for (size_t i = 0; i < n_cases; i++) {
        cells[i] = text_of(bench, cases[i], subject, threads);
        row[1 + i] = cells[i].text;
        has_any = has_any || cells[i].text[0] != '\0';
    }
    if (has_any) {
        bench_table_add(table, row);
    }
    return has_any;
}

static void print_subjects(const struct bench *bench, const char *prose,
    const char *const *titles, const char *const *cases, size_t n_cases)
{
    struct bench_table *table = bench_table_create(titles, n_cases + 1);
    bool has_any = false;

    for (size_t i = 0; i < MEMORY_SUBJECTS && table != NULL; i++) {
        const char *subject = memory_subjects[i].name;

        has_any = add_row(table, bench, subject, subject, 0, cases, n_cases) || has_any;
    }
    if (has_any) {
        putchar('\n');
        bench_print_prose(prose, 0);
        putchar('\n');
        bench_table_print(table);
    }
    bench_table_destroy(table);
}

/* -- the load -- */

static void print_load(const struct bench *bench)
{
    static const char *const held_titles[] = {"<held / live", "steady", "most", "trimmed",
        "small", "most", "less", "idle", "left"};
    static const char *const held[] = {"held-steady", "held-steady-most",
        "held-after-peak", "held-small", "held-small-most", "held-less", "held-idle",
        "held-at-end"};
    static const char *const cost_titles[] = {
        "<CPU per region", "ramp", "steady", "peak", "drop", "small", "less"};
    static const char *const costs[] = {
        "ramp-cost", "steady-cost", "peak-cost", "drop-cost", "small-cost", "less-cost"};

    print_subjects(bench,
        "A mixed load on two threads, in phases: what is held for each live byte while "
        "it is steady, after a peak of three times as much has gone and a trim, with "
        "small sizes, after three quarters of these have gone, any of them, and idle "
        "after that; what is left when all is freed and trimmed.",
        held_titles, held, sizeof held / sizeof held[0]);
    print_subjects(bench,
        "What a region cost there: taken, a byte of each page written, freed.",
        cost_titles, costs, sizeof costs / sizeof costs[0]);
}

static void print_parts(const struct bench *bench)
{
    static const char *const titles[] = {"<MiB at the end of", "live", "rounding", "free",
        "cached", "room", "idle", "registrations"};
    static const char *const phases[] = {
        "steady", "peak", "trim", "small", "less", "idle", "end"};
    static const char *const parts[] = {
        "live", "rounding", "free", "cached", "room", "idle"};
    struct bench_table *table = bench_table_create(titles, 8);
    bool has_any = false;

    for (size_t i = 0; table != NULL && i < sizeof phases / sizeof phases[0]; i++) {
        struct bench_text cells[7];
        const char *row[8] = {phases[i]};
        char name[48];

        for (size_t k = 0; k < 6; k++) {
            snprintf(name, sizeof name, "at-%s-%s", parts[k], phases[i]);
            cells[k] = mib_text(memory_find(bench, name, "mrpool", 2));
            row[1 + k] = cells[k].text;
        }
        snprintf(name, sizeof name, "registrations-%s", phases[i]);
        cells[6] = text_of(bench, name, "mrpool", 2);
        row[7] = cells[6].text;
        if (cells[0].text[0] != '\0') {
            bench_table_add(table, row);
            has_any = true;
        }
    }
    if (has_any) {
        putchar('\n');
        bench_print_prose(
            "Where mrpool's bytes were: live, lost to rounding, free in the "
            "depots and in threads' caches, in chunks but in no slab, in "
            "idle chunks; and registrations held.",
            0);
        putchar('\n');
        bench_table_print(table);
    }
    bench_table_destroy(table);
}

/* -- trim -- */

static void print_trim(const struct bench *bench)
{
    static const char *const titles[] = {"<1 GiB of 64 KiB regions", "time", "left"};
    static const char *const cases[] = {"give-back", "given-back-left"};
    static const char *const trim_titles[] = {
        "<mrp_pool_trim", "time", "CPU", "not given", "munlock, munmap"};
    static const struct {
        const char *words, *cases[4];
    } rows[] = {
        {"nothing is free", {"trim-nothing", "", "", ""}},
        {"100,000 free, none to give", {"trim-scattered", "", "", ""}},
        {"1 GiB, base pages",
            {"trim-1g-4k", "trim-1g-cpu-4k", "trim-1g-kept-4k", "unmap-1g-4k"}},
        {"1 GiB, default pages",
            {"trim-1g-default", "trim-1g-cpu-default", "trim-1g-kept-default",
                "unmap-1g-default"}},
    };
    struct bench_table *table = bench_table_create(trim_titles, 5);
    bool has_any = false;

    print_subjects(bench,
        "All of them freed, then trimmed: until it has been given back.", titles, cases,
        2);
    for (size_t i = 0; table != NULL && i < sizeof rows / sizeof rows[0]; i++) {
        has_any = add_row(table, bench, rows[i].words, "mrpool", 1, rows[i].cases, 4) ||
            has_any;
    }
    if (has_any) {
        puts("\nWhat a trim costs, against unpinning and unmapping the same by hand\n");
        bench_table_print(table);
    }
    bench_table_destroy(table);
}

/* -- tails, waiting -- */

static void print_tails(const struct bench *bench)
{
    static const char *const titles[] = {"<", "p50", "p99", "p99.9", "max"};
    static const char *const quantiles[] = {"p50", "p99", "p99.9", "max"};
    static const struct {
        const char *words, *name;
        unsigned threads;
    } rows[] = {
        {"alloc and free, nobody trims", "pair-alone", 1},
        {"while another thread regroups", "pair-regrouping", 1},
        {"while another gives back too", "pair-trimming", 1},
        {"alloc at the limit, 2 threads", "limit", 2},
        {"a semaphore and a list by hand", "limit-by-hand", 2},
        {"alloc at the limit, 8 threads", "limit", 8},
        {"a semaphore and a list by hand", "limit-by-hand", 8},
    };
    struct bench_table *table = bench_table_create(titles, 5);
    bool has_any = false;

    for (size_t i = 0; table != NULL && i < sizeof rows / sizeof rows[0]; i++) {
        char names[4][48];
        const char *cases[4];

        for (size_t k = 0; k < 4; k++) {
            snprintf(names[k], sizeof names[k], "%s-%s", rows[i].name, quantiles[k]);
            cases[k] = names[k];
        }
        has_any =
            add_row(table, bench, rows[i].words, "mrpool", rows[i].threads, cases, 4) ||
            has_any;
    }
    if (has_any) {
        puts(
            "\nTails: random sizes to 64 KiB; at the limit, one region, held for 2 us\n");
        bench_table_print(table);
    }
    bench_table_destroy(table);
}

static void print_waiting(const struct bench *bench)
{
    static const char *const titles[] = {
        "<", "mean", "longest", "ratio", "turns", "most", "shares"};
    static const struct {
        const char *words, *cases[6];
    } rows[] = {
        {"mrpool",
            {"mean-wait", "longest-wait", "longest-over-mean", "mean-turns",
                "longest-turns", "most-over-least"}},
        {"a semaphore by hand",
            {"mean-wait-by-hand", "longest-wait-by-hand", "longest-over-mean-by-hand",
                "mean-turns-by-hand", "longest-turns-by-hand",
                "most-over-least-by-hand"}},
    };
    struct bench_table *table = bench_table_create(titles, 7);
    bool has_any = false;

    for (size_t i = 0; table != NULL && i < sizeof rows / sizeof rows[0]; i++) {
        has_any = add_row(table, bench, rows[i].words, "mrpool", 8, rows[i].cases, 6) ||
            has_any;
    }
    if (has_any) {
        putchar('\n');
        bench_print_prose(
            "Fairness: eight equal threads wait for two regions and hold each for 1 ms. "
            "The mean wait, the longest of all, their ratio; how many regions others got "
            "meanwhile, in the mean and at most; what the luckiest thread got for each "
            "region of the unluckiest.",
            0);
        putchar('\n');
        bench_table_print(table);
    }
    bench_table_destroy(table);
}

/* -- bounds -- */

static const struct memory_bound *bound_of(const struct bench_goal *goal)
{
    for (size_t i = 0; i < memory_n_bounds; i++) {
        size_t length = strlen(memory_bounds[i].name);

        if (strncmp(goal->result->name, memory_bounds[i].name, length) == 0 &&
            goal->result->name[length] == '/') {
            return &memory_bounds[i];
        }
    }
    return NULL;
}

static void print_bounds(const struct bench *bench)
{
    size_t n_reached = 0;

    if (bench->n_goals > 0) {
        puts("\nWhat it has to stay within\n");
    }
    for (size_t i = 0; i < bench->n_goals; i++) {
        const struct bench_goal *goal = &bench->goals[i];
        const struct memory_bound *bound = bound_of(goal);
        bool is_reached = bench_is_reached(goal);
        char text[320];

        n_reached += is_reached;
        if (bound == NULL) {
            continue;
        }
        snprintf(text, sizeof text,
            "%s %s, at most %g: %s, %u thread%s (mrpool-bench memory --only %s)",
            is_reached ? "ok" : "NO", value_text(goal->result).text, goal->at_most,
            bound->words, goal->result->threads, goal->result->threads == 1 ? "" : "s",
            memory_section_names[bound->section]);
        bench_print_prose(text, 3);
    }
    if (bench->n_goals > 0) {
        printf("\n%zu of %zu bounds kept.\n", n_reached, bench->n_goals);
    }
}

void memory_print(const struct bench *bench)
{
    if (bench->n_results == 0) {
        return;
    }
    print_load(bench);
    print_parts(bench);
    print_trim(bench);
    print_tails(bench);
    print_waiting(bench);
    print_bounds(bench);
}
