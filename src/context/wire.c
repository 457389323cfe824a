/* SPDX-License-Identifier: BSD-3-Clause */
#include "context/wire.h"

#include <string.h>

#define WIRE_VERSION 1
#define CHECK_OFFSET 2
#define ENTRY_HEADER_SIZE 16

static void put(unsigned char *bytes, size_t width, uint64_t value)
{
    for (size_t i = 0; i < width; i++) {
        bytes[i] = (unsigned char)(value >> (8 * i));
    }
}

static uint64_t get(const unsigned char *bytes, size_t width)
{
    uint64_t value = 0;

    for (size_t i = 0; i < width; i++) {
        value |= (uint64_t)bytes[i] << (8 * i);
    }
    return value;
}

/* A byte's eight steps at once. The polynomial has so few terms (x^12, x^5, 1) that what
 * they come to is three shifts, once the byte's upper half has acted on its lower one. */
static uint16_t crc_step(uint16_t crc, unsigned char byte)
{
    unsigned x = (unsigned)(crc >> 8) ^ byte;

    x ^= x >> 4;
    return (uint16_t)((unsigned)crc << 8 ^ x << 12 ^ x << 5 ^ x);
}

/* CRC-16/CCITT-FALSE (polynomial 0x1021, start 0xffff) of everything but the check
 * itself, of which all bytes of each word of `flip` + 1 bytes come in the other order. It
 * finds accidents, not forgeries: a peer that holds keys needs none. */
static uint16_t checksum(const unsigned char *bytes, size_t size, size_t flip)
{
    uint16_t crc = 0xffff;

    for (size_t i = 0; i < size; i++) {
        bool is_check = i == CHECK_OFFSET || i == CHECK_OFFSET + 1;

        crc = crc_step(crc, is_check ? 0 : bytes[i ^ flip]);
    }
    return crc;
}

/* Somebody has taken them for numbers of 4 or 8 bytes, on a machine of another kind. */
static bool is_swapped(const unsigned char *bytes, size_t size)
{
    for (size_t flip = 3; flip <= 7; flip += 4) {
        uint16_t check = (uint16_t)(bytes[CHECK_OFFSET ^ flip] |
            bytes[(CHECK_OFFSET + 1) ^ flip] << 8);

        if (size % 8 == 0 && bytes[flip] == WIRE_VERSION &&
            check == checksum(bytes, size, flip)) {
            return true;
        }
    }
    return false;
}

static enum mrp_status check_version(
    const unsigned char *bytes, size_t size, const char *what)
{
    if (bytes[0] != WIRE_VERSION && is_swapped(bytes, size)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "%s: the bytes of its words are in the other order: send them as bytes, "
            "which are the same on all machines",
            what);
    }
    return bytes[0] == WIRE_VERSION
        ? MRP_OK
        : mrp_fail(MRP_ERR_INVALID, 0,
              "%s: version %u, but this library reads %d: bring both sides to one "
              "version",
              what, bytes[0], WIRE_VERSION);
}

static enum mrp_status check_sum(
    const unsigned char *bytes, size_t size, const char *what)
{
    uint16_t check = checksum(bytes, size, 0);

    return get(bytes + CHECK_OFFSET, 2) == check
        ? MRP_OK
        : mrp_fail(MRP_ERR_INVALID, 0, "%s: corrupted, its check is %#x, not %#x", what,
              (unsigned)get(bytes + CHECK_OFFSET, 2), check);
}

/* -- tokens -- */

void mrp_token_encode(const struct mrp_wire_token *fields, struct mrp_token *token)
{
    unsigned char *bytes = token->bytes;

    put(bytes, 1, WIRE_VERSION);
    put(bytes + 1, 1, 0);
    put(bytes + 4, 4, fields->pool);
    put(bytes + 8, 4, fields->chunk);
    put(bytes + 12, 4, fields->chunk_generation);
    put(bytes + 16, 6, fields->offset);
    put(bytes + 22, 6, fields->length);
    put(bytes + 28, 4, fields->region_generation);
    put(bytes + CHECK_OFFSET, 2, checksum(bytes, sizeof token->bytes, 0));
}

enum mrp_status mrp_token_decode(
    const struct mrp_token *token, struct mrp_wire_token *fields)
{
    const unsigned char *bytes = token->bytes;
    enum mrp_status status = check_version(bytes, sizeof token->bytes, "the token");

    if (status == MRP_OK) {
        status = check_sum(bytes, sizeof token->bytes, "the token");
    }
    if (status == MRP_OK && bytes[1] != 0) {
        status =
            mrp_fail(MRP_ERR_INVALID, 0, "the token has unknown flags %#x", bytes[1]);
    }
    if (status != MRP_OK) {
        return status;
    }
    fields->pool = (uint32_t)get(bytes + 4, 4);
    fields->chunk = (uint32_t)get(bytes + 8, 4);
    fields->chunk_generation = (uint32_t)get(bytes + 12, 4);
    fields->offset = get(bytes + 16, 6);
    fields->length = get(bytes + 22, 6);
    fields->region_generation = (uint32_t)get(bytes + 28, 4);
    return MRP_OK;
}

/* -- packed keys -- */

size_t mrp_wire_key_size(size_t key_size)
{
    return ENTRY_HEADER_SIZE + ((key_size + 7) & ~(size_t)7);
}

void mrp_keys_fill(const struct mrp_wire_keys *keys, const struct mrp_wire_key *entries,
    unsigned char *buffer, size_t size)
{
    unsigned char *next = buffer + MRP_KEYS_HEADER_SIZE;

    memset(buffer, 0, size);
    put(buffer, 1, WIRE_VERSION);
    put(buffer + 1, 1, keys->n_rails);
    put(buffer + 4, 4, size);
    put(buffer + 8, 4, keys->pool);
    put(buffer + 12, 4, keys->chunk);
    put(buffer + 16, 4, keys->chunk_generation);
    put(buffer + 24, 8, keys->chunk_size);
    for (size_t i = 0; i < keys->n_rails; i++) {
        put(next, 1, entries[i].rail);
        put(next + 2, 2, entries[i].key_size);
        put(next + 8, 8, entries[i].remote_base);
        memcpy(next + ENTRY_HEADER_SIZE, entries[i].key, entries[i].key_size);
        next += mrp_wire_key_size(entries[i].key_size);
    }
}

void mrp_keys_seal(unsigned char *buffer, size_t size)
{
    put(buffer + CHECK_OFFSET, 2, checksum(buffer, size, 0));
}

void mrp_keys_encode(const struct mrp_wire_keys *keys, const struct mrp_wire_key *entries,
    unsigned char *buffer, size_t size)
{
    mrp_keys_fill(keys, entries, buffer, size);
    mrp_keys_seal(buffer, size);
}

/* The check is right: who packed them did it wrongly. */
static enum mrp_status malformed(size_t size)
{
    return mrp_fail(MRP_ERR_INVALID, 0,
        "the packed keys are malformed: the entries of their rails do not fill their %zu "
        "bytes",
        size);
}

static bool are_zero(const unsigned char *bytes, size_t size)
{
    while (size > 0 && bytes[size - 1] == 0) {
        size--;
    }
    return size == 0;
}

/* What every version so far writes: a rail of ours that was not there yet, zeros where
 * nothing is said, memory that does not go round the end of all addresses. */
static enum mrp_status check_entry(
    const unsigned char *entry, size_t key_size, uint64_t chunk_size, uint64_t *seen)
{
    const unsigned char *key_end = entry + ENTRY_HEADER_SIZE + key_size;
    uint64_t base = get(entry + 8, 8);

    if (entry[0] >= MRP_RAILS_MAX || (*seen >> entry[0] & 1) != 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "the packed keys are malformed: rail %u is %s", entry[0],
            entry[0] < MRP_RAILS_MAX ? "in them twice" : "none that a pool has");
    }
    if (!are_zero(entry + 1, 1) || !are_zero(entry + 4, 4) ||
        !are_zero(key_end, mrp_wire_key_size(key_size) - ENTRY_HEADER_SIZE - key_size)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "the packed keys are malformed: bytes of rail %u are set that mean nothing",
            entry[0]);
    }
    if (base > UINT64_MAX - chunk_size) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "the packed keys are malformed: %llu bytes at %#llx on rail %u end beyond "
            "all addresses",
            (unsigned long long)chunk_size, (unsigned long long)base, entry[0]);
    }
    *seen |= UINT64_C(1) << entry[0];
    return MRP_OK;
}

/* That all of them came, and nothing else. */
static enum mrp_status check_size(const unsigned char *bytes, size_t size)
{
    enum mrp_status status;
    uint64_t packed;

    if (size < MRP_KEYS_HEADER_SIZE) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "the packed keys are truncated: %zu bytes, less than their header of %d",
            size, MRP_KEYS_HEADER_SIZE);
    }
    status = check_version(bytes, size, "the packed keys");
    packed = get(bytes + 4, 4);
    if (status != MRP_OK || packed == size) {
        return status;
    }
    return packed > size
        ? mrp_fail(MRP_ERR_INVALID, 0, "the packed keys are truncated: %zu of %llu bytes",
              size, (unsigned long long)packed)
        : mrp_fail(MRP_ERR_INVALID, 0,
              "the packed keys are %llu bytes, and %zu were passed: pass what was packed",
              (unsigned long long)packed, size);
}

enum mrp_status mrp_keys_decode(const void *packed, size_t size, unsigned rail,
    struct mrp_wire_keys *keys, struct mrp_wire_key *entry)
{
    const unsigned char *bytes = packed, *next = bytes + MRP_KEYS_HEADER_SIZE;
    struct mrp_wire_key found = {.key = NULL};
    enum mrp_status status;
    uint64_t chunk_size, seen = 0;
    size_t n_rails;

    status = check_size(bytes, size);
    if (status == MRP_OK) {
        status = check_sum(bytes, size, "the packed keys");
    }
    if (status == MRP_OK && !are_zero(bytes + 20, 4)) {
        status = mrp_fail(MRP_ERR_INVALID, 0, "the packed keys have unknown flags %#x",
            (unsigned)get(bytes + 20, 4));
    }
    if (status != MRP_OK) {
        return status;
    }
    n_rails = bytes[1];
    chunk_size = get(bytes + 24, 8);
    for (size_t i = 0; i < n_rails; i++) {
        size_t left = size - (size_t)(next - bytes), key_size;

        if (left < ENTRY_HEADER_SIZE) {
            return malformed(size);
        }
        key_size = (size_t)get(next + 2, 2);
        if (key_size == 0 || key_size > MRP_KEY_SIZE_MAX ||
            mrp_wire_key_size(key_size) > left) {
            return malformed(size);
        }
        status = check_entry(next, key_size, chunk_size, &seen);
        if (status != MRP_OK) {
            return status;
        }
        if (next[0] == rail) {
            found = (struct mrp_wire_key){
                rail, get(next + 8, 8), next + ENTRY_HEADER_SIZE, key_size};
        }
        next += mrp_wire_key_size(key_size);
    }
    if (next != bytes + size) {
        return malformed(size);
    }
    if (found.key == NULL) {
        return mrp_fail(
            MRP_ERR_INVALID, 0, "the packed keys hold none for rail %u", rail);
    }
    *keys = (struct mrp_wire_keys){(uint32_t)get(bytes + 8, 4),
        (uint32_t)get(bytes + 12, 4), (uint32_t)get(bytes + 16, 4), chunk_size, n_rails};
    *entry = found;
    return MRP_OK;
}
