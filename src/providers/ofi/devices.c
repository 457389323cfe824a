/* SPDX-License-Identifier: BSD-3-Clause */
#include "devices.h"

#include "domain.h"

#include <rdma/fi_errno.h>
#include <stdio.h>
#include <string.h>

static bool is_same(const struct fi_info *one, const struct fi_info *other)
{
    return strcmp(one->fabric_attr->prov_name, other->fabric_attr->prov_name) == 0 &&
        strcmp(one->domain_attr->name, other->domain_attr->name) == 0;
}

/* ofi_mrail bundles devices that are listed anyway, those of FI_OFI_MRAIL_ADDR, under
 * names that it makes up anew each time. provider=ofi_mrail opens it. */
static bool is_bundle(const struct fi_info *info)
{
    return strstr(info->fabric_attr->prov_name, "ofi_mrail") != NULL;
}

static bool is_listed(
    const struct fi_info *list, const struct fi_info *end, const struct fi_info *info)
{
    for (; list != NULL && list != end; list = list->next) {
        if (is_same(list, info)) {
            return true;
        }
    }
    return false;
}

/* Options are separated by commas, so a name with one cannot be written in them. */
static void write_options(char *text, size_t size, const struct fi_info *info)
{
    const char *provider = info->fabric_attr->prov_name;
    const char *domain = info->domain_attr->name;

    text[0] = '\0';
    if (strchr(provider, ',') == NULL && strchr(domain, ',') == NULL) {
        snprintf(text, size, "provider=%s,domain=%s%s", provider, domain,
            info->ep_attr->type == FI_EP_MSG ? ",endpoint=msg" : "");
    }
}

static void write_detail(char *text, size_t size, const struct fi_info *info)
{
    int mode = info->domain_attr->mr_mode;

    snprintf(text, size, "%s endpoints; remote %s; keys %s%s%s%s",
        info->ep_attr->type == FI_EP_MSG ? "connected" : "connectionless",
        (mode & FI_MR_VIRT_ADDR) != 0 ? "virtual addresses" : "offsets",
        (mode & FI_MR_RAW) != 0            ? "are blobs"
            : (mode & FI_MR_PROV_KEY) != 0 ? "by the provider"
                                           : "by the caller",
        (mode & FI_MR_LOCAL) != 0 ? "; local descriptors needed" : "",
        (mode & FI_MR_ENDPOINT) != 0 ? "; bound to an endpoint: only by wrapping a domain"
                                     : "",
        mrp_ofi_has_cache(info)
            ? "; libfabric's registration cache keeps what mrpool gives up pinned and "
              "reachable: FI_MR_CACHE_MAX_COUNT=0 turns it off"
            : "");
}

static void visit_info(const struct fi_info *info, mrp_device_visitor *visit, void *user)
{
    struct mrp_device device = {sizeof(device), NULL, NULL, NULL, NULL};
    char options[256], detail[352];

    write_options(options, sizeof(options), info);
    write_detail(detail, sizeof(detail), info);
    device.name = info->fabric_attr->prov_name;
    device.domain = info->domain_attr->name;
    device.options = options;
    device.detail = detail;
    visit(&device, user);
}

static void visit_new(const struct fi_info *list, const struct fi_info *listed,
    mrp_device_visitor *visit, void *user)
{
    for (const struct fi_info *info = list; info != NULL; info = info->next) {
        if (!is_bundle(info) && !is_listed(list, info, info) &&
            !is_listed(listed, NULL, info)) {
            visit_info(info, visit, user);
        }
    }
}

enum mrp_status mrp_ofi_devices(mrp_device_visitor *visit, void *user)
{
    const struct mrp_ofi_choice any = {0};
    struct fi_info *datagram = NULL, *connected = NULL;
    int code =
        mrp_ofi_getinfo(&any, FI_EP_RDM, FI_MSG | FI_RMA, mrp_ofi_mr_modes, &datagram);
    int code_connected =
        mrp_ofi_getinfo(&any, FI_EP_MSG, FI_MSG | FI_RMA, mrp_ofi_mr_modes, &connected);

    if (code != 0 && code_connected != 0) {
        return mrp_ofi_fail_none(&any, code);
    }
    visit_new(datagram, NULL, visit, user);
    visit_new(connected, datagram, visit, user);
    fi_freeinfo(datagram);
    fi_freeinfo(connected);
    return MRP_OK;
}
