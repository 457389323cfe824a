/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Asking the library. What it hands to a visitor lives only during the visit, so it is
 * copied.
 */
#include "info.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "MRPOOL_"

/* Room for one more element; there is nothing left to tell without memory. */
static void *append(void *array, size_t n, size_t size)
{
    void *larger = reallocarray(array, n + 1, size);

    if (larger == NULL) {
        fputs("mrpool: out of memory\n", stderr);
        exit(EXIT_FAILURE);
    }
    return larger;
}

static const char *keep(struct info *info, const char *text)
{
    char *copy = strdup(text != NULL ? text : "");

    info->texts = append(info->texts, info->n_texts, sizeof(char *));
    if (copy == NULL) {
        fputs("mrpool: out of memory\n", stderr);
        exit(EXIT_FAILURE);
    }
    info->texts[info->n_texts++] = copy;
    return copy;
}

/* -- backends and providers ---------------------------------------------------------- */

static void visit_backend(const char *kind, const char *purpose, void *user)
{
    struct info *info = user;

    info->backends = append(info->backends, info->n_backends, sizeof(info->backends[0]));
    info->backends[info->n_backends++] =
        (struct info_backend){keep(info, kind), keep(info, purpose)};
}

static struct info_setting *add_setting(struct info *info)
{
    info->settings = append(info->settings, info->n_settings, sizeof(info->settings[0]));
    return &info->settings[info->n_settings++];
}

static const char *refusing_call(const char *module)
{
    return module == NULL ? "mrp_context_create" : "mrp_provider_open";
}

static void keep_setting(
    struct info *info, const char *module, const struct mrp_setting *setting)
{
    const struct mrp_setting_spec *spec = setting->spec;

    *add_setting(info) = (struct info_setting){
        .variable = keep(info, spec->variable),
        .module = module,
        .value = keep(info, setting->value),
        .default_text = keep(info, spec->default_text),
        .purpose = keep(info, spec->purpose),
        .choices = spec->choices != NULL ? keep(info, spec->choices) : NULL,
        .from_environment = setting->from_environment,
        .problem = keep(info, setting->problem),
        .refused_by = refusing_call(module),
    };
}

static void visit_module(const struct mrp_module *module, void *user)
{
    struct info *info = user;
    const char *name = keep(info, module->name);

    info->providers =
        append(info->providers, info->n_providers, sizeof(info->providers[0]));
    info->providers[info->n_providers++] = (struct info_provider){
        .name = name,
        .purpose = keep(info, module->purpose),
        .path = keep(info, module->path),
        .status = module->status,
        .problem = keep(info, module->problem),
        .devices_problem = "",
    };
    for (size_t i = 0; i < module->n_settings; i++) {
        struct mrp_setting setting;

        mrp_setting_query(&module->settings[i], &setting);
        keep_setting(info, name, &setting);
    }
}

struct listing {
    struct info *info;
    struct info_provider *provider;
};

static void visit_device(const struct mrp_device *device, void *user)
{
    struct listing *listing = user;
    struct info_provider *provider = listing->provider;

    provider->devices =
        append(provider->devices, provider->n_devices, sizeof(provider->devices[0]));
    provider->devices[provider->n_devices++] = (struct info_device){
        .name = keep(listing->info, device->name),
        .domain = keep(listing->info, device->domain),
        .options = keep(listing->info, device->options),
        .detail = keep(listing->info, device->detail),
    };
}

static void collect_devices(struct info *info, struct info_provider *provider)
{
    struct listing listing = {info, provider};

    if (provider->status == MRP_OK &&
        mrp_module_devices(provider->name, visit_device, &listing) != MRP_OK) {
        provider->devices_problem = keep(info, mrp_error_last()->text);
    }
}

/* -- settings ------------------------------------------------------------------------ */

static void visit_setting(const struct mrp_setting *setting, void *user)
{
    keep_setting(user, NULL, setting);
}

static bool is_listed(const struct info *info, const char *variable)
{
    for (size_t i = 0; i < info->n_settings; i++) {
        if (strcmp(info->settings[i].variable, variable) == 0) {
            return true;
        }
    }
    return false;
}

/* The library's last refusal begins with the variable it is about. It names one at a time:
 * unset, so that the next attempt names the next. False when it is about no variable. */
static bool take_refusal(struct info *info, const char *module)
{
    const char *problem = mrp_error_last()->text;
    char name[sizeof(mrp_error_last()->text)];
    const char *value;

    snprintf(name, sizeof(name), "%.*s", (int)strcspn(problem, ":="), problem);
    value = getenv(name);
    if (value == NULL || strncmp(name, PREFIX, strlen(PREFIX)) != 0) {
        return false;
    }
    if (!is_listed(info, name)) {
        *add_setting(info) = (struct info_setting){
            .variable = keep(info, name),
            .module = module,
            .value = keep(info, value),
            .default_text = "",
            .purpose = "",
            .from_environment = true,
            .problem = keep(info, problem),
            .refused_by = refusing_call(module),
        };
    }
    unsetenv(name);
    return true;
}

/* A misspelt name is as wrong as a wrong value. Which names there are is the library's to
 * say, so it is asked for a context and each module for a provider; an option that no
 * module has keeps them from opening a device. */
static void collect_refused(struct info *info)
{
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;
    struct mrp_provider *provider;
    struct mrp_context *context;
    enum mrp_status status;

    params.options = "info-opens-no-device=1";
    do {
        status = mrp_context_create(NULL, &context);
    } while (status != MRP_OK && take_refusal(info, NULL));
    if (status != MRP_OK) {
        return;
    }
    for (size_t i = 0; i < info->n_providers; i++) {
        do {
            status =
                mrp_provider_open(context, info->providers[i].name, &params, &provider);
        } while (status != MRP_OK && take_refusal(info, info->providers[i].name));
    }
    mrp_context_destroy(context);
}

/* -- everything ---------------------------------------------------------------------- */

void info_collect(struct info *info, unsigned sections)
{
    struct mrp_system system = MRP_SYSTEM_INIT;

    *info = (struct info){.sections = sections, .memlock_limit = MRP_UNLIMITED};
    if (mrp_system_query(&system) == MRP_OK) {
        info->memlock_limit = system.memlock_limit;
        if ((sections & INFO_LIMITS) != 0) {
            info->n_limits = tool_limits_judge(&system, info->limits);
        }
    }
    if ((sections & INFO_BACKENDS) != 0) {
        mrp_backend_kinds(visit_backend, info);
    }
    if ((sections & INFO_SETTINGS) != 0) {
        mrp_setting_visit(visit_setting, info);
    }
    if ((sections & (INFO_PROVIDERS | INFO_SETTINGS)) != 0) {
        mrp_module_visit(visit_module, info);
    }
    for (size_t i = 0; (sections & INFO_PROVIDERS) != 0 && i < info->n_providers; i++) {
        collect_devices(info, &info->providers[i]);
    }
    if ((sections & INFO_SETTINGS) != 0) {
        collect_refused(info);
    }
}

size_t info_count_invalid(const struct info *info)
{
    size_t count = 0;

    for (size_t i = 0; i < info->n_settings; i++) {
        count += info->settings[i].problem[0] != '\0';
    }
    return count;
}

void info_free(struct info *info)
{
    for (size_t i = 0; i < info->n_providers; i++) {
        free(info->providers[i].devices);
    }
    for (size_t i = 0; i < info->n_texts; i++) {
        free(info->texts[i]);
    }
    free(info->backends);
    free(info->providers);
    free(info->settings);
    free(info->texts);
}
