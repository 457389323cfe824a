/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench keys over UCX, whose keys are blobs that an endpoint has to unpack.
 */
#include "keys.h"

#include "mrpool/ucx.h"

#include <stdio.h>
#include <string.h>

static ucp_context_h context;
static ucp_worker_h worker;
static ucp_ep_h endpoints[KEYS_PROCESSES_MAX];

static size_t open_ucx(const char *options, void *address, size_t size)
{
    ucp_params_t params = {
        .field_mask = UCP_PARAM_FIELD_FEATURES, .features = UCP_FEATURE_RMA};
    ucp_worker_params_t worker_params = {.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE,
        .thread_mode = UCS_THREAD_MODE_SINGLE};
    char tls[64], devices[64];
    const char *list;
    ucp_config_t *config;
    ucp_address_t *own;
    ucs_status_t status = ucp_config_read(NULL, NULL, &config);
    size_t length = 0;

    if (status == UCS_OK) {
        list = worker_option_list(options, "tls", tls, sizeof tls);
        status = ucp_config_modify(config, "TLS", list != NULL ? list : "all");
        list = worker_option_list(options, "devices", devices, sizeof devices);
        if (status == UCS_OK && list != NULL) {
            status = ucp_config_modify(config, "NET_DEVICES", list);
        }
        if (status == UCS_OK) {
            status = ucp_init(&params, config, &context);
        }
        ucp_config_release(config);
    }
    if (status == UCS_OK) {
        status = ucp_worker_create(context, &worker_params, &worker);
    }
    if (status == UCS_OK) {
        status = ucp_worker_get_address(worker, &own, &length);
    }
    if (status != UCS_OK) {
        snprintf(keys_why, sizeof keys_why, "%s", ucs_status_string(status));
        return 0;
    }
    if (length <= size) {
        memcpy(address, own, length);
    }
    ucp_worker_release_address(worker, own);
    snprintf(keys_why, sizeof keys_why, "an address of %zu bytes", length);
    return length <= size ? length : 0;
}

static bool connect_ucx(
    const unsigned char *const *addresses, const size_t *address_sizes, size_t n)
{
    (void)address_sizes;
    for (size_t i = 0; i < n; i++) {
        ucp_ep_params_t params = {.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS,
            .address = (const ucp_address_t *)addresses[i]};

        if (ucp_ep_create(worker, &params, &endpoints[i]) != UCS_OK) {
            return false;
        }
    }
    return true;
}

static bool provide(struct mrp_context *of, struct mrp_provider **provider)
{
    struct mrp_ucx_wrap_params params = MRP_UCX_WRAP_PARAMS_INIT;

    params.context = context;
    params.features = UCP_FEATURE_RMA;
    return mrp_ucx_provider_wrap(of, NULL, &params, provider) == MRP_OK;
}

static void *endpoint_of(size_t process)
{
    return endpoints[process];
}

static bool register_buffer(struct keys_buffer *buffer, size_t size)
{
    ucp_mem_map_params_t params = {
        .field_mask = UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH,
        .address = buffer->address,
        .length = size};
    ucp_mem_h memory;
    void *packed;

    if (ucp_mem_map(context, &params, &memory) != UCS_OK) {
        return false;
    }
    buffer->registration = memory;
    if (ucp_rkey_pack(context, memory, &packed, &buffer->key_size) != UCS_OK) {
        return false;
    }
    if (buffer->key_size <= sizeof buffer->key) {
        memcpy(buffer->key, packed, buffer->key_size);
    }
    ucp_rkey_buffer_release(packed);
    return buffer->key_size <= sizeof buffer->key;
}

static void deregister_buffer(struct keys_buffer *buffer)
{
    ucp_mem_unmap(context, buffer->registration);
}

static void *import_key(size_t process, const void *key, size_t size)
{
    ucp_rkey_h imported;

    (void)size;
    return ucp_ep_rkey_unpack(endpoints[process], key, &imported) == UCS_OK ? imported
                                                                            : NULL;
}

static void release_key(void *imported)
{
    ucp_rkey_destroy(imported);
}

static void progress(void)
{
    if (worker != NULL) {
        ucp_worker_progress(worker);
    }
}

static void close_ucx(void)
{
    for (size_t i = 0; i < KEYS_PROCESSES_MAX; i++) {
        if (endpoints[i] != NULL) {
            ucp_request_param_t param = {.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS,
                .flags = UCP_EP_CLOSE_FLAG_FORCE};
            void *request = ucp_ep_close_nbx(endpoints[i], &param);

            while (UCS_PTR_IS_PTR(request) &&
                ucp_request_check_status(request) == UCS_INPROGRESS) {
                ucp_worker_progress(worker);
            }
            if (UCS_PTR_IS_PTR(request)) {
                ucp_request_free(request);
            }
        }
    }
    if (worker != NULL) {
        ucp_worker_destroy(worker);
    }
    if (context != NULL) {
        ucp_cleanup(context);
    }
}

static void describe(char *text, size_t size)
{
    snprintf(text, size, "UCX %s", ucp_get_version_string());
}

static const struct keys_network keys_network = {
    .open = open_ucx,
    .connect = connect_ucx,
    .provide = provide,
    .endpoint = endpoint_of,
    .register_buffer = register_buffer,
    .deregister_buffer = deregister_buffer,
    .import_key = import_key,
    .release_key = release_key,
    .progress = progress,
    .close = close_ucx,
    .describe = describe,
};

#include "keys_main.h"
