/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Settings: the library's own table, and the parsing that provider modules' tables share.
 */
#ifndef MRP_BASE_SETTINGS_H
#define MRP_BASE_SETTINGS_H

#include "mrpool/base.h"

enum mrp_setting_id {
    MRP_SET_PROVIDER_PATH,
    MRP_SET_BACKEND,
    MRP_SET_PAGES,
    MRP_SET_PREFAULT,
    MRP_SET_PREFAULT_THREADS,
    MRP_SET_MAX_BYTES,
    MRP_SET_MAX_REGISTRATIONS,
    MRP_SET_CHUNK_MIN,
    MRP_SET_CHUNK_MAX,
    MRP_SET_SMALL_MAX,
    MRP_SET_MEDIUM_MAX,
    MRP_SET_LARGE_MAX,
    MRP_SET_HUGE_MAX,
    MRP_SET_RETAINED_SIZE,
    MRP_SET_RETAINED_COUNT,
    MRP_SET_CHECKS,
    MRP_SET_THREAD_CACHE_SIZE,
    MRP_SET_PRESET,
    MRP_SET_AT_LIMIT,
    MRP_SET_WAIT_MS,
    MRP_SET_DECAY_MS,
    MRP_SET_RESERVE,
    MRP_SET_QUARANTINE_MS,
    MRP_SET_CONTEXT_MAX_BYTES,
    MRP_SET_CONTEXT_MAX_REGISTRATIONS,
    MRP_SET_DEBUG,
    MRP_SET_COUNT
};

const struct mrp_setting_spec *mrp_setting_spec(enum mrp_setting_id id);

/** The text in force: the environment's, else the default. */
const char *mrp_setting_text(const struct mrp_setting_spec *spec);

/** Parse a value: COUNT and SIZE give the number, CHOICE the word's index, SWITCH 0 or 1,
 * FLAGS a bit per word's index, an empty default 0. A refusal names `where` ("MRPOOL_PAGES", "options key pages"). */
enum mrp_status mrp_setting_parse(const struct mrp_setting_spec *spec, const char *where,
    const char *text, uint64_t *value);

/** `given` if it is not zero, else the environment, else the default; checked against the
 *  spec's range. `where` names the parameter ("max_bytes"). */
enum mrp_status mrp_setting_number(
    enum mrp_setting_id id, const char *where, uint64_t given, uint64_t *value);

/** Validate every variable of the environment that starts with `prefix` against a table:
 *  wrong values and names that are in no row are refused by name, unless `is_foreign`
 *  says the name belongs to somebody else. */
enum mrp_status mrp_settings_validate(const char *prefix,
    const struct mrp_setting_spec *specs, size_t n_specs,
    bool (*is_foreign)(const char *variable, size_t length));

/** mrp_settings_validate for the library's own table. */
enum mrp_status mrp_settings_check(
    bool (*is_foreign)(const char *variable, size_t length));

#endif
