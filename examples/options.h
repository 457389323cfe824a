/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A number on an example's command line.
 */
#ifndef EXAMPLES_OPTIONS_H
#define EXAMPLES_OPTIONS_H

#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* With an optional K, M or G, within bounds; anything else ends the program. */
static uint64_t option_number(
    struct argp_state *state, const char *text, uint64_t least, uint64_t most)
{
    static const char units[] = "KMG";
    const char *unit;
    char *end;
    uint64_t number;
    unsigned shift = 0;

    errno = 0;
    number = strtoull(text, &end, 10);
    if (*end != '\0' && (unit = strchr(units, toupper((unsigned char)*end))) != NULL) {
        shift = 10 * (unsigned)(unit - units + 1);
        end++;
    }
    if (errno != 0 || !isdigit((unsigned char)text[0]) || *end != '\0' ||
        number > most >> shift || number << shift < least) {
        argp_error(state, "'%s' is not a number from %" PRIu64 " to %" PRIu64, text,
            least, most);
    }
    return number << shift;
}

#endif
