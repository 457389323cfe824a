/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The JSON that the library writes is JSON, whatever stands in its texts.
 */
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

/* {"text": what mrp_json_text made of it}, read back. */
static json_t *read_back(const char *text)
{
    struct mrp_json json = {.file = NULL};
    char *written = NULL;
    size_t size;
    json_error_t error;
    json_t *root;

    json.file = open_memstream(&written, &size);
    assert_non_null(json.file);
    mrp_json_open(&json, NULL, '{');
    mrp_json_text(&json, "text", text);
    mrp_json_close(&json, '}');
    fclose(json.file);
    root = json_loads(written, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL) {
        fail_msg("%s in: %s", error.text, written);
    }
    free(written);
    return root;
}

static void expect_text(const char *text, const char *wanted)
{
    json_t *root = read_back(text);

    assert_string_equal(json_string_value(json_object_get(root, "text")), wanted);
    json_decref(root);
}

static void text__comes_back_as_it_was(void **state)
{
    static const char *const texts[] = {"", "plain", "\"quoted\"", "back\\slash", "a/b",
        "two\nlines\r\ttab", "\x01\x1f\x7f", "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80",
        "\xed\x9f\xbf\xee\x80\x80", "\xf4\x8f\xbf\xbf", "\xef\xbf\xbd"};

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        expect_text(texts[i], texts[i]);
    }
}

#define FFFD "\xef\xbf\xbd"

static void text__that_is_no_utf8_is_repaired(void **state)
{
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"\xff", FFFD},
        {"a\x80z", "a" FFFD "z"},
        {"\xc3", FFFD},
        {"\xc3\"", FFFD "\""},
        {"\xc0\xaf", FFFD FFFD}, /* overlong */
        {"\xe0\x80\x80", FFFD FFFD FFFD},
        {"\xed\xa0\x80", FFFD FFFD FFFD}, /* a surrogate */
        {"\xf4\x90\x80\x80", FFFD FFFD FFFD FFFD}, /* beyond U+10FFFF */
        {"\xe2\x82", FFFD FFFD},
        {"\xf5\xbf\xbf\xbf", FFFD FFFD FFFD FFFD},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_text(cases[i].text, cases[i].wanted);
    }
}

/* The judge is jansson: what it takes for a character comes through, nothing else. */
static void text__of_any_two_and_three_bytes(void **state)
{
    (void)state;
    for (unsigned first = 0xbf; first < 0x100; first++) {
        for (unsigned second = 0x7e; second < 0x100; second++) {
            char text[] = {(char)first, (char)second, (char)0x80, '\0'};
            json_t *valid = json_string(text), *root = read_back(text);
            const char *found = json_string_value(json_object_get(root, "text"));

            assert_int_equal(valid != NULL, strcmp(found, text) == 0);
            json_decref(valid);
            json_decref(root);
        }
    }
}

static void values__nest(void **state)
{
    static const char wanted[] =
        "{\"empty\":{},\"none\":[],\"list\":[1,[2],{\"a\":true}],"
        "\"limit\":null,\"text\":null,\"big\":"
        "9223372036854775807,\"no\":false}";
    struct mrp_json json = {.file = NULL};
    char *written = NULL, *dumped;
    size_t size;
    json_t *root;

    (void)state;
    json.file = open_memstream(&written, &size);
    mrp_json_open(&json, NULL, '{');
    mrp_json_open(&json, "empty", '{');
    mrp_json_close(&json, '}');
    mrp_json_open(&json, "none", '[');
    mrp_json_close(&json, ']');
    mrp_json_open(&json, "list", '[');
    mrp_json_number(&json, NULL, 1);
    mrp_json_open(&json, NULL, '[');
    mrp_json_number(&json, NULL, 2);
    mrp_json_close(&json, ']');
    mrp_json_open(&json, NULL, '{');
    mrp_json_bool(&json, "a", true);
    mrp_json_close(&json, '}');
    mrp_json_close(&json, ']');
    mrp_json_number(&json, "limit", UINT64_MAX);
    mrp_json_text(&json, "text", NULL);
    mrp_json_number(&json, "big", INT64_MAX);
    mrp_json_bool(&json, "no", false);
    mrp_json_close(&json, '}');
    fclose(json.file);
    root = json_loads(written, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(root);
    dumped = json_dumps(root, JSON_COMPACT | JSON_PRESERVE_ORDER);
    assert_string_equal(dumped, wanted);
    assert_int_equal(written[size - 1], '\n');
    free(dumped);
    json_decref(root);
    free(written);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text__comes_back_as_it_was),
        cmocka_unit_test(text__that_is_no_utf8_is_repaired),
        cmocka_unit_test(text__of_any_two_and_three_bytes),
        cmocka_unit_test(values__nest),
    };

    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
