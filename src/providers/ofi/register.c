/* SPDX-License-Identifier: BSD-3-Clause */
#include "register.h"

#include "domain.h"
#include "keys.h"

#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>

static const uint32_t remote_rights = MRP_ACCESS_REMOTE | MRP_ACCESS_REMOTE_ATOMIC;

/* -- what is refused before libfabric sees it -- */

static enum mrp_status check_request(
    const struct mrp_ofi_domain *domain, const struct mrp_register_request *request)
{
    if (!request->has_dmabuf) {
        return MRP_OK;
    }
    return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
        "dma-buf on %s: this module speaks the libfabric API %u.%u, FI_MR_DMABUF came "
        "with 1.20; register the address instead",
        domain->device, FI_MAJOR(MRP_OFI_API), FI_MINOR(MRP_OFI_API));
}

/* -- the calls -- */

static uint64_t native_access(const struct mrp_ofi_domain *domain, uint32_t access)
{
    uint64_t native = 0;

    if ((access & MRP_ACCESS_LOCAL_READ) != 0) {
        native |= FI_SEND | FI_WRITE;
    }
    if ((access & MRP_ACCESS_LOCAL_WRITE) != 0) {
        native |= FI_RECV | FI_READ;
    }
    if ((access & MRP_ACCESS_REMOTE_READ) != 0) {
        native |= FI_REMOTE_READ;
    }
    if ((access & MRP_ACCESS_REMOTE_WRITE) != 0) {
        native |= FI_REMOTE_WRITE;
    }
    if ((access & MRP_ACCESS_REMOTE_ATOMIC) != 0) {
        native |= FI_REMOTE_READ | FI_REMOTE_WRITE; /* an atomic may fetch: fi_mr(3) */
    }
#ifdef FI_MR_COLLECTIVE
    if ((domain->mr_mode & FI_MR_COLLECTIVE) != 0) {
        native |= FI_COLLECTIVE;
    }
#endif
    return native;
}

/* Remote writes into it are counted by the counter of the wrap. */
static bool is_counted(
    const struct mrp_ofi_domain *domain, const struct mrp_register_request *request)
{
    return domain->rma_counter != NULL &&
        (request->access & (MRP_ACCESS_REMOTE_WRITE | MRP_ACCESS_REMOTE_ATOMIC)) != 0;
}

static uint64_t native_flags(
    const struct mrp_ofi_domain *domain, const struct mrp_register_request *request)
{
    return request->native_flags | (is_counted(domain, request) ? FI_RMA_EVENT : 0);
}

static void set_memory(
    struct fi_mr_attr *attr, const struct mrp_register_request *request)
{
    if (request->kind == MRP_MEMORY_CUDA) {
        attr->iface = FI_HMEM_CUDA;
        attr->device.cuda = request->device;
    } else if (request->kind == MRP_MEMORY_ROCM) {
        attr->iface = FI_HMEM_ROCR; /* finds the device by the address */
    }
}

static bool is_key_taken(int code)
{
    return code == -FI_ENOKEY || code == -FI_EKEYREJECTED;
}

/* fi_mr_regattr, again with another key as long as the one asked for is taken. */
static int make_mr(struct mrp_ofi_domain *domain,
    const struct mrp_register_request *request, struct fid_mr **mr)
{
    const struct iovec range = {request->address, request->size};
    size_t n_attempts = mrp_ofi_key_attempts(domain);
    struct fi_mr_attr attr = {0};
    int code = -FI_ENOKEY;

    attr.mr_iov = &range;
    attr.iov_count = 1;
    attr.access = native_access(domain, request->access);
    set_memory(&attr, request);
    for (size_t i = 0; i < n_attempts && is_key_taken(code); i++) {
        attr.requested_key = mrp_ofi_key_choose(domain, i);
        mrp_ofi_lock(domain);
        code = fi_mr_regattr(domain->domain, &attr, native_flags(domain, request), mr);
        mrp_ofi_unlock(domain);
    }
    return code;
}

static int bind_counter(struct mrp_ofi_domain *domain,
    const struct mrp_register_request *request, struct fid_mr *mr)
{
    return is_counted(domain, request)
        ? fi_mr_bind(mr, &domain->rma_counter->fid, FI_REMOTE_WRITE)
        : 0;
}

static int bind_endpoint(struct mrp_ofi_domain *domain, struct fid_mr *mr)
{
    return (domain->mr_mode & FI_MR_ENDPOINT) != 0
        ? fi_mr_bind(mr, &domain->endpoint->fid, 0)
        : 0;
}

/* libfabric makes such regions disabled. */
static int enable(struct mrp_ofi_domain *domain,
    const struct mrp_register_request *request, struct fid_mr *mr)
{
    bool counts = (domain->mr_mode & FI_MR_RMA_EVENT) != 0 &&
        (native_flags(domain, request) & FI_RMA_EVENT) != 0;

    return counts || (domain->mr_mode & FI_MR_ENDPOINT) != 0 ? fi_mr_enable(mr) : 0;
}

/* Bind and enable as mr_mode asks; on failure `call` names the one that failed. */
static int activate(struct mrp_ofi_domain *domain,
    const struct mrp_register_request *request, struct fid_mr *mr, const char **call)
{
    int code;

    mrp_ofi_lock(domain);
    *call = "fi_mr_bind (counter)";
    code = bind_counter(domain, request, mr);
    if (code == 0) {
        *call = "fi_mr_bind (endpoint, which has to be enabled before)";
        code = bind_endpoint(domain, mr);
    }
    if (code == 0) {
        *call = "fi_mr_enable";
        code = enable(domain, request, mr);
    }
    mrp_ofi_unlock(domain);
    return code;
}

static int get_raw_key(struct mrp_ofi_domain *domain, struct fid_mr *mr, uint64_t *base,
    uint8_t *key, size_t *size)
{
    int code;

    mrp_ofi_lock(domain);
    code = fi_mr_raw_attr(mr, base, key, size, 0);
    mrp_ofi_unlock(domain);
    return code;
}

/* The blob is a copy of our own: libfabric keeps none. */
static int copy_raw_key(struct mrp_ofi_domain *domain, struct fid_mr *mr,
    struct mrp_registration *registration)
{
    size_t size = domain->info->domain_attr->mr_key_size, room;
    uint8_t *key = NULL, *larger;
    int code;

    do { /* mr_key_size is right as a rule; where not, the call says what it needs */
        room = size > 0 ? size : sizeof(uint64_t);
        larger = realloc(key, room);
        if (larger == NULL) {
            free(key);
            return -FI_ENOMEM;
        }
        key = larger;
        size = room;
        code = get_raw_key(domain, mr, &registration->remote_base, key, &size);
    } while (code == -FI_ETOOSMALL && size > room);
    if (code != 0) {
        free(key);
        return code;
    }
    registration->key_blob = key;
    registration->key_size = size;
    return 0;
}

/* Key and base address for peers. */
static int describe_remote(struct mrp_ofi_domain *domain,
    const struct mrp_register_request *request, struct fid_mr *mr,
    struct mrp_registration *registration)
{
    if ((request->access & remote_rights) == 0) {
        return 0;
    }
    if ((domain->mr_mode & FI_MR_RAW) != 0) {
        return copy_raw_key(domain, mr, registration);
    }
    registration->remote_key = fi_mr_key(mr);
    registration->key_size = sizeof(registration->remote_key);
    if ((domain->mr_mode & FI_MR_VIRT_ADDR) != 0) {
        registration->remote_base = (uintptr_t)request->address;
    }
    return registration->remote_key != FI_KEY_NOTAVAIL ? 0 : -FI_ENODATA;
}

/* -- what went wrong -- */

static void explain(char *text, size_t size, const struct mrp_ofi_domain *domain,
    const struct mrp_register_request *request, int code)
{
    struct mrp_system system = MRP_SYSTEM_INIT;

    text[0] = '\0';
    if (is_key_taken(code)) {
        snprintf(text, size, ": every key tried is taken (%zu tried, %zu bytes each)",
            mrp_ofi_key_attempts(domain), domain->info->domain_attr->mr_key_size);
    } else if (code == -FI_ENOSYS && request->kind != MRP_MEMORY_HOST) {
        snprintf(text, size, ": this libfabric has no support for %s, or found no device",
            request->kind == MRP_MEMORY_CUDA ? "CUDA" : "ROCm");
    } else if ((code == -FI_ENOMEM || code == -FI_EAGAIN) &&
        mrp_system_query(&system) == MRP_OK) {
        snprintf(text, size,
            ": %zu bytes pinned, the device takes %zu registrations (0: "
            "unknown); register less%s",
            system.pinned_size, domain->info->domain_attr->mr_cnt,
            system.memlock_limit == MRP_UNLIMITED ? ""
                                                  : ", or raise memlock (ulimit -l)");
    }
}

static enum mrp_status fail_call(const struct mrp_ofi_domain *domain,
    const struct mrp_register_request *request, const char *call, int code)
{
    char more[256];

    if (code == -FI_ENODEV &&
        request->kind == MRP_MEMORY_HOST) { /* else: of the memory */
        return mrp_fail(MRP_ERR_UNAVAILABLE, code,
            "%s on %s: %s; the device failed or was taken out: close its provider and "
            "open another",
            call, domain->device, fi_strerror(-code));
    }
    explain(more, sizeof(more), domain, request, code);
    return mrp_fail(MRP_ERR_REGISTER, code, "%s on %s: %zu bytes at %p, access %#x: %s%s",
        call, domain->device, request->size, request->address, request->access,
        fi_strerror(-code), more);
}

static int close_mr(struct mrp_ofi_domain *domain, struct fid_mr *mr)
{
    int code;

    mrp_ofi_lock(domain);
    code = fi_close(&mr->fid);
    mrp_ofi_unlock(domain);
    return code;
}

/* -- the slots -- */

enum mrp_status mrp_ofi_register_memory(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    struct mrp_registration made = {0};
    struct mrp_ofi_domain *domain = state;
    struct fid_mr *mr = NULL;
    const char *call = "fi_mr_regattr";
    enum mrp_status status = check_request(domain, request);
    int code;

    if (status != MRP_OK) {
        return status;
    }
    code = make_mr(domain, request, &mr);
    if (code != 0) {
        return fail_call(domain, request, call, code);
    }
    code = activate(domain, request, mr, &call);
    if (code != 0) {
        goto undo_make;
    }
    call = (domain->mr_mode & FI_MR_RAW) != 0
        ? "fi_mr_raw_attr"
        : "fi_mr_key (FI_KEY_NOTAVAIL: FI_MR_RAW is missing in the fi_info, or the "
          "domain registers asynchronously, FI_REG_MR)";
    code = describe_remote(domain, request, mr, &made);
    if (code != 0) {
        goto undo_make;
    }
    made.struct_size = registration->struct_size;
    made.native = mr;
    made.local_desc = fi_mr_desc(mr);
    *registration = made;
    return MRP_OK;

undo_make:
    close_mr(domain, mr);
    return fail_call(domain, request, call, code);
}

/* Without memory for the note it stays open until the domain closes. */
static void keep_refused(struct mrp_ofi_domain *domain, struct fid_mr *mr)
{
    struct mrp_ofi_refused *refused = malloc(sizeof(*refused));

    if (refused == NULL) {
        return;
    }
    refused->mr = mr;
    pthread_mutex_lock(&domain->mutex);
    refused->next = domain->refused;
    domain->refused = refused;
    pthread_mutex_unlock(&domain->mutex);
}

enum mrp_status mrp_ofi_deregister_memory(
    void *state, const struct mrp_registration *registration)
{
    struct mrp_ofi_domain *domain = state;
    int code = close_mr(domain, registration->native);

    free((void *)(uintptr_t)registration->key_blob);
    if (code != 0) {
        keep_refused(domain, registration->native);
        return mrp_fail(MRP_ERR_REGISTER, code, "fi_close of a registration on %s: %s%s",
            domain->device, fi_strerror(-code),
            code == -FI_EBUSY
                ? " (-FI_EBUSY): an endpoint, a counter or a transfer still "
                  "uses it; complete or cancel what is in flight, and close "
                  "the endpoints it is bound to first"
                : "");
    }
    return MRP_OK;
}
