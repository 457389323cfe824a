/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The owner's side of the wire: tokens of regions, packed keys of their chunks.
 */
#include "context/wire.h"

#include "base/error.h"
#include "pool/pool.h"
#include "pool/rails.h"

#include <string.h>

enum mrp_status mrp_region_token(const struct mrp_region *region, struct mrp_token *token)
{
    struct mrp_wire_token fields;
    const struct mrp_region *owner = region;
    const struct mrp_chunk *chunk;
    const struct mrp_pool *pool;
    enum mrp_status status = mrp_region_check_handle(region);

    if (status == MRP_OK && token == NULL) {
        status = mrp_fail(MRP_ERR_INVALID, 0, "token is NULL: pass where to store it");
    }
    if (status != MRP_OK) {
        return status;
    }
    pool = mrp_pool_of(region);
    if (mrp_kind_of(region) == MRP_REGION_SLICE) {
        /* its memory goes when its root goes */
        owner = mrp_region_at(pool, region->parent);
    }
    chunk = mrp_chunk_entry(pool, region->chunk)->chunk;
    fields.pool = pool->wire_id;
    fields.chunk = region->chunk;
    fields.chunk_generation = mrp_chunk_entry(pool, region->chunk)->generation;
    fields.region_generation = mrp_load_relaxed(&owner->generation);
    fields.offset = (uintptr_t)mrp_payload(region) - (uintptr_t)chunk->mapping.address;
    fields.length = mrp_load_relaxed(&region->size);
    mrp_token_encode(&fields, token);
    return MRP_OK;
}

/* The live region whose memory a token of this pool names. */
static struct mrp_region *find_named(
    struct mrp_pool *pool, const struct mrp_wire_token *fields)
{
    const struct mrp_chunk_entry *entry = mrp_chunk_entry(pool, fields->chunk);
    struct mrp_region *region;
    uintptr_t address;
    size_t offset;

    if (entry->chunk == NULL || entry->generation != fields->chunk_generation ||
        fields->offset >= entry->chunk->mapping.size) {
        return NULL;
    }
    address = (uintptr_t)entry->chunk->mapping.address + fields->offset;
    region = entry->chunk->region; /* registered memory may overlap: ask the chunk */
    if (region == NULL) {
        region = mrp_region_find(pool, (const void *)address); /* NOLINT */
    }
    if (region == NULL || !mrp_region_is_live(region) ||
        mrp_load_relaxed(&region->generation) != fields->region_generation) {
        return NULL;
    }
    offset = address - (uintptr_t)mrp_payload(region);
    return offset <= region->capacity && fields->length <= region->capacity - offset
        ? region
        : NULL;
}

enum mrp_status mrp_token_resolve(
    struct mrp_pool *pool, const struct mrp_token *token, struct mrp_region **region)
{
    struct mrp_wire_token fields;
    struct mrp_region *found = NULL;
    enum mrp_status status = mrp_pool_check_handle(pool);

    if (status == MRP_OK) {
        status = token == NULL || region == NULL
            ? mrp_fail(MRP_ERR_INVALID, 0, "token or region is NULL")
            : mrp_token_decode(token, &fields);
    }
    if (status != MRP_OK) {
        return status;
    }
    if (fields.pool != pool->wire_id) {
        return mrp_fail(MRP_ERR_INVALID, 0, "the token is of pool %#x, this is %#x (%s)",
            fields.pool, pool->wire_id, pool->member.named.name);
    }
    pthread_mutex_lock(&pool->mutex); /* the chunk table changes under it */
    if (fields.chunk < pool->n_chunk_ids) {
        found = find_named(pool, &fields);
    }
    pthread_mutex_unlock(&pool->mutex);
    if (found == NULL) {
        return mrp_fail(MRP_ERR_STALE, 0,
            "the token's region (chunk %u, offset %llu, owner %u) has been given back "
            "since, or abandoned",
            fields.chunk, (unsigned long long)fields.offset, fields.region_generation);
    }
    *region = found;
    return MRP_OK;
}

/* -- keys -- */

struct packing {
    struct mrp_wire_key entries[MRP_RAILS_MAX];
    unsigned char small_keys[MRP_RAILS_MAX][sizeof(uint64_t)];
    size_t n_entries, size;
};

static void put_small(uint64_t key, unsigned char bytes[sizeof(uint64_t)])
{
    for (size_t i = 0; i < sizeof(uint64_t); i++) {
        bytes[i] = (unsigned char)(key >> (8 * i));
    }
}

/* A registration with a remote key, which stays while the mutex of the chunks is held.
 * MRP_ERR_AGAIN, without a record: the rail has failed, or just taken it away. */
static enum mrp_status find_key(struct mrp_pool *pool, const struct mrp_chunk *chunk,
    unsigned rail, const struct mrp_registration **found)
{
    const struct mrp_registration *registration;
    uint32_t flags = mrp_load_acquire(&mrp_key_line(pool, rail, chunk->id)->flags);

    if ((chunk->registered & mrp_rail_bit(rail)) == 0 ||
        (flags & MRP_KEY_REGISTERED) == 0) {
        return MRP_ERR_AGAIN;
    }
    registration = &chunk->registrations[rail];
    if ((flags & (MRP_KEY_REMOTE | MRP_KEY_BLOB)) == 0 ||
        registration->key_size > MRP_KEY_SIZE_MAX) {
        return mrp_fail_at("mrp_region_key_pack", MRP_ERR_UNSUPPORTED, 0,
            "rail %u (%s): the chunk has no remote key there (access %#x, key of %zu "
            "bytes)",
            rail, chunk->rails[rail]->named.name, chunk->access, registration->key_size);
    }
    *found = registration;
    return MRP_OK;
}

static void add_key(
    struct packing *packing, const struct mrp_registration *registration, unsigned rail)
{
    struct mrp_wire_key *entry = &packing->entries[packing->n_entries];

    *entry = (struct mrp_wire_key){
        rail, registration->remote_base, registration->key_blob, registration->key_size};
    if (registration->key_blob == NULL) {
        put_small(registration->remote_key, packing->small_keys[packing->n_entries]);
        entry->key = packing->small_keys[packing->n_entries];
        entry->key_size = sizeof(uint64_t);
    }
    packing->size += mrp_wire_key_size(entry->key_size);
    packing->n_entries++;
}

/* Whether every rail of the mask is in use and has the chunk. No lock. */
static enum mrp_status check_rails(
    struct mrp_pool *pool, uint32_t chunk, uint64_t rail_mask)
{
    uint64_t used;

    pthread_mutex_lock(&pool->mutex);
    used = mrp_rails_used(pool);
    pthread_mutex_unlock(&pool->mutex);
    if (rail_mask == 0 || (rail_mask & ~used) != 0) {
        return mrp_fail_at("mrp_region_key_pack", MRP_ERR_INVALID, 0,
            "rail_mask is %#llx, pool %s has %d rails, %#llx",
            (unsigned long long)rail_mask, pool->member.named.name,
            __builtin_popcountll(used), (unsigned long long)used);
    }
    for (; rail_mask != 0; rail_mask &= rail_mask - 1) {
        unsigned rail = (unsigned)__builtin_ctzll(rail_mask);

        if ((mrp_load_acquire(&mrp_key_line(pool, rail, chunk)->flags) &
                MRP_KEY_REGISTERED) == 0) {
            return mrp_rail_refuse("mrp_region_key_pack", pool, rail);
        }
    }
    return MRP_OK;
}

static enum mrp_status check_room(const void *buffer, size_t room, size_t needed)
{
    return buffer == NULL || room >= needed
        ? MRP_OK
        : mrp_fail_at("mrp_region_key_pack", MRP_ERR_INVALID, 0,
              "the buffer has %zu bytes, the keys need %zu", room, needed);
}

/* Under the mutex of the chunks; *rail: which it failed at. */
static enum mrp_status pack(struct packing *packing, struct mrp_pool *pool,
    const struct mrp_chunk *chunk, uint64_t rail_mask, unsigned *rail)
{
    const struct mrp_registration *registration = NULL;
    enum mrp_status status = MRP_OK;

    for (; status == MRP_OK && rail_mask != 0; rail_mask &= rail_mask - 1) {
        *rail = (unsigned)__builtin_ctzll(rail_mask);
        status = find_key(pool, chunk, *rail, &registration);
        if (status == MRP_OK) {
            add_key(packing, registration, *rail);
        }
    }
    return status;
}

enum mrp_status mrp_region_key_pack(
    const struct mrp_region *region, uint64_t rail_mask, void *buffer, size_t *size)
{
    struct packing packing = {.n_entries = 0, .size = MRP_KEYS_HEADER_SIZE};
    enum mrp_status status = mrp_region_check_handle(region);
    const struct mrp_chunk_entry *entry;
    struct mrp_wire_keys keys;
    struct mrp_pool *pool;
    unsigned rail = 0;

    if (status == MRP_OK && size == NULL) {
        status = mrp_fail(MRP_ERR_INVALID, 0, "size is NULL");
    }
    if (status != MRP_OK) {
        return status;
    }
    pool = mrp_pool_of(region);
    status = check_rails(pool, region->chunk, rail_mask);
    if (status != MRP_OK) {
        return status;
    }
    entry = mrp_chunk_entry(pool, region->chunk);
    pthread_mutex_lock(&pool->context->chunks.mutex);
    status = pack(&packing, pool, entry->chunk, rail_mask, &rail);
    if (status == MRP_OK) {
        status = check_room(buffer, *size, packing.size);
    }
    if (status == MRP_OK && buffer != NULL) {
        keys = (struct mrp_wire_keys){pool->wire_id, region->chunk, entry->generation,
            entry->chunk->mapping.size, packing.n_entries};
        mrp_keys_fill(&keys, packing.entries, buffer, packing.size);
    }
    pthread_mutex_unlock(&pool->context->chunks.mutex);
    if (status == MRP_ERR_AGAIN) {
        return mrp_rail_refuse(__func__, pool, rail);
    }
    if (status == MRP_OK) {
        if (buffer != NULL) {
            mrp_keys_seal(buffer, packing.size);
        }
        *size = packing.size;
    }
    return status;
}

enum mrp_status mrp_region_native_key(
    const struct mrp_region *region, unsigned rail, void *buffer, size_t *size)
{
    enum mrp_status status = mrp_region_check_handle(region);
    const struct mrp_registration *registration = NULL;
    unsigned char small[sizeof(uint64_t)];
    const void *key = NULL;
    struct mrp_pool *pool;
    size_t key_size = 0;

    if (status == MRP_OK && size == NULL) {
        status = mrp_fail(MRP_ERR_INVALID, 0, "size is NULL");
    }
    if (status != MRP_OK) {
        return status;
    }
    pool = mrp_pool_of(region);
    if (rail >= MRP_RAILS_MAX) {
        return mrp_rail_refuse(__func__, pool, rail);
    }
    status = check_rails(pool, region->chunk, mrp_rail_bit(rail));
    if (status != MRP_OK) {
        return status == MRP_ERR_INVALID ? mrp_rail_refuse(__func__, pool, rail) : status;
    }
    pthread_mutex_lock(&pool->context->chunks.mutex);
    status =
        find_key(pool, mrp_chunk_entry(pool, region->chunk)->chunk, rail, &registration);
    if (status == MRP_OK) {
        key = registration->key_blob != NULL ? registration->key_blob : small;
        key_size = registration->key_blob != NULL
            ? registration->key_size
            : mrp_min(registration->key_size, sizeof small);
        put_small(registration->remote_key, small);
        status = check_room(buffer, *size, key_size);
    }
    if (status == MRP_OK && buffer != NULL) {
        memcpy(buffer, key, key_size);
    }
    if (status == MRP_OK) {
        *size = key_size;
    }
    pthread_mutex_unlock(&pool->context->chunks.mutex);
    return status == MRP_ERR_AGAIN ? mrp_rail_refuse(__func__, pool, rail) : status;
}
