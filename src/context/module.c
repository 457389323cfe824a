/* SPDX-License-Identifier: BSD-3-Clause */
#include "context/module.h"

#include "base/error.h"
#include "base/settings.h"

#include <ctype.h>
#include <dirent.h>
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define MRP_BUILTIN_BACKEND(name)
#define MRP_KNOWN_MODULE(name)
#define MRP_BUILTIN_PROVIDER(name) \
    extern const struct mrp_provider_ops mrp_provider_##name;
#include "mrp_builtin.h"
#undef MRP_BUILTIN_PROVIDER

static const struct mrp_provider_ops *const builtin[] = {
#define MRP_BUILTIN_PROVIDER(name) &mrp_provider_##name,
#include "mrp_builtin.h"
#undef MRP_BUILTIN_PROVIDER
};
#undef MRP_KNOWN_MODULE

/* Modules this library can be built with, present or not: so that a missing one is named.
 */
static const char *const known[] = {
#define MRP_BUILTIN_PROVIDER(name)
#define MRP_KNOWN_MODULE(name) #name,
#include "mrp_builtin.h"
#undef MRP_BUILTIN_PROVIDER
#undef MRP_KNOWN_MODULE
    NULL,
};

#define N_BUILTIN (sizeof builtin / sizeof builtin[0])
#define FILE_PREFIX "libmrpool-"
#define FILE_SUFFIX ".so"
#define MODULE_NAME_MAX 32
#define MODULE_FOLDER "mrpool" /* in the folder of libmrpool.so */
#define PATH_SIZE 4096

enum mrp_status mrp_provider_ops_check(
    const struct mrp_provider_ops *ops, const char *name, bool is_module)
{
    if (ops == NULL || ops->struct_size < offsetof(struct mrp_provider_ops, close) ||
        ops->register_memory == NULL || ops->deregister_memory == NULL ||
        (is_module && ops->open == NULL)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "provider %s: its ops table lacks struct_size, register_memory, "
            "deregister_memory%s",
            name, is_module ? " or open" : "");
    }
    if (ops->abi != MRP_PROVIDER_ABI) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "provider %s: its ops table is of ABI %u, this library speaks %u: rebuild it",
            name, ops->abi, MRP_PROVIDER_ABI);
    }
    return MRP_OK;
}

/* -- finding the file -- */

static bool is_module_name(const char *name, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (!islower((unsigned char)name[i]) && !isdigit((unsigned char)name[i])) {
            return false;
        }
    }
    return length > 0 && length < MODULE_NAME_MAX;
}

/* The folder beside libmrpool.so, wherever the tree was moved. Not for a program with the
 * static library: its "file" is argv[0], which whoever starts it chooses; nor with raised
 * privileges. */
static bool visit_own_folder(
    bool (*visit)(const char *folder, size_t length, void *user), void *user)
{
    char folder[PATH_SIZE];
    struct link_map *library = NULL;
    const char *slash;
    Dl_info self;

    if (getauxval(AT_SECURE) != 0 ||
        dladdr1(&known, &self, (void **)&library, RTLD_DL_LINKMAP) == 0 ||
        library == NULL || library->l_name[0] == '\0' || self.dli_fname == NULL ||
        self.dli_fname[0] != '/' || (slash = strrchr(self.dli_fname, '/')) == NULL ||
        slash - self.dli_fname > PATH_SIZE / 2) {
        return false;
    }
    snprintf(folder, sizeof folder, "%.*s/" MODULE_FOLDER, (int)(slash - self.dli_fname),
        self.dli_fname);
    return visit(folder, strlen(folder), user);
}

/* Call `visit` for each folder that is searched, in order, until it returns true. A
 * program with raised privileges takes no folder from its environment. */
static bool visit_folders(
    bool (*visit)(const char *folder, size_t length, void *user), void *user)
{
    const char *path = secure_getenv(mrp_setting_spec(MRP_SET_PROVIDER_PATH)->variable);

    while (path != NULL && *path != '\0') {
        size_t length = strcspn(path, ":");

        if (path[0] == '/' && length < PATH_SIZE / 2 && visit(path, length, user)) {
            return true;
        }
        path += length + (path[length] == ':');
    }
    return visit_own_folder(visit, user) ||
        visit(MRP_MODULE_DIR, strlen(MRP_MODULE_DIR), user);
}

struct search {
    const char *name;
    char path[PATH_SIZE];
};

static bool find_in_folder(const char *folder, size_t length, void *user)
{
    struct search *search = user;

    snprintf(search->path, sizeof search->path, "%.*s/" FILE_PREFIX "%s" FILE_SUFFIX,
        (int)length, folder, search->name);
    return access(search->path, F_OK) == 0;
}

static const struct mrp_provider_ops *find_builtin(const char *name)
{
    for (size_t i = 0; i < N_BUILTIN; i++) {
        if (strcmp(builtin[i]->module, name) == 0) {
            return builtin[i];
        }
    }
    return NULL;
}

bool mrp_module_owns_variable(const char *variable, size_t length)
{
    const char *word = variable + strlen("MRPOOL_");
    size_t word_length = strcspn(word, "_=");
    char name[MODULE_NAME_MAX];
    struct search search = {.name = name};

    if (word_length >= sizeof name || strlen("MRPOOL_") + word_length >= length) {
        return false;
    }
    for (size_t i = 0; i < word_length; i++) {
        if (islower((unsigned char)word[i])) { /* nobody would read it */
            return false;
        }
        name[i] = (char)tolower((unsigned char)word[i]);
    }
    name[word_length] = '\0';
    for (size_t i = 0; known[i] != NULL; i++) {
        if (strcmp(known[i], name) == 0) {
            return true;
        }
    }
    return is_module_name(name, word_length) &&
        (find_builtin(name) != NULL || visit_folders(find_in_folder, &search));
}

/* A stranger's table: what is read of it later has to be there. */
static enum mrp_status check_settings(const struct mrp_provider_ops *ops)
{
    char prefix[MODULE_NAME_MAX + 16];
    size_t length = (size_t)snprintf(prefix, sizeof prefix, "MRPOOL_%s_", ops->module);

    for (size_t i = 0; i < ops->n_settings; i++) {
        const struct mrp_setting_spec *spec = &ops->settings[i];

        if (spec->variable == NULL || strncasecmp(spec->variable, prefix, length) != 0 ||
            spec->default_text == NULL ||
            ((spec->kind == MRP_SETTING_CHOICE || spec->kind == MRP_SETTING_FLAGS) &&
                spec->choices == NULL)) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "provider %s: row %zu of its settings lacks a variable named "
                "MRPOOL_<MODULE>_..., a default or its choices",
                ops->module, i);
        }
    }
    return MRP_OK;
}

/* -- loading -- */

/* NODELETE: registrations, thread-local data and callbacks of a network library outlive
 * any moment at which unloading would be safe. */
static enum mrp_status load_file(
    const char *path, const char *name, const struct mrp_provider_ops **ops)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    char symbol[sizeof MRP_PROVIDER_SYMBOL_PREFIX + MODULE_NAME_MAX];
    enum mrp_status status;

    if (library == NULL) {
        return mrp_fail(MRP_ERR_UNAVAILABLE, 0,
            "provider %s does not load: %s; install what it names, or reinstall the "
            "module",
            name, dlerror());
    }
    snprintf(symbol, sizeof symbol, MRP_PROVIDER_SYMBOL_PREFIX "%s", name);
    *ops = dlsym(library, symbol);
    if (*ops == NULL) {
        return mrp_fail(MRP_ERR_UNAVAILABLE, 0,
            "%s is not a provider module: it exports no %s", path, symbol);
    }
    status = mrp_provider_ops_check(*ops, name, true);
    if (status == MRP_OK &&
        ((*ops)->module == NULL || strcmp((*ops)->module, name) != 0)) {
        status =
            mrp_fail(MRP_ERR_INVALID, 0, "%s says it is module \"%.32s\", not \"%s\"",
                path, (*ops)->module == NULL ? "" : (*ops)->module, name);
    }
    if (status == MRP_OK) {
        status = check_settings(*ops);
    }
    return status == MRP_OK
        ? MRP_OK
        : mrp_fail(MRP_ERR_UNAVAILABLE, 0, "%s", strdupa(mrp_error_last()->text));
}

static enum mrp_status fail_missing(const char *name)
{
    const char *path = mrp_setting_text(mrp_setting_spec(MRP_SET_PROVIDER_PATH));
    char names[256] = "";
    bool is_known = false;

    for (size_t i = 0; i < N_BUILTIN; i++) {
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s",
            i == 0 ? "" : ", ", builtin[i]->module);
    }
    for (size_t i = 0; known[i] != NULL; i++) {
        is_known = is_known || strcmp(known[i], name) == 0;
        snprintf(names + strlen(names), sizeof names - strlen(names), ", %s", known[i]);
    }
    return mrp_fail(MRP_ERR_UNAVAILABLE, 0,
        "no provider module \"%s\": no " FILE_PREFIX "%s" FILE_SUFFIX
        " beside the library, in " MRP_MODULE_DIR
        " or in MRPOOL_PROVIDER_PATH (%.128s)%s%s",
        name, name, path[0] == '\0' ? "not set" : path,
        is_known ? "; install it, or build mrpool where its network library is installed"
                 : "; this library has ",
        is_known ? "" : names);
}

static enum mrp_status load(
    const char *name, const struct mrp_provider_ops **ops, struct search *search)
{
    search->name = name;
    snprintf(search->path, sizeof search->path, "built in");
    if (!is_module_name(name, strlen(name))) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "\"%.32s\" cannot be a module: names have up to %d lower-case letters and "
            "digits",
            name, MODULE_NAME_MAX - 1);
    }
    *ops = find_builtin(name);
    if (*ops != NULL) {
        return MRP_OK;
    }
    if (!visit_folders(find_in_folder, search)) {
        search->path[0] = '\0';
        return fail_missing(name);
    }
    return load_file(search->path, name, ops);
}

enum mrp_status mrp_module_load(const char *name, const struct mrp_provider_ops **ops)
{
    struct search search;

    return load(name, ops, &search);
}

/* -- settings of a module -- */

/* The row whose variable is MRPOOL_<MODULE>_<KEY>, compared without case. */
static size_t find_key(const struct mrp_provider_ops *ops, const char *key)
{
    size_t i = 0;
    size_t prefix = strlen("MRPOOL_") + strlen(ops->module) + 1;

    while (
        i < ops->n_settings && strcasecmp(ops->settings[i].variable + prefix, key) != 0) {
        i++;
    }
    return i;
}

/* Split "key=value,key=value" in place and put the values at their rows. */
static enum mrp_status read_options(
    const struct mrp_provider_ops *ops, char *options, const char **values)
{
    enum mrp_status status;
    char *next = options;
    uint64_t number;

    while (next != NULL && *next != '\0') {
        char *key = strsep(&next, ",");
        char *value = strchr(key, '=');
        size_t row;

        if (value == NULL) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "provider %s: option \"%.64s\" has no value: write key=value,key=value",
                ops->module, key);
        }
        *value++ = '\0';
        row = find_key(ops, key);
        if (row == ops->n_settings) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "provider %s has no option \"%.64s\"; `mrpool info` lists them",
                ops->module, key);
        }
        status = mrp_setting_parse(&ops->settings[row], key, value, &number);
        if (status != MRP_OK) {
            return status;
        }
        values[row] = value;
    }
    return MRP_OK;
}

enum mrp_status mrp_module_settings(const struct mrp_provider_ops *ops,
    const char *options, const char **values, uint64_t *numbers, char **storage)
{
    char prefix[MODULE_NAME_MAX + 16];
    enum mrp_status status;
    size_t length;

    length = (size_t)snprintf(prefix, sizeof prefix, "MRPOOL_%s_", ops->module);
    for (size_t i = 0; i < length; i++) {
        prefix[i] = (char)toupper((unsigned char)prefix[i]);
    }
    status = mrp_settings_validate(prefix, ops->settings, ops->n_settings, NULL);
    if (status != MRP_OK) {
        return status;
    }
    for (size_t i = 0; i < ops->n_settings; i++) {
        values[i] = mrp_setting_text(&ops->settings[i]);
    }
    *storage = strdup(options == NULL ? "" : options);
    if (*storage == NULL) {
        return mrp_fail(
            MRP_ERR_MEMORY, 0, "malloc for the options of %s failed", ops->module);
    }
    status = read_options(ops, *storage, values);
    for (size_t i = 0; status == MRP_OK && i < ops->n_settings; i++) {
        status = mrp_setting_parse(
            &ops->settings[i], ops->settings[i].variable, values[i], &numbers[i]);
    }
    if (status != MRP_OK) {
        free(*storage);
    }
    return status;
}

/* -- describing every module -- */

struct listing {
    mrp_module_visitor *visit;
    void *user;
    char seen[64][MODULE_NAME_MAX];
    size_t n_seen;
};

static void describe(struct listing *listing, const char *name)
{
    struct mrp_module module = {.name = name, .purpose = "", .problem = ""};
    const struct mrp_provider_ops *ops = NULL;
    struct mrp_error before = *mrp_error_last(), problem;
    struct search search;

    for (size_t i = 0; i < listing->n_seen; i++) {
        if (strcmp(listing->seen[i], name) == 0) {
            return;
        }
    }
    if (listing->n_seen == sizeof listing->seen / sizeof listing->seen[0]) {
        return;
    }
    snprintf(listing->seen[listing->n_seen++], MODULE_NAME_MAX, "%s", name);
    module.status = load(name, &ops, &search);
    module.path = search.path;
    if (module.status == MRP_OK) {
        module.purpose = ops->purpose == NULL ? "" : ops->purpose;
        module.settings = ops->settings;
        module.n_settings = ops->n_settings;
    } else {
        problem = *mrp_error_last();
        module.problem = problem.text;
        mrp_error_restore(&before); /* describing is not failing */
    }
    listing->visit(&module, listing->user);
}

static bool describe_folder(const char *folder, size_t length, void *user)
{
    char path[PATH_SIZE];
    struct dirent *entry;
    DIR *directory;

    snprintf(path, sizeof path, "%.*s", (int)length, folder);
    directory = opendir(path);
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        size_t prefix = strlen(FILE_PREFIX), suffix = strlen(FILE_SUFFIX);
        size_t n = strlen(entry->d_name);
        char name[MODULE_NAME_MAX];

        if (n > prefix + suffix && n - prefix - suffix < sizeof name &&
            strncmp(entry->d_name, FILE_PREFIX, prefix) == 0 &&
            strcmp(entry->d_name + n - suffix, FILE_SUFFIX) == 0) {
            snprintf(name, n - prefix - suffix + 1, "%s", entry->d_name + prefix);
            describe(user, name);
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return false;
}

void mrp_module_visit(mrp_module_visitor *visit, void *user)
{
    struct listing listing = {.visit = visit, .user = user};

    if (visit == NULL) {
        return;
    }
    for (size_t i = 0; i < N_BUILTIN; i++) {
        describe(&listing, builtin[i]->module);
    }
    for (size_t i = 0; known[i] != NULL; i++) {
        describe(&listing, known[i]);
    }
    visit_folders(describe_folder, &listing);
}

enum mrp_status mrp_module_devices(
    const char *name, mrp_device_visitor *visit, void *user)
{
    const struct mrp_provider_ops *ops;
    enum mrp_status status;

    if (name == NULL || visit == NULL) {
        return mrp_fail(
            MRP_ERR_INVALID, 0, "%s is NULL", name == NULL ? "module" : "visit");
    }
    status = mrp_module_load(name, &ops);
    if (status == MRP_OK && MRP_PROVIDER_HAS(ops, devices)) {
        struct mrp_error before = *mrp_error_last();

        mrp_error_clear();
        status = mrp_error_settle(
            &before, ops->devices(visit, user), "provider module", name, "devices");
    }
    return status;
}
