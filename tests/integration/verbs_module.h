/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The verbs module's own table, without the core in between, and what a test does where
 * there is no device.
 */
#ifndef MRP_TEST_VERBS_MODULE_H
#define MRP_TEST_VERBS_MODULE_H

#include "context/module.h"
#include "mrpool/verbs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static inline const struct mrp_provider_ops *verbs_ops(void)
{
    static const struct mrp_provider_ops *ops;

    if (ops == NULL && mrp_module_load("verbs", &ops) != MRP_OK) {
        printf("SKIP: verbs: %s\n", mrp_error_last()->text);
        exit(77);
    }
    return ops;
}

/* Open with "key=value,..." as a user would; params: NULL, or what to wrap. */
static inline enum mrp_status verbs_open(
    const char *options, const struct mrp_verbs_wrap_params *params, void **state)
{
    const char *values[16];
    uint64_t numbers[16];
    const struct mrp_provider_open_request request = {
        sizeof(request), values, params, numbers};
    char *storage = NULL;
    enum mrp_status status =
        mrp_module_settings(verbs_ops(), options, values, numbers, &storage);

    if (status == MRP_OK) {
        status = verbs_ops()->open(&request, state);
    }
    free(storage);
    return status;
}

static inline void verbs_close(void *state)
{
    verbs_ops()->close(state);
}

static inline struct mrp_provider_info verbs_query(void *state)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;

    verbs_ops()->query(state, &info);
    return info;
}

static inline const struct mrp_verbs_native *verbs_native(void *state)
{
    return verbs_ops()->native(state);
}

static inline struct mrp_register_request verbs_request(
    void *address, size_t size, uint32_t access)
{
    return (struct mrp_register_request){
        .struct_size = sizeof(struct mrp_register_request),
        .address = address,
        .size = size,
        .access = access,
        .dmabuf_fd = -1};
}

static inline enum mrp_status verbs_register(void *state, void *address, size_t size,
    uint32_t access, struct mrp_registration *registration)
{
    struct mrp_register_request request = verbs_request(address, size, access);

    *registration = (struct mrp_registration){.struct_size = sizeof(*registration)};
    return verbs_ops()->register_memory(state, &request, registration);
}

static inline enum mrp_status verbs_deregister(
    void *state, const struct mrp_registration *registration)
{
    return verbs_ops()->deregister_memory(state, registration);
}

/* The call returned the status, and its text has the word. */
static inline void assert_error(
    enum mrp_status status, enum mrp_status expected, const char *word)
{
    assert_string_equal(mrp_status_name(status), mrp_status_name(expected));
    assert_int_equal(mrp_error_last()->status, expected);
    if (strstr(mrp_error_last()->text, word) == NULL) {
        fail_msg("'%s' is not in '%s'", word, mrp_error_last()->text);
    }
}

static inline bool verbs_is_required(void)
{
    const char *list = getenv("MRP_TEST_REQUIRE");
    char padded[1024];

    snprintf(padded, sizeof(padded), ",%s,", list != NULL ? list : "");
    return strstr(padded, ",verbs,") != NULL;
}

/* Exit status of a program that finds no device, 0 when there is one. */
static inline int verbs_missing(void)
{
    void *state;

    if (verbs_open("", NULL, &state) == MRP_OK) {
        verbs_close(state);
        return 0;
    }
    printf(
        "%s: verbs: %s\n", verbs_is_required() ? "FAIL" : "SKIP", mrp_error_last()->text);
    return verbs_is_required() ? 1 : 77;
}

#endif
