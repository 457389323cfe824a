/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Default (global-dynamic) TLS on purpose: initial-exec space is scarce, and a library
 * that takes half a KiB of it may fail to load with dlopen. */
static _Thread_local struct mrp_error last_error = {MRP_OK, 0, "", ""};

static const struct {
    const char *name;
    const char *text;
} statuses[] = {
    [-MRP_OK] = {"MRP_OK", "success"},
    [-MRP_ERR_INVALID] = {"MRP_ERR_INVALID",
        "an argument or setting is wrong: correct it"},
    [-MRP_ERR_STALE] = {"MRP_ERR_STALE",
        "the handle, region or pointer is not, or no longer, one of this library's"},
    [-MRP_ERR_NOT_FOUND] = {"MRP_ERR_NOT_FOUND",
        "nothing of that name or at that address"},
    [-MRP_ERR_EXISTS] = {"MRP_ERR_EXISTS", "the name is taken: choose another"},
    [-MRP_ERR_MEMORY] = {"MRP_ERR_MEMORY", "the system has no memory of that kind left"},
    [-MRP_ERR_LIMIT] = {"MRP_ERR_LIMIT",
        "a budget or a system limit is reached: free something or raise it"},
    [-MRP_ERR_AGAIN] = {"MRP_ERR_AGAIN",
        "would have to grow or to block: call again from a thread that may"},
    [-MRP_ERR_BUSY] = {"MRP_ERR_BUSY", "still referenced or in use: release it first"},
    [-MRP_ERR_UNSUPPORTED] = {"MRP_ERR_UNSUPPORTED",
        "this backend, provider or rail cannot do that"},
    [-MRP_ERR_REGISTER] = {"MRP_ERR_REGISTER", "the network refused the registration"},
    [-MRP_ERR_UNAVAILABLE] = {"MRP_ERR_UNAVAILABLE",
        "the module or device is missing: install it or choose another"},
    [-MRP_ERR_SYSTEM] = {"MRP_ERR_SYSTEM", "the operating system refused"},
    [-MRP_ERR_FORKED] = {"MRP_ERR_FORKED",
        "the object belongs to the parent of this forked process"},
    [-MRP_ERR_LEAKED] = {"MRP_ERR_LEAKED",
        "destroyed, but something was still live and has been freed"},
    [-MRP_ERR_CORRUPT] = {"MRP_ERR_CORRUPT",
        "an invariant does not hold: memory was overwritten"},
};

static bool is_known(enum mrp_status status)
{
    return status <= MRP_OK && (int)status > -(int)(sizeof statuses / sizeof statuses[0]);
}

const char *mrp_status_name(enum mrp_status status)
{
    return is_known(status) ? statuses[-(int)status].name : "unknown status";
}

const char *mrp_status_text(enum mrp_status status)
{
    return is_known(status) ? statuses[-(int)status].text
                            : "not a status of this library";
}

const struct mrp_error *mrp_error_last(void)
{
    return &last_error;
}

void mrp_error_clear(void)
{
    last_error = (struct mrp_error){MRP_OK, 0, "", ""};
}

enum mrp_status mrp_fail_at(
    const char *function, enum mrp_status status, int native, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(last_error.text, sizeof last_error.text, format, arguments);
    va_end(arguments);
    last_error.status = status;
    last_error.native = native;
    last_error.function = function;
    return status;
}

enum mrp_status mrp_fail_literal(
    const char *function, enum mrp_status status, const char *text)
{
    size_t length = strnlen(text, sizeof last_error.text - 1);

    memcpy(last_error.text, text, length);
    last_error.text[length] = '\0';
    last_error.status = status;
    last_error.native = 0;
    last_error.function = function;
    return status;
}

void mrp_error_restore(const struct mrp_error *before)
{
    last_error = *before;
}

enum mrp_status mrp_error_settle(const struct mrp_error *before, enum mrp_status status,
    const char *who, const char *name, const char *what)
{
    if (status == MRP_OK) {
        mrp_error_restore(before);
        return MRP_OK;
    }
    return last_error.status == status ? status
                                       : mrp_fail_at(who, status, 0, "%s %s: %s: %s", who,
                                             name, what, mrp_status_text(status));
}

/* Shorter than ours is an older header's, longer a newer one's. A size off the
 * alignment of size_t is no struct's, and would split a pointer. */
static bool is_struct_size(size_t size)
{
    return size >= sizeof size && size % sizeof size == 0 && size <= (size_t)1 << 16;
}

enum mrp_status mrp_params_read(
    void *params, size_t params_size, const void *given, const char *what)
{
    size_t given_size;

    if (given == NULL) {
        memset(params, 0, params_size);
        memcpy(params, &params_size, sizeof params_size);
        return MRP_OK;
    }
    memcpy(&given_size, given, sizeof given_size);
    if (!is_struct_size(given_size)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "%s: struct_size is %zu; initialise the struct with its _INIT macro (%zu "
            "bytes)",
            what, given_size, params_size);
    }
    for (size_t i = params_size; i < given_size; i++) {
        if (((const unsigned char *)given)[i] != 0) {
            return mrp_fail(MRP_ERR_INVALID, 0,
                "%s: byte %zu is set, but only %zu bytes of it are known (mrpool %s): "
                "the program was built for a newer library or module",
                what, i, params_size, mrp_version());
        }
    }
    memset(params, 0, params_size);
    memcpy(params, given, given_size < params_size ? given_size : params_size);
    memcpy(params, &params_size, sizeof params_size);
    return MRP_OK;
}

enum mrp_status mrp_params_check_lock(
    void (*lock)(void *lock_arg), void (*unlock)(void *lock_arg), const char *what)
{
    if ((lock == NULL) == (unlock == NULL)) {
        return MRP_OK;
    }
    return mrp_fail(MRP_ERR_INVALID, 0, "%s has %s without %s: pass both or none", what,
        lock != NULL ? "lock" : "unlock", lock != NULL ? "unlock" : "lock");
}

enum mrp_status mrp_info_write(
    void *given, const void *info, size_t info_size, const char *what)
{
    size_t given_size;

    if (given == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0, "%s is NULL: pass a struct to fill", what);
    }
    memcpy(&given_size, given, sizeof given_size);
    if (!is_struct_size(given_size)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "%s: struct_size is %zu; initialise the struct with its _INIT macro (%zu "
            "bytes)",
            what, given_size, info_size);
    }
    memcpy(given, info, given_size < info_size ? given_size : info_size);
    memcpy(given, &given_size, sizeof given_size);
    return MRP_OK;
}

#define STRING(x) #x
#define VERSION_TEXT(major, minor, patch) \
    STRING(major) "." STRING(minor) "." STRING(patch)

const char *mrp_version(void)
{
    return VERSION_TEXT(MRP_VERSION_MAJOR, MRP_VERSION_MINOR, MRP_VERSION_PATCH);
}
