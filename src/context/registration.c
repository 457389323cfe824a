/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The registry's answers about registrations: which one covers an address, and all of
 * them. A registration is a (chunk, rail) pair; there is no second list to keep true.
 */
#include "base/error.h"
#include "context/context.h"

#include <stdlib.h>

static void fill_info(
    const struct mrp_chunk *chunk, size_t rail, struct mrp_registration_info *info)
{
    info->struct_size = sizeof *info;
    info->address = chunk->mapping.address;
    info->size = chunk->mapping.size;
    info->provider = chunk->rails[rail]->handle;
    info->pool = chunk->pool;
    info->access = chunk->access;
    info->native = chunk->registrations[rail];
}

static bool covers(const struct mrp_chunk *chunk, uintptr_t address)
{
    return address - (uintptr_t)chunk->mapping.address < chunk->mapping.size;
}

enum mrp_status mrp_registration_query(struct mrp_context *handle,
    struct mrp_provider *provider, const void *address,
    struct mrp_registration_info *info)
{
    struct mrp_registration_info found;
    struct mrp_context_state *context;
    struct mrp_provider_state *wanted;
    bool is_found = false;
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status == MRP_OK) {
        status = mrp_provider_get(provider, &wanted);
    }
    if (status != MRP_OK) {
        return status;
    }
    pthread_mutex_lock(&context->chunks.mutex);
    for (struct mrp_chunk *chunk = context->chunks.live; chunk != NULL && !is_found;
         chunk = chunk->next) {
        for (size_t rail = 0; rail < chunk->n_rails && !is_found; rail++) {
            if (chunk->rails[rail] == wanted && covers(chunk, (uintptr_t)address)) {
                fill_info(chunk, rail, &found);
                is_found = true;
            }
        }
    }
    pthread_mutex_unlock(&context->chunks.mutex);
    if (!is_found) {
        return mrp_fail(MRP_ERR_NOT_FOUND, 0,
            "no registration of provider %s covers address %p", wanted->named.name,
            address);
    }
    return mrp_info_write(info, &found, sizeof found, "mrp_registration_info");
}

enum mrp_status mrp_registration_visit(
    struct mrp_context *handle, mrp_registration_visitor *visit, void *user)
{
    struct mrp_registration_info *infos;
    struct mrp_context_state *context;
    size_t n_infos = 0, n_registrations = 0;
    enum mrp_status status = mrp_context_get(handle, &context);

    if (status != MRP_OK) {
        return status;
    }
    if (visit == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0, "visit is NULL");
    }
    pthread_mutex_lock(&context->chunks.mutex);
    for (struct mrp_chunk *chunk = context->chunks.live; chunk != NULL;
         chunk = chunk->next) {
        n_registrations += (size_t)__builtin_popcountll(chunk->registered);
    }
    infos = malloc((n_registrations + 1) * sizeof *infos);
    for (struct mrp_chunk *chunk = context->chunks.live; infos != NULL && chunk != NULL;
         chunk = chunk->next) {
        for (uint64_t rails = chunk->registered; rails != 0; rails &= rails - 1) {
            fill_info(chunk, (size_t)__builtin_ctzll(rails), &infos[n_infos++]);
        }
    }
    pthread_mutex_unlock(&context->chunks.mutex);
    if (infos == NULL) {
        return mrp_fail(
            MRP_ERR_MEMORY, 0, "malloc for a snapshot of the registrations failed");
    }
    for (size_t i = 0; i < n_infos; i++) {
        visit(&infos[i], user);
    }
    free(infos);
    return MRP_OK;
}
