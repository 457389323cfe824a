/* SPDX-License-Identifier: BSD-3-Clause */
#include "register.h"

#include "context.h"
#include "log.h"
#include "memory.h"

#include <stdio.h>

static const uint32_t remote_rights = MRP_ACCESS_REMOTE | MRP_ACCESS_REMOTE_ATOMIC;

/* What the core takes. 64 memory domains with keys of 64 bytes would still fit. */
#define KEY_SIZE_MAX 4096

enum mrp_status mrp_ucx_status(ucs_status_t code)
{
    switch (code) {
    case UCS_OK:
        return MRP_OK;
    case UCS_ERR_NO_MEMORY:
        return MRP_ERR_MEMORY;
    case UCS_ERR_EXCEEDS_LIMIT:
    case UCS_ERR_NO_RESOURCE:
        return MRP_ERR_LIMIT;
    case UCS_ERR_NO_DEVICE:
        return MRP_ERR_UNAVAILABLE;
    case UCS_ERR_UNSUPPORTED:
    case UCS_ERR_NOT_IMPLEMENTED:
        return MRP_ERR_UNSUPPORTED;
    case UCS_ERR_INVALID_PARAM:
        return MRP_ERR_INVALID;
    default:
        return MRP_ERR_REGISTER;
    }
}

/* -- what is refused before UCX sees it -- */

static enum mrp_status check_request(
    const struct mrp_ucx_context *context, const struct mrp_register_request *request)
{
    if (request->has_dmabuf) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "dma-buf on %s: ucp_mem_map takes addresses only; register the address "
            "instead",
            context->device);
    }
    if ((request->native_flags & (UCP_MEM_MAP_ALLOCATE | UCP_MEM_MAP_FIXED)) != 0 ||
        request->native_flags > UINT32_MAX) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "native flags %#llx: what may be passed on to ucp_mem_map is "
            "UCP_MEM_MAP_NONBLOCK; memory of UCX's own is a backend, "
            "mrp_provider_backend",
            (unsigned long long)request->native_flags);
    }
    return MRP_OK;
}

/* -- the calls -- */

static ucs_memory_type_t native_type(enum mrp_memory_kind kind)
{
    return kind == MRP_MEMORY_CUDA ? UCS_MEMORY_TYPE_CUDA
        : kind == MRP_MEMORY_ROCM  ? UCS_MEMORY_TYPE_ROCM
                                   : UCS_MEMORY_TYPE_HOST;
}

static unsigned native_access(uint32_t access)
{
    unsigned native = 0;

    if ((access & MRP_ACCESS_LOCAL_READ) != 0) {
        native |= UCP_MEM_MAP_PROT_LOCAL_READ;
    }
    if ((access & MRP_ACCESS_LOCAL_WRITE) != 0) {
        native |= UCP_MEM_MAP_PROT_LOCAL_WRITE;
    }
    if ((access & (MRP_ACCESS_REMOTE_READ | MRP_ACCESS_REMOTE_ATOMIC)) != 0) {
        native |= UCP_MEM_MAP_PROT_REMOTE_READ;
    }
    if ((access & (MRP_ACCESS_REMOTE_WRITE | MRP_ACCESS_REMOTE_ATOMIC)) != 0) {
        native |= UCP_MEM_MAP_PROT_REMOTE_WRITE;
    }
    return native;
}

static ucs_status_t map_memory(struct mrp_ucx_context *context,
    const struct mrp_register_request *request, ucp_mem_h *memh)
{
    const ucp_mem_map_params_t params = {
        .field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH |
            UCP_MEM_MAP_PARAM_FIELD_FLAGS | UCP_MEM_MAP_PARAM_FIELD_PROT |
            UCP_MEM_MAP_PARAM_FIELD_MEMORY_TYPE,
        .address = request->address,
        .length = request->size,
        .flags = (unsigned)request->native_flags,
        .prot = native_access(request->access),
        .memory_type = native_type(request->kind),
    };
    ucs_status_t code;

    mrp_ucx_lock(context);
    code = ucp_mem_map(context->context, &params, memh);
    mrp_ucx_unlock(context);
    return code;
}

static void release_key_buffer(struct mrp_ucx_context *context, void *key)
{
    mrp_ucx_lock(context);
    ucp_rkey_buffer_release(key);
    mrp_ucx_unlock(context);
}

static void unmap_memory(struct mrp_ucx_context *context, ucp_mem_h memh)
{
    mrp_ucx_lock(context);
    ucp_mem_unmap(context->context, memh);
    mrp_ucx_unlock(context);
}

static enum mrp_status fail_call(const struct mrp_ucx_context *context,
    const struct mrp_register_request *request, const char *call, ucs_status_t code,
    const struct mrp_ucx_log *log)
{
    bool may_be_memlock = code == UCS_ERR_NO_MEMORY || code == UCS_ERR_IO_ERROR;
    struct mrp_system system = MRP_SYSTEM_INIT;
    char memlock[112] = "";

    if (may_be_memlock && context->is_pinning && mrp_system_query(&system) == MRP_OK &&
        system.memlock_limit != MRP_UNLIMITED) {
        snprintf(memlock, sizeof memlock,
            "; memlock lets this process pin %zu bytes: register less, or raise it "
            "(ulimit -l)",
            system.memlock_limit);
    }
    return mrp_fail(mrp_ucx_status(code), code,
        "%s on %s: %zu bytes at %p, access %#x: %s%s%s", call, context->device,
        request->size, request->address, request->access, ucs_status_string(code),
        log->text, memlock);
}

/* The key is UCX's own buffer, until deregistration. */
static ucs_status_t pack_key(struct mrp_ucx_context *context,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    void *key = NULL;
    size_t size = 0;
    ucs_status_t code;

    if ((request->access & remote_rights) == 0) {
        return UCS_OK;
    }
    mrp_ucx_lock(context);
    code = ucp_rkey_pack(context->context, registration->native, &key, &size);
    mrp_ucx_unlock(context);
    if (code == UCS_OK && size > KEY_SIZE_MAX) {
        release_key_buffer(context, key);
        code = UCS_ERR_EXCEEDS_LIMIT;
    }
    if (code == UCS_OK) {
        registration->key_blob = key;
        registration->key_size = size;
        registration->remote_base = (uintptr_t)request->address;
    }
    return code;
}

/* -- the slots -- */

static enum mrp_status make(struct mrp_ucx_context *context,
    const struct mrp_register_request *request, struct mrp_registration *made,
    struct mrp_ucx_log *log)
{
    bool is_ours = mrp_ucx_block_retain(context, request, &made->native);
    ucs_status_t code = UCS_OK;

    if (!is_ours) {
        ucp_mem_h memh = NULL;

        code = map_memory(context, request, &memh);
        made->native = memh;
    }
    if (code != UCS_OK) {
        return fail_call(context, request, "ucp_mem_map", code, log);
    }
    made->local_desc = made->native;
    code = pack_key(context, request, made);
    if (code == UCS_OK) {
        return MRP_OK;
    }
    if (!mrp_ucx_block_release(context, made->native)) {
        unmap_memory(context, made->native);
    }
    return fail_call(context, request, "ucp_rkey_pack", code, log);
}

enum mrp_status mrp_ucx_register_memory(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    struct mrp_registration made = {.struct_size = registration->struct_size};
    struct mrp_ucx_context *context = state;
    struct mrp_ucx_log log;
    enum mrp_status status = check_request(context, request);

    if (status != MRP_OK) {
        return status;
    }
    mrp_ucx_log_begin(&log);
    status = make(context, request, &made, &log);
    mrp_ucx_log_end(&log, status != MRP_OK);
    if (status == MRP_OK) {
        *registration = made;
    }
    return status;
}

/* ucp_mem_unmap always succeeds, and says on stderr what went wrong all the same. */
enum mrp_status mrp_ucx_deregister_memory(
    void *state, const struct mrp_registration *registration)
{
    struct mrp_ucx_context *context = state;

    if (registration->key_blob != NULL) {
        release_key_buffer(context, (void *)(uintptr_t)registration->key_blob);
    }
    if (!mrp_ucx_block_release(context, registration->native)) {
        unmap_memory(context, registration->native);
    }
    return MRP_OK;
}
