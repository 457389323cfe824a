/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A peer's chunk, as this process reaches it: keys imported once, tokens resolved against
 * them.
 */
#include "base/error.h"
#include "base/handle.h"
#include "context/context.h"
#include "context/wire.h"

#include <stdlib.h>
#include <string.h>

struct mrp_remote_state {
    struct mrp_remote *handle;
    struct mrp_provider_state *provider;
    struct mrp_wire_keys keys;
    uint64_t remote_base;
    uint64_t key;
    void *import; /* what the provider's import_key gave, for release_key */
    bool is_imported;
    struct mrp_remote_state *next, *previous; /* in provider->remotes */
};

/* Numbers of all networks look alike; one that is too large for this one is another's. */
static enum mrp_status check_width(const struct mrp_remote_state *remote)
{
    size_t width = remote->provider->info.key_size;

    if (width == 0 || width >= sizeof remote->key || remote->key >> (8 * width) == 0) {
        return MRP_OK;
    }
    return mrp_fail(MRP_ERR_INVALID, 0,
        "the key %#llx is none of provider %s, whose keys have %zu bytes: the peer uses "
        "another network",
        (unsigned long long)remote->key, remote->provider->named.name, width);
}

static enum mrp_status import_key(
    struct mrp_remote_state *remote, void *endpoint, const struct mrp_wire_key *entry)
{
    const struct mrp_provider_ops *ops = &remote->provider->ops;
    struct mrp_import_request request = {
        .struct_size = sizeof request,
        .endpoint = endpoint,
        .key = entry->key,
        .key_size = entry->key_size,
        .remote_base = entry->remote_base,
        .size = (size_t)remote->keys.chunk_size,
    };
    bool is_raw = entry->key_size > sizeof remote->key ||
        (remote->provider->info.traits & MRP_PROVIDER_RAW_KEY) != 0;
    struct mrp_error before = *mrp_error_last();
    enum mrp_status status;

    if (is_raw && ops->import_key == NULL) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "provider %s cannot import a key of %zu bytes: the peer uses another network",
            remote->provider->named.name, entry->key_size);
    }
    if (ops->import_key != NULL && (is_raw || endpoint != NULL)) {
        mrp_error_clear();
        status = ops->import_key(
            remote->provider->state, &request, &remote->key, &remote->import);
        remote->is_imported = status == MRP_OK;
        return mrp_error_settle(
            &before, status, "provider", remote->provider->named.name, "import of a key");
    }
    for (size_t i = 0; i < entry->key_size; i++) {
        remote->key |= (uint64_t)((const unsigned char *)entry->key)[i] << (8 * i);
    }
    return check_width(remote);
}

static void release_key(struct mrp_remote_state *remote)
{
    const struct mrp_provider_ops *ops = &remote->provider->ops;

    if (remote->is_imported && ops->release_key != NULL) {
        ops->release_key(remote->provider->state, remote->import, remote->key);
    }
}

static void enlist(struct mrp_remote_state *remote)
{
    struct mrp_provider_state *provider = remote->provider;

    pthread_mutex_lock(&provider->mutex);
    remote->next = provider->remotes;
    if (remote->next != NULL) {
        remote->next->previous = remote;
    }
    provider->remotes = remote;
    pthread_mutex_unlock(&provider->mutex);
    mrp_add_relaxed(&provider->n_users, 1);
}

static void delist(struct mrp_remote_state *remote)
{
    struct mrp_provider_state *provider = remote->provider;

    pthread_mutex_lock(&provider->mutex);
    *(remote->previous != NULL ? &remote->previous->next : &provider->remotes) =
        remote->next;
    if (remote->next != NULL) {
        remote->next->previous = remote->previous;
    }
    pthread_mutex_unlock(&provider->mutex);
    mrp_sub_acq_rel(&provider->n_users, 1);
}

static enum mrp_status make_remote(struct mrp_provider_state *provider, void *endpoint,
    const struct mrp_wire_keys *keys, const struct mrp_wire_key *entry,
    struct mrp_remote_state **made)
{
    struct mrp_remote_state *remote = calloc(1, sizeof *remote);
    enum mrp_status status;

    if (remote == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "malloc of %zu bytes for an import failed",
            sizeof *remote);
    }
    remote->provider = provider;
    remote->keys = *keys;
    remote->remote_base = entry->remote_base;
    status = import_key(remote, endpoint, entry);
    if (status != MRP_OK) {
        goto undo_allocate;
    }
    remote->handle = mrp_handle_create(MRP_HANDLE_REMOTE, remote);
    if (remote->handle == NULL) {
        status = mrp_error_last()->status;
        goto undo_import;
    }
    enlist(remote);
    *made = remote;
    return MRP_OK;

undo_import:
    release_key(remote);
undo_allocate:
    free(remote);
    return status;
}

enum mrp_status mrp_remote_open(struct mrp_provider *provider_handle, void *endpoint,
    unsigned rail, const void *packed, size_t size, struct mrp_remote **opened)
{
    struct mrp_provider_state *provider;
    struct mrp_remote_state *remote = NULL;
    struct mrp_wire_keys keys;
    struct mrp_wire_key entry;
    enum mrp_status status = mrp_provider_get(provider_handle, &provider);

    if (status != MRP_OK) {
        return status;
    }
    if (packed == NULL || opened == NULL) {
        return mrp_fail(
            MRP_ERR_INVALID, 0, "%s is NULL", packed == NULL ? "packed" : "remote");
    }
    status = mrp_keys_decode(packed, size, rail, &keys, &entry);
    if (status == MRP_OK) {
        status = make_remote(provider, endpoint, &keys, &entry, &remote);
    }
    if (status == MRP_OK) {
        *opened = remote->handle;
    }
    return status;
}

static enum mrp_status check_token(
    const struct mrp_wire_keys *keys, const struct mrp_wire_token *token)
{
    if (token->pool != keys->pool) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "the token is of pool %#x, these keys of pool %#x: open keys of that pool",
            token->pool, keys->pool);
    }
    if (token->chunk != keys->chunk) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "the token is of chunk %u, these keys of chunk %u: open that chunk's keys",
            token->chunk, keys->chunk);
    }
    if (token->chunk_generation != keys->chunk_generation) {
        return mrp_fail(MRP_ERR_STALE, 0,
            "the token is of generation %u of chunk %u, these keys of generation %u: ask "
            "the peer for new keys",
            token->chunk_generation, token->chunk, keys->chunk_generation);
    }
    if (token->offset > keys->chunk_size ||
        token->length > keys->chunk_size - token->offset) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "the token names %llu bytes at %llu of a chunk of %llu",
            (unsigned long long)token->length, (unsigned long long)token->offset,
            (unsigned long long)keys->chunk_size);
    }
    return MRP_OK;
}

enum mrp_status mrp_remote_resolve(const struct mrp_remote *handle,
    const struct mrp_token *token, struct mrp_remote_region *region)
{
    struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;
    const struct mrp_remote_state *remote;
    struct mrp_wire_token fields;
    void *object;
    enum mrp_status status = mrp_handle_get(MRP_HANDLE_REMOTE, handle, &object);

    if (status == MRP_OK) {
        status = token == NULL ? mrp_fail(MRP_ERR_INVALID, 0, "token is NULL")
                               : mrp_token_decode(token, &fields);
    }
    if (status != MRP_OK) {
        return status;
    }
    remote = object;
    status = check_token(&remote->keys, &fields);
    if (status != MRP_OK) {
        return status;
    }
    found.address = remote->remote_base + fields.offset;
    found.key = remote->key;
    found.handle = remote->import;
    found.size = (size_t)fields.length;
    return mrp_info_write(region, &found, sizeof found, "mrp_remote_region");
}

enum mrp_status mrp_token_chunk(const struct mrp_token *token, struct mrp_chunk_id *id)
{
    struct mrp_wire_token fields;
    enum mrp_status status = token == NULL || id == NULL
        ? mrp_fail(MRP_ERR_INVALID, 0, "%s is NULL", token == NULL ? "token" : "id")
        : mrp_token_decode(token, &fields);

    if (status == MRP_OK) {
        *id = (struct mrp_chunk_id){fields.pool, fields.chunk, fields.chunk_generation};
    }
    return status;
}

enum mrp_status mrp_remote_chunk(const struct mrp_remote *handle, struct mrp_chunk_id *id)
{
    const struct mrp_remote_state *remote;
    void *object;
    enum mrp_status status = mrp_handle_get(MRP_HANDLE_REMOTE, handle, &object);

    if (status == MRP_OK && id == NULL) {
        status = mrp_fail(MRP_ERR_INVALID, 0, "id is NULL");
    }
    if (status == MRP_OK) {
        remote = object;
        *id = (struct mrp_chunk_id){
            remote->keys.pool, remote->keys.chunk, remote->keys.chunk_generation};
    }
    return status;
}

enum mrp_status mrp_remote_close(struct mrp_remote *handle)
{
    struct mrp_remote_state *remote;
    void *object;
    enum mrp_status status = mrp_handle_get(MRP_HANDLE_REMOTE, handle, &object);

    if (status == MRP_OK) {
        status = mrp_handle_destroy(MRP_HANDLE_REMOTE, handle);
    }
    if (status != MRP_OK) {
        return status;
    }
    remote = object;
    release_key(remote);
    delist(remote);
    free(remote);
    return MRP_OK;
}

void mrp_remote_close_all(struct mrp_provider_state *provider)
{
    while (provider->remotes != NULL) {
        mrp_remote_close(provider->remotes->handle);
    }
}
