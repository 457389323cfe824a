/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The provider without a network: it pins pages and gives no keys. It serves transports
 * that need nothing but memory which stays where it is, and it shows what pinning alone
 * costs.
 */
#include "pins.h"

#include "mrpool/provider.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* The native handle of a registration: the pages it counts in the account. */
struct mrp_host_pin {
    uintptr_t start, end;
};

/* The pages that hold the bytes asked for; false when they are none (size 0 wraps) or run
 * past the last address. */
static bool pin_set(struct mrp_host_pin *pin, const struct mrp_register_request *request)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = (uintptr_t)request->address, last;

    if (__builtin_add_overflow(first, request->size - 1, &last) ||
        last > UINTPTR_MAX - page) {
        return false;
    }
    pin->start = first & ~(page - 1);
    pin->end = (last | (page - 1)) + 1;
    return true;
}

/* mlock says ENOMEM for a hole in the range too; mincore says it for nothing else. */
static bool is_mapped(const struct mrp_host_pin *pin)
{
    unsigned char resident[1024];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), step;

    for (uintptr_t at = pin->start; at < pin->end; at += step) {
        step = pin->end - at < sizeof(resident) * page ? pin->end - at
                                                       : sizeof(resident) * page;
        if (mincore((void *)at, step, resident) != 0 && errno == ENOMEM) {
            return false;
        }
    }
    return true;
}

static const char *limit_text(char text[24], rlim_t limit)
{
    if (limit == RLIM_INFINITY) {
        return "unlimited";
    }
    snprintf(text, 24, "%llu", (unsigned long long)limit);
    return text;
}

static enum mrp_status fail_limit(
    size_t size, size_t locked, const struct rlimit *limit, int native)
{
    char soft[24], hard[24];

    return mrp_fail(MRP_ERR_LIMIT, native,
        "mlock2: %zu bytes asked for, %zu locked already (VmLck), RLIMIT_MEMLOCK is %s "
        "soft, %s hard. Raise it: `ulimit -l`, LimitMEMLOCK= of the systemd unit, "
        "memlock in /etc/security/limits.conf, --ulimit memlock= of the container; "
        "or grant CAP_IPC_LOCK",
        size, locked, limit_text(soft, limit->rlim_cur),
        limit_text(hard, limit->rlim_max));
}

/* Why mlock refused; called after everything is undone, so that the numbers are those the
 * next attempt meets. The soft limit decides, not the capabilities: CAP_IPC_LOCK in a
 * user namespace (a rootless container) does not lift it. */
static enum mrp_status fail_pin(const struct mrp_host_pin *pin, int native)
{
    struct mrp_system system = MRP_SYSTEM_INIT;
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
    size_t size = pin->end - pin->start;

    if (native == ENOMEM && !is_mapped(pin)) {
        return mrp_fail(MRP_ERR_INVALID, native,
            "mlock2: %zu bytes at %p are not all mapped: register memory that exists",
            size, (void *)pin->start);
    }
    mrp_system_query(&system);
    getrlimit(RLIMIT_MEMLOCK, &limit);
    if (native == EPERM ||
        (native == ENOMEM && limit.rlim_cur != RLIM_INFINITY &&
            (size > limit.rlim_cur || system.locked_size > limit.rlim_cur - size))) {
        return fail_limit(size, system.locked_size, &limit, native);
    }
    if (native == EAGAIN) {
        return mrp_fail(MRP_ERR_MEMORY, native,
            "mlock2: no memory to back %zu bytes at %p, %zu bytes of RAM or cgroup limit",
            size, (void *)pin->start, system.memory_size);
    }
    return mrp_fail(MRP_ERR_SYSTEM, native,
        "mlock2: %zu bytes at %p refused with %zu locked already, although "
        "RLIMIT_MEMLOCK allows it: not all pages are accessible (PROT_NONE), or the "
        "process has all its %zu mappings (vm.max_map_count)",
        size, (void *)pin->start, system.locked_size, system.max_map_count);
}

/* Outside any lock: faulting in gigabytes takes seconds. */
static enum mrp_status pin_take(const struct mrp_host_pin *pin)
{
    int native;

    if (!mrp_host_pins_add(pin->start, pin->end)) {
        return mrp_fail(
            MRP_ERR_MEMORY, ENOMEM, "no memory for the account of locked pages");
    }
    if (mlock2((const void *)pin->start, pin->end - pin->start, 0) == 0) {
        return MRP_OK;
    }
    native = errno;
    /* A refusal can leave a part of the range locked. */
    mrp_host_pins_remove(pin->start, pin->end);
    return fail_pin(pin, native);
}

static enum mrp_status check_request(const struct mrp_register_request *request)
{
    if (request->native_flags != 0) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "host: native_flags 0x%llx, but there is no network library to pass them to",
            (unsigned long long)request->native_flags);
    }
    if (request->has_dmabuf) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "host: a dma-buf, but pages are pinned by their address");
    }
    return MRP_OK;
}

static enum mrp_status host_register(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    struct mrp_host_pin *pin;
    enum mrp_status status = check_request(request);

    (void)state;
    if (status != MRP_OK) {
        return status;
    }
    pin = malloc(sizeof(*pin));
    if (pin == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, ENOMEM, "no memory for a registration record");
    }
    if (!pin_set(pin, request)) {
        free(pin);
        return mrp_fail(MRP_ERR_INVALID, 0,
            "host: %zu bytes at %p are not a range of memory", request->size,
            request->address);
    }
    status = pin_take(pin);
    if (status != MRP_OK) {
        free(pin);
        return status;
    }
    registration->native = pin;
    registration->local_desc = NULL;
    registration->remote_key = 0;
    registration->key_blob = NULL;
    registration->key_size = 0;
    registration->remote_base = 0;
    return MRP_OK;
}

/* The record goes even when munlock fails: the pages then are unmapped already, which
 * unlocked them, or stay locked until they are. */
static enum mrp_status host_deregister(
    void *state, const struct mrp_registration *registration)
{
    struct mrp_host_pin pin = *(struct mrp_host_pin *)registration->native;
    int native;

    (void)state;
    free(registration->native);
    native = mrp_host_pins_remove(pin.start, pin.end);
    if (native != 0) {
        return mrp_fail(MRP_ERR_REGISTER, native,
            "munlock: %zu bytes at %p refused: deregister memory before unmapping it",
            (size_t)(pin.end - pin.start), (void *)pin.start);
    }
    return MRP_OK;
}

static enum mrp_status host_open(
    const struct mrp_provider_open_request *request, void **state)
{
    if (request->native != NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "host: there is no handle to wrap, mrp_provider_params.native must be NULL");
    }
    *state = NULL; /* the account is the process's, not an instance's */
    return MRP_OK;
}

/* No max_size: memlock is a budget of the process, not a property of one registration,
 * and may be raised later. Its refusal names the remedy. */
static void host_query(void *state, struct mrp_provider_info *info)
{
    (void)state;
    info->device = "";
    info->traits = MRP_PROVIDER_PINS;
    info->access = MRP_ACCESS_LOCAL;
    info->memory_kinds = 1U << MRP_MEMORY_HOST;
}

const struct mrp_provider_ops mrp_provider_host = {
    .struct_size = sizeof(struct mrp_provider_ops),
    .abi = MRP_PROVIDER_ABI,
    .module = "host",
    .purpose = "pins memory in RAM (mlock); no network, no keys",
    .register_memory = host_register,
    .deregister_memory = host_deregister,
    .open = host_open,
    .query = host_query,
};
