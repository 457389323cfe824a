/* SPDX-License-Identifier: BSD-3-Clause
 *
 * libfabric: the module's table. domain.c opens a domain of its own, wrap.c takes the
 * caller's, register.c and keys.c do the work, devices.c looks around.
 */
#include "devices.h"
#include "domain.h"
#include "keys.h"
#include "register.h"

#include <rdma/fi_endpoint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SETTING_PROVIDER,
    SETTING_DOMAIN,
    SETTING_FABRIC,
    SETTING_ENDPOINT,
    SETTING_HMEM,
    SETTING_REVOKES,
    N_SETTINGS
};

static const struct mrp_setting_spec settings[N_SETTINGS] = {
    [SETTING_PROVIDER] = {"MRPOOL_OFI_PROVIDER", MRP_SETTING_TEXT, 0, 0, NULL, "",
        "libfabric provider to open: tcp, shm, verbs, ... (fi_info -l); when empty the "
        "one that libfabric puts first"},
    [SETTING_DOMAIN] = {"MRPOOL_OFI_DOMAIN", MRP_SETTING_TEXT, 0, 0, NULL, "",
        "network interface or device to open (lo, mlx5_0); when empty the first"},
    [SETTING_FABRIC] = {"MRPOOL_OFI_FABRIC", MRP_SETTING_TEXT, 0, 0, NULL, "",
        "fabric to open, where a domain has several addresses (127.0.0.1/32)"},
    [SETTING_ENDPOINT] = {"MRPOOL_OFI_ENDPOINT", MRP_SETTING_CHOICE, 0, 0, "auto|rdm|msg",
        "auto",
        "endpoints the domain is for: connectionless (rdm), connected (msg), or "
        "whichever there is"},
    [SETTING_HMEM] = {"MRPOOL_OFI_HMEM", MRP_SETTING_SWITCH, 0, 0, NULL, "off",
        "open a domain that registers device memory too (FI_HMEM)"},
    [SETTING_REVOKES] = {"MRPOOL_OFI_REVOKES", MRP_SETTING_CHOICE, 0, 0, "auto|on|off",
        "auto",
        "whether closing a registration ends all access to it, so that abandoned regions "
        "may be revoked; auto: verbs, with FI_MR_CACHE_MAX_COUNT=0"},
};

/* By the word's place in the row's choices. */
static const enum fi_ep_type endpoint_types[] = {FI_EP_UNSPEC, FI_EP_RDM, FI_EP_MSG};

static enum mrp_status open_domain(
    const struct mrp_provider_open_request *request, void **state)
{
    const char *const *values = request->values;
    struct mrp_ofi_domain *domain;
    enum mrp_status status;

    if (request->native != NULL) {
        status = mrp_ofi_domain_wrap(request->native, &domain);
    } else {
        const struct mrp_ofi_choice choice = {values[SETTING_PROVIDER],
            values[SETTING_DOMAIN], values[SETTING_FABRIC],
            endpoint_types[request->numbers[SETTING_ENDPOINT]],
            request->numbers[SETTING_HMEM] != 0};

        status = mrp_ofi_domain_open(&choice, &domain);
    }
    if (status == MRP_OK) {
        domain->native = (struct mrp_ofi_native){
            sizeof domain->native, domain->fabric, domain->domain, domain->info};
        domain->revokes = (enum mrp_ofi_revokes)request->numbers[SETTING_REVOKES];
        *state = domain;
    }
    return status;
}

static void close_domain(void *state)
{
    mrp_ofi_domain_destroy(state);
}

/* libfabric does not say whether registering pins, so this goes by name. These are
 * software only and copy through sockets or the kernel; all others are taken to pin, the
 * safe side for a budget. A layered name ("tcp;ofi_rxm") begins with the one that
 * registers. */
static bool is_pinning(const char *provider)
{
    static const char *const software[] = {"tcp", "net", "udp", "sockets", "shm", "sm2"};
    size_t length = provider != NULL ? strcspn(provider, ";") : 0;

    for (size_t i = 0; i < sizeof(software) / sizeof(software[0]); i++) {
        if (length == strlen(software[i]) && memcmp(provider, software[i], length) == 0) {
            return false;
        }
    }
    return true;
}

/* Whether nobody gets at the memory of a registration once it has been closed: as found by
 * tests/integration/test_ofi_revoke.c. A device looks at each packet. Software compares the
 * key when a write begins, and goes on with it (tcp, net, sockets, udp); shm compares none
 * where addresses are virtual, and where they are offsets was not seen to go on, which is
 * no promise. Those nobody has tried are taken not to. */
static bool is_revoking(const struct mrp_ofi_domain *domain)
{
    const char *provider = domain->info->fabric_attr->prov_name;

    if (domain->revokes != MRP_OFI_REVOKES_AUTO) {
        return domain->revokes == MRP_OFI_REVOKES_ON;
    }
    return provider != NULL && strcmp(provider, "verbs") == 0 &&
        !mrp_ofi_has_cache(domain->info);
}

static uint32_t domain_traits(const struct mrp_ofi_domain *domain)
{
    int mode = domain->mr_mode;

    return (is_pinning(domain->info->fabric_attr->prov_name) ? MRP_PROVIDER_PINS : 0u) |
        ((mode & FI_MR_LOCAL) != 0 ? MRP_PROVIDER_LOCAL_DESC : 0u) |
        ((mode & FI_MR_VIRT_ADDR) != 0 ? MRP_PROVIDER_VIRTUAL_ADDRESS : 0u) |
        ((mode & FI_MR_RAW) != 0 ? MRP_PROVIDER_RAW_KEY : 0u) |
        (is_revoking(domain) ? MRP_PROVIDER_REVOKES : 0u) |
        ((mrp_ofi_domain_access(domain) & MRP_ACCESS_REMOTE) != 0
                ? MRP_PROVIDER_REMOTE_KEY
                : 0u);
}

static size_t domain_key_size(const struct mrp_ofi_domain *domain)
{
    if ((mrp_ofi_domain_access(domain) & MRP_ACCESS_REMOTE) == 0) {
        return 0;
    }
    return (domain->mr_mode & FI_MR_RAW) != 0 ? domain->info->domain_attr->mr_key_size
                                              : sizeof(uint64_t);
}

static int device_node(const struct fi_info *info)
{
    const struct fid_nic *nic = info->nic;
    char address[32];
    int node = 0;

    if (nic != NULL && nic->bus_attr != NULL && nic->bus_attr->bus_type == FI_BUS_PCI) {
        const struct fi_pci_attr *pci = &nic->bus_attr->attr.pci;

        snprintf(address, sizeof(address), "%04x:%02x:%02x.%x", pci->domain_id,
            pci->bus_id, pci->device_id, pci->function_id);
        node = mrp_device_node("/sys/bus/pci/devices", address);
    }
    if (node == 0 && nic != NULL && nic->device_attr != NULL) {
        node = mrp_device_node("/sys/class/infiniband", nic->device_attr->name);
    }
    /* tcp and its like name the domain after the network interface. */
    return node != 0 ? node : mrp_device_node("/sys/class/net", info->domain_attr->name);
}

/* max_size stays 0: libfabric knows a largest message, but no largest registration.
 * mr_cnt is called the "optimal number" in fi_domain(3); providers with hardware put its
 * limit there, those without 0 or SIZE_MAX. */
static void query_domain(void *state, struct mrp_provider_info *info)
{
    const struct mrp_ofi_domain *domain = state;
    size_t n_registrations = domain->info->domain_attr->mr_cnt;

    info->device = domain->device;
    info->traits = domain_traits(domain);
    info->access = mrp_ofi_domain_access(domain);
    info->memory_kinds = 1u << MRP_MEMORY_HOST;
    if ((domain->info->caps & FI_HMEM) != 0) {
        info->memory_kinds |= 1u << MRP_MEMORY_CUDA | 1u << MRP_MEMORY_ROCM;
    }
    info->max_registrations = n_registrations != SIZE_MAX ? n_registrations : 0;
    info->max_size = 0;
    info->key_size = domain_key_size(domain);
    info->node = device_node(domain->info);
}

static const void *show_native(void *state)
{
    return &((struct mrp_ofi_domain *)state)->native;
}

MRP_API const struct mrp_provider_ops mrp_provider_ofi = {
    .struct_size = sizeof(struct mrp_provider_ops),
    .abi = MRP_PROVIDER_ABI,
    .module = "ofi",
    .purpose = "libfabric: tcp, shm, verbs, efa, cxi, ... or a domain of the caller's",
    .settings = settings,
    .n_settings = N_SETTINGS,

    .register_memory = mrp_ofi_register_memory,
    .deregister_memory = mrp_ofi_deregister_memory,
    .open = open_domain,

    .close = close_domain,
    .query = query_domain,
    .devices = mrp_ofi_devices,
    .import_key = mrp_ofi_import_key,
    .release_key = mrp_ofi_release_key,
    .native = show_native,
};
