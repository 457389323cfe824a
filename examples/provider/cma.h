/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Cross memory attach: one-sided reads and writes between processes of one machine, done
 * by the kernel (process_vm_readv(2)); the other process takes no part. What a transport
 * includes beside mrpool's headers to use keys of the provider "cma".
 *
 * The kernel lets a process do this to those it may also debug: of the same user, and
 * under Yama (kernel.yama.ptrace_scope) its descendants, or whoever the other has named:
 * MRPOOL_CMA_PTRACER. That is all the protection there is: it holds for the whole process,
 * not for what was registered. The rights in a key bind only those who keep to them, as
 * cma_transfer does.
 */
#ifndef CMA_H
#define CMA_H

#include <mrpool/mrpool.h>

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>

/** mrp_remote_region.handle: the process that the key names. */
struct cma_peer {
    pid_t pid;
    int pidfd; /* readable once that process has ended, when its pid may be another's */
    uint32_t access; /* enum mrp_access of the registration */
    uint64_t base, size; /* what it covers */
};

static inline bool cma_is_alive(const struct cma_peer *peer)
{
    struct pollfd ended = {peer->pidfd, POLLIN, 0};

    return poll(&ended, 1, 0) == 0;
}

/** The key allows it, and the process is still the one that gave the key. */
static inline enum mrp_status cma_check(
    const struct cma_peer *peer, bool is_write, uint64_t remote, size_t size)
{
    uint32_t right = is_write ? MRP_ACCESS_REMOTE_WRITE : MRP_ACCESS_REMOTE_READ;

    if ((peer->access & right) == 0) {
        return mrp_fail(MRP_ERR_UNSUPPORTED, 0,
            "the key does not allow to %s (access %#x)", is_write ? "write" : "read",
            peer->access);
    }
    if (remote < peer->base || remote - peer->base > peer->size ||
        size > peer->size - (remote - peer->base)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "%zu bytes at 0x%llx: the key covers %llu at 0x%llx", size,
            (unsigned long long)remote, (unsigned long long)peer->size,
            (unsigned long long)peer->base);
    }
    return cma_is_alive(peer)
        ? MRP_OK
        : mrp_fail(MRP_ERR_STALE, ESRCH, "process %d has ended", (int)peer->pid);
}

/** Read from the peer's memory into `local`, or write `local` there; `remote` is
 *  mrp_remote_region.address. What was read is the peer's only when this succeeds. The
 *  kernel's call goes by pid: should the process end between check and call, and its pid be
 *  used again so soon, another process of the same user is reached. */
static inline enum mrp_status cma_transfer(
    const struct cma_peer *peer, bool is_write, void *local, uint64_t remote, size_t size)
{
    enum mrp_status status = cma_check(peer, is_write, remote, size);

    if (status != MRP_OK) {
        return status;
    }
    while (size > 0) { /* the kernel moves less than asked for when memory ends */
        struct iovec here = {local, size}, there = {(void *)(uintptr_t)remote, size};
        ssize_t moved = is_write ? process_vm_writev(peer->pid, &here, 1, &there, 1, 0)
                                 : process_vm_readv(peer->pid, &here, 1, &there, 1, 0);

        if (moved <= 0) {
            int code = moved < 0 ? errno : EFAULT;

            return mrp_fail(code == ESRCH ? MRP_ERR_STALE : MRP_ERR_SYSTEM, code,
                "%zu bytes at 0x%llx of process %d: %s", size, (unsigned long long)remote,
                (int)peer->pid, strerror(code));
        }
        local = (char *)local + moved;
        remote += (uint64_t)moved;
        size -= (size_t)moved;
    }
    if (!cma_is_alive(peer)) {
        return mrp_fail(MRP_ERR_STALE, ESRCH, "process %d has ended", (int)peer->pid);
    }
    return MRP_OK;
}

#endif
