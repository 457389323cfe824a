/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the plots share: gnuplot, which reads its commands from a pipe.
 */
#ifndef BENCH_PLOT_H
#define BENCH_PLOT_H

#include <stdbool.h>
#include <stdio.h>

/** Start gnuplot for a file that ends in .svg, .png or .pdf, of so many pixels. NULL, with
 *  a message, when that cannot be. */
FILE *plot_open(const char *path, int width, int height);

/** A text in gnuplot's double quotes. */
void plot_write_quoted(FILE *gnuplot, const char *text);

/** Draw. False, with a message, when gnuplot failed. */
bool plot_close(FILE *gnuplot);

#endif
