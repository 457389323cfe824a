/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Writing JSON, a value at a time, to a stream. Every text comes out as valid UTF-8.
 */
#ifndef MRP_BASE_JSON_H
#define MRP_BASE_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct mrp_json {
    FILE *file;
    int depth; /* objects and arrays that are open */
    bool has_members; /* the innermost one */
};

/** Open an object ('{') or an array ('['). `key` is the name in an object, NULL in an
 *  array and for the outermost. */
void mrp_json_open(struct mrp_json *json, const char *key, char bracket);

/** Close the innermost one, with the other bracket. */
void mrp_json_close(struct mrp_json *json, char bracket);

/** A number; UINT64_MAX, which stands for "unlimited" everywhere, becomes null. */
void mrp_json_number(struct mrp_json *json, const char *key, uint64_t value);

void mrp_json_bool(struct mrp_json *json, const char *key, bool value);

/** A text; NULL becomes null, each byte that is not of a UTF-8 character U+FFFD. */
void mrp_json_text(struct mrp_json *json, const char *key, const char *text);

#endif
