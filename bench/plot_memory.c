/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench memory --plot and --series: what each subject held over the load, with
 * what was live in grey, a sample after the other. Phases have as many samples for every
 * subject, so that the curves lie above each other.
 */
#include "memory.h"

#include "plot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MIB (1024.0 * 1024.0)

static const struct memory_series *any_series(const struct memory_run *run)
{
    for (size_t i = 0; i < MEMORY_SUBJECTS; i++) {
        if (run->series[i].n > 0) {
            return &run->series[i];
        }
    }
    return NULL;
}

static void write_curve(FILE *gnuplot, const struct memory_series *series, size_t subject)
{
    fprintf(gnuplot, "$held%zu << EOD\n", subject);
    for (size_t i = 0; i < series->n; i++) {
        fprintf(gnuplot, "%zu %g %g\n", i, (double)series->samples[i].held / MIB,
            (double)series->samples[i].live / MIB);
    }
    fputs("EOD\n", gnuplot);
}

/* A line where each phase begins, and its name in the middle. */
static void write_phases(FILE *gnuplot, const struct memory_series *series)
{
    size_t first = 0;

    for (size_t i = 1; i <= series->n; i++) {
        if (i < series->n &&
            strcmp(series->samples[i].phase, series->samples[first].phase) == 0) {
            continue;
        }
        if (i < series->n) {
            fprintf(gnuplot,
                "set arrow from %g, graph 0 to %g, graph 1 nohead lc rgb '#bbbbbb' "
                "dt 3\n",
                (double)i - 0.5, (double)i - 0.5);
        }
        fprintf(gnuplot, "set label '%s' at %g, graph 1.02 center rotate by 30\n",
            series->samples[first].phase, (double)(first + i - 1) / 2);
        first = i;
    }
}

static void write_commands(FILE *gnuplot, const struct memory_run *run)
{
    const struct memory_series *any = any_series(run);
    const char *before = "plot ";
    char line[160];

    bench_machine_line(&run->bench->machine, line, sizeof line);
    for (size_t i = 0; i < MEMORY_SUBJECTS; i++) {
        write_curve(gnuplot, &run->series[i], i);
    }
    fputs("set title ", gnuplot);
    plot_write_quoted(gnuplot, line);
    fputs(" noenhanced offset 0,2\nset border 3\nset tics nomirror\n"
          "set grid ytics lc rgb '#dddddd' lt 1\nset ylabel 'MiB held'\n"
          "set xlabel 'samples of the load, phase after phase'\nset yrange [0:*]\n"
          "set tmargin 6\nset key outside right top Left reverse noenhanced\n",
        gnuplot);
    fprintf(gnuplot, "set xrange [0:%zu]\n", any->n - 1);
    write_phases(gnuplot, any);
    for (size_t i = 0; i < MEMORY_SUBJECTS; i++) {
        if (&run->series[i] == any) {
            fprintf(gnuplot,
                "%s$held%zu using 1:3 with filledcurves y1=0 lc rgb '#d8d8d8' title "
                "'live'",
                before, i);
            before = ", ";
        }
    }
    for (size_t i = MEMORY_SUBJECTS; i-- > 0;) {
        if (run->series[i].n > 0) {
            fprintf(gnuplot,
                "%s$held%zu using 1:2 with lines lc rgb '%s' lw %d dt %d title '%s'",
                before, i, memory_subjects[i].colour, i == MEMORY_MRPOOL ? 3 : 2,
                i == MEMORY_NO_RAIL ? 2 : 1, memory_subjects[i].name);
        }
    }
    fputc('\n', gnuplot);
}

bool memory_plot(const struct memory_run *run, const char *path)
{
    FILE *gnuplot;

    if (any_series(run) == NULL) {
        fputs("mrpool-bench: --plot draws the load (--only load): no plot\n", stderr);
        return false;
    }
    gnuplot = plot_open(path, 1200, 560);
    if (gnuplot == NULL) {
        return false;
    }
    write_commands(gnuplot, run);
    return plot_close(gnuplot);
}

bool memory_write_series(const struct memory_run *run, const char *path)
{
    FILE *file = fopen(path, "w");
    bool is_written = file != NULL;

    if (is_written) {
        fputs("subject,phase,ms,live,held,resident,registrations\n", file);
        for (size_t i = 0; i < MEMORY_SUBJECTS; i++) {
            for (size_t k = 0; k < run->series[i].n; k++) {
                const struct memory_sample *sample = &run->series[i].samples[k];

                fprintf(file, "%s,%s,%.1f,%zu,%zu,%zu,%zu\n", memory_subjects[i].name,
                    sample->phase, sample->ms, sample->live, sample->held,
                    sample->resident, sample->n_registrations);
            }
        }
        is_written = !ferror(file);
        is_written = fclose(file) == 0 && is_written;
    }
    if (!is_written) {
        fprintf(stderr, "mrpool-bench: --series %s: %s\n", path, strerror(errno));
    }
    return is_written;
}
