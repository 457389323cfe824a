/* SPDX-License-Identifier: BSD-3-Clause
 *
 * JSON written as it comes, so that the tool needs no library and runs where things are
 * missing. Keys are NULL inside arrays.
 */
#ifndef TOOL_JSON_H
#define TOOL_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct tool_json {
    FILE *file;
    int depth;
    bool is_first; /* no comma before the next member */
};

#define TOOL_JSON_INIT(file) \
    { \
        file, 0, true \
    }

void tool_json_begin_object(struct tool_json *json, const char *key);
void tool_json_end_object(struct tool_json *json);
void tool_json_begin_array(struct tool_json *json, const char *key);
void tool_json_end_array(struct tool_json *json);

/** Bytes that are not UTF-8 become U+FFFD; NULL becomes null. */
void tool_json_text(struct tool_json *json, const char *key, const char *text);
void tool_json_number(struct tool_json *json, const char *key, uint64_t number);
void tool_json_bool(struct tool_json *json, const char *key, bool value);
void tool_json_null(struct tool_json *json, const char *key);

#endif
