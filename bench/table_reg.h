/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The tables of mrpool-bench reg, and what they show in words.
 */
#ifndef BENCH_TABLE_REG_H
#define BENCH_TABLE_REG_H

#include "harness.h"

void reg_print(const struct bench *bench);

/** Draw the cost of registering and of taking a region from the pool, by size, with
 * gnuplot. The file's ending says the format: .svg, .png or .pdf. False, with a message,
 * when it could not be drawn. */
bool reg_plot(const struct bench *bench, const char *path);

#endif
