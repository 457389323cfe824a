/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the tests of the base and of the context share: one check of a refusal, which
 * holds its status, its record and its text against what the caller should be told.
 */
#ifndef REFUSAL_H
#define REFUSAL_H

#include "mrpool/base.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static inline void refused_at(enum mrp_status status, enum mrp_status wanted,
    const char *word, const char *call, const char *file, int line)
{
    const struct mrp_error *error = mrp_error_last();

    if (status == wanted && error->status == wanted && error->function[0] != '\0' &&
        strstr(error->text, word) != NULL && strlen(error->text) < sizeof error->text) {
        return;
    }
    print_error("%s\n  is %s, recorded %s by %s, not %s with \"%s\": %s\n", call,
        mrp_status_name(status), mrp_status_name(error->status), error->function,
        mrp_status_name(wanted), word, error->text);
    _fail(file, line);
}

/* The call is refused with this status, and its text holds this word. */
#define assert_refused(call, wanted, word) \
    refused_at((mrp_error_clear(), (call)), (wanted), (word), #call, __FILE__, __LINE__)

static inline void accepted_at(
    enum mrp_status status, const char *call, const char *file, int line)
{
    if (status != MRP_OK) {
        print_error(
            "%s\n  is %s: %s\n", call, mrp_status_name(status), mrp_error_last()->text);
        _fail(file, line);
    }
}

/* The call is MRP_OK; if not, its text is shown. */
#define assert_accepted(call) accepted_at((call), #call, __FILE__, __LINE__)

/* The status of a call that returns an object: of what was recorded when it is NULL. */
static inline enum mrp_status status_of(const void *object)
{
    return object != NULL ? MRP_OK : mrp_error_last()->status;
}

/* "5000 kB" or 5000: whether the text holds this number, not as part of a longer one. */
static inline int text_has_number(const char *text, size_t number)
{
    char digits[24];
    size_t length = (size_t)snprintf(digits, sizeof digits, "%zu", number);

    for (const char *at = strstr(text, digits); at != NULL; at = strstr(at + 1, digits)) {
        char after = at[length];

        if ((at == text || at[-1] < '0' || at[-1] > '9') &&
            (after < '0' || after > '9')) {
            return 1;
        }
    }
    return 0;
}

#endif
