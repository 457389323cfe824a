/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A provider written outside the tree, "cma": it needs the installed headers and nothing
 * else of mrpool. Regions become reachable for other processes of this machine, which read
 * and write them without our help (cma.h).
 *
 * Nothing is pinned and the kernel registers nothing: a process that lives is reachable.
 * What a registration makes is the key, which tells a peer whom it belongs to: the pid,
 * the time at which that process began, since pids are used again, and where that pid
 * means anything. It does not fit into 64 bits, so it is a raw key, and peers import it.
 */
#include "cma.h"

#include <mrpool/provider.h>

#include <endian.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

MRP_API extern const struct mrp_provider_ops mrp_provider_cma;

/* -- the key: little-endian, no padding -- */

#define KEY_MAGIC 0x31616d63u /* "cma1" */

struct key {
    uint32_t magic;
    uint32_t pid;
    uint64_t start; /* of the process, clock ticks since boot */
    uint64_t pid_namespace;
    char boot[16]; /* the first half of boot_id: random for every boot of every machine */
    uint64_t number; /* of the registration: no two that live have the same key */
    uint32_t access; /* enum mrp_access */
    uint32_t zero;
};

/* When a process began: field 22 of /proc/<pid>/stat; 0 when there is none. The second
 * field is a name, which may hold anything but ends at the last ')'. */
static uint64_t start_of(uint32_t pid)
{
    unsigned long long start = 0;
    char path[32], text[1024] = "";
    const char *rest;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%u/stat", pid);
    file = fopen(path, "re");
    if (file == NULL) {
        return 0;
    }
    rest = fgets(text, sizeof(text), file) != NULL ? strrchr(text, ')') : NULL;
    if (rest == NULL ||
        sscanf(rest + 1,
            " %*c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s "
            "%*s "
            "%llu",
            &start) != 1) {
        start = 0;
    }
    fclose(file);
    return start;
}

static bool key_make(struct key *key)
{
    struct stat pids;
    ssize_t n_read = 0;
    uint64_t start = start_of((uint32_t)getpid());
    int boot = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

    memset(key, 0, sizeof(*key));
    if (boot >= 0) {
        n_read = read(boot, key->boot, sizeof(key->boot));
        close(boot);
    }
    key->magic = htole32(KEY_MAGIC);
    key->pid = htole32((uint32_t)getpid());
    key->start = htole64(start);
    if (stat("/proc/self/ns/pid", &pids) == 0) {
        key->pid_namespace = htole64(pids.st_ino);
    }
    return start != 0 && n_read == sizeof(key->boot) && key->pid_namespace != 0;
}

/* -- open -- */

struct cma {
    struct key key; /* of every registration, but for its number and rights */
    _Atomic uint64_t n_keys;
    char device[48];
};

enum {
    SETTING_PTRACER,
    N_SETTINGS
};

static const struct mrp_setting_spec settings[N_SETTINGS] = {
    [SETTING_PTRACER] = {"MRPOOL_CMA_PTRACER", MRP_SETTING_CHOICE, 0, 0,
        "default|parent|any", "default",
        "who may reach this process's memory, where kernel.yama.ptrace_scope is 1: its "
        "ancestors, its parent, or any process of the user"},
};

/* Whether the kernel, or a container's seccomp filter, lets us. */
static enum mrp_status check_calls(void)
{
    char from = 'x', to = 0;
    struct iovec here = {&to, 1}, there = {&from, 1};

    if (process_vm_readv(getpid(), &here, 1, &there, 1, 0) != 1) {
        return mrp_fail(MRP_ERR_UNAVAILABLE, errno,
            "process_vm_readv of this process: %s: the kernel was built without "
            "CONFIG_CROSS_MEMORY_ATTACH, or a seccomp filter (a container's profile) "
            "forbids it",
            strerror(errno));
    }
    return MRP_OK;
}

static void set_ptracer(uint64_t choice)
{
    unsigned long who = choice == 1 ? (unsigned long)getppid() : PR_SET_PTRACER_ANY;

    if (choice != 0) { /* EINVAL: no Yama, so nothing is restricted */
        (void)prctl(PR_SET_PTRACER, who, 0, 0, 0);
    }
}

static enum mrp_status cma_open(
    const struct mrp_provider_open_request *request, void **state)
{
    enum mrp_status status = check_calls();
    struct cma *cma;

    if (status != MRP_OK) {
        return status;
    }
    if (request->native != NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0, "cma: there is no handle to wrap");
    }
    cma = calloc(1, sizeof(*cma));
    if (cma == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, ENOMEM, "no memory for the provider");
    }
    if (!key_make(&cma->key)) {
        free(cma);
        return mrp_fail(MRP_ERR_UNAVAILABLE, 0,
            "cma: /proc does not tell who we are: mount it (stat, ns/pid and boot_id are "
            "read)");
    }
    set_ptracer(request->numbers[SETTING_PTRACER]);
    snprintf(cma->device, sizeof(cma->device), "process %d", (int)getpid());
    *state = cma;
    return MRP_OK;
}

static void cma_close(void *state)
{
    free(state);
}

/* Not REVOKES: who has the key of a living process reaches it, registered or not. */
static void cma_query(void *state, struct mrp_provider_info *info)
{
    info->device = ((struct cma *)state)->device;
    info->traits =
        MRP_PROVIDER_REMOTE_KEY | MRP_PROVIDER_VIRTUAL_ADDRESS | MRP_PROVIDER_RAW_KEY;
    info->access = MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE;
    info->memory_kinds = 1u << MRP_MEMORY_HOST;
    info->key_size = sizeof(struct key);
}

/* -- registrations -- */

/* The first and the last byte are there; a hole between is found by who reads it. */
static bool is_mapped(char *address, size_t size)
{
    char ends[2];
    struct iovec here = {ends, 2}, there[2] = {{address, 1}, {address + size - 1, 1}};

    return process_vm_readv(getpid(), &here, 1, there, 2, 0) == 2;
}

static enum mrp_status cma_register(void *state,
    const struct mrp_register_request *request, struct mrp_registration *registration)
{
    struct cma *cma = state;
    struct key *key;

    if (request->native_flags != 0 || request->has_dmabuf) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "cma: memory by its address alone: no flags (0x%llx), no dma-buf",
            (unsigned long long)request->native_flags);
    }
    if (!is_mapped(request->address, request->size)) {
        return mrp_fail(MRP_ERR_INVALID, EFAULT,
            "cma: %zu bytes at %p are not all mapped and readable", request->size,
            request->address);
    }
    key = malloc(sizeof(*key));
    if (key == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, ENOMEM, "no memory for a key");
    }
    *key = cma->key;
    key->number = htole64(atomic_fetch_add(&cma->n_keys, 1));
    key->access = htole32(request->access);
    *registration = (struct mrp_registration){.struct_size = registration->struct_size};
    registration->native = key;
    if ((request->access & MRP_ACCESS_REMOTE) != 0) {
        registration->key_blob = key;
        registration->key_size = sizeof(*key);
        registration->remote_base = (uintptr_t)request->address;
    }
    return MRP_OK;
}

static enum mrp_status cma_deregister(
    void *state, const struct mrp_registration *registration)
{
    (void)state;
    free(registration->native);
    return MRP_OK;
}

/* -- a peer's key: it comes from the network, so nothing in it is believed -- */

static enum mrp_status check_key(const struct cma *cma, const struct key *key)
{
    if (le32toh(key->magic) != KEY_MAGIC || key->zero != 0 || key->pid == 0) {
        return mrp_fail(MRP_ERR_INVALID, 0, "not a key of the provider cma");
    }
    if (memcmp(key->boot, cma->key.boot, sizeof(key->boot)) != 0 ||
        key->pid_namespace != cma->key.pid_namespace) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "cma: the key is of %s: take a provider that reaches it",
            key->pid_namespace != cma->key.pid_namespace ? "another PID namespace"
                                                         : "another machine or boot");
    }
    return MRP_OK;
}

static enum mrp_status check_reach(
    const struct cma_peer *peer, uint64_t start, uint64_t address)
{
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)(uintptr_t)address, 1};

    if (start_of((uint32_t)peer->pid) != start) {
        return mrp_fail(
            MRP_ERR_STALE, ESRCH, "cma: process %d has ended", (int)peer->pid);
    }
    if (process_vm_readv(peer->pid, &here, 1, &there, 1, 0) == 1) {
        return MRP_OK;
    }
    if (errno == EPERM) {
        return mrp_fail(MRP_ERR_SYSTEM, errno,
            "cma: process %d is not ours to read: run as its user, or let it set "
            "MRPOOL_CMA_PTRACER=any (kernel.yama.ptrace_scope)",
            (int)peer->pid);
    }
    return mrp_fail(MRP_ERR_STALE, errno, "cma: 0x%llx of process %d: %s",
        (unsigned long long)address, (int)peer->pid, strerror(errno));
}

/* pidfd first: once it is ours and the start is right, the pid is that process's for as
 * long as the pidfd says that it lives, which cma_transfer asks before and after. */
static enum mrp_status cma_import(void *state, const struct mrp_import_request *request,
    uint64_t *number, void **handle)
{
    struct cma_peer *peer;
    enum mrp_status status;
    struct key key;

    if (request->key_size != sizeof(key)) {
        return mrp_fail(MRP_ERR_INVALID, 0, "a key of cma is %zu bytes, not %zu",
            sizeof(key), request->key_size);
    }
    memcpy(&key, request->key, sizeof(key));
    status = check_key(state, &key);
    if (status != MRP_OK) {
        return status;
    }
    peer = malloc(sizeof(*peer));
    if (peer == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, ENOMEM, "no memory for a peer");
    }
    peer->pid = (pid_t)le32toh(key.pid);
    peer->access = le32toh(key.access);
    peer->base = request->remote_base;
    peer->size = request->size;
    peer->pidfd = (int)syscall(SYS_pidfd_open, peer->pid, 0);
    status = peer->pidfd >= 0
        ? check_reach(peer, le64toh(key.start), request->remote_base)
        : mrp_fail(errno == ESRCH ? MRP_ERR_STALE : MRP_ERR_SYSTEM, errno,
              "cma: pidfd_open of process %d: %s", (int)peer->pid, strerror(errno));
    if (status != MRP_OK) {
        if (peer->pidfd >= 0) {
            close(peer->pidfd);
        }
        free(peer);
        return status;
    }
    *number = 0;
    *handle = peer;
    return MRP_OK;
}

static void cma_release(void *state, void *handle, uint64_t number)
{
    struct cma_peer *peer = handle;

    (void)state;
    (void)number;
    close(peer->pidfd);
    free(peer);
}

const struct mrp_provider_ops mrp_provider_cma = {
    .struct_size = sizeof(struct mrp_provider_ops),
    .abi = MRP_PROVIDER_ABI,
    .module = "cma",
    .purpose = "one-sided access between processes of one machine (process_vm_readv)",
    .settings = settings,
    .n_settings = N_SETTINGS,

    .register_memory = cma_register,
    .deregister_memory = cma_deregister,
    .open = cma_open,

    .close = cma_close,
    .query = cma_query,
    .import_key = cma_import,
    .release_key = cma_release,
};
