/* SPDX-License-Identifier: BSD-3-Clause */
#include "info.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* So that no member is lost in silence where there is no memory. */
static void *allocate(size_t size)
{
    void *memory = malloc(size);

    if (memory == NULL) {
        fputs("mrpool: out of memory\n", stderr);
        exit(EXIT_FAILURE);
    }
    return memory;
}

/* Bytes of the UTF-8 character at `text`, 0 when they are none: the shortest that jansson
 * takes. */
static size_t character_length(const char *text)
{
    size_t length = strnlen(text, 4);

    for (size_t n = 1; n <= length; n++) {
        json_t *character = json_stringn(text, n);

        if (character != NULL) {
            json_decref(character);
            return n;
        }
    }
    return 0;
}

/* An environment may hold any bytes, JSON may not. */
static json_t *repaired(const char *text)
{
    char *copy = allocate(strlen(text) * strlen(REPLACEMENT) + 1);
    size_t end = 0;
    json_t *string;

    while (*text != '\0') {
        size_t length = character_length(text);
        const char *from = length != 0 ? text : REPLACEMENT;
        size_t size = length != 0 ? length : strlen(REPLACEMENT);

        memcpy(copy + end, from, size);
        end += size;
        text += length != 0 ? length : 1;
    }
    string = json_stringn(copy, end);
    free(copy);
    return string;
}

static json_t *text_json(const char *text)
{
    json_t *string = json_string(text);

    return string != NULL ? string : repaired(text);
}

static json_t *text_or_null(const char *text)
{
    return text != NULL ? text_json(text) : json_null();
}

static json_t *limits_json(const struct info *info)
{
    json_t *all = json_object();

    for (size_t i = 0; i < info->n_limits; i++) {
        const struct tool_limit *limit = &info->limits[i];

        json_object_set_new(all, limit->key,
            json_pack("{s:o, s:s, s:s, s:s, s:s}", "value",
                limit->value == MRP_UNLIMITED ? json_null()
                                              : json_integer((json_int_t)limit->value),
                "text", limit->text, "level", tool_level_name(limit->level), "remark",
                limit->remark, "remedy", limit->remedy));
    }
    return all;
}

static json_t *backends_json(const struct info *info)
{
    json_t *all = json_array();

    for (size_t i = 0; i < info->n_backends; i++) {
        json_array_append_new(all,
            json_pack("{s:o, s:o}", "kind", text_json(info->backends[i].kind), "purpose",
                text_json(info->backends[i].purpose)));
    }
    return all;
}

static json_t *devices_json(const struct info_provider *provider)
{
    json_t *all = json_array();

    for (size_t i = 0; i < provider->n_devices; i++) {
        const struct info_device *device = &provider->devices[i];

        json_array_append_new(all,
            json_pack("{s:o, s:o, s:o, s:o}", "name", text_json(device->name), "domain",
                text_json(device->domain), "options", text_json(device->options),
                "detail", text_json(device->detail)));
    }
    return all;
}

static json_t *providers_json(const struct info *info)
{
    json_t *all = json_array();

    for (size_t i = 0; i < info->n_providers; i++) {
        const struct info_provider *provider = &info->providers[i];
        bool usable = provider->status == MRP_OK && provider->devices_problem[0] == '\0';

        json_array_append_new(all,
            json_pack("{s:o, s:b, s:s, s:o, s:o, s:o, s:o}", "name",
                text_json(provider->name), "usable", usable, "status",
                mrp_status_name(provider->status), "purpose",
                text_json(provider->purpose), "path", text_json(provider->path),
                "problem",
                text_json(provider->problem[0] != '\0' ? provider->problem
                                                       : provider->devices_problem),
                "devices", devices_json(provider)));
    }
    return all;
}

static json_t *settings_json(const struct info *info)
{
    json_t *all = json_array();

    for (size_t i = 0; i < info->n_settings; i++) {
        const struct info_setting *setting = &info->settings[i];

        json_array_append_new(all,
            json_pack("{s:o, s:o, s:o, s:o, s:s, s:b, s:o, s:o, s:o}", "variable",
                text_json(setting->variable), "module", text_or_null(setting->module),
                "value", text_json(setting->value), "default",
                text_json(setting->default_text), "origin",
                setting->from_environment ? "environment" : "default", "valid",
                setting->problem[0] == '\0', "problem", text_json(setting->problem),
                "choices", text_or_null(setting->choices), "purpose",
                text_json(setting->purpose)));
    }
    return all;
}

bool info_print_json(const struct info *info)
{
    static const struct {
        const char *key;
        json_t *(*make)(const struct info *info);
    } sections[] = {{"limits", limits_json}, {"backends", backends_json},
        {"providers", providers_json}, {"settings", settings_json}};
    json_t *root;
    bool ok;

    json_set_alloc_funcs(allocate, free);
    root = json_pack("{s:s}", "version", mrp_version());
    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
        if ((info->sections & 1u << i) != 0) {
            json_object_set_new(root, sections[i].key, sections[i].make(info));
        }
    }
    ok = json_dumpf(root, stdout, JSON_INDENT(2)) == 0;
    putchar('\n');
    json_decref(root);
    return ok;
}
