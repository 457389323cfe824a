/* SPDX-License-Identifier: BSD-3-Clause */
#include "screen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define COLUMNS_MIN 60
#define COLUMNS_MAX 100
#define COLUMNS_USUAL 80 /* where there is no terminal to ask */
#define TEXT_COLUMNS_MIN 24 /* narrower than that, text starts on a line of its own */

static const char *const escapes[] = {
    [TOOL_PLAIN] = "",
    [TOOL_TITLE] = "\033[1m",
    [TOOL_FAINT] = "\033[2m",
    [TOOL_GOOD] = "\033[32m",
    [TOOL_LOW] = "\033[33m",
    [TOOL_BAD] = "\033[31m",
};

static bool is_colourful(void)
{
    const char *no_color = getenv("NO_COLOR");
    const char *terminal = getenv("TERM");

    return isatty(STDOUT_FILENO) && (no_color == NULL || no_color[0] == '\0') &&
        terminal != NULL && strcmp(terminal, "dumb") != 0;
}

void tool_screen_open(struct tool_screen *screen)
{
    struct winsize size;

    *screen = (struct tool_screen){is_colourful(), COLUMNS_USUAL, 0, 0};
    if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 &&
        size.ws_col != 0) {
        screen->columns = size.ws_col < COLUMNS_MIN ? COLUMNS_MIN
            : size.ws_col > COLUMNS_MAX             ? COLUMNS_MAX
                                                    : size.ws_col;
    }
}

/* Bytes that continue a UTF-8 character take no column of their own. */
static void put_text(struct tool_screen *screen, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];

        putchar(byte < ' ' || byte == 0x7f ? '?' : byte);
        screen->printed += (byte & 0xc0) != 0x80;
    }
    screen->column = screen->printed;
}

static void put_tinted(
    struct tool_screen *screen, enum tool_tint tint, const char *text, size_t length)
{
    bool tinted = screen->colourful && tint != TOOL_PLAIN;

    if (length == 0) {
        return;
    }
    printf("%*s", screen->column - screen->printed, "");
    screen->printed = screen->column;
    fputs(tinted ? escapes[tint] : "", stdout);
    put_text(screen, text, length);
    fputs(tinted ? "\033[0m" : "", stdout);
}

void tool_screen_print(
    struct tool_screen *screen, enum tool_tint tint, int width, const char *text)
{
    int end = screen->column + width;

    put_tinted(screen, tint, text, strlen(text));
    if (width > 0) {
        screen->column = end > screen->printed ? end : screen->printed + 1;
    }
}

void tool_screen_newline(struct tool_screen *screen)
{
    putchar('\n');
    screen->printed = 0;
    screen->column = 0;
}

void tool_screen_move(struct tool_screen *screen, int column)
{
    if (screen->printed > column) {
        tool_screen_newline(screen);
    }
    screen->column = column;
}

/* How much of the text fits before the right edge, ending between words; a word that is
 * longer than a line runs over. */
static size_t fitting(const char *text, int room)
{
    size_t end = strcspn(text, " ");

    while (text[end] != '\0') {
        size_t next = end + 1 + strcspn(text + end + 1, " ");

        if (next > (size_t)room) {
            break;
        }
        end = next;
    }
    return end;
}

void tool_screen_wrap(struct tool_screen *screen, enum tool_tint tint, const char *text)
{
    int start = screen->column;
    int room = screen->columns - start;

    if (room < TEXT_COLUMNS_MIN) {
        start = 4;
        room = screen->columns - start;
        tool_screen_newline(screen);
        tool_screen_move(screen, start);
    }
    while (*text != '\0') {
        size_t length = fitting(text, room);

        put_tinted(screen, tint, text, length);
        text += length;
        text += strspn(text, " ");
        if (*text != '\0') {
            tool_screen_newline(screen);
            tool_screen_move(screen, start);
        }
    }
}
