/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench reg --plot: gnuplot draws what it reads from a pipe.
 */
#include "table_reg.h"

#include "measure_reg.h"
#include "plot.h"

#include <stdio.h>
#include <string.h>

#define CURVES_MAX 32

/* A curve is a case of a provider on a kind of page; its first point stands for it. */
struct curves {
    size_t n;
    const struct bench_result *first[CURVES_MAX];
};

static bool is_on_curve(
    const struct bench_result *result, const struct bench_result *first)
{
    return strcmp(result->name, first->name) == 0 &&
        strcmp(result->provider, first->provider) == 0 &&
        strcmp(result->pages, first->pages) == 0;
}

static bool is_drawn(const struct bench_result *result)
{
    return strcmp(result->name, CASE_REGISTER) == 0 ||
        strcmp(result->name, CASE_POOL) == 0;
}

static void find_curves(const struct bench *bench, struct curves *curves)
{
    curves->n = 0;
    for (size_t i = 0; i < bench->n_results; i++) {
        const struct bench_result *result = bench->results[i];
        bool known = false;

        for (size_t k = 0; k < curves->n; k++) {
            known = known || is_on_curve(result, curves->first[k]);
        }
        if (!known && is_drawn(result) && curves->n < CURVES_MAX) {
            curves->first[curves->n++] = result;
        }
    }
}

static void write_data(
    FILE *gnuplot, const struct bench *bench, const struct curves *curves)
{
    for (size_t k = 0; k < curves->n; k++) {
        fprintf(gnuplot, "$curve%zu << EOD\n", k);
        for (size_t i = 0; i < bench->n_results; i++) {
            const struct bench_result *result = bench->results[i];

            if (is_on_curve(result, curves->first[k])) {
                fprintf(gnuplot, "%zu %g %g %g\n", result->size, result->median,
                    result->min, result->max);
            }
        }
        fputs("EOD\n", gnuplot);
    }
}

static void write_commands(
    FILE *gnuplot, const struct bench *bench, const struct curves *curves)
{
    char line[160], label[64];

    bench_machine_line(&bench->machine, line, sizeof line);
    fputs("set title ", gnuplot);
    plot_write_quoted(gnuplot, line);
    fputs(" noenhanced\nset logscale xy\nset grid\nset key outside right noenhanced\n"
          "set xlabel 'buffer'\nset ylabel 'CPU time per buffer'\n"
          "set xtics ('4 KiB' 4096, '64 KiB' 65536, '1 MiB' 1048576, '16 MiB' 16777216, "
          "'64 MiB' 67108864)\n"
          "set ytics ('10 ns' 10, '100 ns' 1e2, '1 us' 1e3, '10 us' 1e4, '100 us' 1e5, "
          "'1 ms' 1e6, '10 ms' 1e7, '100 ms' 1e8)\nplot ",
        gnuplot);
    for (size_t k = 0; k < curves->n; k++) {
        const struct bench_result *first = curves->first[k];

        bench_target_label(first->provider, label, sizeof label);
        snprintf(line, sizeof line, "%s: %s, %s", first->name, label, first->pages);
        fprintf(gnuplot, "%s$curve%zu using 1:2:3:4 with yerrorlines title ",
            k > 0 ? ", " : "", k);
        plot_write_quoted(gnuplot, line);
    }
    fputc('\n', gnuplot);
}

bool reg_plot(const struct bench *bench, const char *path)
{
    FILE *gnuplot = plot_open(path, 1000, 600);
    struct curves curves;

    if (gnuplot == NULL) {
        return false;
    }
    find_curves(bench, &curves);
    write_data(gnuplot, bench, &curves);
    write_commands(gnuplot, bench, &curves);
    return plot_close(gnuplot);
}
