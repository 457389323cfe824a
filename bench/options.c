/* SPDX-License-Identifier: BSD-3-Clause */
#include "options.h"

#include "units.h"

#include <stdio.h>
#include <string.h>

const char *bench_next_item(const char *list, char *item, size_t size)
{
    size_t length = strcspn(list, ",");

    snprintf(item, size, "%.*s", (int)length, list);
    return list[length] == ',' ? list + length + 1 : NULL;
}

void bench_choose(const char *list, const char *option, const char *kind,
    const char *const *names, size_t stride, size_t n, bool *chosen,
    struct argp_state *state)
{
    char item[32];

    while (list != NULL) {
        const char *name = (const char *)names;
        size_t i = 0;

        list = bench_next_item(list, item, sizeof item);
        while (i < n && strcmp(*(const char *const *)(const void *)name, item) != 0) {
            name += stride;
            i++;
        }
        if (i == n) {
            argp_error(state, "%s: no %s '%s'", option, kind, item);
        }
        chosen[i] = true;
    }
}

size_t bench_numbers(const char *list, const char *option, size_t least, size_t most,
    size_t step, size_t *numbers, size_t n_max, struct argp_state *state)
{
    char item[32];
    size_t n = 0;

    while (list != NULL) {
        list = bench_next_item(list, item, sizeof item);
        if (n == n_max) {
            argp_error(state, "%s: at most %zu of them", option, n_max);
        }
        if (!bench_parse_size(item, &numbers[n]) || numbers[n] < least ||
            numbers[n] > most || numbers[n] % step != 0) {
            argp_error(state, "%s: '%s' is not from %s to %s%s%s", option, item,
                bench_size_option(least).text, bench_size_option(most).text,
                step > 1 ? ", in steps of " : "",
                step > 1 ? bench_size_option(step).text : "");
        }
        n++;
    }
    return n;
}

enum {
    OPTION_JSON = 256,
    OPTION_CSV,
    OPTION_QUICK,
    OPTION_CPU
};

static const struct argp_option rows[] = {
    {"json", OPTION_JSON, NULL, 0, "One JSON object {benchmark, machine, results}", 90},
    {"csv", OPTION_CSV, NULL, 0, "The results as comma-separated values", 90},
    {"repetitions", 'r', "N", 0,
        "Measure each case N times, in turn with the others, and report the median and "
        "the spread (default 11, with --quick 3)",
        90},
    {"cpu", OPTION_CPU, "N", 0, "Pin the thread to processor N (default: where it is)",
        90},
    {"quick", OPTION_QUICK, NULL, 0, "A smoke run of seconds; its figures mean little",
        90},
    {0},
};

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct bench_options *options = state->input;
    size_t count;

    switch (key) {
    case OPTION_JSON:
        options->format = BENCH_JSON;
        return 0;
    case OPTION_CSV:
        options->format = BENCH_CSV;
        return 0;
    case OPTION_QUICK:
        options->quick = true;
        return 0;
    case 'r':
        if (!bench_parse_count(text, 1, BENCH_REPETITIONS_MAX, &options->repetitions)) {
            argp_error(state, "--repetitions %s: write a number from 1 to %d", text,
                BENCH_REPETITIONS_MAX);
        }
        options->has_repetitions = true;
        return 0;
    case OPTION_CPU:
        if (!bench_parse_count(text, 0, 4095, &count)) {
            argp_error(state, "--cpu %s: write the number of a processor", text);
        }
        options->cpu = (int)count;
        return 0;
    case ARGP_KEY_END:
        if (options->repetitions == 0) {
            options->repetitions = options->quick ? 3 : 11;
        }
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp common = {rows, parse, NULL, NULL, NULL, NULL, NULL};

const struct argp_child bench_options_child[] = {
    {&common, 0, "Common to all benchmarks:", 90},
    {0},
};
