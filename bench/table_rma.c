/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The table and the plot of mrpool-bench rma.
 */
#include "plot.h"
#include "report.h"
#include "rma.h"
#include "table.h"
#include "units.h"

#include <stdio.h>
#include <string.h>

static const char *const operations[] = {"put", "get"};

static struct bench_text time_of(const struct bench_result *result)
{
    return bench_time_text(result != NULL ? result->median : -1);
}

/* Bytes per nanosecond are GB/s. */
static struct bench_text rate_of(const struct bench_result *result)
{
    struct bench_text text = {"-"};

    if (result != NULL) {
        double rate = (double)result->size / result->median;

        snprintf(text.text, sizeof text.text, rate < 0.995 ? "%.3g MB/s" : "%.3g GB/s",
            rate < 0.995 ? rate * 1e3 : rate);
    }
    return text;
}

/* What the pool saves of a message that would be registered for. */
static struct bench_text saved_of(
    const struct bench_result *pool, const struct bench_result *each)
{
    struct bench_text text = {"-"};

    if (pool != NULL && each != NULL) {
        double saved = each->median - pool->median;

        snprintf(text.text, sizeof text.text, "%s%.20s", saved < 0 ? "-" : "",
            bench_time_text(saved < 0 ? -saved : saved).text);
    }
    return text;
}

/* Networks in the order measured: a result is the first of its own. */
static bool is_first(const struct bench *bench, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (strcmp(bench->results[i]->provider, bench->results[index]->provider) == 0) {
            return false;
        }
    }
    return true;
}

/* Sizes of a network come in order; one is new when this result is the first to have it. */
static bool is_first_of_size(const struct bench *bench, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (bench->results[i]->size == bench->results[index]->size &&
            strcmp(bench->results[i]->provider, bench->results[index]->provider) == 0) {
            return false;
        }
    }
    return true;
}

static void add_row(struct bench_table *table, const struct bench *bench,
    const char *network, size_t size, const char *operation, bool is_rate)
{
    const char *figure = is_rate ? "message" : "latency";
    const struct bench_subject about = {.provider = network, .size = size};
    const struct bench_result *results[RMA_SUBJECTS];
    struct bench_text cells[8];
    const char *row[8];

    cells[0] = bench_size_text(size);
    for (size_t i = 0; i < RMA_SUBJECTS; i++) {
        results[i] = rma_find(bench, network, size, operation, figure, rma_subjects[i]);
        cells[1 + i] = is_rate ? rate_of(results[i]) : time_of(results[i]);
    }
    cells[5] = saved_of(results[0], results[2]);
    cells[6] = time_of(bench_find(bench, &about, "registration"));
    for (size_t i = 0; i < 7; i++) {
        row[i] = cells[i].text;
    }
    bench_table_add(table, row);
}

static void print_network(const struct bench *bench, const char *network)
{
    static const char *const titles[] = {
        "size", "pool", "once", "per message", "library's", "saved", "registering"};
    struct bench_table *table = bench_table_create(titles, 7);
    char title[160], label[64];

    if (table == NULL) {
        return;
    }
    bench_target_label(network, label, sizeof label);
    for (unsigned part = 0; part < 4; part++) {
        snprintf(title, sizeof title, "%s: %s, %s", label, operations[part / 2],
            part % 2 == 0 ? "one at a time" : "many under way");
        bench_table_group(table, title);
        for (size_t i = 0; i < bench->n_results; i++) {
            const struct bench_result *result = bench->results[i];

            if (strcmp(result->provider, network) == 0 && is_first_of_size(bench, i)) {
                add_row(table, bench, network, result->size, operations[part / 2],
                    part % 2 != 0);
            }
        }
    }
    bench_table_print(table);
    bench_table_destroy(table);
}

void rma_print(const struct bench *bench)
{
    size_t n_reached = 0;
    char text[256];

    putchar('\n');
    bench_print_prose(
        "One-sided messages, median. The buffer is a region taken from the pool for each "
        "message; a buffer registered once by hand; one registered for each message; one "
        "that is not registered, which leaves it to the library.",
        0);
    for (size_t i = 0; i < bench->n_results; i++) {
        if (is_first(bench, i)) {
            print_network(bench, bench->results[i]->provider);
        }
    }
    for (size_t i = 0; i < bench->n_goals; i++) {
        n_reached += bench_is_reached(&bench->goals[i]);
    }
    snprintf(text, sizeof text,
        "Bounds: %zu of %zu reached (the pool at most 1.05 times the cost of `per "
        "message` and of `library's`).",
        n_reached, bench->n_goals);
    putchar('\n');
    bench_print_prose(text, 0);
}

/* -- plot -- */

static const char *const colours[RMA_SUBJECTS] = {
    "#0b3c8c", "#8fb8de", "#c44e00", "#e69f00"};
static const char *const words[RMA_SUBJECTS] = {
    "pool", "registered once", "registered per message", "library's own"};

/* One panel: a network's puts. */
static void draw_network(FILE *gnuplot, const struct bench *bench, const char *network)
{
    char label[64], title[96];

    for (size_t k = 0; k < RMA_SUBJECTS; k++) {
        fprintf(gnuplot, "$s%zu << EOD\n", k);
        for (size_t i = 0; i < bench->n_results; i++) {
            const struct bench_result *result = bench->results[i];
            char name[48];

            snprintf(name, sizeof name, "put/message/%s", rma_subjects[k]);
            if (strcmp(result->provider, network) == 0 &&
                strcmp(result->name, name) == 0) {
                fprintf(gnuplot, "%zu %g\n", result->size,
                    (double)result->size / result->median);
            }
        }
        fputs("EOD\n", gnuplot);
    }
    bench_target_label(network, label, sizeof label);
    snprintf(title, sizeof title, "%s: put", label);
    fputs("set title ", gnuplot);
    plot_write_quoted(gnuplot, title);
    fputs(" noenhanced\nplot ", gnuplot);
    for (size_t k = 0; k < RMA_SUBJECTS; k++) {
        fprintf(gnuplot,
            "%s$s%zu using 1:2 with linespoints lw 2 pt 7 ps 0.5 lc rgb '%s' "
            "title \"%s\"",
            k > 0 ? ", " : "", k, colours[k], words[k]);
    }
    fputc('\n', gnuplot);
}

bool rma_plot(const struct bench *bench, const char *path)
{
    size_t n_networks = 0, n_rows;
    FILE *gnuplot;

    for (size_t i = 0; i < bench->n_results; i++) {
        n_networks += is_first(bench, i);
    }
    n_rows = (n_networks + 1) / 2;
    gnuplot = plot_open(path, 1000, (int)(350 * n_rows));
    if (gnuplot == NULL) {
        return false;
    }
    fprintf(gnuplot,
        "set multiplot layout %zu,2\nset logscale xy\nset grid\nset key left top "
        "noenhanced\nset xlabel 'message'\nset ylabel 'GB/s'\n"
        "set xtics ('8 B' 8, '512 B' 512, '32 KiB' 32768, '1 MiB' 1048576, "
        "'64 MiB' 67108864)\n",
        n_rows);
    for (size_t i = 0; i < bench->n_results; i++) {
        if (is_first(bench, i)) {
            draw_network(gnuplot, bench, bench->results[i]->provider);
        }
    }
    fputs("unset multiplot\n", gnuplot);
    return plot_close(gnuplot);
}
