/* SPDX-License-Identifier: BSD-3-Clause */
#include "units.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const size_units[] = {"B", "KiB", "MiB", "GiB", "TiB"};

struct bench_text bench_size_text(size_t size)
{
    struct bench_text text;
    double value = (double)size;
    size_t unit = 0;

    while (value >= 1024 && unit < 4) {
        value /= 1024;
        unit++;
    }
    snprintf(text.text, sizeof text.text,
        value == (double)(size_t)value ? "%.0f %s" : "%.1f %s", value, size_units[unit]);
    return text;
}

struct bench_text bench_size_option(size_t size)
{
    struct bench_text text;
    size_t unit = 0;

    while (size != 0 && size % 1024 == 0 && unit < 4) {
        size /= 1024;
        unit++;
    }
    snprintf(
        text.text, sizeof text.text, "%zu%.1s", size, unit == 0 ? "" : size_units[unit]);
    return text;
}

static int digits_after_point(double value)
{
    if (value < 9.995) {
        return 2;
    }
    return value < 99.95 ? 1 : 0;
}

struct bench_text bench_time_text(double ns)
{
    static const char *const units[] = {"ns", "us", "ms", "s"};
    struct bench_text text = {"-"};
    size_t unit = 0;

    if (ns < 0) {
        return text;
    }
    while (ns >= 999.5 && unit < 3) {
        ns /= 1000;
        unit++;
    }
    snprintf(
        text.text, sizeof text.text, "%.*f %s", digits_after_point(ns), ns, units[unit]);
    return text;
}

struct bench_text bench_ratio_text(double ratio)
{
    struct bench_text text = {"-"};

    if (ratio > 0) {
        snprintf(text.text, sizeof text.text, "%.*fx", digits_after_point(ratio), ratio);
    }
    return text;
}

bool bench_parse_size(const char *text, size_t *size)
{
    static const char units[] = "KMGT";
    unsigned long long number;
    unsigned shift = 0;
    char *end;

    if (text[0] < '0' || text[0] > '9') { /* strtoull would take "-1" and " 1" */
        return false;
    }
    errno = 0;
    number = strtoull(text, &end, 10);
    if (errno != 0) {
        return false;
    }
    if (*end != '\0') {
        const char *unit = strchr(units, *end & ~0x20);

        if (unit == NULL || *unit == '\0' || end[1] != '\0') {
            return false;
        }
        shift = 10 * (unsigned)(unit - units + 1);
    }
    if (number == 0 || number > SIZE_MAX >> shift) {
        return false;
    }
    *size = (size_t)number << shift;
    return true;
}

bool bench_parse_count(const char *text, size_t min, size_t max, size_t *count)
{
    unsigned long long number;
    char *end;

    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    number = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || number < min || number > max) {
        return false;
    }
    *count = (size_t)number;
    return true;
}

bool bench_option_value(const char *options, const char *key, char *value, size_t size)
{
    size_t key_length = strlen(key);

    while (*options != '\0') {
        size_t length = strcspn(options, ",");

        if (strncmp(options, key, key_length) == 0 && options[key_length] == '=') {
            snprintf(value, size, "%.*s", (int)(length - key_length - 1),
                options + key_length + 1);
            return true;
        }
        options += length + (options[length] == ',');
    }
    return false;
}
