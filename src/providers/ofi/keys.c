/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Without FI_MR_PROV_KEY the key of a registration is the caller's choice and has to be
 * unique in the domain, where others may register too: a transport its own buffers, a
 * second provider of ours. A key that is taken is refused with -FI_ENOKEY and another one
 * is tried. First random ones: of 64 bits none ever collides, of 32 bits 64 in a row do
 * only where nearly all are taken. Then, for keys of one or two bytes, one after the
 * other, so that the registration fails only when every key is taken.
 */
#include "keys.h"

#include <rdma/fi_errno.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define RANDOM_ATTEMPTS 64
#define WALK_ATTEMPTS 65536

/* The finalizer of splitmix64 (Steele, Lea, Flood 2014): a bijection, so that a counter
 * gives 2^64 different keys. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

uint64_t mrp_ofi_key_seed(void)
{
    struct timespec now;
    uint64_t seed;

    if (getrandom(&seed, sizeof(seed), GRND_NONBLOCK) == (ssize_t)sizeof(seed)) {
        return seed;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    return mix((uint64_t)now.tv_sec << 32 ^ (uint64_t)now.tv_nsec ^ (uintptr_t)&now);
}

size_t mrp_ofi_key_attempts(const struct mrp_ofi_domain *domain)
{
    if ((domain->mr_mode & FI_MR_PROV_KEY) != 0) {
        return 1;
    }
    return domain->next_key != NULL ? RANDOM_ATTEMPTS : RANDOM_ATTEMPTS + WALK_ATTEMPTS;
}

static uint64_t key_mask(const struct mrp_ofi_domain *domain)
{
    size_t size = domain->info->domain_attr->mr_key_size;

    return size == 0 || size >= sizeof(uint64_t) ? UINT64_MAX
                                                 : (UINT64_C(1) << (8 * size)) - 1;
}

uint64_t mrp_ofi_key_choose(struct mrp_ofi_domain *domain, size_t attempt)
{
    uint64_t key;

    if ((domain->mr_mode & FI_MR_PROV_KEY) != 0) {
        return 0; /* ignored */
    }
    if (domain->next_key != NULL) {
        return domain->next_key(domain->next_key_arg);
    }
    if (attempt < RANDOM_ATTEMPTS) {
        /* Relaxed: only the numbers must differ, nothing is published with them. */
        key =
            mix(atomic_fetch_add_explicit(&domain->key_counter, 1, memory_order_relaxed));
    } else {
        key = attempt;
    }
    key &= key_mask(domain);
    /* Zero reads as "no key" to people and to some programs, all ones to libfabric. */
    return key == 0 || key == FI_KEY_NOTAVAIL ? 1 : key;
}

static enum mrp_status map_raw(struct mrp_ofi_domain *domain,
    const struct mrp_import_request *request, uint64_t *key, void **handle)
{
    size_t own_size = domain->info->domain_attr->mr_key_size;
    uint64_t mapped;
    int code;

    if (request->key_size < own_size) { /* ofi_mrail reads as many as its own have */
        return mrp_fail(MRP_ERR_INVALID, 0,
            "the key to import has %zu bytes, keys of %s have %zu: it was cut, or the "
            "peer uses another provider",
            request->key_size, domain->device, own_size);
    }
    mrp_ofi_lock(domain);
    /* fi_mr_map_raw only reads the key, its prototype just does not say so. */
    code = fi_mr_map_raw(domain->domain, request->remote_base,
        (uint8_t *)(uintptr_t)request->key, request->key_size, &mapped, 0);
    mrp_ofi_unlock(domain);
    if (code != 0) {
        return mrp_fail(MRP_ERR_REGISTER, code,
            "fi_mr_map_raw on %s: key of %zu bytes, base %#llx: %s", domain->device,
            request->key_size, (unsigned long long)request->remote_base,
            fi_strerror(-code));
    }
    *key = mapped;
    *handle = domain;
    return MRP_OK;
}

enum mrp_status mrp_ofi_import_key(
    void *state, const struct mrp_import_request *request, uint64_t *key, void **handle)
{
    struct mrp_ofi_domain *domain = state;
    uint64_t plain = 0;

    if (request->key == NULL || request->key_size == 0) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "the key to import is empty: the peer registered without remote access");
    }
    if ((domain->mr_mode & FI_MR_RAW) != 0) {
        return map_raw(domain, request, key, handle);
    }
    if (request->key_size != sizeof(plain)) {
        return mrp_fail(MRP_ERR_INVALID, 0,
            "the key to import has %zu bytes, keys of %s have %zu: the peer uses another "
            "provider",
            request->key_size, domain->device, sizeof(plain));
    }
    memcpy(&plain, request->key, sizeof(plain));
    *key = plain;
    *handle = NULL;
    return MRP_OK;
}

void mrp_ofi_release_key(void *state, void *handle, uint64_t key)
{
    struct mrp_ofi_domain *domain = state;

    if (handle == NULL) {
        return;
    }
    mrp_ofi_lock(domain);
    fi_mr_unmap_key(domain->domain, key);
    mrp_ofi_unlock(domain);
}
