/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the tests of tokens and keys share: forgeries whose check is right.
 */
#ifndef WIRE_BYTES_H
#define WIRE_BYTES_H

#include "context/wire.h"

#include <stdint.h>

/* CRC-16/CCITT-FALSE of all bytes but the check itself, which counts as 0. */
static inline uint16_t wire_check(const unsigned char *bytes, size_t size)
{
    unsigned crc = 0xffff;

    for (size_t i = 0; i < size; i++) {
        unsigned byte = i == 2 || i == 3 ? 0 : bytes[i];

        for (int bit = 7; bit >= 0; bit--) {
            unsigned is_set = (crc >> 15 ^ byte >> bit) & 1;

            crc = (crc << 1 & 0xffff) ^ (is_set ? 0x1021 : 0);
        }
    }
    return (uint16_t)crc;
}

static inline void wire_seal(unsigned char *bytes, size_t size)
{
    uint16_t check = wire_check(bytes, size);

    bytes[2] = (unsigned char)check;
    bytes[3] = (unsigned char)(check >> 8);
}

static inline void wire_put(unsigned char *bytes, size_t width, uint64_t value)
{
    for (size_t i = 0; i < width; i++) {
        bytes[i] = (unsigned char)(value >> (8 * i));
    }
}

static inline uint64_t wire_random(uint64_t *random)
{
    *random = *random * 6364136223846793005U + 1442695040888963407U;
    return *random >> 20;
}

#endif
