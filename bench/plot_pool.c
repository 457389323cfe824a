/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench pool --plot: the cost of a pair by size on one thread, and by threads at
 * the smallest size, side by side.
 */
#include "pool.h"

#include "plot.h"
#include "units.h"

#include <stdio.h>
#include <string.h>

/* One colour per subject, the same in both panels: mrpool in blues, mallocs in warm
 * colours, the others in greys and green; chosen to differ for colour-blind eyes too. */
static const struct {
    const char *subject, *colour;
    int width, dash, point;
} styles[] = {
    {"mrpool", "#0b3c8c", 3, 1, 7},
    {"mrpool-plt", "#3b76c9", 2, 3, 6},
    {"mrpool-static", "#2a9fd6", 2, 1, 5},
    {"mrpool-inline", "#00b3a4", 3, 1, 9},
    {"mrpool-none", "#0b3c8c", 2, 2, 4},
    {"mrpool-inline-none", "#00b3a4", 2, 2, 8},
    {"dpdk", "#111111", 3, 1, 13},
    {"glibc", "#c44e00", 2, 1, 2},
    {"jemalloc", "#e69f00", 2, 1, 1},
    {"mimalloc", "#b3367a", 2, 1, 3},
    {"tcmalloc", "#8c1c13", 2, 1, 11},
    {"mutex", "#777777", 2, 1, 10},
    {"boost", "#9a9a9a", 2, 2, 12},
    {"ucx", "#5b7f3b", 2, 1, 14},
};
#define N_STYLES (sizeof styles / sizeof styles[0])

enum axis {
    BY_SIZE,
    BY_THREADS
};

static size_t smallest_size(const struct bench *bench)
{
    size_t smallest = 0;

    for (size_t i = 0; i < bench->n_results; i++) {
        const struct bench_result *result = bench->results[i];

        if (strncmp(result->name, CASE_PAIR "/", strlen(CASE_PAIR) + 1) == 0 &&
            (smallest == 0 || result->size < smallest)) {
            smallest = result->size;
        }
    }
    return smallest;
}

static bool is_on(
    const struct bench_result *result, size_t style, enum axis axis, size_t smallest)
{
    return strncmp(result->name, CASE_PAIR "/", strlen(CASE_PAIR) + 1) == 0 &&
        strcmp(pool_subject_of(result), styles[style].subject) == 0 &&
        (axis == BY_SIZE ? result->threads == 1 : result->size == smallest);
}

/* The points of every curve. @return bit i: styles[i] has some. */
static unsigned write_data(
    FILE *gnuplot, const struct bench *bench, enum axis axis, size_t smallest)
{
    unsigned drawn = 0;

    for (size_t style = 0; style < N_STYLES; style++) {
        fprintf(gnuplot, "$curve%d_%zu << EOD\n", (int)axis, style);
        for (size_t i = 0; i < bench->n_results; i++) {
            const struct bench_result *result = bench->results[i];

            if (is_on(result, style, axis, smallest)) {
                fprintf(gnuplot, "%zu %g\n",
                    axis == BY_SIZE ? result->size : (size_t)result->threads,
                    result->median);
                drawn |= 1u << style;
            }
        }
        fputs("EOD\n", gnuplot);
    }
    return drawn;
}

static double position(const struct bench_result *result, enum axis axis)
{
    return axis == BY_SIZE ? (double)result->size : (double)result->threads;
}

/* A label for each point, and some air on both sides. */
static void write_axis(
    FILE *gnuplot, const struct bench *bench, enum axis axis, size_t smallest)
{
    double least = 0, most = 0;
    const char *before = "";

    fputs("set xtics (", gnuplot);
    for (size_t i = 0; i < bench->n_results; i++) {
        const struct bench_result *result = bench->results[i];
        double at = position(result, axis);
        bool is_drawn = false;

        for (size_t style = 0; style < N_STYLES; style++) {
            is_drawn = is_drawn || is_on(result, style, axis, smallest);
        }
        if (is_drawn) {
            fprintf(gnuplot, "%s'%s' %g", before, bench_size_option((size_t)at).text, at);
            least = least <= 0 || at < least ? at : least;
            most = at > most ? at : most;
            before = ", ";
        }
    }
    fprintf(gnuplot, ")\nset xrange [%g:%g]\n", axis == BY_SIZE ? least / 2 : least / 1.2,
        axis == BY_SIZE ? most * 2 : most * 1.2);
}

/* One range for both panels, so that they can be compared. */
static void write_range(FILE *gnuplot, const struct bench *bench)
{
    double least = 0, most = 0;

    for (size_t i = 0; i < bench->n_results; i++) {
        const struct bench_result *result = bench->results[i];

        if (strncmp(result->name, CASE_PAIR "/", strlen(CASE_PAIR) + 1) == 0) {
            least = least <= 0 || result->median < least ? result->median : least;
            most = result->median > most ? result->median : most;
        }
    }
    fprintf(gnuplot, "set yrange [%g:%g]\n", least / 1.5, most * 1.5);
}

static void write_panel(FILE *gnuplot, enum axis axis, unsigned drawn)
{
    const char *before = "plot ";

    for (size_t style = 0; style < N_STYLES; style++) {
        if ((drawn & 1u << style) != 0) {
            fprintf(gnuplot,
                "%s$curve%d_%zu using 1:2 with linespoints lc rgb '%s' lw %d dt %d "
                "pt %d ps 0.7 title '%s'",
                before, (int)axis, style, styles[style].colour, styles[style].width,
                styles[style].dash, styles[style].point, styles[style].subject);
            before = ", ";
        }
    }
    fputc('\n', gnuplot);
}

static void write_commands(FILE *gnuplot, const struct bench *bench)
{
    size_t smallest = smallest_size(bench);
    unsigned by_size = write_data(gnuplot, bench, BY_SIZE, smallest);
    unsigned by_threads = write_data(gnuplot, bench, BY_THREADS, smallest);
    char line[160];

    bench_machine_line(&bench->machine, line, sizeof line);
    fputs("set multiplot layout 1,2 title ", gnuplot);
    plot_write_quoted(gnuplot, line);
    fputs(
        " noenhanced\nset logscale xy\nset grid xtics ytics lc rgb '#dddddd' lt 1\n"
        "set border 3\nset tics nomirror\nset ylabel 'CPU time of an alloc and a free'\n"
        "set ytics ('1 ns' 1, '2' 2, '5' 5, '10 ns' 10, '20' 20, '50' 50, "
        "'100 ns' 100, '200' 200, '500' 500, '1 us' 1000, '2' 2000, '5' 5000)\n",
        gnuplot);
    write_range(gnuplot, bench);
    fputs("set lmargin at screen 0.07\nset rmargin at screen 0.43\n"
          "set xlabel 'bytes per region, on one thread'\nset key off\n",
        gnuplot);
    write_axis(gnuplot, bench, BY_SIZE, smallest);
    write_panel(gnuplot, BY_SIZE, by_size);
    fprintf(gnuplot,
        "set lmargin at screen 0.48\nset rmargin at screen 0.77\n"
        "set xlabel 'threads on %ld core%s, regions of %s'\n"
        "set key at screen 0.995, screen 0.9 right top Left reverse noenhanced\n"
        "unset ylabel\n",
        bench->machine.cores, bench->machine.cores == 1 ? "" : "s",
        bench_size_text(smallest).text);
    write_axis(gnuplot, bench, BY_THREADS, smallest);
    write_panel(gnuplot, BY_THREADS, by_threads);
    fputs("unset multiplot\n", gnuplot);
}

bool pool_plot(const struct bench *bench, const char *path)
{
    FILE *gnuplot;

    if (smallest_size(bench) == 0) {
        fputs("mrpool-bench: --plot draws pairs (--patterns pair): no plot\n", stderr);
        return false;
    }
    gnuplot = plot_open(path, 1200, 560);
    if (gnuplot == NULL) {
        return false;
    }
    write_commands(gnuplot, bench);
    return plot_close(gnuplot);
}
