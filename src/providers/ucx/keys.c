/* SPDX-License-Identifier: BSD-3-Clause
 *
 * ucp_ep_rkey_unpack is told where a packed key begins and not where it ends, and believes
 * what it reads. So the outline is looked at before: which memory domains (64 bits), the
 * kind of memory, and for each domain a byte with the size of its key and that key, the
 * same in UCX 1.13 to 1.20, which append what is about distances. Should another UCX pack
 * otherwise, its own keys fail the test when a context is opened, and then none is held
 * to it. What the keys say inside has no checksum: those of mrp_region_key_pack and of
 * tokens protect what came through mrpool.
 */
#include "keys.h"

#include "context.h"
#include "log.h"
#include "register.h"

#include <string.h>

#define OUTLINE_SIZE (sizeof(uint64_t) + 1)

bool mrp_ucx_key_is_whole(const void *key, size_t size)
{
    const unsigned char *bytes = key;
    size_t next = OUTLINE_SIZE;
    uint64_t domains;

    if (key == NULL || size < OUTLINE_SIZE) {
        return false;
    }
    if (bytes[sizeof domains] >= UCS_MEMORY_TYPE_LAST) { /* UCX takes it for an index */
        return false;
    }
    memcpy(&domains, bytes, sizeof domains);
    for (; domains != 0; domains &= domains - 1) {
        if (next >= size || bytes[next] > size - next - 1) {
            return false;
        }
        next += 1 + (size_t)bytes[next];
    }
    return true;
}

bool mrp_ucx_key_has_bytes(const void *key, size_t size)
{
    const unsigned char *bytes = key;
    size_t next = OUTLINE_SIZE, n_bytes = 0;
    uint64_t domains;

    if (!mrp_ucx_key_is_whole(key, size)) {
        return false;
    }
    memcpy(&domains, bytes, sizeof domains);
    for (; domains != 0; domains &= domains - 1) {
        n_bytes += bytes[next];
        next += 1 + (size_t)bytes[next];
    }
    return n_bytes > 0;
}

static enum mrp_status check_request(
    const struct mrp_ucx_context *context, const struct mrp_import_request *request)
{
    if (request->key == NULL || request->key_size == 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "the key to import is empty: the peer registered without remote access");
    }
    if (context->has_known_keys &&
        !mrp_ucx_key_is_whole(request->key, request->key_size)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "the key to import, %zu bytes, is no whole key of ucp_rkey_pack (ours have "
            "%zu): it was cut or changed, or the peer uses another provider",
            request->key_size, context->key_size);
    }
    if (request->endpoint == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "a key of UCX belongs to an endpoint: pass the ucp_ep_h that leads to the "
            "peer as the endpoint of mrp_remote_open");
    }
    return MRP_OK;
}

enum mrp_status mrp_ucx_import_key(
    void *state, const struct mrp_import_request *request, uint64_t *key, void **handle)
{
    struct mrp_ucx_context *context = state;
    enum mrp_status status = check_request(context, request);
    struct mrp_ucx_log log;
    ucp_rkey_h rkey = NULL;
    ucs_status_t code;

    if (status != MRP_OK) {
        return status;
    }
    mrp_ucx_log_begin(&log);
    mrp_ucx_lock(context);
    code = ucp_ep_rkey_unpack(request->endpoint, request->key, &rkey);
    mrp_ucx_unlock(context);
    mrp_ucx_log_end(&log, code != UCS_OK);
    if (code != UCS_OK) {
        return mrp_fail(code == UCS_ERR_NO_MEMORY ? MRP_ERR_MEMORY : MRP_ERR_REGISTER,
            code,
            "ucp_ep_rkey_unpack on %s: key of %zu bytes, base %#llx: %s%s; is the "
            "endpoint the one to the peer that gave the key, and does its memory still "
            "exist?",
            context->device, request->key_size, (unsigned long long)request->remote_base,
            ucs_status_string(code), log.text);
    }
    *key = 0;
    *handle = rkey;
    return MRP_OK;
}

void mrp_ucx_release_key(void *state, void *handle, uint64_t key)
{
    struct mrp_ucx_context *context = state;

    (void)key;
    mrp_ucx_lock(context);
    ucp_rkey_destroy(handle);
    mrp_ucx_unlock(context);
}
