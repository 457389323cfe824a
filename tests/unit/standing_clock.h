/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The coarse clock, which ages are told by, stands still in a program that includes this,
 * unless a test lets time pass: how busy the machine is changes nothing.
 *
 *     coarse_ms += 50;
 */
#ifndef STANDING_CLOCK_H
#define STANDING_CLOCK_H

#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static _Atomic uint64_t coarse_ms = 1000000;

/* In place of the C library's, for all of the program. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
    if (clock == CLOCK_MONOTONIC_COARSE) {
        uint64_t now_ms = coarse_ms;

        *time =
            (struct timespec){(time_t)(now_ms / 1000), (long)(now_ms % 1000) * 1000000};
        return 0;
    }
    return (int)syscall(SYS_clock_gettime, clock, time);
}

#endif
