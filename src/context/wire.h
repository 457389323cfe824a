/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What peers send each other: tokens of regions and packed keys of chunks. All integers
 * are little-endian; everything read is validated before it is used.
 *
 *   token, 32 bytes
 *       u8 version, u8 flags, u16 check, u32 pool, u32 chunk, u32 chunk generation,
 *       u48 offset in the chunk, u48 length, u32 region generation
 *   packed keys, header of 32 bytes
 *       u8 version, u8 n_rails, u16 check, u32 bytes in all, u32 pool, u32 chunk,
 *       u32 chunk generation, u32 zero, u64 bytes of the chunk
 *   packed keys, for each rail
 *       u8 rail, u8 zero, u16 key bytes, u32 zero, u64 remote address of the chunk's first
 *       byte, the key padded with zeros to a multiple of 8
 */
#ifndef MRP_CONTEXT_WIRE_H
#define MRP_CONTEXT_WIRE_H

#include "mrpool/region.h"

struct mrp_wire_token {
    uint32_t pool, chunk, chunk_generation, region_generation;
    uint64_t offset, length; /* less than 2^48 */
};

void mrp_token_encode(const struct mrp_wire_token *fields, struct mrp_token *token);

/** MRP_ERR_INVALID for another version or a wrong check. */
enum mrp_status mrp_token_decode(
    const struct mrp_token *token, struct mrp_wire_token *fields);

struct mrp_wire_keys {
    uint32_t pool, chunk, chunk_generation;
    uint64_t chunk_size;
    size_t n_rails;
};

struct mrp_wire_key {
    unsigned rail;
    uint64_t remote_base;
    const void *key;
    size_t key_size;
};

#define MRP_KEYS_HEADER_SIZE 32
#define MRP_KEY_SIZE_MAX 4096

/** Bytes of one rail's entry. */
size_t mrp_wire_key_size(size_t key_size);

/** Encode header and entries into a buffer of exactly the sum of their sizes: all but the
 *  check, and the check. */
void mrp_keys_fill(const struct mrp_wire_keys *keys, const struct mrp_wire_key *entries,
    unsigned char *buffer, size_t size);
void mrp_keys_seal(unsigned char *buffer, size_t size);

/** Both. */
void mrp_keys_encode(const struct mrp_wire_keys *keys, const struct mrp_wire_key *entries,
    unsigned char *buffer, size_t size);

/** Validate packed keys and find one rail's entry, which points into them. */
enum mrp_status mrp_keys_decode(const void *packed, size_t size, unsigned rail,
    struct mrp_wire_keys *keys, struct mrp_wire_key *entry);

#endif
