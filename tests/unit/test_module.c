/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Modules: found by name in folders, checked before use, and told apart from whatever
 * else may be called libmrpool-<name>.so.
 */
#include "context/module.h"

#include "mrpool/mrpool.h"
#include "refusal.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Two folders of the test, and what the tests' own modules lie in. */
static char root[] = "/tmp/mrp_test_XXXXXX";
static char first[64], second[64];
static char before[4096];

static int make_folders(void **unused)
{
    const char *path = getenv("MRPOOL_PROVIDER_PATH");
    (void)unused;

    snprintf(before, sizeof before, "%s", path == NULL ? "" : path);
    if (mkdtemp(root) == NULL) {
        return -1;
    }
    snprintf(first, sizeof first, "%s/first", root);
    snprintf(second, sizeof second, "%s/second", root);
    return mkdir(first, 0700) == 0 && mkdir(second, 0700) == 0 ? 0 : -1;
}

static int remove_folders(void **unused)
{
    char command[128];
    (void)unused;

    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

/* Modules are searched in the first folder, then in the second. */
static int search_folders(void **unused)
{
    char path[160];
    (void)unused;

    snprintf(path, sizeof path, "%s:%s", first, second);
    return setenv("MRPOOL_PROVIDER_PATH", path, 1);
}

static int search_as_before(void **unused)
{
    (void)unused;
    return setenv("MRPOOL_PROVIDER_PATH", before, 1);
}

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[160];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* Compile a module; false, and a word about it, where there is no compiler. */
static bool build(const char *folder, const char *name, const char *source)
{
    const char *compiler = getenv("CC"), *tree = getenv("MRP_SOURCE_DIR");
    char command[1024];

    if (tree == NULL || system("command -v ${CC:-cc} >/dev/null 2>&1") != 0) {
        printf("SKIP: module %s: no compiler, or no sources to compile with\n", name);
        return false;
    }
    write_file(root, "module.c", source);
    snprintf(command, sizeof command,
        "%s -shared -fPIC -I%s/include -o %s/libmrpool-%s.so %s/module.c",
        compiler == NULL ? "cc" : compiler, tree, folder, name, root);
    assert_int_equal(system(command), 0);
    return true;
}

/* A table that lacks nothing; each case changes one thing by an -D like define. */
#define MODULE_SOURCE(changes) \
    changes "\n" \
            "#ifndef NAME\n#define NAME odd\n#endif\n" \
            "#ifndef SAYS\n#define SAYS \"odd\"\n#endif\n" \
            "#ifndef ABI\n#define ABI MRP_PROVIDER_ABI\n#endif\n" \
            "#ifndef SIZE\n#define SIZE sizeof(struct mrp_provider_ops)\n#endif\n" \
            "#ifndef OPEN\n#define OPEN open_it\n#endif\n" \
            "#ifndef SETTINGS\n#define SETTINGS 0, 0\n#endif\n" \
            "#ifndef TAIL\n#define TAIL\n#endif\n" \
            "#ifndef PURPOSE\n#define PURPOSE \"odd\"\n#endif\n" \
            "#include \"mrpool/provider.h\"\n" \
            "static enum mrp_status register_it(void *s, const struct " \
            "mrp_register_request *q, struct mrp_registration *r)\n" \
            "{ (void)s; (void)q; (void)r; return MRP_ERR_REGISTER; }\n" \
            "static enum mrp_status deregister_it(void *s, const struct " \
            "mrp_registration *r) { (void)s; (void)r; return MRP_OK; }\n" \
            "static enum mrp_status open_it(const struct mrp_provider_open_request *q, " \
            "void **s) { (void)q; *s = 0; return MRP_ERR_UNAVAILABLE; }\n" \
            "#define JOIN(a, b) a##b\n#define SYMBOL(n) JOIN(mrp_provider_, n)\n" \
            "const struct mrp_provider_ops SYMBOL(NAME) = { SIZE, ABI, SAYS, PURPOSE, " \
            "SETTINGS, register_it, deregister_it, OPEN TAIL };\n"

static enum mrp_status load(const char *name)
{
    const struct mrp_provider_ops *ops = NULL;

    return mrp_module_load(name, &ops);
}

/* -- not there, or no module -- */

static void load__of_what_is_not_there(void **unused)
{
    struct mrp_context *context;
    struct mrp_provider *provider = NULL;
    (void)unused;

    assert_refused(load("nosuch"), MRP_ERR_UNAVAILABLE, "libmrpool-nosuch.so");
    assert_non_null(strstr(mrp_error_last()->text, "MRPOOL_PROVIDER_PATH"));
    assert_accepted(mrp_context_create(NULL, &context));
    assert_refused(mrp_provider_open(context, "nosuch", NULL, &provider),
        MRP_ERR_UNAVAILABLE, "nosuch");
    assert_refused(mrp_provider_open(context, NULL, NULL, &provider), MRP_ERR_INVALID,
        "module is NULL");
    assert_refused(mrp_provider_open(context, "host", NULL, NULL), MRP_ERR_INVALID,
        "provider is NULL");
    assert_null(provider);
    assert_accepted(mrp_context_destroy(context));
}

static void load__of_a_name_that_can_be_none(void **unused)
{
    static const char *const names[] = {"", "../x", "a/b", "/etc/passwd", "Host", "a-b",
        "a_b", "a b", "a.so", "abcdefghijklmnopqrstuvwxyzabcdefg", "h\xc3\xb6st"};
    (void)unused;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        assert_refused(load(names[i]), MRP_ERR_INVALID, "cannot be a module");
    }
}

static void load__of_a_text_file(void **unused)
{
    (void)unused;
    write_file(first, "libmrpool-bad.so", "This is no shared object.\n");
    assert_refused(load("bad"), MRP_ERR_UNAVAILABLE, "does not load");
    write_file(first, "libmrpool-bad.so", "");
    assert_refused(load("bad"), MRP_ERR_UNAVAILABLE, "does not load");
    write_file(first, "libmrpool-bad.so", "\177ELF"); /* begins well */
    assert_refused(load("bad"), MRP_ERR_UNAVAILABLE, "libmrpool-bad.so");
}

static void load__of_a_folder(void **unused)
{
    char path[128];
    (void)unused;

    snprintf(path, sizeof path, "%s/libmrpool-folder.so", first);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_refused(load("folder"), MRP_ERR_UNAVAILABLE, "does not load");
}

static void load__of_a_module_with_a_mistake(void **unused)
{
    static const struct {
        const char *name, *source, *word;
    } cases[] = {
        {"empty", "int mrp_provider_other;\n", "exports no mrp_provider_empty"},
        {"abi", MODULE_SOURCE("#define NAME abi\n#define SAYS \"abi\"\n#define ABI 99"),
            "ABI 99"},
        {"says", MODULE_SOURCE("#define NAME says"), "says it is module \"odd\""},
        {"mute", MODULE_SOURCE("#define NAME mute\n#define SAYS 0"), "not \"mute\""},
        {"small",
            MODULE_SOURCE("#define NAME small\n#define SAYS \"small\"\n"
                          "#define SIZE 16"),
            "lacks struct_size"},
        {"noopen",
            MODULE_SOURCE("#define NAME noopen\n#define SAYS \"noopen\"\n"
                          "#define OPEN 0"),
            "or open"},
        {"novariable",
            MODULE_SOURCE("#define NAME novariable\n#define SAYS \"novariable\"\n"
                          "#define SETTINGS &(const struct mrp_setting_spec){\"X\", "
                          "MRP_SETTING_TEXT, 0, 0, 0, \"\", \"\"}, 1"),
            "row 0 of its settings"},
        {"nodefault",
            MODULE_SOURCE("#define NAME nodefault\n#define SAYS \"nodefault\"\n"
                          "#define SETTINGS &(const struct mrp_setting_spec){"
                          "\"MRPOOL_NODEFAULT_X\", MRP_SETTING_TEXT, 0, 0, 0, 0, 0}, 1"),
            "row 0 of its settings"},
        {"needy",
            "extern int no_such_symbol_anywhere(void);\n"
            "int mrp_provider_needy(void) { return no_such_symbol_anywhere(); }\n",
            "no_such_symbol_anywhere"},
    };
    (void)unused;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!build(first, cases[i].name, cases[i].source)) {
            return;
        }
        assert_refused(load(cases[i].name), MRP_ERR_UNAVAILABLE, cases[i].word);
        /* and it may be asked again */
        assert_refused(load(cases[i].name), MRP_ERR_UNAVAILABLE, cases[i].word);
    }
}

/* A table of an older header ends before the optional slots: none of them is read. */
static void load__of_an_older_module(void **unused)
{
    struct mrp_context *context;
    struct mrp_provider *provider;
    (void)unused;

    if (!build(first, "older",
            MODULE_SOURCE(
                "#include <stddef.h>\n#define NAME older\n#define SAYS \"older\"\n"
                "#define SIZE offsetof(struct mrp_provider_ops, close)\n"
                "#include <stdlib.h>\n"
                "#define TAIL , 0, 0, (enum mrp_status (*)"
                "(mrp_device_visitor *, void *))abort"))) {
        return;
    }
    assert_accepted(load("older"));
    assert_accepted(mrp_module_devices("older", (mrp_device_visitor *)abort, NULL));
    assert_accepted(mrp_context_create(NULL, &context));
    /* its open gives a bare status: whoever asked gets a sentence all the same */
    assert_refused(mrp_provider_open(context, "older", NULL, &provider),
        MRP_ERR_UNAVAILABLE, "provider module older: open");
    assert_accepted(mrp_context_destroy(context));
}

/* -- where it is looked for -- */

static void load__from_the_first_folder_that_has_it(void **unused)
{
    const struct mrp_provider_ops *ops, *again;
    char path[512];
    (void)unused;

    if (!build(second, "two",
            MODULE_SOURCE("#define NAME two\n#define SAYS \"two\"\n"
                          "#define PURPOSE \"of the second\"")) ||
        !build(first, "one", MODULE_SOURCE("#define NAME one\n#define SAYS \"one\""))) {
        return;
    }
    snprintf(path, sizeof path, ":/nosuchfolder::%s:%s:", first, second);
    setenv("MRPOOL_PROVIDER_PATH", path, 1);
    assert_accepted(load("one"));
    assert_accepted(mrp_module_load("two", &ops));
    assert_string_equal(ops->purpose, "of the second");
    assert_accepted(mrp_module_load("two", &again));
    assert_ptr_equal(again, ops);
    if (!build(first, "two",
            MODULE_SOURCE("#define NAME two\n#define SAYS \"two\"\n"
                          "#define PURPOSE \"of the first\""))) {
        return;
    }
    assert_accepted(mrp_module_load("two", &ops));
    assert_string_equal(ops->purpose, "of the first");
}

/* Where the program happens to stand says nothing about whom it trusts. */
static void load__from_no_relative_folder(void **unused)
{
    char here[4096];
    (void)unused;

    if (!build(
            first, "near", MODULE_SOURCE("#define NAME near\n#define SAYS \"near\""))) {
        return;
    }
    assert_accepted(load("near"));
    assert_non_null(getcwd(here, sizeof here));
    assert_int_equal(chdir(root), 0);
    setenv("MRPOOL_PROVIDER_PATH", "first:./first:../first:.", 1);
    assert_refused(load("near"), MRP_ERR_UNAVAILABLE, "no provider module");
    assert_int_equal(chdir(first), 0);
    setenv("MRPOOL_PROVIDER_PATH", ".", 1);
    assert_refused(load("near"), MRP_ERR_UNAVAILABLE, "no provider module");
    setenv("MRPOOL_PROVIDER_PATH", "", 1);
    assert_refused(load("near"), MRP_ERR_UNAVAILABLE, "no provider module");
    assert_int_equal(chdir(here), 0);
}

static void load__with_a_path_of_any_length(void **unused)
{
    static char path[20000];
    (void)unused;

    memset(path, 'a', sizeof path - 1);
    path[0] = '/';
    setenv("MRPOOL_PROVIDER_PATH", path, 1);
    assert_refused(load("nosuch"), MRP_ERR_UNAVAILABLE, "no provider module");
}

/* -- the list -- */

struct listed {
    const char *name;
    size_t count, total;
    enum mrp_status status;
    char path[256], problem[512];
};

static void note(const struct mrp_module *module, void *user)
{
    struct listed *listed = user;

    listed->total++;
    assert_non_null(module->purpose);
    assert_non_null(module->problem);
    assert_true((module->status == MRP_OK) == (module->problem[0] == '\0'));
    /* a visitor may fail on its own without spoiling what it is shown */
    mrp_fail(MRP_ERR_BUSY, 0, "of the visitor");
    if (strcmp(module->name, listed->name) == 0) {
        listed->count++;
        listed->status = module->status;
        snprintf(listed->path, sizeof listed->path, "%s", module->path);
        snprintf(listed->problem, sizeof listed->problem, "%s", module->problem);
    }
}

static struct listed list(const char *name)
{
    struct listed listed = {.name = name};

    mrp_module_visit(note, &listed);
    return listed;
}

static void visit__lists_built_in_found_and_absent_ones(void **unused)
{
    struct listed listed = list("host");
    (void)unused;

    assert_int_equal(listed.count, 1);
    assert_int_equal(listed.status, MRP_OK);
    assert_string_equal(listed.path, "built in");
    listed = list("ofi"); /* in neither folder; perhaps installed on this machine */
    assert_int_equal(listed.count, 1);
    if (listed.status != MRP_OK) {
        assert_int_equal(listed.status, MRP_ERR_UNAVAILABLE);
        assert_non_null(strstr(listed.problem, "libmrpool-ofi.so"));
        assert_string_equal(listed.path, "");
    }
    write_file(first, "libmrpool-text.so", "no shared object\n");
    write_file(second, "libmrpool-text.so", "the same name again\n");
    write_file(first, "libmrpool-Capital.so", "no name of a module\n");
    write_file(first, "libmrpool-.so", "no name at all\n");
    write_file(first, "libother-text2.so", "nothing of ours\n");
    listed = list("text");
    assert_int_equal(listed.count, 1);
    assert_int_equal(listed.status, MRP_ERR_UNAVAILABLE);
    assert_non_null(strstr(listed.problem, "does not load"));
    assert_non_null(strstr(listed.path, "/first/libmrpool-text.so"));
    listed = list("Capital");
    assert_int_equal(listed.count, 1);
    assert_int_equal(listed.status, MRP_ERR_INVALID);
    assert_int_equal(list("").count, 0);
    assert_int_equal(list("text2").count, 0);
}

static void count_device(const struct mrp_device *device, void *user)
{
    assert_non_null(device->name);
    ++*(size_t *)user;
}

static void devices__of_one_module(void **unused)
{
    size_t count = 0;
    (void)unused;

    assert_refused(mrp_module_devices(NULL, count_device, &count), MRP_ERR_INVALID,
        "module is NULL");
    assert_refused(
        mrp_module_devices("host", NULL, &count), MRP_ERR_INVALID, "visit is NULL");
    assert_refused(mrp_module_devices("nosuch", count_device, &count),
        MRP_ERR_UNAVAILABLE, "nosuch");
    assert_int_equal(count, 0);
}

/* -- options, with the null module -- */

enum {
    ADDRESSING,
    KEYS,
    MAX_REGISTRATIONS,
    MAX_SIZE,
    N_NULL
};

static const struct mrp_provider_ops *null_ops(void)
{
    const struct mrp_provider_ops *ops = NULL;

    if (mrp_module_load("null", &ops) != MRP_OK) {
        printf("SKIP: options: %s\n", mrp_error_last()->text);
        return NULL;
    }
    assert_int_equal(ops->n_settings, N_NULL);
    return ops;
}

struct resolved {
    char texts[N_NULL][32];
    uint64_t numbers[N_NULL];
};

static enum mrp_status resolve(
    const struct mrp_provider_ops *ops, const char *options, struct resolved *resolved)
{
    const char *values[N_NULL];
    char *storage = NULL;
    enum mrp_status status =
        mrp_module_settings(ops, options, values, resolved->numbers, &storage);

    if (status == MRP_OK) {
        for (size_t i = 0; i < N_NULL; i++) {
            snprintf(resolved->texts[i], 32, "%s", values[i]);
        }
        free(storage);
    }
    return status;
}

static void options__win_over_environment_and_default(void **unused)
{
    const struct mrp_provider_ops *ops = null_ops();
    struct resolved got;
    (void)unused;

    if (ops == NULL) {
        return;
    }
    assert_accepted(resolve(ops, NULL, &got));
    assert_string_equal(got.texts[KEYS], "number");
    assert_int_equal(got.numbers[MAX_REGISTRATIONS], 0);
    setenv("MRPOOL_NULL_KEYS", "none", 1);
    setenv("MRPOOL_NULL_MAX_REGISTRATIONS", "7", 1);
    assert_accepted(resolve(ops, "", &got));
    assert_string_equal(got.texts[KEYS], "none");
    assert_int_equal(got.numbers[KEYS], 2);
    assert_int_equal(got.numbers[MAX_REGISTRATIONS], 7);
    assert_accepted(resolve(ops, "keys=raw,addressing=offset,max_size=3", &got));
    assert_string_equal(got.texts[KEYS], "raw");
    assert_string_equal(got.texts[ADDRESSING], "offset");
    assert_int_equal(got.numbers[KEYS], 1);
    assert_int_equal(got.numbers[MAX_SIZE], 3);
    assert_int_equal(got.numbers[MAX_REGISTRATIONS], 7);
    assert_accepted(resolve(ops, "KEYS=Raw,", &got)); /* names and words without case */
    assert_int_equal(got.numbers[KEYS], 1);
    unsetenv("MRPOOL_NULL_KEYS");
    unsetenv("MRPOOL_NULL_MAX_REGISTRATIONS");
}

static void options__that_are_wrong_are_refused_by_name(void **unused)
{
    static const struct {
        const char *options, *word;
    } cases[] = {{"keys", "\"keys\" has no value"}, {"nosuch=1", "no option \"nosuch\""},
        {"=1", "no option \"\""}, {",keys=raw", "has no value"},
        {"keys=raw,,max_size=1", "has no value"}, {"keys=wrong", "keys=wrong"},
        {"keys=", "keys="}, {"keys= raw", "keys= raw"}, {"max_size=-1", "max_size=-1"},
        {"max_size=1K", "max_size=1K"}, {"max_size=", "max_size="},
        {"MRPOOL_NULL_KEYS=raw", "no option"}, {"max_size=1,keys=raw=x", "keys=raw=x"},
        {"max_size=99999999999999999999", "max_size=999"}};
    const struct mrp_provider_ops *ops = null_ops();
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;
    struct mrp_provider *provider;
    struct mrp_context *context;
    struct resolved got;
    (void)unused;

    if (ops == NULL) {
        return;
    }
    assert_accepted(mrp_context_create(NULL, &context));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_refused(
            resolve(ops, cases[i].options, &got), MRP_ERR_INVALID, cases[i].word);
        params.options = cases[i].options;
        assert_refused(mrp_provider_open(context, "null", &params, &provider),
            MRP_ERR_INVALID, cases[i].word);
    }
    assert_accepted(mrp_context_destroy(context));
}

static void environment__of_a_module_is_checked_when_it_opens(void **unused)
{
    const struct mrp_provider_ops *ops = null_ops();
    struct mrp_provider *provider;
    struct mrp_context *context;
    (void)unused;

    if (ops == NULL) {
        return;
    }
    setenv("MRPOOL_NULL_KEYS", "wrong", 1);
    assert_accepted(mrp_context_create(NULL, &context)); /* nobody asked for null yet */
    assert_refused(mrp_provider_open(context, "null", NULL, &provider), MRP_ERR_INVALID,
        "MRPOOL_NULL_KEYS=wrong");
    unsetenv("MRPOOL_NULL_KEYS");
    setenv("MRPOOL_NULL_NOSUCH", "1", 1);
    assert_refused(mrp_provider_open(context, "null", NULL, &provider), MRP_ERR_INVALID,
        "MRPOOL_NULL_NOSUCH: no such setting");
    unsetenv("MRPOOL_NULL_NOSUCH");
    assert_accepted(mrp_provider_open(context, "null", NULL, &provider));
    assert_accepted(mrp_context_destroy(context));
}

int main(void)
{
#define TEST(function) \
    cmocka_unit_test_setup_teardown(function, search_folders, search_as_before)
    static const struct CMUnitTest tests[] = {
        TEST(load__of_what_is_not_there),
        TEST(load__of_a_name_that_can_be_none),
        TEST(load__of_a_text_file),
        TEST(load__of_a_folder),
        TEST(load__of_a_module_with_a_mistake),
        TEST(load__of_an_older_module),
        TEST(load__from_the_first_folder_that_has_it),
        TEST(load__from_no_relative_folder),
        TEST(load__with_a_path_of_any_length),
        TEST(visit__lists_built_in_found_and_absent_ones),
        TEST(devices__of_one_module),
        cmocka_unit_test(options__win_over_environment_and_default),
        cmocka_unit_test(options__that_are_wrong_are_refused_by_name),
        cmocka_unit_test(environment__of_a_module_is_checked_when_it_opens),
    };

    return cmocka_run_group_tests(tests, make_folders, remove_folders);
}
