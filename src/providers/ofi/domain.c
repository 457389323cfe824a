/* SPDX-License-Identifier: BSD-3-Clause */
#include "domain.h"

#include "keys.h"

#include <rdma/fi_errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Deprecated in libfabric 1.5 and gone from the headers of 2.x except as warnings, but an
 * fi_info made for an old program still carries them. */
#define MRP_OFI_MR_BASIC (1 << 0)
#define MRP_OFI_MR_SCALABLE (1 << 1)
#define MRP_OFI_LOCAL_MR (1ULL << 55)

/* Setting a bit in the hints promises to do what the provider then needs (fi_mr(3)):
 *   LOCAL      local buffers are registered too: regions come with a local descriptor
 *   VIRT_ADDR  peers address by virtual address, otherwise by offset: remote_base
 *   ALLOCATED  the memory exists when it is registered: backends map before
 *   PROV_KEY   the provider chooses the keys, otherwise we do: keys.c
 *   RAW        keys are blobs that the peer has to map: key_blob, import_key
 *   HMEM       device memory is registered with its kind: register.c
 *   RMA_EVENT  a region that counts remote writes says so and is enabled after binding
 *   ENDPOINT   a region is bound to an endpoint and enabled after that
 * Left out is MMU_NOTIFY: it wants fi_mr_refresh whenever pages come or go, which nobody
 * tells us. COLLECTIVE comes only with FI_COLLECTIVE, which we never ask for. */
const int mrp_ofi_mr_modes = FI_MR_LOCAL | FI_MR_VIRT_ADDR | FI_MR_ALLOCATED |
    FI_MR_PROV_KEY | FI_MR_RAW | FI_MR_HMEM | FI_MR_RMA_EVENT | FI_MR_ENDPOINT;

static int resolve_mr_mode(const struct fi_info *info)
{
    int mode = info->domain_attr->mr_mode;

    /* Either value counts only alone; beside other bits those decide. */
    if (mode == MRP_OFI_MR_BASIC) {
        mode = FI_MR_VIRT_ADDR | FI_MR_ALLOCATED | FI_MR_PROV_KEY;
    }
    if ((info->mode & MRP_OFI_LOCAL_MR) != 0) {
        mode |= FI_MR_LOCAL;
    }
    return mode & ~(MRP_OFI_MR_BASIC | MRP_OFI_MR_SCALABLE);
}

static const char *text_or(const char *text, const char *otherwise)
{
    return text != NULL && text[0] != '\0' ? text : otherwise;
}

static void mutex_lock(void *mutex)
{
    pthread_mutex_lock(mutex);
}

static void mutex_unlock(void *mutex)
{
    pthread_mutex_unlock(mutex);
}

struct mrp_ofi_domain *mrp_ofi_domain_create(const struct fi_info *info)
{
    struct mrp_ofi_domain *domain = calloc(1, sizeof(*domain));

    if (domain == NULL || (domain->info = fi_dupinfo(info)) == NULL) {
        free(domain);
        mrp_fail(MRP_ERR_MEMORY, 0, "no memory for a copy of the fi_info");
        return NULL;
    }
    domain->mr_mode = resolve_mr_mode(info);
    atomic_init(&domain->key_counter, mrp_ofi_key_seed());
    snprintf(domain->device, sizeof(domain->device), "%s on %s",
        text_or(info->fabric_attr->prov_name, "unnamed provider"),
        text_or(info->domain_attr->name, "unnamed domain"));
    pthread_mutex_init(&domain->mutex, NULL);
    /* Every lower level lets libfabric leave out the lock of the domain, or does not say.
     */
    if (info->domain_attr->threading != FI_THREAD_SAFE) {
        domain->lock = mutex_lock;
        domain->unlock = mutex_unlock;
        domain->lock_arg = &domain->mutex;
    }
    return domain;
}

/* The core unmaps what was parked for them after this. */
static void close_refused(struct mrp_ofi_domain *domain)
{
    while (domain->refused != NULL) {
        struct mrp_ofi_refused *refused = domain->refused;

        domain->refused = refused->next;
        mrp_ofi_lock(domain);
        fi_close(&refused->mr->fid);
        mrp_ofi_unlock(domain);
        free(refused);
    }
}

void mrp_ofi_domain_destroy(struct mrp_ofi_domain *domain)
{
    close_refused(domain);
    if (domain->fabric != NULL) {
        if (domain->domain != NULL) {
            fi_close(&domain->domain->fid);
        }
        fi_close(&domain->fabric->fid);
    }
    fi_freeinfo(domain->info);
    pthread_mutex_destroy(&domain->mutex);
    free(domain);
}

enum mrp_status mrp_ofi_domain_check(const struct mrp_ofi_domain *domain)
{
    if ((domain->mr_mode & FI_MR_MMU_NOTIFY) != 0) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "%s needs FI_MR_MMU_NOTIFY: fi_mr_refresh after every change of a page, "
            "which a pool cannot promise; choose another provider",
            domain->device);
    }
    if ((domain->mr_mode & FI_MR_ENDPOINT) != 0 && domain->endpoint == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "%s binds registrations to an endpoint (FI_MR_ENDPOINT): pass the enabled "
            "endpoint in mrp_ofi_wrap_params.endpoints, one provider per endpoint%s",
            domain->device,
            domain->fabric != NULL ? "; a domain opened by mrpool has none" : "");
    }
    return MRP_OK;
}

/* The rule of libfabric's own ofi_rma_target_allowed: naming only the initiator's rights
 * says that nobody will target this memory. */
static bool is_rma_target(uint64_t caps)
{
    if ((caps & (FI_RMA | FI_ATOMIC)) == 0) {
        return false;
    }
    return (caps & (FI_REMOTE_READ | FI_REMOTE_WRITE)) != 0 ||
        (caps & (FI_READ | FI_WRITE)) == 0;
}

uint32_t mrp_ofi_domain_access(const struct mrp_ofi_domain *domain)
{
    uint32_t access = MRP_ACCESS_LOCAL;

    if (is_rma_target(domain->info->caps)) {
        access |= MRP_ACCESS_REMOTE;
        if ((domain->info->caps & FI_ATOMIC) != 0) {
            access |= MRP_ACCESS_REMOTE_ATOMIC;
        }
    }
    return access;
}

static bool copy_name(char **name, const char *text)
{
    if (text == NULL || text[0] == '\0') {
        return true;
    }
    *name = strdup(text); /* fi_freeinfo frees it */
    return *name != NULL;
}

static struct fi_info *make_hints(const struct mrp_ofi_choice *choice)
{
    struct fi_info *hints = fi_allocinfo();

    if (hints == NULL) {
        return NULL;
    }
    if (!copy_name(&hints->fabric_attr->prov_name, choice->provider) ||
        !copy_name(&hints->fabric_attr->name, choice->fabric) ||
        !copy_name(&hints->domain_attr->name, choice->domain)) {
        fi_freeinfo(hints);
        return NULL;
    }
    /* We transfer nothing, so whatever an endpoint would have to observe is no obstacle.
     */
    hints->mode = ~MRP_OFI_LOCAL_MR;
    hints->domain_attr->mode = ~0ULL;
    hints->domain_attr->threading = FI_THREAD_SAFE;
    return hints;
}

/* By the name of the layer that registers, and libfabric's own variables. */
bool mrp_ofi_has_cache(const struct fi_info *info)
{
    const char *provider = text_or(info->fabric_attr->prov_name, "");
    const char *count = getenv("FI_MR_CACHE_MAX_COUNT");
    const char *size = getenv("FI_MR_CACHE_MAX_SIZE");
    size_t length = strcspn(provider, ";");
    bool is_caching =
        (length == strlen("verbs") && strncmp(provider, "verbs", length) == 0) ||
        (length == strlen("efa") && strncmp(provider, "efa", length) == 0);

    return is_caching && (count == NULL || strcmp(count, "0") != 0) &&
        (size == NULL || strcmp(size, "0") != 0);
}

int mrp_ofi_getinfo(const struct mrp_ofi_choice *choice, enum fi_ep_type type,
    uint64_t caps, int mr_mode, struct fi_info **list)
{
    struct fi_info *hints = make_hints(choice);
    int code;

    if (hints == NULL) {
        return -FI_ENOMEM;
    }
    hints->ep_attr->type = type;
    hints->caps = caps | (choice->device_memory ? FI_HMEM : 0);
    hints->domain_attr->mr_mode = mr_mode;
    code = fi_getinfo(MRP_OFI_API, NULL, NULL, 0, hints, list);
    fi_freeinfo(hints);
    return code;
}

/* What `fi_info -l` lists, as far as there is room. */
static void list_providers(char *text, size_t size)
{
    struct fi_info *list = NULL;
    size_t used = 0;

    snprintf(text, size, "none");
    if (fi_getinfo(MRP_OFI_API, NULL, NULL, FI_PROV_ATTR_ONLY, NULL, &list) != 0) {
        return;
    }
    for (struct fi_info *info = list; info != NULL; info = info->next) {
        const char *name = text_or(info->fabric_attr->prov_name, "?");
        size_t room = size - used;

        if (strlen(name) + 2 > room || strncmp(name, "ofi_hook", 8) == 0) {
            continue;
        }
        used += (size_t)snprintf(text + used, room, "%s%s", used > 0 ? " " : "", name);
    }
    fi_freeinfo(list);
}

enum mrp_status mrp_ofi_fail_none(const struct mrp_ofi_choice *choice, int code)
{
    uint32_t version = fi_version();
    char providers[160];

    list_providers(providers, sizeof(providers));
    return mrp_fail(MRP_ERR_UNAVAILABLE, code,
        "fi_getinfo: %s for provider '%s', domain '%s', fabric '%s'%s%s. "
        "libfabric %u.%u has: %s (fi_info -l). Choose one with MRPOOL_OFI_PROVIDER, or "
        "install the driver (verbs: rdma-core) or a libfabric built with it "
        "(FI_PROVIDER_PATH)",
        fi_strerror(-code), text_or(choice->provider, "any"),
        text_or(choice->domain, "any"), text_or(choice->fabric, "any"),
        choice->endpoint_type == FI_EP_MSG ? ", connected" : "",
        choice->device_memory ? ", device memory" : "", FI_MAJOR(version),
        FI_MINOR(version), providers);
}

static enum mrp_status open_handles(struct mrp_ofi_domain *domain)
{
    int code = fi_fabric(domain->info->fabric_attr, &domain->fabric, NULL);

    if (code != 0) {
        domain->fabric = NULL;
        return mrp_fail(MRP_ERR_UNAVAILABLE, code, "fi_fabric for %s: %s", domain->device,
            fi_strerror(-code));
    }
    code = fi_domain(domain->fabric, domain->info, &domain->domain, NULL);
    if (code != 0) {
        domain->domain = NULL;
        return mrp_fail(MRP_ERR_UNAVAILABLE, code, "fi_domain for %s: %s", domain->device,
            fi_strerror(-code));
    }
    return mrp_ofi_domain_check(domain);
}

static bool is_wanted(const char *wanted, const char *name)
{
    return wanted == NULL || wanted[0] == '\0' ||
        (name != NULL && strcmp(wanted, name) == 0);
}

/* Compared here too because tcp and others of 1.17 disregard names in the hints. "tcp" is
 * matched by libfabric, which knows that tcp;ofi_rxm serves it. */
static bool is_choice(const struct mrp_ofi_choice *choice, const struct fi_info *info)
{
    const char *provider = choice->provider;

    if (provider != NULL && strchr(provider, ';') != NULL &&
        !is_wanted(provider, info->fabric_attr->prov_name)) {
        return false;
    }
    return is_wanted(choice->domain, info->domain_attr->name) &&
        is_wanted(choice->fabric, info->fabric_attr->name);
}

/* The first of the list that opens: fi_getinfo puts the fastest first. `status` is left
 * alone when the list holds nothing that was asked for. */
static void open_first(const struct mrp_ofi_choice *choice, const struct fi_info *list,
    struct mrp_ofi_domain **opened, enum mrp_status *status)
{
    for (const struct fi_info *info = list; info != NULL; info = info->next) {
        struct mrp_ofi_domain *domain;

        if (!is_choice(choice, info)) {
            continue;
        }
        domain = mrp_ofi_domain_create(info);
        *status = domain != NULL ? open_handles(domain) : MRP_ERR_MEMORY;
        if (*status == MRP_OK) {
            *opened = domain;
            return;
        }
        if (domain != NULL) {
            mrp_ofi_domain_destroy(domain);
        }
    }
}

enum mrp_status mrp_ofi_domain_open(
    const struct mrp_ofi_choice *choice, struct mrp_ofi_domain **domain)
{
    /* From what serves most to what some devices only have: verbs has message endpoints
     * where ofi_rxm is not to be had, and ofi_mrail is found only by hints without
     * mr_mode, although it then asks for FI_MR_RAW. */
    static const struct {
        enum fi_ep_type type;
        uint64_t caps;
        bool with_modes;
    } attempts[] = {
        {FI_EP_RDM, FI_MSG | FI_RMA | FI_ATOMIC, true},
        {FI_EP_RDM, FI_MSG | FI_RMA, true},
        {FI_EP_MSG, FI_MSG | FI_RMA | FI_ATOMIC, true},
        {FI_EP_MSG, FI_MSG | FI_RMA, true},
        {FI_EP_RDM, FI_MSG | FI_RMA, false},
    };
    enum mrp_status status = MRP_ERR_NOT_FOUND;
    int code = -FI_ENODATA;

    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        struct fi_info *list = NULL;

        if (choice->endpoint_type != FI_EP_UNSPEC &&
            choice->endpoint_type != attempts[i].type) {
            continue;
        }
        code = mrp_ofi_getinfo(choice, attempts[i].type, attempts[i].caps,
            attempts[i].with_modes ? mrp_ofi_mr_modes : 0, &list);
        if (code == 0) {
            code = -FI_ENODATA; /* unless one of them opens */
            open_first(choice, list, domain, &status);
            fi_freeinfo(list);
        }
        if (status == MRP_OK) {
            return MRP_OK;
        }
    }
    /* A device that is there and does not open says more than one that is not. */
    return status != MRP_ERR_NOT_FOUND ? status : mrp_ofi_fail_none(choice, code);
}
