/* SPDX-License-Identifier: BSD-3-Clause */
#include "info.h"
#include "screen.h"

#include <stdio.h>
#include <string.h>

#define INDENT 2
#define DEVICES_COLUMN (INDENT + 18)

static void start_section(struct tool_screen *screen, const char *title)
{
    tool_screen_newline(screen);
    tool_screen_print(screen, TOOL_TITLE, 0, title);
    tool_screen_newline(screen);
}

/* Widest text of a column, at most `limit`, and a gap. */
static void widen(int *width, const char *text, int limit)
{
    int length = (int)strlen(text) + 2;

    if (length > *width) {
        *width = length < limit ? length : limit;
    }
}

static void print_limits(struct tool_screen *screen, const struct info *info)
{
    static const enum tool_tint tints[] = {TOOL_FAINT, TOOL_PLAIN, TOOL_LOW};
    int value_width = 0;

    start_section(screen, "Limits");
    for (size_t i = 0; i < info->n_limits; i++) {
        widen(&value_width, info->limits[i].text, 24);
    }
    for (size_t i = 0; i < info->n_limits; i++) {
        const struct tool_limit *limit = &info->limits[i];
        bool is_small = limit->level == TOOL_LEVEL_SMALL;
        int remark_column;

        tool_screen_move(screen, INDENT);
        tool_screen_print(screen, TOOL_PLAIN, 18, limit->label);
        tool_screen_print(
            screen, is_small ? TOOL_LOW : TOOL_PLAIN, value_width, limit->text);
        remark_column = screen->column;
        tool_screen_wrap(screen, tints[limit->level], limit->remark);
        if (limit->remedy[0] != '\0') {
            tool_screen_newline(screen);
            tool_screen_move(screen, remark_column);
            tool_screen_print(screen, TOOL_GOOD, 3, "->");
            tool_screen_wrap(screen, TOOL_PLAIN, limit->remedy);
        }
        tool_screen_newline(screen);
    }
}

static void print_backends(struct tool_screen *screen, const struct info *info)
{
    start_section(screen, "Backends");
    for (size_t i = 0; i < info->n_backends; i++) {
        tool_screen_move(screen, INDENT);
        tool_screen_print(screen, TOOL_PLAIN, 18, info->backends[i].kind);
        tool_screen_wrap(screen, TOOL_FAINT, info->backends[i].purpose);
        tool_screen_newline(screen);
    }
}

/* With the options to pass in the last column; what they mean only if details are wanted.
 */
static void print_devices(
    struct tool_screen *screen, const struct info_provider *provider, bool verbose)
{
    int name_width = 0, domain_width = 0;

    for (size_t i = 0; i < provider->n_devices; i++) {
        widen(&name_width, provider->devices[i].name, 24);
        widen(&domain_width, provider->devices[i].domain, 16);
    }
    for (size_t i = 0; i < provider->n_devices; i++) {
        const struct info_device *device = &provider->devices[i];
        int options_column;

        tool_screen_move(screen, DEVICES_COLUMN);
        tool_screen_print(screen, TOOL_PLAIN, name_width, device->name);
        tool_screen_print(screen, TOOL_PLAIN, domain_width, device->domain);
        options_column = screen->column;
        tool_screen_wrap(screen, TOOL_PLAIN, device->options);
        if (verbose && device->detail[0] != '\0') {
            tool_screen_newline(screen);
            tool_screen_move(screen, options_column);
            tool_screen_wrap(screen, TOOL_FAINT, device->detail);
        }
        tool_screen_newline(screen);
    }
}

/* The purpose; of the provider that pins and nothing else also how far it gets. */
static void print_purpose(struct tool_screen *screen, const struct info *info,
    const struct info_provider *provider)
{
    char size[32], text[256];

    if (strcmp(provider->name, "host") != 0 ||
        !tool_memlock_is_small(info->memlock_limit)) {
        tool_screen_wrap(screen, TOOL_PLAIN, provider->purpose);
        return;
    }
    tool_size_write(size, sizeof(size), info->memlock_limit);
    snprintf(text, sizeof(text), "up to %s (memlock limit): %s", size, provider->purpose);
    tool_screen_wrap(screen, TOOL_LOW, text);
}

static void print_provider(struct tool_screen *screen, const struct info *info,
    const struct info_provider *provider)
{
    bool usable = provider->status == MRP_OK && provider->devices_problem[0] == '\0';

    tool_screen_move(screen, INDENT);
    tool_screen_print(screen, TOOL_PLAIN, 9, provider->name);
    tool_screen_print(
        screen, usable ? TOOL_GOOD : TOOL_LOW, 9, usable ? "usable" : "missing");
    if (!usable) {
        tool_screen_wrap(screen, TOOL_PLAIN,
            provider->problem[0] != '\0' ? provider->problem : provider->devices_problem);
        tool_screen_newline(screen);
        return;
    }
    print_purpose(screen, info, provider);
    tool_screen_newline(screen);
    tool_screen_move(screen, DEVICES_COLUMN);
    tool_screen_wrap(screen, TOOL_FAINT, provider->path);
    tool_screen_newline(screen);
    print_devices(screen, provider, info->verbose);
}

static void print_providers(struct tool_screen *screen, const struct info *info)
{
    start_section(screen, "Providers");
    for (size_t i = 0; i < info->n_providers; i++) {
        print_provider(screen, info, &info->providers[i]);
    }
}

/* The problem without the "NAME=value: " or "NAME: " that begins it: the row has both. */
static const char *bare_problem(const struct info_setting *setting)
{
    const char *text = setting->problem;
    size_t name_length = strlen(setting->variable);
    size_t value_length = strlen(setting->value);

    if (strncmp(text, setting->variable, name_length) != 0) {
        return text;
    }
    text += name_length;
    if (text[0] == '=' && strncmp(text + 1, setting->value, value_length) == 0) {
        text += 1 + value_length;
    }
    return strncmp(text, ": ", 2) == 0 ? text + 2 : setting->problem;
}

static void print_setting(
    struct tool_screen *screen, const struct info_setting *setting, int variable_width)
{
    bool is_valid = setting->problem[0] == '\0';
    int text_column = INDENT + variable_width + 15;

    tool_screen_move(screen, INDENT);
    tool_screen_print(screen, TOOL_PLAIN, variable_width, setting->variable);
    tool_screen_print(screen,
        !is_valid                       ? TOOL_BAD
            : setting->from_environment ? TOOL_GOOD
                                        : TOOL_PLAIN,
        15, setting->value[0] != '\0' ? setting->value : "-");
    tool_screen_move(screen, text_column);
    if (!is_valid) {
        tool_screen_print(screen, TOOL_BAD, 9, "invalid");
        tool_screen_wrap(screen, TOOL_BAD, bare_problem(setting));
    } else {
        tool_screen_print(screen, setting->from_environment ? TOOL_GOOD : TOOL_FAINT, 9,
            setting->from_environment ? "set" : "default");
        tool_screen_wrap(screen, TOOL_FAINT, setting->purpose);
    }
    tool_screen_newline(screen);
}

/* One line for each invalid setting: who will refuse it. */
static void print_invalid(struct tool_screen *screen, const struct info *info)
{
    char text[256];

    tool_screen_newline(screen);
    for (size_t i = 0; i < info->n_settings; i++) {
        const struct info_setting *setting = &info->settings[i];

        if (setting->problem[0] != '\0') {
            snprintf(text, sizeof(text), "%s is invalid: %s%s%s will refuse it.",
                setting->variable, setting->refused_by,
                setting->module != NULL ? " of " : "",
                setting->module != NULL ? setting->module : "");
            tool_screen_wrap(screen, TOOL_BAD, text);
            tool_screen_newline(screen);
        }
    }
}

static void print_settings(struct tool_screen *screen, const struct info *info)
{
    int variable_width = 0;

    start_section(
        screen, "Settings (environment; parameters in the program win over it)");
    for (size_t i = 0; i < info->n_settings; i++) {
        widen(&variable_width, info->settings[i].variable, 32);
    }
    for (size_t i = 0; i < info->n_settings; i++) {
        print_setting(screen, &info->settings[i], variable_width);
    }
    if (info_count_invalid(info) > 0) {
        print_invalid(screen, info);
    }
}

void info_print_text(const struct info *info)
{
    static void (*const printers[])(struct tool_screen *, const struct info *) = {
        print_limits, print_backends, print_providers, print_settings};
    struct tool_screen screen;

    tool_screen_open(&screen);
    tool_screen_print(&screen, TOOL_TITLE, 7, "mrpool");
    tool_screen_print(&screen, TOOL_PLAIN, 0, mrp_version());
    tool_screen_newline(&screen);
    for (size_t i = 0; i < sizeof(printers) / sizeof(printers[0]); i++) {
        if ((info->sections & 1u << i) != 0) {
            printers[i](&screen, info);
        }
    }
}
