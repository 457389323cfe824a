/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Settings: each row of the library's table, and what a value may look like.
 */
#include "base/settings.h"
#include "mrpool/mrpool.h"
#include "refusal.h"

#include <stdlib.h>

#define N_OF(array) (sizeof(array) / sizeof((array)[0]))

extern char **environ;

/* Whatever the tester's own settings are, but where the modules lie. */
static int clear_environment(void **unused)
{
    char **entry = environ;
    (void)unused;

    while (*entry != NULL) {
        if (strncmp(*entry, "MRPOOL_", 7) == 0 &&
            strncmp(*entry, "MRPOOL_PROVIDER_PATH=", 21) != 0) {
            char name[128];

            snprintf(name, sizeof name, "%.*s", (int)strcspn(*entry, "="), *entry);
            unsetenv(name);
            entry = environ;
        } else {
            entry++;
        }
    }
    return 0;
}

static enum mrp_status create_and_destroy(void)
{
    struct mrp_context *context = NULL;
    enum mrp_status status = mrp_context_create(NULL, &context);

    assert_true((status == MRP_OK) == (context != NULL));
    return status == MRP_OK ? mrp_context_destroy(context) : status;
}

static enum mrp_status create_with(const char *variable, const char *value)
{
    const char *present = getenv(variable);
    char *before = present == NULL ? NULL : strdup(present);
    enum mrp_status status;

    setenv(variable, value, 1);
    status = create_and_destroy();
    if (before == NULL) {
        unsetenv(variable);
    } else {
        setenv(variable, before, 1);
    }
    free(before);
    return status;
}

static bool is_number(const struct mrp_setting_spec *spec)
{
    return spec->kind == MRP_SETTING_COUNT || spec->kind == MRP_SETTING_SIZE ||
        spec->kind == MRP_SETTING_POWER;
}

/* -- every row -- */

static void table__rows_are_complete_and_defaults_valid(void **unused)
{
    (void)unused;
    for (int id = 0; id < MRP_SET_COUNT; id++) {
        const struct mrp_setting_spec *spec = mrp_setting_spec((enum mrp_setting_id)id);
        uint64_t value = 99;

        assert_int_equal(strncmp(spec->variable, "MRPOOL_", 7), 0);
        assert_true(strlen(spec->purpose) > 10);
        assert_non_null(spec->default_text);
        assert_true(
            (spec->kind != MRP_SETTING_CHOICE && spec->kind != MRP_SETTING_FLAGS) ||
            spec->choices != NULL);
        assert_true(!is_number(spec) || spec->min < spec->max);
        assert_accepted(
            mrp_setting_parse(spec, spec->variable, spec->default_text, &value));
        if (is_number(spec)) {
            assert_true(spec->default_text[0] == '\0'
                    ? value == 0
                    : value >= spec->min && value <= spec->max);
        }
        for (int other = 0; other < id; other++) {
            assert_string_not_equal(
                spec->variable, mrp_setting_spec((enum mrp_setting_id)other)->variable);
        }
    }
}

/* Each is read by no parser as a number, a word or a switch; "" means the default only
 * where the default is derived. */
static void create__refuses_invalid_values_by_name(void **unused)
{
    static const char *const values[] = {"-1", "12abc", " 1", "1 ", "0 ", "1KK", "1KB",
        "K", "+1", "0x10", "1.5", "1e3", "\t1", "nonsense", "18446744073709551616",
        "99999999999999999999999999", "18014398509481984K", "16777216T", "1P", "1\xeb"};
    (void)unused;

    for (int id = 0; id < MRP_SET_COUNT; id++) {
        const struct mrp_setting_spec *spec = mrp_setting_spec((enum mrp_setting_id)id);

        for (size_t i = 0; id != MRP_SET_PROVIDER_PATH && i < N_OF(values); i++) {
            assert_refused(
                create_with(spec->variable, values[i]), MRP_ERR_INVALID, spec->variable);
            assert_non_null(strstr(mrp_error_last()->text, values[i]));
        }
        if (spec->default_text[0] != '\0') {
            assert_refused(
                create_with(spec->variable, ""), MRP_ERR_INVALID, spec->variable);
        } else {
            assert_accepted(create_with(spec->variable, ""));
        }
    }
}

static enum mrp_status parse_number(const struct mrp_setting_spec *spec, uint64_t number)
{
    char text[32];
    uint64_t value = 0;
    enum mrp_status status;

    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    status = mrp_setting_parse(spec, spec->variable, text, &value);
    assert_true(status != MRP_OK || value == number);
    return status;
}

static void parse__bounds_of_each_number_are_inclusive(void **unused)
{
    (void)unused;

    for (int id = 0; id < MRP_SET_COUNT; id++) {
        const struct mrp_setting_spec *spec = mrp_setting_spec((enum mrp_setting_id)id);

        if (!is_number(spec)) {
            continue;
        }
        assert_accepted(parse_number(spec, spec->min));
        assert_accepted(parse_number(spec, spec->max));
        assert_refused(
            parse_number(spec, spec->max + 1), MRP_ERR_INVALID, "out of range");
        if (spec->min > 0) {
            assert_refused(
                parse_number(spec, spec->min - 1), MRP_ERR_INVALID, "out of range");
        }
        if (spec->kind == MRP_SETTING_POWER) {
            assert_accepted(parse_number(spec, spec->min * 2));
            assert_refused(
                parse_number(spec, spec->min * 3), MRP_ERR_INVALID, "power of two");
        }
    }
}

static void create__takes_absolute_folders_alone(void **unused)
{
    static const char *const right[] = {"", "/", "/a", "/a:/b", ":/a::/b:", ":"};
    static const char *const wrong[] = {
        "a", ".", "./a", "/a:b", "/a:.", ":~/a", " /a", "/a: /b"};
    (void)unused;

    for (size_t i = 0; i < N_OF(right); i++) {
        assert_accepted(create_with("MRPOOL_PROVIDER_PATH", right[i]));
    }
    for (size_t i = 0; i < N_OF(wrong); i++) {
        assert_refused(create_with("MRPOOL_PROVIDER_PATH", wrong[i]), MRP_ERR_INVALID,
            "MRPOOL_PROVIDER_PATH=");
        assert_non_null(strstr(mrp_error_last()->text, "absolute"));
    }
}

static void create__tiers_ascend(void **unused)
{
    (void)unused;
    assert_refused(create_with("MRPOOL_SMALL_MAX", "16K"), MRP_ERR_INVALID,
        "MRPOOL_MEDIUM_MAX=16K is not above MRPOOL_SMALL_MAX=16K");
    assert_refused(create_with("MRPOOL_HUGE_MAX", "64K"), MRP_ERR_INVALID,
        "MRPOOL_HUGE_MAX=64K is not above MRPOOL_LARGE_MAX=64K");
    assert_accepted(create_with("MRPOOL_SMALL_MAX", "64"));
    assert_accepted(create_with("MRPOOL_HUGE_MAX", "1G"));
    assert_refused(create_with("MRPOOL_HUGE_MAX", "2G"), MRP_ERR_INVALID, "out of range");
}

static void create__sizes_of_chunks_are_powers_of_two(void **unused)
{
    (void)unused;
    assert_accepted(create_with("MRPOOL_CHUNK_MIN", "512K"));
    assert_refused(create_with("MRPOOL_CHUNK_MIN", "300K"), MRP_ERR_INVALID,
        "MRPOOL_CHUNK_MIN=300K: it must be a power of two");
    assert_refused(
        create_with("MRPOOL_CHUNK_MAX", "3M"), MRP_ERR_INVALID, "power of two");
}

static void create__takes_each_word_of_a_choice(void **unused)
{
    (void)unused;
    for (int id = 0; id < MRP_SET_COUNT; id++) {
        const struct mrp_setting_spec *spec = mrp_setting_spec((enum mrp_setting_id)id);
        const char *word = spec->kind == MRP_SETTING_CHOICE ? spec->choices : NULL;

        for (uint64_t index = 0; word != NULL && *word != '\0'; index++) {
            size_t length = strcspn(word, "|");
            uint64_t value = 99;
            char text[64];

            snprintf(text, sizeof text, "%.*s", (int)length, word);
            assert_accepted(create_with(spec->variable, text));
            assert_accepted(mrp_setting_parse(spec, spec->variable, text, &value));
            assert_int_equal(value, index);
            text[0] = (char)(text[0] & ~0x20); /* upper case, or no word at all */
            assert_int_equal(create_with(spec->variable, text),
                word[0] >= 'a' ? MRP_OK : MRP_ERR_INVALID);
            word += length + (word[length] == '|');
        }
    }
}

static void create__takes_words_of_flags(void **unused)
{
    static const struct {
        const char *text;
        uint64_t value;
    } good[] = {{"off", 1}, {"OFF", 1}, {"poison", 2}, {"Guard", 4}, {"memcheck", 16},
        {"poison,guard", 6}, {"memcheck,origins,guard,poison", 30}, {"guard,guard", 4},
        {"", 0}};
    static const struct {
        const char *text, *words;
    } wrong[] = {{"poisn", "MRPOOL_DEBUG=poisn: \"poisn\" is none of off|poison|guard"},
        {"poison,gard", "\"gard\" is none of"}, {"poison,", "\"\" is none of"},
        {",poison", "\"\" is none of"}, {"poison,,guard", "\"\" is none of"},
        {"poison guard", "\"poison guard\" is none of"},
        {"poison|guard", "\"poison|guard\" is none of"}, {" off", "\" off\" is none of"},
        {"2", "\"2\" is none of"}, {"off,poison", "\"off\" means none of the others"},
        {"guard,off", "\"off\" means none of the others"}, {"of", "\"of\" is none of"}};
    const struct mrp_setting_spec *spec = mrp_setting_spec(MRP_SET_DEBUG);
    (void)unused;

    for (size_t i = 0; i < N_OF(good); i++) {
        uint64_t value = 99;

        assert_accepted(create_with("MRPOOL_DEBUG", good[i].text));
        assert_accepted(mrp_setting_parse(spec, "where", good[i].text, &value));
        assert_int_equal(value, good[i].value);
    }
    for (size_t i = 0; i < N_OF(wrong); i++) {
        assert_refused(
            create_with("MRPOOL_DEBUG", wrong[i].text), MRP_ERR_INVALID, wrong[i].words);
    }
}

static void create__refuses_names_of_no_setting(void **unused)
{
    static const char *const names[] = {"MRPOOL_NAME", "MRPOOL_", "MRPOOL_PAGE",
        "MRPOOL_PAGESS", "MRPOOL_pages", "MRPOOL_NOSUCHMODULE_DEVICE", "MRPOOL_OFI",
        "MRPOOL__DEVICE", "MRPOOL_MAX_BYTES_",
        "MRPOOL_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA_X", "MRPOOL_../_X"};
    (void)unused;

    for (size_t i = 0; i < N_OF(names); i++) {
        char text[128];

        snprintf(text, sizeof text, "%s: no such setting", names[i]);
        assert_refused(create_with(names[i], "1"), MRP_ERR_INVALID, text);
    }
    assert_accepted(create_with("MRPOOLX", "1"));
    assert_accepted(create_with("XMRPOOL_NAME", "1"));
}

/* A module's settings may stand in the environment of a machine that lacks the module. */
static void create__takes_variables_of_modules(void **unused)
{
    (void)unused;
    assert_accepted(create_with("MRPOOL_OFI_PROVIDER", "tcp"));
    assert_accepted(create_with("MRPOOL_HOST_WHATEVER", "any"));
    if (getenv("MRPOOL_PROVIDER_PATH") != NULL) { /* found there */
        assert_accepted(create_with("MRPOOL_NULL_KEYS", "raw"));
    }
}

/* -- values -- */

static uint64_t parsed(const struct mrp_setting_spec *spec, const char *text)
{
    uint64_t value = 12345;

    assert_accepted(mrp_setting_parse(spec, "where", text, &value));
    return value;
}

static void parse__units_are_powers_of_1024(void **unused)
{
    static const struct mrp_setting_spec size = {
        "MRPOOL_X", MRP_SETTING_SIZE, 0, UINT64_MAX, NULL, "1", "test"};
    static const struct mrp_setting_spec count = {
        "MRPOOL_Y", MRP_SETTING_COUNT, 0, UINT64_MAX, NULL, "1", "test"};
    uint64_t value;
    (void)unused;

    assert_int_equal(parsed(&size, "0"), 0);
    assert_int_equal(parsed(&size, "007"), 7);
    assert_int_equal(parsed(&size, "3K"), 3 << 10);
    assert_int_equal(parsed(&size, "3k"), 3 << 10);
    assert_int_equal(parsed(&size, "5M"), 5 << 20);
    assert_int_equal(parsed(&size, "1g"), 1 << 30);
    assert_int_equal(parsed(&size, "2T"), (uint64_t)2 << 40);
    assert_int_equal(parsed(&size, "18446744073709551615"), UINT64_MAX);
    assert_int_equal(parsed(&size, "16777215T"), (uint64_t)16777215 << 40);
    assert_int_equal(parsed(&count, "18446744073709551615"), UINT64_MAX);
    value = 7;
    assert_refused(
        mrp_setting_parse(&size, "where", "16777216T", &value), MRP_ERR_INVALID, "where");
    assert_refused(
        mrp_setting_parse(&size, "where", "0 ", &value), MRP_ERR_INVALID, "where");
    assert_refused(mrp_setting_parse(&count, "where", "18446744073709551616", &value),
        MRP_ERR_INVALID, "where=18446744073709551616");
    assert_refused(
        mrp_setting_parse(&count, "where", "1K", &value), MRP_ERR_INVALID, "where=1K");
    assert_int_equal(value, 7);
}

static void parse__switches(void **unused)
{
    static const struct mrp_setting_spec spec = {
        "MRPOOL_X", MRP_SETTING_SWITCH, 0, 0, NULL, "on", "test"};
    static const char *const on[] = {"on", "yes", "true", "1", "ON", "True"};
    static const char *const off[] = {"off", "no", "false", "0", "Off"};
    static const char *const neither[] = {"", "2", "o", "onn", "y", "on ", "-1", "01"};
    uint64_t value = 7;
    (void)unused;

    for (size_t i = 0; i < N_OF(on); i++) {
        assert_int_equal(parsed(&spec, on[i]), 1);
    }
    for (size_t i = 0; i < N_OF(off); i++) {
        assert_int_equal(parsed(&spec, off[i]), 0);
    }
    for (size_t i = 0; i < N_OF(neither); i++) {
        assert_refused(mrp_setting_parse(&spec, "where", neither[i], &value),
            MRP_ERR_INVALID, "where=");
    }
    assert_int_equal(value, 7);
}

static void parse__long_values_do_not_hide_the_name(void **unused)
{
    static char value[4096];
    (void)unused;

    memset(value, '7', sizeof value - 1);
    assert_refused(
        create_with("MRPOOL_CHUNK_MAX", value), MRP_ERR_INVALID, "MRPOOL_CHUNK_MAX=777");
}

static void parse__row_without_a_kind_is_refused(void **unused)
{
    struct mrp_setting_spec spec = {"MRPOOL_X", MRP_SETTING_SIZE, 0, 1, NULL, "1", ""};
    uint64_t value;
    int kind = 77;
    (void)unused;

    memcpy(&spec.kind, &kind, sizeof spec.kind);
    assert_refused(
        mrp_setting_parse(&spec, "where", "1", &value), MRP_ERR_INVALID, "where");
}

/* -- who wins -- */

static void number__parameter_beats_environment_beats_default(void **unused)
{
    uint64_t value;
    (void)unused;

    for (int id = 0; id < MRP_SET_COUNT; id++) {
        enum mrp_setting_id setting = (enum mrp_setting_id)id;
        const struct mrp_setting_spec *spec = mrp_setting_spec(setting);
        uint64_t by_default, less;
        char text[32];

        if (!is_number(spec)) {
            continue;
        }
        by_default = parsed(spec, spec->default_text);
        assert_accepted(mrp_setting_number(setting, "given", 0, &value));
        assert_int_equal(value, by_default);
        less = spec->kind == MRP_SETTING_POWER ? spec->max / 2 : spec->max - 1;
        snprintf(text, sizeof text, "%llu", (unsigned long long)less);
        setenv(spec->variable, text, 1);
        assert_accepted(mrp_setting_number(setting, "given", 0, &value));
        assert_int_equal(value, less);
        assert_accepted(mrp_setting_number(setting, "given", spec->max, &value));
        assert_int_equal(value, spec->max);
        assert_refused(mrp_setting_number(setting, "given", spec->max + 1, &value),
            MRP_ERR_INVALID, "given is");
        unsetenv(spec->variable);
    }
}

static bool is_wanted(const struct mrp_setting *setting, const char *variable)
{
    return strcmp(setting->spec->variable, variable) == 0;
}

struct seen {
    const char *variable;
    size_t n_rows, n_found;
    struct mrp_setting found;
    char problem[512];
};

static void see(const struct mrp_setting *setting, void *user)
{
    struct seen *seen = user;

    seen->n_rows++;
    if (is_wanted(setting, seen->variable)) {
        seen->n_found++;
        seen->found = *setting;
        snprintf(seen->problem, sizeof seen->problem, "%s", setting->problem);
    }
}

static void visit__tells_value_origin_and_problem(void **unused)
{
    struct seen seen = {.variable = "MRPOOL_CHUNK_MAX"};
    (void)unused;

    mrp_error_clear();
    mrp_setting_visit(see, &seen);
    assert_int_equal(seen.n_rows, MRP_SET_COUNT);
    assert_int_equal(seen.n_found, 1);
    assert_string_equal(seen.found.value, "128M");
    assert_false(seen.found.from_environment);
    assert_int_equal(seen.found.status, MRP_OK);
    assert_string_equal(seen.problem, "");
    setenv("MRPOOL_CHUNK_MAX", "64M", 1);
    mrp_setting_visit(see, &seen);
    assert_string_equal(seen.found.value, "64M");
    assert_true(seen.found.from_environment);
    setenv("MRPOOL_CHUNK_MAX", "64Q", 1);
    mrp_setting_visit(see, &seen);
    assert_int_equal(seen.found.status, MRP_ERR_INVALID);
    assert_non_null(strstr(seen.problem, "MRPOOL_CHUNK_MAX=64Q"));
    assert_non_null(strstr(seen.problem, "256K to 64G"));
    assert_int_equal(mrp_error_last()->status, MRP_OK); /* describing is not failing */
    unsetenv("MRPOOL_CHUNK_MAX");
}

/* What a context keeps idle: of its parameters, of the environment, by default. */
static void create__parameters_are_checked_like_the_environment(void **unused)
{
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_context *context;
    (void)unused;

    params.retained_count = 100001;
    assert_refused(mrp_context_create(&params, &context), MRP_ERR_INVALID,
        "retained_count is 100001");
    params.retained_count = 100000;
    params.retained_size = SIZE_MAX;
    assert_refused(
        mrp_context_create(&params, &context), MRP_ERR_INVALID, "retained_size is");
    params.retained_size = 1;
    assert_accepted(mrp_context_create(&params, &context));
    assert_accepted(mrp_context_destroy(context));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(table__rows_are_complete_and_defaults_valid),
        cmocka_unit_test(create__refuses_invalid_values_by_name),
        cmocka_unit_test(parse__bounds_of_each_number_are_inclusive),
        cmocka_unit_test(create__tiers_ascend),
        cmocka_unit_test(create__sizes_of_chunks_are_powers_of_two),
        cmocka_unit_test(create__takes_absolute_folders_alone),
        cmocka_unit_test(create__takes_each_word_of_a_choice),
        cmocka_unit_test(create__takes_words_of_flags),
        cmocka_unit_test(create__refuses_names_of_no_setting),
        cmocka_unit_test(create__takes_variables_of_modules),
        cmocka_unit_test(parse__units_are_powers_of_1024),
        cmocka_unit_test(parse__switches),
        cmocka_unit_test(parse__long_values_do_not_hide_the_name),
        cmocka_unit_test(parse__row_without_a_kind_is_refused),
        cmocka_unit_test(number__parameter_beats_environment_beats_default),
        cmocka_unit_test(visit__tells_value_origin_and_problem),
        cmocka_unit_test(create__parameters_are_checked_like_the_environment),
    };

    return cmocka_run_group_tests(tests, clear_environment, NULL);
}
