/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Registration per message with libfabric alone: fi_mr_reg and fi_close on a domain that
 * this benchmark opens itself, as a program without mrpool would.
 */
#ifdef HAVE_OFI
#include "registrar.h"

#include "units.h"

#include <rdma/fabric.h>
#include <rdma/fi_domain.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct ofi_state {
    struct fi_info *info;
    struct fid_fabric *fabric;
    struct fid_domain *domain;
    uint64_t access, next_key;
};

static enum mrp_status fail_ofi(const char *call, int code)
{
    return mrp_fail(MRP_ERR_UNAVAILABLE, code, "%s: %s", call, fi_strerror(-code));
}

static int get_list(const char *provider, enum fi_ep_type type, struct fi_info **list)
{
    struct fi_info *hints = fi_allocinfo();
    int code;

    if (hints == NULL) {
        return -FI_ENOMEM;
    }
    hints->mode = ~0ULL;
    hints->caps = FI_MSG | FI_RMA;
    hints->ep_attr->type = type;
    hints->domain_attr->mode = ~0ULL;
    hints->domain_attr->mr_mode =
        FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
    if (provider[0] != '\0') {
        hints->fabric_attr->prov_name = strdup(provider);
    }
    code = fi_getinfo(FI_VERSION(1, 11), NULL, NULL, 0, hints, list);
    fi_freeinfo(hints);
    return code;
}

/* tcp of libfabric 1.17 disregards the domain in the hints, so it is compared here. */
static struct fi_info *choose(const struct fi_info *list, const char *domain)
{
    for (; list != NULL; list = list->next) {
        if (domain[0] == '\0' || strcmp(list->domain_attr->name, domain) == 0) {
            return fi_dupinfo(list);
        }
    }
    return NULL;
}

static enum mrp_status find_info(const char *options, struct fi_info **info)
{
    static const enum fi_ep_type types[] = {FI_EP_RDM, FI_EP_MSG};
    char provider[64] = "", domain[64] = "";
    int code = 0;

    bench_option_value(options, "provider", provider, sizeof provider);
    bench_option_value(options, "domain", domain, sizeof domain);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct fi_info *list = NULL;

        code = get_list(provider, types[i], &list);
        *info = code == 0 ? choose(list, domain) : NULL;
        fi_freeinfo(list);
        if (*info != NULL) {
            return MRP_OK;
        }
    }
    return fail_ofi("fi_getinfo", code != 0 ? code : -FI_ENODATA);
}

static void ofi_close(void *opaque)
{
    struct ofi_state *state = opaque;

    if (state->domain != NULL) {
        fi_close(&state->domain->fid);
    }
    if (state->fabric != NULL) {
        fi_close(&state->fabric->fid);
    }
    fi_freeinfo(state->info);
    free(state);
}

static enum mrp_status open_domain(struct ofi_state *state)
{
    int code = fi_fabric(state->info->fabric_attr, &state->fabric, NULL);

    if (code != 0) {
        state->fabric = NULL;
        return fail_ofi("fi_fabric", code);
    }
    code = fi_domain(state->fabric, state->info, &state->domain, NULL);
    if (code != 0) {
        state->domain = NULL;
        return fail_ofi("fi_domain", code);
    }
    return MRP_OK;
}

static enum mrp_status ofi_open(const char *options, void **opened)
{
    struct ofi_state *state = calloc(1, sizeof *state);
    enum mrp_status status;

    if (state == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "no memory for a domain");
    }
    state->access =
        FI_SEND | FI_RECV | FI_READ | FI_WRITE | FI_REMOTE_READ | FI_REMOTE_WRITE;
    state->next_key = 1;
    status = find_info(options, &state->info);
    if (status == MRP_OK) {
        status = open_domain(state);
    }
    if (status != MRP_OK) {
        ofi_close(state);
        return status;
    }
    *opened = state;
    return MRP_OK;
}

static enum mrp_status ofi_register(
    void *opaque, void *address, size_t size, void **handle)
{
    struct ofi_state *state = opaque;
    struct fid_mr *mr;
    int code = fi_mr_reg(
        state->domain, address, size, state->access, 0, state->next_key++, 0, &mr, NULL);

    if (code != 0) {
        return mrp_fail(MRP_ERR_REGISTER, code, "fi_mr_reg of %zu bytes: %s", size,
            fi_strerror(-code));
    }
    *handle = mr;
    return MRP_OK;
}

static enum mrp_status ofi_deregister(
    void *state, void *address, size_t size, void *handle)
{
    struct fid_mr *mr = handle;
    int code = fi_close(&mr->fid);

    (void)state;
    (void)address;
    if (code != 0) {
        return mrp_fail(MRP_ERR_REGISTER, code, "fi_close of %zu bytes: %s", size,
            fi_strerror(-code));
    }
    return MRP_OK;
}

const struct bench_registrar bench_registrar_ofi = {
    "ofi", "fi_mr_reg + fi_close", ofi_open, ofi_close, ofi_register, ofi_deregister};
#else
typedef int bench_registrar_ofi_not_built; /* ISO C wants something in a file */
#endif
