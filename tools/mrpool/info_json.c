/* SPDX-License-Identifier: BSD-3-Clause */
#include "info.h"
#include "json.h"

static void write_limits(struct tool_json *json, const struct info *info)
{
    tool_json_begin_object(json, "limits");
    for (size_t i = 0; i < info->n_limits; i++) {
        const struct tool_limit *limit = &info->limits[i];

        tool_json_begin_object(json, limit->key);
        if (limit->value == MRP_UNLIMITED) {
            tool_json_null(json, "value");
        } else {
            tool_json_number(json, "value", limit->value);
        }
        tool_json_text(json, "text", limit->text);
        tool_json_text(json, "level", tool_level_name(limit->level));
        tool_json_text(json, "remark", limit->remark);
        tool_json_text(json, "remedy", limit->remedy);
        tool_json_end_object(json);
    }
    tool_json_end_object(json);
}

static void write_backends(struct tool_json *json, const struct info *info)
{
    tool_json_begin_array(json, "backends");
    for (size_t i = 0; i < info->n_backends; i++) {
        tool_json_begin_object(json, NULL);
        tool_json_text(json, "kind", info->backends[i].kind);
        tool_json_text(json, "purpose", info->backends[i].purpose);
        tool_json_end_object(json);
    }
    tool_json_end_array(json);
}

static void write_devices(struct tool_json *json, const struct info_provider *provider)
{
    tool_json_begin_array(json, "devices");
    for (size_t i = 0; i < provider->n_devices; i++) {
        const struct info_device *device = &provider->devices[i];

        tool_json_begin_object(json, NULL);
        tool_json_text(json, "name", device->name);
        tool_json_text(json, "domain", device->domain);
        tool_json_text(json, "options", device->options);
        tool_json_text(json, "detail", device->detail);
        tool_json_end_object(json);
    }
    tool_json_end_array(json);
}

static void write_providers(struct tool_json *json, const struct info *info)
{
    tool_json_begin_array(json, "providers");
    for (size_t i = 0; i < info->n_providers; i++) {
        const struct info_provider *provider = &info->providers[i];

        tool_json_begin_object(json, NULL);
        tool_json_text(json, "name", provider->name);
        tool_json_bool(json, "usable",
            provider->status == MRP_OK && provider->devices_problem[0] == '\0');
        tool_json_text(json, "status", mrp_status_name(provider->status));
        tool_json_text(json, "purpose", provider->purpose);
        tool_json_text(json, "path", provider->path);
        tool_json_text(json, "problem",
            provider->problem[0] != '\0' ? provider->problem : provider->devices_problem);
        write_devices(json, provider);
        tool_json_end_object(json);
    }
    tool_json_end_array(json);
}

static void write_settings(struct tool_json *json, const struct info *info)
{
    tool_json_begin_array(json, "settings");
    for (size_t i = 0; i < info->n_settings; i++) {
        const struct info_setting *setting = &info->settings[i];

        tool_json_begin_object(json, NULL);
        tool_json_text(json, "variable", setting->variable);
        tool_json_text(json, "module", setting->module);
        tool_json_text(json, "value", setting->value);
        tool_json_text(json, "default", setting->default_text);
        tool_json_text(
            json, "origin", setting->from_environment ? "environment" : "default");
        tool_json_bool(json, "valid", setting->problem[0] == '\0');
        tool_json_text(json, "problem", setting->problem);
        tool_json_text(json, "choices", setting->choices);
        tool_json_text(json, "purpose", setting->purpose);
        tool_json_end_object(json);
    }
    tool_json_end_array(json);
}

void info_print_json(const struct info *info)
{
    static void (*const writers[])(struct tool_json *, const struct info *) = {
        write_limits, write_backends, write_providers, write_settings};
    struct tool_json json = TOOL_JSON_INIT(stdout);

    tool_json_begin_object(&json, NULL);
    tool_json_text(&json, "version", mrp_version());
    for (size_t i = 0; i < sizeof(writers) / sizeof(writers[0]); i++) {
        if ((info->sections & 1u << i) != 0) {
            writers[i](&json, info);
        }
    }
    tool_json_end_object(&json);
}
