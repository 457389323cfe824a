/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The owner's side of the wire: tokens of regions, packed keys of their chunks.
 */
#include "context/wire.h"

#include "base/error.h"
#include "pool/pool.h"

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

static enum mrp_status add_rail(struct packing *packing, const struct mrp_pool *pool,
    const struct mrp_chunk *chunk, unsigned rail)
{
    const struct mrp_registration *registration = &chunk->registrations[rail];
    struct mrp_wire_key *entry = &packing->entries[packing->n_entries];
    unsigned char *small = packing->small_keys[packing->n_entries];

    if (mrp_remote_flags(pool, chunk->id, rail) == 0 ||
        registration->key_size > MRP_KEY_SIZE_MAX) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "rail %u (%s): the chunk has no remote key there (access %#x, key of %zu "
            "bytes)",
            rail, pool->rails[rail]->named.name, chunk->access, registration->key_size);
    }
    *entry = (struct mrp_wire_key){
        rail, registration->remote_base, registration->key_blob, registration->key_size};
    if (registration->key_blob == NULL) {
        for (size_t i = 0; i < sizeof(uint64_t); i++) {
            small[i] = (unsigned char)(registration->remote_key >> (8 * i));
        }
        entry->key = small;
        entry->key_size = sizeof(uint64_t);
    }
    packing->size += mrp_wire_key_size(entry->key_size);
    packing->n_entries++;
    return MRP_OK;
}

enum mrp_status mrp_region_key_pack(
    const struct mrp_region *region, uint64_t rail_mask, void *buffer, size_t *size)
{
    struct packing packing = {.n_entries = 0, .size = MRP_KEYS_HEADER_SIZE};
    const struct mrp_chunk *chunk;
    const struct mrp_pool *pool;
    struct mrp_wire_keys keys;
    enum mrp_status status = mrp_region_check_handle(region);

    if (status != MRP_OK) {
        return status;
    }
    pool = mrp_pool_of(region);
    if (size == NULL || rail_mask == 0 ||
        (pool->n_rails < MRP_RAILS_MAX && rail_mask >> pool->n_rails != 0)) {
        return mrp_fail(MRP_ERR_INVALID, 0, "rail_mask is %#llx, pool %s has %zu rails%s",
            (unsigned long long)rail_mask, pool->member.named.name, pool->n_rails,
            size == NULL ? ", and size is NULL" : "");
    }
    chunk = mrp_chunk_entry(pool, region->chunk)->chunk;
    for (unsigned rail = 0; rail < pool->n_rails; rail++) {
        if ((rail_mask >> rail & 1) != 0) {
            status = add_rail(&packing, pool, chunk, rail);
            if (status != MRP_OK) {
                return status;
            }
        }
    }
    if (buffer != NULL && *size < packing.size) {
        return mrp_fail(MRP_ERR_INVALID, 0, "the buffer has %zu bytes, the keys need %zu",
            *size, packing.size);
    }
    if (buffer != NULL) {
        keys = (struct mrp_wire_keys){pool->wire_id, region->chunk,
            mrp_chunk_entry(pool, region->chunk)->generation, chunk->mapping.size,
            packing.n_entries};
        mrp_keys_encode(&keys, packing.entries, buffer, packing.size);
    }
    *size = packing.size;
    return MRP_OK;
}
