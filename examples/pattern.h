/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Bytes to send and to recognise: each follows from a seed and its place, the same on
 * every machine (splitmix64, stored little-endian).
 */
#ifndef EXAMPLES_PATTERN_H
#define EXAMPLES_PATTERN_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static uint64_t pattern_word(uint64_t seed, uint64_t index)
{
    uint64_t x = seed + index * 0x9e3779b97f4a7c15u; /* splitmix64 */

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void pattern_fill(unsigned char *bytes, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
        uint64_t word = htole64(pattern_word(seed, i));

        memcpy(bytes + i, &word, size - i < sizeof(word) ? size - i : sizeof(word));
    }
}

/* @return the number of the first wrong byte, or `size`. */
static size_t pattern_check(const unsigned char *bytes, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i += sizeof(uint64_t)) {
        uint64_t word = pattern_word(seed, i);
        uint64_t stored = htole64(word), found;
        size_t n = size - i < sizeof(word) ? size - i : sizeof(word);

        if (n == sizeof(word)) { /* nearly all: no call */
            memcpy(&found, bytes + i, sizeof(found));
            if (found == stored) {
                continue;
            }
        }
        if (memcmp(bytes + i, &stored, n) != 0) {
            while (bytes[i] == (unsigned char)word) {
                word >>= 8;
                i++;
            }
            return i;
        }
    }
    return size;
}

#endif
