/* SPDX-License-Identifier: BSD-3-Clause */
#include "context.h"

#include "keys.h"
#include "log.h"
#include "memory.h"
#include "register.h"
#include "resources.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void mutex_lock(void *mutex)
{
    pthread_mutex_lock(mutex);
}

static void mutex_unlock(void *mutex)
{
    pthread_mutex_unlock(mutex);
}

/* -- what is known of a context -- */

static void query_context(struct mrp_ucx_context *context)
{
    ucp_context_attr_t attr = {
        .field_mask = UCP_ATTR_FIELD_THREAD_MODE | UCP_ATTR_FIELD_MEMORY_TYPES};
    ucs_status_t code;

    mrp_ucx_lock(context); /* the caller's, if there is one: ours is set below */
    code = ucp_context_query(context->context, &attr);
    mrp_ucx_unlock(context);
    context->thread_mode = UCS_THREAD_MODE_SINGLE; /* unless it says otherwise */
    context->memory_types = 1u << UCS_MEMORY_TYPE_HOST;
    if (code == UCS_OK) {
        context->thread_mode = attr.thread_mode;
        context->memory_types |= attr.memory_types;
    }
    if (context->thread_mode != UCS_THREAD_MODE_MULTI && context->lock == NULL) {
        context->lock = mutex_lock;
        context->unlock = mutex_unlock;
        context->lock_arg = &context->mutex;
    }
}

static void append(char *text, size_t size, const char *word)
{
    size_t used = strlen(text);

    if (used + 1 < size) {
        snprintf(text + used, size - used, "%s%s", used > 0 ? " " : "", word);
    }
}

/* The node of all its devices, when they have one in common. */
static int common_node(const struct mrp_ucx_resources *resources)
{
    int common = 0;

    for (size_t i = 0; i < resources->n; i++) {
        int node = mrp_ucx_resource_node(&resources->list[i]);

        if (node != 0 && common != 0 && node != common) {
            return 0;
        }
        common = node != 0 ? node : common;
    }
    return common;
}

static void describe_resources(
    struct mrp_ucx_context *context, const struct mrp_ucx_resources *resources)
{
    for (size_t i = 0; i < resources->n; i++) {
        const struct mrp_ucx_resource *resource = &resources->list[i];
        char word[sizeof resource->transport + sizeof resource->device];

        snprintf(word, sizeof word, "%s%s%s", resource->transport,
            mrp_ucx_resource_has_device(resource) ? "/" : "",
            mrp_ucx_resource_has_device(resource) ? resource->device : "");
        append(context->resources, sizeof context->resources, word);
        context->is_pinning = context->is_pinning || mrp_ucx_resource_pins(resource);
    }
    context->node = common_node(resources);
}

static enum mrp_status describe(
    struct mrp_ucx_context *context, const ucp_config_t *config)
{
    struct mrp_ucx_resources *resources = malloc(sizeof *resources);
    bool is_read = false;

    if (resources != NULL) {
        mrp_ucx_lock(context);
        is_read = mrp_ucx_resources_read(context->context, resources);
        mrp_ucx_unlock(context);
    }
    if (!is_read) {
        free(resources);
        return mrp_fail(MRP_ERR_MEMORY, 0, "no memory to list UCX's transports");
    }
    describe_resources(context, resources);
    if (resources->n == 0) { /* printed in a way we cannot read: the safe side */
        context->is_pinning = true;
    }
    free(resources);
    mrp_ucx_config_value(config, "RCACHE_ENABLE", context->cache, sizeof context->cache);
    snprintf(context->device, sizeof context->device, "%.80s%s%s", context->resources,
        context->cache[0] == '\0' ? "" : "; rcache ", context->cache);
    context->native = (struct mrp_ucx_native){sizeof context->native, context->context,
        context->features, context->thread_mode, context->resources, context->cache,
        false};
    return MRP_OK;
}

static void describe_cache(struct mrp_ucx_context *context)
{
    size_t used = strlen(context->device);

    if (context->is_keeping) {
        snprintf(context->device + used, sizeof context->device - used,
            ", keeps what was deregistered");
    }
    context->native.keeps_registrations = context->is_keeping;
}

/* Register the page once; what its key looks like goes to `key`, up to its size. */
static enum mrp_status probe_once(struct mrp_ucx_context *context,
    const struct mrp_register_request *request, unsigned char *key, size_t size)
{
    struct mrp_registration registration = {.struct_size = sizeof registration};
    enum mrp_status status = mrp_ucx_register_memory(context, request, &registration);

    if (status != MRP_OK) {
        return status;
    }
    context->key_size = registration.key_size;
    context->has_known_keys = registration.key_size == 0 || /* nothing says otherwise */
        mrp_ucx_key_is_whole(registration.key_blob, registration.key_size);
    context->has_key_bytes =
        mrp_ucx_key_has_bytes(registration.key_blob, registration.key_size);
    if (registration.key_size > 0) {
        memcpy(key, registration.key_blob,
            registration.key_size < size ? registration.key_size : size);
    }
    return mrp_ucx_deregister_memory(context, &registration);
}

/* Register a page, twice: to see that it works, what keys look like, and whether a device
 * gives the same one again, as it does where UCX keeps the registration that was ended. */
static enum mrp_status probe(struct mrp_ucx_context *context)
{
    struct mrp_register_request request = {.struct_size = sizeof request,
        .size = 4096,
        .access = mrp_ucx_context_access(context)};
    unsigned char first[256] = {0}, second[256] = {0};
    enum mrp_status status;

    request.address = aligned_alloc(4096, request.size);
    if (request.address == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "no memory for a page to register");
    }
    status = probe_once(context, &request, first, sizeof first);
    if (status == MRP_OK) {
        status = probe_once(context, &request, second, sizeof second);
    }
    free(request.address);
    /* without a key of some domain both are the same outline */
    context->is_keeping = context->is_pinning && context->has_key_bytes &&
        memcmp(first, second, sizeof first) == 0;
    describe_cache(context);
    return status;
}

struct mrp_ucx_context *mrp_ucx_context_create(
    ucp_context_h handle, bool is_own, uint64_t features)
{
    struct mrp_ucx_context *context = calloc(1, sizeof *context);

    if (context == NULL) {
        mrp_fail(MRP_ERR_MEMORY, 0, "malloc of %zu bytes for a provider failed",
            sizeof *context);
        return NULL;
    }
    context->context = handle;
    context->is_own = is_own;
    context->features = features;
    pthread_mutex_init(&context->mutex, NULL);
    pthread_mutex_init(&context->blocks_mutex, NULL);
    return context;
}

enum mrp_status mrp_ucx_context_learn(
    struct mrp_ucx_context *context, const ucp_config_t *config)
{
    enum mrp_status status;

    query_context(context);
    status = describe(context, config);
    return status == MRP_OK ? probe(context) : status;
}

void mrp_ucx_context_destroy(struct mrp_ucx_context *context)
{
    mrp_ucx_blocks_free(context);
    if (context->is_own) {
        ucp_cleanup(context->context);
    }
    pthread_mutex_destroy(&context->blocks_mutex);
    pthread_mutex_destroy(&context->mutex);
    free(context);
}

uint32_t mrp_ucx_context_access(const struct mrp_ucx_context *context)
{
    uint32_t access = MRP_ACCESS_LOCAL;

    if (context->features == 0 || (context->features & UCP_FEATURE_RMA) != 0) {
        access |= MRP_ACCESS_REMOTE;
    }
    if (context->features == 0 || (context->features & MRP_UCX_FEATURES_AMO) != 0) {
        access |= MRP_ACCESS_REMOTE_ATOMIC;
    }
    return access;
}

/* -- opening one of our own -- */

static const char *text_or(const char *text, const char *otherwise)
{
    return text != NULL && text[0] != '\0' ? text : otherwise;
}

/* '+' between words is for options, which are separated by commas themselves. */
static enum mrp_status modify_list(
    ucp_config_t *config, const char *name, const char *value)
{
    struct mrp_ucx_log log;
    ucs_status_t code;
    char *list = strdup(value);

    if (list == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "no memory for UCX's settings");
    }
    for (char *plus = list; (plus = strchr(plus, '+')) != NULL;) {
        *plus = ',';
    }
    mrp_ucx_log_begin(&log);
    code = ucp_config_modify(config, name, list);
    mrp_ucx_log_end(&log, code != UCS_OK);
    free(list);
    return code == UCS_OK
        ? MRP_OK
        : mrp_fail(MRP_ERR_INVALID, code,
              "UCX refuses UCX_%s=%s: %s%s; `ucx_info -cf` lists what it knows", name,
              value, ucs_status_string(code), log.text);
}

/* A setting of ours that has none leaves the choice to UCX. */
static enum mrp_status modify_own(
    ucp_config_t *config, const char *name, const char *value)
{
    return value == NULL || value[0] == '\0' ? MRP_OK : modify_list(config, name, value);
}

/* NAME=VALUE;NAME=VALUE; what an empty value means is for UCX to say */
static enum mrp_status modify_any(ucp_config_t *config, const char *settings)
{
    char *copy = strdup(settings == NULL ? "" : settings), *rest = NULL;
    enum mrp_status status = MRP_OK;

    if (copy == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "no memory for UCX's settings");
    }
    for (char *name = strtok_r(copy, ";", &rest); name != NULL && status == MRP_OK;
         name = strtok_r(NULL, ";", &rest)) {
        char *value = strchr(name, '=');

        if (value == NULL || value == name) {
            status = mrp_fail(MRP_ERR_INVALID, 0,
                "MRPOOL_UCX_CONFIG: \"%.64s\" is no setting: write "
                "NAME=VALUE;NAME=VALUE, names without UCX_",
                name);
        } else {
            *value++ = '\0';
            name += strncmp(name, "UCX_", 4) == 0 ? 4 : 0;
            status = modify_list(config, name, value);
        }
    }
    free(copy);
    return status;
}

static enum mrp_status configure(
    ucp_config_t *config, const struct mrp_ucx_choice *choice)
{
    enum mrp_status status = modify_own(config, "TLS", choice->transports);

    if (status == MRP_OK) {
        status = modify_own(config, "NET_DEVICES", choice->devices);
    }
    if (status == MRP_OK) {
        status = modify_own(config, "RCACHE_ENABLE", choice->cache);
    }
    return status == MRP_OK ? modify_any(config, choice->config) : status;
}

static enum mrp_status init_context(
    const struct mrp_ucx_choice *choice, const ucp_config_t *config, ucp_context_h *made)
{
    const ucp_params_t params = {
        .field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_MT_WORKERS_SHARED,
        .features = choice->features,
        .mt_workers_shared = choice->is_threaded,
    };
    struct mrp_ucx_log log;
    ucs_status_t code;

    mrp_ucx_log_begin(&log);
    code = ucp_init(&params, config, made);
    mrp_ucx_log_end(&log, code != UCS_OK);
    if (code == UCS_OK) {
        return MRP_OK;
    }
    return mrp_fail(MRP_ERR_UNAVAILABLE, code,
        "ucp_init for transports '%.64s', devices '%.64s': %s%s. Choose others with "
        "MRPOOL_UCX_TLS and MRPOOL_UCX_DEVICES, or install the driver (rdma-core)",
        text_or(choice->transports, text_or(getenv("UCX_TLS"), "all")),
        text_or(choice->devices, text_or(getenv("UCX_NET_DEVICES"), "all")),
        ucs_status_string(code), log.text);
}

static enum mrp_status adopt(ucp_context_h handle, uint64_t features,
    const ucp_config_t *config, struct mrp_ucx_context **opened)
{
    struct mrp_ucx_context *context = mrp_ucx_context_create(handle, true, features);
    enum mrp_status status;

    if (context == NULL) {
        ucp_cleanup(handle);
        return MRP_ERR_MEMORY;
    }
    status = mrp_ucx_context_learn(context, config);
    if (status != MRP_OK) {
        mrp_ucx_context_destroy(context);
        return status;
    }
    *opened = context;
    return MRP_OK;
}

enum mrp_status mrp_ucx_context_open(
    const struct mrp_ucx_choice *choice, struct mrp_ucx_context **context)
{
    ucp_config_t *config;
    ucp_context_h handle;
    enum mrp_status status;
    ucs_status_t code = ucp_config_read(NULL, NULL, &config);

    if (code != UCS_OK) {
        return mrp_fail(
            MRP_ERR_UNAVAILABLE, code, "ucp_config_read: %s", ucs_status_string(code));
    }
    status = configure(config, choice);
    if (status == MRP_OK) {
        status = init_context(choice, config, &handle);
    }
    if (status == MRP_OK) {
        status = adopt(handle, choice->features, config, context);
    }
    ucp_config_release(config);
    return status;
}
