/* SPDX-License-Identifier: BSD-3-Clause */
#include "plot.h"

#include <string.h>

/* Quotes and backslashes would end or change the text. */
void plot_write_quoted(FILE *gnuplot, const char *text)
{
    fputc('"', gnuplot);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            fputc('\\', gnuplot);
        }
        fputc(*text == '\n' ? ' ' : *text, gnuplot);
    }
    fputc('"', gnuplot);
}

static bool set_terminal(FILE *gnuplot, const char *ending, int width, int height)
{
    if (strcmp(ending, ".svg") == 0) {
        return fprintf(gnuplot, "set terminal svg size %d,%d\n", width, height) > 0;
    }
    if (strcmp(ending, ".png") == 0) {
        return fprintf(gnuplot, "set terminal pngcairo size %d,%d\n", width, height) > 0;
    }
    return fprintf(gnuplot, "set terminal pdfcairo size %d,%d\n", width / 100,
               height / 100) > 0;
}

FILE *plot_open(const char *path, int width, int height)
{
    const char *ending = strrchr(path, '.');
    FILE *gnuplot;

    if (ending == NULL ||
        (strcmp(ending, ".svg") != 0 && strcmp(ending, ".png") != 0 &&
            strcmp(ending, ".pdf") != 0)) {
        fprintf(stderr, "mrpool-bench: --plot %s: end it in .svg, .png or .pdf\n", path);
        return NULL;
    }
    gnuplot = popen("gnuplot", "w");
    if (gnuplot == NULL) {
        perror("mrpool-bench: gnuplot");
        return NULL;
    }
    set_terminal(gnuplot, ending, width, height);
    fputs("set output ", gnuplot);
    plot_write_quoted(gnuplot, path);
    fputc('\n', gnuplot);
    return gnuplot;
}

bool plot_close(FILE *gnuplot)
{
    if (pclose(gnuplot) != 0) {
        fputs("mrpool-bench: gnuplot failed (package gnuplot-nox): no plot\n", stderr);
        return false;
    }
    return true;
}
