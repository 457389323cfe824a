/* SPDX-License-Identifier: BSD-3-Clause */
#include "registrar.h"

#include "units.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

/* -- host: the system calls ------------------------------------------------------------
 */

static enum mrp_status host_open(const char *options, void **state)
{
    (void)options;
    *state = NULL;
    return MRP_OK;
}

static void host_close(void *state)
{
    (void)state;
}

static enum mrp_status fail_mlock(size_t size, int native)
{
    struct rlimit limit = {0, 0};

    getrlimit(RLIMIT_MEMLOCK, &limit);
    return mrp_fail(MRP_ERR_REGISTER, native,
        "mlock of %s: %s; the memlock limit is %s in all (ulimit -l)",
        bench_size_text(size).text, strerror(native),
        bench_size_text(limit.rlim_cur).text);
}

static enum mrp_status host_register(
    void *state, void *address, size_t size, void **handle)
{
    (void)state;
    *handle = address;
    return mlock(address, size) == 0 ? MRP_OK : fail_mlock(size, errno);
}

static enum mrp_status host_deregister(
    void *state, void *address, size_t size, void *handle)
{
    (void)state;
    (void)handle;
    if (munlock(address, size) != 0) {
        return mrp_fail(
            MRP_ERR_REGISTER, errno, "munlock of %zu bytes: %s", size, strerror(errno));
    }
    return MRP_OK;
}

const struct bench_registrar bench_registrar_host = {
    "host", "mlock + munlock", host_open, host_close, host_register, host_deregister};

/* -- mrpool: the caller's memory on the rail of a pool ---------------------------------
 */

static enum mrp_status pool_register(
    void *state, void *address, size_t size, void **handle)
{
    struct mrp_region *region;
    enum mrp_status status = mrp_region_register(state, address, size, NULL, &region);

    if (status == MRP_OK) {
        *handle = region;
    }
    return status;
}

static enum mrp_status pool_deregister(
    void *state, void *address, size_t size, void *handle)
{
    (void)state;
    (void)address;
    (void)size;
    return mrp_region_free(handle);
}

const struct bench_registrar bench_registrar_mrpool = {"mrpool",
    "mrp_region_register + mrp_region_free", NULL, NULL, pool_register, pool_deregister};

const struct bench_registrar *bench_registrar_bare(const char *module)
{
    static const struct bench_registrar *const all[] = {
        &bench_registrar_host,
#ifdef HAVE_OFI
        &bench_registrar_ofi,
#endif
#ifdef HAVE_URING
        &bench_registrar_uring,
#endif
    };

    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (strcmp(all[i]->module, module) == 0) {
            return all[i];
        }
    }
    return NULL;
}
