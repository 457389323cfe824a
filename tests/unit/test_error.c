/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Status codes, the error record of each thread, size-first structs.
 */
#include "base/error.h"
#include "mrpool/mrpool.h"
#include "refusal.h"

#include <limits.h>
#include <pthread.h>

/* -- codes -- */

#define LAST_STATUS MRP_ERR_CORRUPT

static void status__every_code_has_a_name_and_a_text(void **unused)
{
    (void)unused;
    for (int status = LAST_STATUS; status <= MRP_OK; status++) {
        const char *name = mrp_status_name((enum mrp_status)status);
        const char *text = mrp_status_text((enum mrp_status)status);

        assert_int_equal(strncmp(name, status == MRP_OK ? "MRP_OK" : "MRP_ERR_", 6), 0);
        assert_true(strlen(text) > 5);
        for (int other = LAST_STATUS; other < status; other++) {
            assert_string_not_equal(name, mrp_status_name((enum mrp_status)other));
            assert_string_not_equal(text, mrp_status_text((enum mrp_status)other));
        }
    }
}

static void status__unknown_codes_have_them_too(void **unused)
{
    static const int unknown[] = {
        LAST_STATUS - 1, 1, 1000, -1000, INT_MAX, INT_MIN, INT_MIN + 1};
    (void)unused;

    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        enum mrp_status status;

        memcpy(&status, &unknown[i], sizeof status);
        assert_string_equal(mrp_status_name(status), "unknown status");
        assert_true(strlen(mrp_status_text(status)) > 5);
    }
}

static void version__is_that_of_the_headers(void **unused)
{
    char wanted[32];
    (void)unused;

    snprintf(wanted, sizeof wanted, "%d.%d.%d", MRP_VERSION_MAJOR, MRP_VERSION_MINOR,
        MRP_VERSION_PATCH);
    assert_string_equal(mrp_version(), wanted);
}

/* -- the record -- */

static enum mrp_status fail_somehow(void)
{
    return mrp_fail(MRP_ERR_LIMIT, 12, "%d of %s", 7, "eight");
}

static void fail__fills_the_record(void **unused)
{
    const struct mrp_error *error = mrp_error_last();
    (void)unused;

    assert_int_equal(fail_somehow(), MRP_ERR_LIMIT);
    assert_ptr_equal(mrp_error_last(), error);
    assert_int_equal(error->status, MRP_ERR_LIMIT);
    assert_int_equal(error->native, 12);
    assert_string_equal(error->function, "fail_somehow");
    assert_string_equal(error->text, "7 of eight");
    assert_int_equal(mrp_fail_literal(__func__, MRP_ERR_BUSY, "shorter"), MRP_ERR_BUSY);
    assert_int_equal(error->status, MRP_ERR_BUSY);
    assert_int_equal(error->native, 0);
    assert_string_equal(error->function, __func__);
    assert_string_equal(error->text, "shorter");
}

static void clear__forgets(void **unused)
{
    (void)unused;
    fail_somehow();
    mrp_error_clear();
    assert_int_equal(mrp_error_last()->status, MRP_OK);
    assert_int_equal(mrp_error_last()->native, 0);
    assert_string_equal(mrp_error_last()->function, "");
    assert_string_equal(mrp_error_last()->text, "");
}

/* Neither form writes past the record or leaves the text without its end. */
static void fail__text_is_cut_at_511_bytes(void **unused)
{
    static char text[4096];
    struct {
        struct mrp_error error;
        unsigned char guard;
    } copy;
    (void)unused;

    memset(text, 'x', sizeof text - 1);
    for (int round = 0; round < 2; round++) {
        mrp_error_clear();
        if (round == 0) {
            mrp_fail(MRP_ERR_INVALID, 0, "%s", text);
        } else {
            mrp_fail_literal(__func__, MRP_ERR_INVALID, text);
        }
        copy.error = *mrp_error_last();
        assert_int_equal(sizeof copy.error.text, 512);
        assert_int_equal(strnlen(copy.error.text, sizeof copy.error.text), 511);
        assert_int_equal(copy.error.status, MRP_ERR_INVALID);
    }
}

static void fail__longest_texts_of_callers_are_cut(void **unused)
{
    static char name[8192];
    struct mrp_context_params params = MRP_CONTEXT_PARAMS_INIT;
    struct mrp_context *context;
    (void)unused;

    memset(name, 'n', sizeof name - 1);
    params.name = name;
    assert_refused(mrp_context_create(&params, &context), MRP_ERR_INVALID, "nnn");
    params.name = NULL;
    assert_accepted(mrp_context_create(&params, &context));
    assert_refused(
        mrp_backend_find(context, name, NULL), MRP_ERR_INVALID, "backend is NULL");
    assert_refused(mrp_backend_create(context, name, NULL, &(struct mrp_backend *){NULL}),
        MRP_ERR_NOT_FOUND, "nnn");
    assert_refused(mrp_provider_open(context, name, NULL, &(struct mrp_provider *){NULL}),
        MRP_ERR_INVALID, "nnn");
    assert_accepted(mrp_context_destroy(context));
}

/* -- threads -- */

struct other {
    pthread_barrier_t barrier;
    const struct mrp_error *record;
    bool was_clear, is_own;
};

static void *fail_otherwise(void *user)
{
    struct other *other = user;

    other->record = mrp_error_last();
    other->was_clear = other->record->status == MRP_OK && other->record->text[0] == '\0';
    mrp_fail(MRP_ERR_CORRUPT, 5, "mine");
    pthread_barrier_wait(&other->barrier); /* both have failed */
    other->is_own = other->record->status == MRP_ERR_CORRUPT &&
        strcmp(other->record->text, "mine") == 0;
    pthread_barrier_wait(&other->barrier);
    return NULL;
}

static void record__belongs_to_its_thread(void **unused)
{
    struct other other;
    pthread_t thread;
    (void)unused;

    assert_int_equal(pthread_barrier_init(&other.barrier, NULL, 2), 0);
    mrp_fail(MRP_ERR_BUSY, 1, "before");
    assert_int_equal(pthread_create(&thread, NULL, fail_otherwise, &other), 0);
    mrp_fail(MRP_ERR_LIMIT, 2, "main's");
    pthread_barrier_wait(&other.barrier);
    assert_int_equal(mrp_error_last()->status, MRP_ERR_LIMIT);
    assert_string_equal(mrp_error_last()->text, "main's");
    pthread_barrier_wait(&other.barrier);
    pthread_join(thread, NULL);
    assert_true(other.was_clear);
    assert_true(other.is_own);
    assert_ptr_not_equal(other.record, mrp_error_last());
    pthread_barrier_destroy(&other.barrier);
}

/* -- success -- */

static void ignore_memory(const struct mrp_memory_info *info, void *user)
{
    (void)info;
    (void)user;
}

static void ignore_module(const struct mrp_module *module, void *user)
{
    (void)module;
    (void)user;
}

static void ignore_setting(const struct mrp_setting *setting, void *user)
{
    (void)setting;
    (void)user;
}

static void use_everything(void)
{
    struct mrp_memory_info info = MRP_MEMORY_INFO_INIT;
    struct mrp_system system = MRP_SYSTEM_INIT;
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    struct mrp_context *context;
    struct mrp_provider *provider;
    struct mrp_region *region;
    struct mrp_pool *pool;
    void *block;

    assert_int_equal(mrp_context_create(NULL, &context), MRP_OK);
    info.flags = MRP_MEMORY_PINNED;
    block = mrp_memory_alloc(context, &info);
    assert_non_null(block);
    assert_int_equal(mrp_memory_query(context, block, &info), MRP_OK);
    assert_int_equal(mrp_memory_visit(context, ignore_memory, NULL), MRP_OK);
    assert_int_equal(mrp_memory_free(context, block), MRP_OK);
    assert_int_equal(mrp_provider_open(context, "host", NULL, &provider), MRP_OK);
    params.rails = &provider;
    params.n_rails = 1;
    params.max_bytes = 512 << 10;
    assert_int_equal(mrp_pool_create(context, &params, &pool), MRP_OK);
    region = mrp_region_alloc(pool, 100);
    assert_non_null(region);
    assert_int_equal(mrp_region_free(region), MRP_OK);
    assert_int_equal(mrp_pool_destroy(pool), MRP_OK);
    assert_int_equal(mrp_provider_close(provider), MRP_OK);
    assert_int_equal(mrp_system_query(&system), MRP_OK);
    mrp_module_visit(ignore_module, NULL);
    mrp_setting_visit(ignore_setting, NULL);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
    assert_int_equal(mrp_context_default(&context), MRP_OK);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
    assert_int_equal(mrp_context_default(&context), MRP_OK);
    assert_int_equal(mrp_context_destroy(context), MRP_OK);
}

/* Valid and unchanged until the next call that fails. */
static void success__leaves_the_record_alone(void **unused)
{
    struct mrp_error before;
    (void)unused;

    mrp_fail(MRP_ERR_CORRUPT, 77, "still here");
    before = *mrp_error_last();
    use_everything();
    assert_memory_equal(mrp_error_last(), &before, sizeof before);
}

static void success__makes_no_record(void **unused)
{
    (void)unused;
    mrp_error_clear();
    use_everything();
    assert_int_equal(mrp_error_last()->status, MRP_OK);
    assert_string_equal(mrp_error_last()->text, "");
}

/* -- size-first structs -- */

struct known {
    size_t struct_size;
    uint64_t first, second;
};

struct newer {
    struct known known;
    unsigned char more[16];
};

static void params__null_gives_defaults(void **unused)
{
    struct known params = {1, 2, 3};
    (void)unused;

    assert_accepted(mrp_params_read(&params, sizeof params, NULL, "what"));
    assert_int_equal(params.struct_size, sizeof params);
    assert_int_equal(params.first, 0);
    assert_int_equal(params.second, 0);
}

static void params__older_struct_leaves_the_rest_zero(void **unused)
{
    struct known given = {offsetof(struct known, second), 5, 6}, params = {1, 2, 3};
    (void)unused;

    assert_accepted(mrp_params_read(&params, sizeof params, &given, "what"));
    assert_int_equal(params.struct_size, sizeof params);
    assert_int_equal(params.first, 5);
    assert_int_equal(params.second, 0);
}

static void params__newer_struct_must_be_zero_beyond_what_is_known(void **unused)
{
    struct newer given = {{sizeof given, 5, 6}, {0}};
    struct known params;
    (void)unused;

    assert_accepted(mrp_params_read(&params, sizeof params, &given, "what"));
    assert_int_equal(params.second, 6);
    for (size_t i = 0; i < sizeof given.more; i++) {
        char byte[32];

        snprintf(byte, sizeof byte, "what: byte %zu", sizeof params + i);
        given.more[i] = 1;
        params = (struct known){9, 9, 9};
        assert_refused(mrp_params_read(&params, sizeof params, &given, "what"),
            MRP_ERR_INVALID, byte);
        assert_int_equal(params.first, 9);
        given.more[i] = 0;
    }
}

static void params__struct_size_that_cannot_be_is_refused(void **unused)
{
    static const size_t sizes[] = {0, 1, 7, 9, 20, 65537, 65544, SIZE_MAX};
    struct known given = {0, 5, 6}, params;
    (void)unused;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        given.struct_size = sizes[i];
        assert_refused(mrp_params_read(&params, sizeof params, &given, "what"),
            MRP_ERR_INVALID, "_INIT");
        assert_true(text_has_number(mrp_error_last()->text, sizes[i]));
        assert_refused(mrp_info_write(&given, &params, sizeof params, "what"),
            MRP_ERR_INVALID, "_INIT");
        assert_int_equal(given.first, 5);
    }
}

static void lock_nothing(void *lock_arg)
{
    (void)lock_arg;
}

static void params__lock_pair_is_both_or_none(void **unused)
{
    (void)unused;

    assert_accepted(mrp_params_check_lock(NULL, NULL, "what"));
    assert_accepted(mrp_params_check_lock(lock_nothing, lock_nothing, "what"));
    assert_refused(mrp_params_check_lock(lock_nothing, NULL, "what"), MRP_ERR_INVALID,
        "what has lock without unlock");
    assert_refused(mrp_params_check_lock(NULL, lock_nothing, "what"), MRP_ERR_INVALID,
        "what has unlock without lock");
}

static void info__gives_as_much_as_there_is_room_for(void **unused)
{
    const struct known info = {sizeof info, 1, 2};
    struct newer given = {{offsetof(struct known, second), 8, 9}, {7}};
    (void)unused;

    assert_refused(mrp_info_write(NULL, &info, sizeof info, "what"), MRP_ERR_INVALID,
        "what is NULL");
    assert_accepted(mrp_info_write(&given, &info, sizeof info, "what"));
    assert_int_equal(given.known.struct_size, offsetof(struct known, second));
    assert_int_equal(given.known.first, 1);
    assert_int_equal(given.known.second, 9);
    given.known.struct_size = sizeof given;
    assert_accepted(mrp_info_write(&given, &info, sizeof info, "what"));
    assert_int_equal(given.known.struct_size, sizeof given);
    assert_int_equal(given.known.second, 2);
    assert_int_equal(given.more[0], 7);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(status__every_code_has_a_name_and_a_text),
        cmocka_unit_test(status__unknown_codes_have_them_too),
        cmocka_unit_test(version__is_that_of_the_headers),
        cmocka_unit_test(fail__fills_the_record),
        cmocka_unit_test(clear__forgets),
        cmocka_unit_test(fail__text_is_cut_at_511_bytes),
        cmocka_unit_test(fail__longest_texts_of_callers_are_cut),
        cmocka_unit_test(record__belongs_to_its_thread),
        cmocka_unit_test(success__leaves_the_record_alone),
        cmocka_unit_test(success__makes_no_record),
        cmocka_unit_test(params__null_gives_defaults),
        cmocka_unit_test(params__older_struct_leaves_the_rest_zero),
        cmocka_unit_test(params__newer_struct_must_be_zero_beyond_what_is_known),
        cmocka_unit_test(params__struct_size_that_cannot_be_is_refused),
        cmocka_unit_test(params__lock_pair_is_both_or_none),
        cmocka_unit_test(info__gives_as_much_as_there_is_room_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
