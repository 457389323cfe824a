/* SPDX-License-Identifier: BSD-3-Clause */
#include "json.h"

#include <inttypes.h>

/* Bytes of the UTF-8 character at `text`, 0 when they are none (RFC 3629: no overlong
 * forms, no surrogates, nothing above U+10FFFF). */
static size_t utf8_length(const unsigned char *text)
{
    unsigned char first = text[0], low = 0x80, high = 0xbf;
    size_t length = 0;

    if (first < 0x80) {
        return 1;
    }
    if (first >= 0xc2 && first <= 0xdf) {
        length = 2;
    } else if (first >= 0xe0 && first <= 0xef) {
        length = 3;
        low = first == 0xe0 ? 0xa0 : low;
        high = first == 0xed ? 0x9f : high;
    } else if (first >= 0xf0 && first <= 0xf4) {
        length = 4;
        low = first == 0xf0 ? 0x90 : low;
        high = first == 0xf4 ? 0x8f : high;
    }
    for (size_t i = 1; i < length; i++) {
        if (text[i] < low || text[i] > high) {
            return 0;
        }
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

static void write_string(FILE *file, const char *text)
{
    const unsigned char *next = (const unsigned char *)text;

    fputc('"', file);
    while (*next != '\0') {
        size_t length = utf8_length(next);

        if (length == 0) {
            fputs("\xef\xbf\xbd", file);
            next++;
            continue;
        }
        if (*next < ' ') {
            fprintf(file, "\\u%04x", *next);
        } else {
            if (*next == '"' || *next == '\\') {
                fputc('\\', file);
            }
            fwrite(next, 1, length, file);
        }
        next += length;
    }
    fputc('"', file);
}

static void new_line(struct tool_json *json)
{
    if (json->depth > 0) {
        fprintf(json->file, "\n%*s", 2 * json->depth, "");
    }
}

static void begin_member(struct tool_json *json, const char *key)
{
    if (!json->is_first) {
        fputc(',', json->file);
    }
    new_line(json);
    json->is_first = false;
    if (key != NULL) {
        write_string(json->file, key);
        fputs(": ", json->file);
    }
}

static void begin(struct tool_json *json, const char *key, char bracket)
{
    begin_member(json, key);
    fputc(bracket, json->file);
    json->depth++;
    json->is_first = true;
}

static void end(struct tool_json *json, char bracket)
{
    bool is_empty = json->is_first;

    json->depth--;
    json->is_first = false;
    if (!is_empty) {
        fprintf(json->file, "\n%*s", 2 * json->depth, "");
    }
    fputc(bracket, json->file);
    if (json->depth == 0) {
        fputc('\n', json->file);
    }
}

void tool_json_begin_object(struct tool_json *json, const char *key)
{
    begin(json, key, '{');
}

void tool_json_end_object(struct tool_json *json)
{
    end(json, '}');
}

void tool_json_begin_array(struct tool_json *json, const char *key)
{
    begin(json, key, '[');
}

void tool_json_end_array(struct tool_json *json)
{
    end(json, ']');
}

void tool_json_text(struct tool_json *json, const char *key, const char *text)
{
    if (text == NULL) {
        tool_json_null(json, key);
        return;
    }
    begin_member(json, key);
    write_string(json->file, text);
}

void tool_json_number(struct tool_json *json, const char *key, uint64_t number)
{
    begin_member(json, key);
    fprintf(json->file, "%" PRIu64, number);
}

void tool_json_bool(struct tool_json *json, const char *key, bool value)
{
    begin_member(json, key);
    fputs(value ? "true" : "false", json->file);
}

void tool_json_null(struct tool_json *json, const char *key)
{
    begin_member(json, key);
    fputs("null", json->file);
}
