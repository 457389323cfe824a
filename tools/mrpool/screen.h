/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Text for people: colours where there is a terminal for them, and lines that fit.
 */
#ifndef TOOL_SCREEN_H
#define TOOL_SCREEN_H

#include <stdbool.h>

enum tool_tint {
    TOOL_PLAIN,
    TOOL_TITLE,
    TOOL_FAINT,
    TOOL_GOOD,
    TOOL_LOW,
    TOOL_BAD
};

struct tool_screen {
    bool colourful; /* stdout is a terminal, and NO_COLOR is not set */
    int columns; /* of the terminal, 60 to 100; 80 elsewhere */
    int printed; /* columns printed of this line */
    int column; /* where the next character goes: blanks come with it, so none trail */
};

void tool_screen_open(struct tool_screen *screen);

/** Print text in a cell of `width` columns; one that is too long pushes on what follows,
 * with a blank between. Control characters are shown as '?'. */
void tool_screen_print(
    struct tool_screen *screen, enum tool_tint tint, int width, const char *text);

/** Print blanks until the next character goes to `column`; on a new line if it is behind.
 */
void tool_screen_move(struct tool_screen *screen, int column);

/** Print text broken between words, each further line beginning where the first began. */
void tool_screen_wrap(struct tool_screen *screen, enum tool_tint tint, const char *text);

void tool_screen_newline(struct tool_screen *screen);

#endif
