/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A report as a test reads it: the text, and the JSON as an object.
 */
#ifndef MRP_TEST_REPORT_H
#define MRP_TEST_REPORT_H

#include "support/pool_fixture.h"

#include <jansson.h>
#include <stdlib.h>

/* A report in memory, to be freed. */
static __attribute__((noinline, unused)) char *report_read(
    struct mrp_context *context, enum mrp_report_format format)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = open_memstream(&text, &size);

    assert_non_null(file);
    if (mrp_context_report(context, format, file) != MRP_OK) {
        fail_msg("mrp_context_report: %s", mrp_error_last()->text);
    }
    fclose(file);
    assert_int_equal(strlen(text), size);
    return text;
}

static inline json_t *report_json(struct mrp_context *context)
{
    char *text = report_read(context, MRP_REPORT_JSON);
    json_error_t error;
    json_t *root = json_loads(text, JSON_REJECT_DUPLICATES, &error);

    if (root == NULL) {
        fail_msg("line %d: %s in\n%s", error.line, error.text, text);
    }
    free(text);
    return root;
}

/* What a path leads to, "pools.0.tiers.1.name"; must be there. */
static inline json_t *report_at(json_t *root, const char *path)
{
    json_t *value = root;
    char step[64];

    for (const char *rest = path; value != NULL && *rest != '\0';) {
        size_t length = strcspn(rest, ".");

        snprintf(step, sizeof step, "%.*s", (int)length, rest);
        value = json_is_array(value) ? json_array_get(value, strtoul(step, NULL, 10))
                                     : json_object_get(value, step);
        rest += length + (rest[length] == '.');
    }
    if (value == NULL) {
        fail_msg("the report has no %s", path);
    }
    return value;
}

static inline size_t report_number(json_t *root, const char *path)
{
    json_t *value = report_at(root, path);

    if (!json_is_integer(value)) {
        fail_msg("%s is no number", path);
    }
    return (size_t)json_integer_value(value);
}

static inline const char *report_text(json_t *root, const char *path)
{
    const char *text = json_string_value(report_at(root, path));

    if (text == NULL) {
        fail_msg("%s is no text", path);
    }
    return text != NULL ? text : "";
}

/* The line of a text that begins with `start`, blanks and marks before it aside, in words
 * with one blank between them. */
static inline const char *report_line(const char *text, const char *start)
{
    static char line[512];
    size_t end = 0;

    for (; text != NULL; text = strchr(text, '\n'), text += text != NULL) {
        const char *from = text + strspn(text, "! ");

        if (strncmp(from, start, strlen(start)) == 0 &&
            strchr(" \n", from[strlen(start)]) != NULL) {
            for (; *from != '\n' && *from != '\0' && end + 1 < sizeof line; from++) {
                if (*from != ' ' || line[end - 1] != ' ') {
                    line[end++] = *from;
                }
            }
            line[end] = '\0';
            return line;
        }
    }
    fail_msg("no line begins with \"%s\"", start);
    return NULL;
}

#endif
