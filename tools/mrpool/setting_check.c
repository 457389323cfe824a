/* SPDX-License-Identifier: BSD-3-Clause */
#include "setting_check.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is_word_of(const char *choices, const char *value)
{
    size_t length = strlen(value);

    while (*choices != '\0') {
        size_t word = strcspn(choices, "|");

        if (word == length && strncasecmp(choices, value, length) == 0) {
            return true;
        }
        choices += word + (choices[word] == '|');
    }
    return false;
}

static bool is_number_in(const struct mrp_setting_spec *spec, const char *value)
{
    static const char units[] = "KMGT";
    unsigned shift = 0;
    uint64_t number;
    char *end;

    if (value[0] < '0' || value[0] > '9') { /* strtoull would take "-1" and " 1" */
        return false;
    }
    errno = 0;
    number = strtoull(value, &end, 10);
    if (errno != 0) {
        return false;
    }
    if (spec->kind == MRP_SETTING_SIZE && *end != '\0') {
        const char *unit = strchr(units, *end & ~0x20);

        if (unit == NULL || *unit == '\0') {
            return false;
        }
        shift = 10 * (unsigned)(unit - units + 1);
        end++;
    }
    return *end == '\0' && number <= UINT64_MAX >> shift &&
        number << shift >= spec->min && number << shift <= spec->max;
}

void tool_setting_check(const struct mrp_setting_spec *spec, const char *value,
    char *problem, size_t problem_size)
{
    static const char switches[] = "on|off|yes|no|true|false|1|0";
    const char *choices = spec->kind == MRP_SETTING_SWITCH ? switches : spec->choices;

    problem[0] = '\0';
    if (value[0] == '\0' && spec->default_text[0] == '\0') {
        return;
    }
    switch (spec->kind) {
    case MRP_SETTING_TEXT:
        return;
    case MRP_SETTING_CHOICE:
    case MRP_SETTING_SWITCH:
        if (!is_word_of(choices, value)) {
            snprintf(problem, problem_size, "%s=%.64s: not one of %s", spec->variable,
                value, choices);
        }
        return;
    case MRP_SETTING_COUNT:
    case MRP_SETTING_SIZE:
        if (!is_number_in(spec, value)) {
            snprintf(problem, problem_size,
                "%s=%.64s: not a %s from %" PRIu64 " to %" PRIu64, spec->variable, value,
                spec->kind == MRP_SETTING_SIZE ? "size" : "count", spec->min, spec->max);
        }
        return;
    }
}
