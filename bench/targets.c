/* SPDX-License-Identifier: BSD-3-Clause */
#include "targets.h"

#include "units.h"

#include <stdio.h>
#include <string.h>

void bench_target_label(const char *spec, char *label, size_t size)
{
    int module_length = (int)strcspn(spec, ":");
    const char *options = spec + module_length + (spec[module_length] == ':');
    char provider[17], domain[17];
    bool has_provider =
        bench_option_value(options, "provider", provider, sizeof provider);
    bool has_domain = bench_option_value(options, "domain", domain, sizeof domain);

    provider[has_provider ? strcspn(provider, ";") : 0] = '\0';
    if (!has_provider) {
        snprintf(label, size, "%.*s%s%.36s", module_length, spec,
            options[0] != '\0' ? " " : "", options);
        return;
    }
    has_domain = has_domain && strcmp(domain, provider) != 0; /* shm on shm */
    snprintf(label, size, "%.*s %s%s%s", module_length, spec, provider,
        has_domain ? " on " : "", has_domain ? domain : "");
}

static bool add_target(
    struct bench_targets *targets, const char *module, const char *options)
{
    struct bench_target *target = &targets->all[targets->n];

    if (targets->n == BENCH_TARGETS_MAX || strlen(module) >= sizeof target->module ||
        strlen(options) >= sizeof target->options) {
        return false;
    }
    snprintf(target->module, sizeof target->module, "%s", module);
    snprintf(target->options, sizeof target->options, "%s", options);
    snprintf(target->spec, sizeof target->spec, "%.23s%s%.100s", module,
        options[0] != '\0' ? ":" : "", options);
    bench_target_label(target->spec, target->label, sizeof target->label);
    targets->n++;
    return true;
}

/* -- named -----------------------------------------------------------------------------
 */

/* "domain=lo" continues the options before it; "host" and "ofi:domain=lo" begin a
 * provider. */
static bool continues(const char *part)
{
    size_t to_colon = strcspn(part, ":,");
    size_t to_equals = strcspn(part, "=,");

    return part[to_equals] == '=' && to_equals < to_colon;
}

const char *bench_targets_parse(const char *text, struct bench_targets *targets)
{
    char module[32], options[128];

    targets->n = 0;
    while (*text != '\0') {
        size_t module_length = strcspn(text, ":,");
        const char *end = text + strcspn(text, ",");
        const char *begin = text + module_length + (text[module_length] == ':');

        while (*end == ',' && continues(end + 1)) {
            end += 1 + strcspn(end + 1, ",");
        }
        if (module_length == 0 || module_length >= sizeof module) {
            return "write modules separated by commas, each with options after a colon";
        }
        snprintf(module, sizeof module, "%.*s", (int)module_length, text);
        snprintf(
            options, sizeof options, "%.*s", begin < end ? (int)(end - begin) : 0, begin);
        if (continues(module) || !add_target(targets, module, options)) {
            return "too many providers, or an option that is too long";
        }
        text = end + (*end == ',');
    }
    return targets->n > 0 ? NULL : "name at least one provider";
}

/* -- what the machine has --------------------------------------------------------------
 */

struct modules {
    struct bench *bench;
    size_t n;
    char names[BENCH_TARGETS_MAX][24];
};

static void visit_module(const struct mrp_module *module, void *user)
{
    struct modules *modules = user;

    if (module->status != MRP_OK) {
        bench_note(modules->bench, "%s: %s", module->name, module->problem);
    } else if (modules->n < BENCH_TARGETS_MAX) {
        snprintf(
            modules->names[modules->n++], sizeof modules->names[0], "%s", module->name);
    }
}

struct choice {
    struct bench_targets *targets;
    const char *module;
    size_t first; /* the module's first target */
};

static bool is_loopback(const char *domain)
{
    return strcmp(domain, "lo") == 0;
}

/* The target that is the same sort of device ("tcp" for "tcp;ofi_rxm" too); NULL if none.
 */
static struct bench_target *find_sort(const struct choice *choice, const char *name)
{
    size_t length = strcspn(name, ";");

    for (size_t i = choice->first; i < choice->targets->n; i++) {
        struct bench_target *target = &choice->targets->all[i];
        char value[64];

        if (bench_option_value(target->options, "provider", value, sizeof value) &&
            strcspn(value, ";") == length && strncmp(value, name, length) == 0) {
            return target;
        }
    }
    return NULL;
}

static bool is_on_loopback(const struct bench_target *target)
{
    char domain[64];

    return bench_option_value(target->options, "domain", domain, sizeof domain) &&
        is_loopback(domain);
}

static void visit_device(const struct mrp_device *device, void *user)
{
    struct choice *choice = user;
    struct bench_target *same = find_sort(choice, device->name);

    if (same == NULL) {
        add_target(choice->targets, choice->module, device->options);
        return;
    }
    if (is_loopback(device->domain) && !is_on_loopback(same)) {
        size_t n = choice->targets->n;

        choice->targets->n = (size_t)(same - choice->targets->all);
        add_target(choice->targets, choice->module, device->options);
        choice->targets->n = n;
    }
}

void bench_targets_default(struct bench *bench, struct bench_targets *targets)
{
    struct modules modules = {.bench = bench};

    targets->n = 0;
    mrp_module_visit(visit_module, &modules);
    for (size_t i = 0; i < modules.n; i++) {
        struct choice choice = {targets, modules.names[i], targets->n};

        if (mrp_module_devices(modules.names[i], visit_device, &choice) != MRP_OK &&
            mrp_error_last()->status != MRP_ERR_UNSUPPORTED) {
            bench_note(bench, "%s: %s", modules.names[i], mrp_error_last()->text);
        } else if (targets->n == choice.first) {
            add_target(targets, modules.names[i], "");
        }
    }
}
