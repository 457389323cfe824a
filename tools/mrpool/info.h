/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What `mrpool info` knows: collected once, then written as text or as JSON, so that both
 * say the same.
 */
#ifndef TOOL_INFO_H
#define TOOL_INFO_H

#include "limits.h"

#include "mrpool/mrpool.h"

enum info_section {
    INFO_LIMITS = 1 << 0,
    INFO_BACKENDS = 1 << 1,
    INFO_PROVIDERS = 1 << 2,
    INFO_SETTINGS = 1 << 3
};
#define INFO_ALL (INFO_LIMITS | INFO_BACKENDS | INFO_PROVIDERS | INFO_SETTINGS)

/* Texts belong to the struct info; none is NULL unless that is said. */
struct info_backend {
    const char *kind, *purpose;
};

struct info_device {
    const char *name, *domain, *options, *detail;
};

struct info_provider {
    const char *name, *purpose, *path;
    enum mrp_status status;
    const char *problem;
    struct info_device *devices;
    size_t n_devices;
    const char *devices_problem; /* why none could be listed */
};

struct info_setting {
    const char *variable;
    const char *module; /* NULL: the library's own */
    const char *value; /* in force; "" where it is derived */
    const char *default_text;
    const char *purpose;
    const char *choices; /* NULL: no list of words */
    bool from_environment;
    const char *problem; /* why it will be refused; "" when valid */
    const char *refused_by; /* the call that will refuse it */
};

struct info {
    unsigned sections; /* enum info_section: what was asked for */
    bool verbose; /* details of devices too, in the text */
    struct tool_limit limits[TOOL_LIMITS_MAX];
    size_t n_limits;
    size_t memlock_limit; /* bytes; MRP_UNLIMITED */
    struct info_backend *backends;
    size_t n_backends;
    struct info_provider *providers;
    size_t n_providers;
    struct info_setting *settings;
    size_t n_settings;
    char **texts; /* every copy made; freed in the end */
    size_t n_texts;
};

void info_collect(struct info *info, unsigned sections);
void info_free(struct info *info);

/** Settings that will be refused. */
size_t info_count_invalid(const struct info *info);

void info_print_text(const struct info *info);

/** False when it could not be written. */
bool info_print_json(const struct info *info);

#endif
