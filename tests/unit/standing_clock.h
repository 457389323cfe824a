/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The coarse clock, which ages are told by, stands still in a program that includes this,
 * unless a test lets time pass: how busy the machine is changes nothing.
 *
 *     coarse_ms += 50;
 *
 * So does the one that deadlines are told by while a test wants it to: what then waits
 * until a deadline, however short, goes on for ever.
 *
 *     stand_still();
 *     go_on_again();
 */
#ifndef STANDING_CLOCK_H
#define STANDING_CLOCK_H

#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Atomic uint64_t coarse_ms = 1000000;
static _Atomic uint64_t fine_ns; /* 0: it goes on */

/* In place of the C library's, for all of the program. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
    if (clock == CLOCK_MONOTONIC_COARSE) {
        uint64_t now_ms = coarse_ms;

        *time =
            (struct timespec){(time_t)(now_ms / 1000), (long)(now_ms % 1000) * 1000000};
        return 0;
    }
    if (clock == CLOCK_MONOTONIC && fine_ns != 0) {
        uint64_t now_ns = fine_ns;

        *time =
            (struct timespec){(time_t)(now_ns / 1000000000), (long)(now_ns % 1000000000)};
        return 0;
    }
    return (int)syscall(SYS_clock_gettime, clock, time);
}

static inline void stand_still(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    fine_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline void go_on_again(void)
{
    fine_ns = 0;
}

#endif
