/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/json.h"

#include <inttypes.h>
#include <stddef.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Bytes of the UTF-8 character at `text`, 0 when there is none: neither overlong, nor a
 * surrogate, nor beyond U+10FFFF (Unicode 15, table 3-7). */
static size_t character_size(const unsigned char *text)
{
    unsigned char first = text[0], least = 0x80, most = 0xbf;
    size_t size;

    if (first < 0x80) {
        return 1;
    }
    if (first < 0xc2 || first > 0xf4) {
        return 0;
    }
    size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : least;
    most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : most;
    for (size_t i = 1; i < size; i++) { /* stops at the text's end: 0 is in no range */
        if (text[i] < least || text[i] > most) {
            return 0;
        }
        least = 0x80;
        most = 0xbf;
    }
    return size;
}

static void put_string(FILE *file, const char *string)
{
    const unsigned char *text = (const unsigned char *)string;

    fputc('"', file);
    while (*text != '\0') {
        size_t size = character_size(text);

        if (size == 0) {
            fputs(REPLACEMENT, file);
            size = 1;
        } else if (*text == '"' || *text == '\\') {
            fprintf(file, "\\%c", *text);
        } else if (*text == '\n') {
            fputs("\\n", file);
        } else if (*text < ' ' || *text == 0x7f) {
            fprintf(file, "\\u%04x", *text);
        } else {
            fwrite(text, 1, size, file);
        }
        text += size;
    }
    fputc('"', file);
}

static void begin_line(const struct mrp_json *json)
{
    fprintf(json->file, "\n%*s", 2 * json->depth, "");
}

/* What stands before a value: the comma, the line, the name. */
static void begin_value(struct mrp_json *json, const char *key)
{
    if (json->depth > 0) {
        fputs(json->has_members ? "," : "", json->file);
        begin_line(json);
    }
    if (key != NULL) {
        put_string(json->file, key);
        fputs(": ", json->file);
    }
    json->has_members = true;
}

void mrp_json_open(struct mrp_json *json, const char *key, char bracket)
{
    begin_value(json, key);
    fputc(bracket, json->file);
    json->depth++;
    json->has_members = false;
}

void mrp_json_close(struct mrp_json *json, char bracket)
{
    json->depth--;
    if (json->has_members) {
        begin_line(json);
    }
    fputc(bracket, json->file);
    if (json->depth == 0) {
        fputc('\n', json->file);
    }
    json->has_members = true;
}

void mrp_json_number(struct mrp_json *json, const char *key, uint64_t value)
{
    begin_value(json, key);
    if (value == UINT64_MAX) {
        fputs("null", json->file);
    } else {
        fprintf(json->file, "%" PRIu64, value);
    }
}

void mrp_json_bool(struct mrp_json *json, const char *key, bool value)
{
    begin_value(json, key);
    fputs(value ? "true" : "false", json->file);
}

void mrp_json_text(struct mrp_json *json, const char *key, const char *text)
{
    begin_value(json, key);
    if (text == NULL) {
        fputs("null", json->file);
    } else {
        put_string(json->file, text);
    }
}
