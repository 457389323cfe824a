/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The ofi module's own table, without the core in between: what the provider does is seen
 * as it does it.
 */
#ifndef MRP_TEST_OFI_MODULE_H
#define MRP_TEST_OFI_MODULE_H

#include "mrpool/ofi.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct mrp_provider_ops *ofi_ops(void)
{
    static const struct mrp_provider_ops *ops;
    char folders[4096], path[4200], *rest = NULL;

    snprintf(folders, sizeof(folders), "%s", getenv("MRPOOL_PROVIDER_PATH"));
    for (char *folder = strtok_r(folders, ":", &rest); ops == NULL && folder != NULL;
         folder = strtok_r(NULL, ":", &rest)) {
        void *module;

        snprintf(path, sizeof(path), "%s/libmrpool-ofi.so", folder);
        module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        ops = module != NULL ? dlsym(module, "mrp_provider_ofi") : NULL;
    }
    if (ops == NULL) {
        printf("SKIP: no libmrpool-ofi.so in MRPOOL_PROVIDER_PATH\n");
        exit(77);
    }
    return ops;
}

/* Open a domain of the module's own. */
static inline enum mrp_status ofi_open_by(const char *provider, const char *domain,
    const char *fabric, const char *endpoint, const char *hmem, void **state)
{
    const char *const values[] = {provider, domain, fabric, endpoint, hmem, "auto"};
    const uint64_t numbers[] = {0, 0, 0,
        strcmp(endpoint, "rdm") == 0       ? 1
            : strcmp(endpoint, "msg") == 0 ? 2
                                           : 0,
        strcmp(hmem, "on") == 0, 0};
    const struct mrp_provider_open_request request = {
        sizeof(request), values, NULL, numbers};

    return ofi_ops()->open(&request, state);
}

static inline enum mrp_status ofi_open(
    const char *provider, const char *domain, void **state)
{
    return ofi_open_by(provider, domain, "", "auto", "off", state);
}

/* The word's place in the choices of MRPOOL_OFI_REVOKES. */
enum ofi_revokes {
    OFI_REVOKES_AUTO,
    OFI_REVOKES_ON,
    OFI_REVOKES_OFF
};
static enum ofi_revokes ofi_wrap_revokes; /* of what is wrapped next */

static inline enum mrp_status ofi_wrap(
    const struct mrp_ofi_wrap_params *params, void **state)
{
    const char *const values[] = {"", "", "", "auto", "off", "auto"};
    const uint64_t numbers[] = {0, 0, 0, 0, 0, ofi_wrap_revokes};
    const struct mrp_provider_open_request request = {
        sizeof(request), values, params, numbers};

    return ofi_ops()->open(&request, state);
}

static inline struct mrp_provider_info ofi_query(void *state)
{
    struct mrp_provider_info info = MRP_PROVIDER_INFO_INIT;

    ofi_ops()->query(state, &info);
    return info;
}

static inline struct mrp_register_request ofi_request(
    void *address, size_t size, uint32_t access)
{
    struct mrp_register_request request = {0};

    request.struct_size = sizeof(request);
    request.address = address;
    request.size = size;
    request.access = access;
    return request;
}

static inline enum mrp_status ofi_register(void *state, void *address, size_t size,
    uint32_t access, struct mrp_registration *registration)
{
    struct mrp_register_request request = ofi_request(address, size, access);

    memset(registration, 0, sizeof(*registration));
    registration->struct_size = sizeof(*registration);
    return ofi_ops()->register_memory(state, &request, registration);
}

static inline enum mrp_status ofi_deregister(
    void *state, const struct mrp_registration *registration)
{
    return ofi_ops()->deregister_memory(state, registration);
}

/* End a process in which libfabric itself has leaked: no leak checker, AddressSanitizer's
 * or Valgrind's, looks at a process that becomes another program. */
static inline void ofi_exit_unchecked(void)
{
    execl("/bin/true", "true", (char *)NULL);
    _exit(1);
}

#endif
