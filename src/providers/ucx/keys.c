/* SPDX-License-Identifier: BSD-3-Clause
 *
 * ucp_ep_rkey_unpack is told where a packed key begins and not where it ends, and believes
 * what it reads. So the outline is looked at before: which memory domains (64 bits), the
 * kind of memory, and for each domain a byte with the size of its key and that key, the
 * same in UCX 1.13 to 1.20, which append what is about distances. Should another UCX pack
 * otherwise, its own keys fail the test when a context is opened, and then none is held
 * to it. What the keys say inside has no checksum: those of mrp_region_key_pack and of
 * tokens protect what came through mrpool.
 *
 * Two of its keys lead to memory that UCX maps into this process and then writes to at
 * wherever the peer's address comes to: posix (flags and number, address, size, and the
 * folder of a file that has a name elsewhere than in /dev/shm) and sysv (number, address),
 * the same in 1.13 to 1.20. They are believed only where the segment is
 * there and holds the chunk; when it is not there UCX before 1.19 unmaps what lies in
 * memory that it has not written. What is not believed is left out: UCX then sends
 * messages, as it does to another machine, where such numbers mean nothing.
 */
#include "keys.h"

#include "context.h"
#include "log.h"
#include "register.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/shm.h>
#include <sys/stat.h>

#define OUTLINE_SIZE (sizeof(uint64_t) + 1)

/* How far UCX may read beyond a domain's key that is shorter than it should be: its
 * largest one, and the end of a string. */
#define READ_BEYOND 256

bool mrp_ucx_key_is_whole(const void *key, size_t size)
{
    const unsigned char *bytes = key;
    size_t next = OUTLINE_SIZE;
    uint64_t domains;

    if (key == NULL || size < OUTLINE_SIZE) {
        return false;
    }
    if (bytes[sizeof domains] >= UCS_MEMORY_TYPE_LAST) { /* UCX takes it for an index */
        return false;
    }
    memcpy(&domains, bytes, sizeof domains);
    for (; domains != 0; domains &= domains - 1) {
        if (next >= size || bytes[next] > size - next - 1) {
            return false;
        }
        next += 1 + (size_t)bytes[next];
    }
    return true;
}

bool mrp_ucx_key_has_bytes(const void *key, size_t size)
{
    const unsigned char *bytes = key;
    size_t next = OUTLINE_SIZE, n_bytes = 0;
    uint64_t domains;

    if (!mrp_ucx_key_is_whole(key, size)) {
        return false;
    }
    memcpy(&domains, bytes, sizeof domains);
    for (; domains != 0; domains &= domains - 1) {
        n_bytes += bytes[next];
        next += 1 + (size_t)bytes[next];
    }
    return n_bytes > 0;
}

/* -- keys of shared memory -- */

#define SYSV_KEY_SIZE 12
#define POSIX_KEY_SIZE 24
#define POSIX_PROCFS \
    (UINT64_C(1) << 63) /* a file of a process: 30 bits each, its number */
#define POSIX_NUMBER_MASK ((UINT64_C(1) << 30) - 1)
#define POSIX_SHM_OPEN \
    (UINT64_C(1) << 62) /* a file in /dev/shm, as have those of no flag */
#define POSIX_NAME_MASK ((UINT64_C(1) << 60) - 1)
#define POSIX_PATH_MAX 320 /* a key has 255 bytes */

static uint64_t get(const unsigned char *bytes, size_t size)
{
    uint64_t value = 0;

    memcpy(&value, bytes, size); /* of this machine or of none we can map */
    return value;
}

static bool is_covered(
    const struct mrp_import_request *request, uint64_t first, size_t size)
{
    uint64_t offset = request->remote_base - first;

    return request->remote_base >= first && offset <= size &&
        request->size <= size - offset;
}

static bool is_sysv_usable(
    const struct mrp_import_request *request, const unsigned char *key)
{
    struct shmid_ds segment;

    return shmctl((int)get(key, 4), IPC_STAT, &segment) == 0 &&
        is_covered(request, get(key + 4, 8), segment.shm_segsz);
}

/* The file that a key of posix leads to. False: it is none of posix. */
static bool find_posix_file(
    const unsigned char *key, size_t size, char path[POSIX_PATH_MAX])
{
    const char *folder = (const char *)key + POSIX_KEY_SIZE;
    uint64_t number = size >= POSIX_KEY_SIZE ? get(key, 8) : 0;
    bool has_folder = size > POSIX_KEY_SIZE && folder[0] == '/' &&
        memchr(folder, '\0', size - POSIX_KEY_SIZE) == key + size - 1;

    if (size == POSIX_KEY_SIZE && (number & POSIX_PROCFS) != 0) {
        snprintf(path, POSIX_PATH_MAX, "/proc/%d/fd/%d",
            (int)(number & POSIX_NUMBER_MASK), (int)(number >> 30 & POSIX_NUMBER_MASK));
    } else if (size == POSIX_KEY_SIZE ? (number & POSIX_SHM_OPEN) != 0
                                      : has_folder && number >> 62 == 0) {
        snprintf(path, POSIX_PATH_MAX, "%s/ucx_shm_posix_%llx",
            has_folder ? folder : "/dev/shm",
            (unsigned long long)(number & POSIX_NAME_MASK));
    } else {
        return false;
    }
    return true;
}

static bool is_posix_usable(
    const struct mrp_import_request *request, const unsigned char *key, const char *path)
{
    uint64_t size = get(key + 16, 8);
    struct stat file;

    return stat(path, &file) == 0 && S_ISREG(file.st_mode) && file.st_size >= 0 &&
        size <= (uint64_t)file.st_size && is_covered(request, get(key + 8, 8), size);
}

static bool is_usable(
    const struct mrp_import_request *request, const unsigned char *key, size_t size)
{
    char path[POSIX_PATH_MAX];

    if (size == SYSV_KEY_SIZE) {
        return is_sysv_usable(request, key);
    }
    return !find_posix_file(key, size, path) || is_posix_usable(request, key, path);
}

/* A whole key without what is not usable. */
static void copy_usable(const struct mrp_import_request *request, unsigned char *copy)
{
    const unsigned char *key = request->key;
    size_t next = OUTLINE_SIZE, end = OUTLINE_SIZE;
    uint64_t domains, usable;

    memcpy(&domains, key, sizeof domains);
    usable = domains;
    copy[sizeof domains] = key[sizeof domains];
    for (; domains != 0; domains &= domains - 1) {
        size_t size = key[next];

        if (is_usable(request, key + next + 1, size)) {
            memcpy(copy + end, key + next, 1 + size);
            end += 1 + size;
        } else {
            usable &= ~(domains & -domains);
        }
        next += 1 + size;
    }
    memcpy(copy, &usable, sizeof usable);
    memcpy(copy + end, key + next, request->key_size - next);
}

/* -- import -- */

/* What UCX is given to read, with zeros behind; to be freed. NULL without memory. */
static void *copy_key(
    const struct mrp_ucx_context *context, const struct mrp_import_request *request)
{
    unsigned char *copy = calloc(1, request->key_size + READ_BEYOND);

    if (copy != NULL && context->has_known_keys) {
        copy_usable(request, copy);
    } else if (copy != NULL) {
        memcpy(copy, request->key, request->key_size);
    }
    return copy;
}

static enum mrp_status check_request(
    const struct mrp_ucx_context *context, const struct mrp_import_request *request)
{
    if (request->key == NULL || request->key_size == 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "the key to import is empty: the peer registered without remote access");
    }
    if (context->has_known_keys &&
        !mrp_ucx_key_is_whole(request->key, request->key_size)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "the key to import, %zu bytes, is no whole key of ucp_rkey_pack (ours have "
            "%zu): it was cut or changed, or the peer uses another provider",
            request->key_size, context->key_size);
    }
    if (request->endpoint == NULL) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "a key of UCX belongs to an endpoint: pass the ucp_ep_h that leads to the "
            "peer as the endpoint of mrp_remote_open");
    }
    return MRP_OK;
}

enum mrp_status mrp_ucx_import_key(
    void *state, const struct mrp_import_request *request, uint64_t *key, void **handle)
{
    struct mrp_ucx_context *context = state;
    enum mrp_status status = check_request(context, request);
    struct mrp_ucx_log log;
    ucp_rkey_h rkey = NULL;
    ucs_status_t code;
    void *copy;

    if (status != MRP_OK) {
        return status;
    }
    copy = copy_key(context, request);
    if (copy == NULL) {
        return mrp_fail(MRP_ERR_MEMORY, 0, "malloc of %zu bytes for a key failed",
            request->key_size + READ_BEYOND);
    }
    mrp_ucx_log_begin(&log);
    mrp_ucx_lock(context);
    code = ucp_ep_rkey_unpack(request->endpoint, copy, &rkey);
    mrp_ucx_unlock(context);
    mrp_ucx_log_end(&log, code != UCS_OK);
    free(copy);
    if (code != UCS_OK) {
        return mrp_fail(code == UCS_ERR_NO_MEMORY ? MRP_ERR_MEMORY : MRP_ERR_REGISTER,
            code,
            "ucp_ep_rkey_unpack on %s: key of %zu bytes, base %#llx: %s%s; is the "
            "endpoint the one to the peer that gave the key, and does its memory still "
            "exist?",
            context->device, request->key_size, (unsigned long long)request->remote_base,
            ucs_status_string(code), log.text);
    }
    *key = 0;
    *handle = rkey;
    return MRP_OK;
}

void mrp_ucx_release_key(void *state, void *handle, uint64_t key)
{
    struct mrp_ucx_context *context = state;

    (void)key;
    mrp_ucx_lock(context);
    ucp_rkey_destroy(handle);
    mrp_ucx_unlock(context);
}
