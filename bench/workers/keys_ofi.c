/* SPDX-License-Identifier: BSD-3-Clause
 *
 * mrpool-bench keys over libfabric, whose keys are numbers on most networks: nothing is
 * made of them before they are used.
 */
#include "keys.h"

#include "mrpool/ofi.h"

#include <stdio.h>
#include <string.h>

static const char *provider_options;
static struct fi_info *found_infos, *fabric_info; /* all, and the one that is used */
static struct fid_fabric *fabric;
static struct fid_domain *domain;
static uint64_t next_key;

static size_t open_ofi(const char *options, void *address, size_t size)
{
    struct fi_info *hints = fi_allocinfo();
    char name[64], domain_name[64];
    const char *wanted =
        worker_option(options, "domain", NULL, domain_name, sizeof domain_name);
    int code;

    (void)size;
    provider_options = options;
    if (hints == NULL) {
        return 0;
    }
    hints->ep_attr->type = FI_EP_RDM;
    hints->caps = FI_RMA;
    hints->mode = FI_CONTEXT;
    hints->domain_attr->mr_mode =
        FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
    hints->fabric_attr->prov_name =
        strdup(worker_option(options, "provider", "tcp", name, sizeof name));
    code = fi_getinfo(FI_VERSION(1, 17), NULL, NULL, 0, hints, &found_infos);
    fi_freeinfo(hints);
    fabric_info = code == 0 ? found_infos : NULL;
    while (fabric_info != NULL && wanted != NULL &&
        strcmp(fabric_info->domain_attr->name, wanted) != 0) {
        fabric_info = fabric_info->next;
    }
    if (code == 0) {
        code = fabric_info != NULL ? fi_fabric(fabric_info->fabric_attr, &fabric, NULL)
                                   : -FI_ENODATA;
    }
    if (code == 0) {
        code = fi_domain(fabric, fabric_info, &domain, NULL);
    }
    if (code != 0) {
        snprintf(keys_why, sizeof keys_why, "%s", fi_strerror(-code));
        return 0;
    }
    /* keys are used as they are, so nobody needs to reach anybody */
    *(char *)address = 0;
    return 1;
}

static bool provide(struct mrp_context *of, struct mrp_provider **provider)
{
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;

    params.options = provider_options;
    return mrp_provider_open(of, "ofi", &params, provider) == MRP_OK;
}

static bool register_buffer(struct keys_buffer *buffer, size_t size)
{
    struct fid_mr *mr = NULL;
    uint64_t key;

    if (fi_mr_reg(domain, buffer->address, size,
            FI_READ | FI_WRITE | FI_REMOTE_READ | FI_REMOTE_WRITE, 0, next_key++, 0, &mr,
            NULL) != 0) {
        return false;
    }
    key = fi_mr_key(mr);
    buffer->registration = mr;
    buffer->key_size = sizeof key;
    memcpy(buffer->key, &key, sizeof key);
    return true;
}

static void deregister_buffer(struct keys_buffer *buffer)
{
    fi_close(&((struct fid_mr *)buffer->registration)->fid);
}

static void *import_key(size_t process, const void *key, size_t size)
{
    (void)process;
    (void)size;
    return (void *)(uintptr_t)key;
}

static void progress(void)
{
}

static void close_ofi(void)
{
    if (domain != NULL) {
        fi_close(&domain->fid);
    }
    if (fabric != NULL) {
        fi_close(&fabric->fid);
    }
    fi_freeinfo(found_infos);
}

static void describe(char *text, size_t size)
{
    uint32_t version = fi_version();

    snprintf(text, size, "libfabric %u.%u, %s on %s", FI_MAJOR(version),
        FI_MINOR(version), fabric_info->fabric_attr->prov_name,
        fabric_info->domain_attr->name);
}

static const struct keys_network keys_network = {
    .open = open_ofi,
    .provide = provide,
    .register_buffer = register_buffer,
    .deregister_buffer = deregister_buffer,
    .import_key = import_key,
    .progress = progress,
    .close = close_ofi,
    .describe = describe,
};

#include "keys_main.h"
