/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Sizes, times and options as people write them.
 */
#ifndef BENCH_UNITS_H
#define BENCH_UNITS_H

#include <stdbool.h>
#include <stddef.h>

/** A short text by value, so that a printf argument can be bench_size_text(n).text. */
struct bench_text {
    char text[32];
};

/** "4 KiB", "64 MiB", "1.5 MiB", "100 B". */
struct bench_text bench_size_text(size_t size);

/** "4K", "64M", "100": what bench_parse_size reads. */
struct bench_text bench_size_option(size_t size);

/** "12.3 ns", "4.56 us", "789 ms": three significant digits; "-" for a negative one. */
struct bench_text bench_time_text(double ns);

/** "123x", "4.5x", "0.98x"; "-" for 0, which stands for no ratio. */
struct bench_text bench_ratio_text(double ratio);

/** "4096", "4K", "1m", "2G": powers of 1024. False for anything else, 0 included. */
bool bench_parse_size(const char *text, size_t *size);

/** A decimal number from min to max. */
bool bench_parse_count(const char *text, size_t min, size_t max, size_t *count);

/** The value of `key` in "key=value,key=value", cut to fit; false when it is not there.
 */
bool bench_option_value(const char *options, const char *key, char *value, size_t size);

#endif
