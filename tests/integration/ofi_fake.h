/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A stand-in for a domain, made of libfabric's own structures: it takes the calls, notes
 * them, and fails the one it is told to.
 */
#ifndef MRP_TEST_OFI_FAKE_H
#define MRP_TEST_OFI_FAKE_H

#include "ofi_module.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>
#include <rdma/fi_endpoint.h>
#include <rdma/fi_errno.h>
#include <sys/uio.h>

#define RAW_KEY_SIZE 24
#define CONTAINER(type, member, address) \
    ((type *)(void *)((char *)(address)-offsetof(type, member)))

struct fake {
    struct fid_domain domain;
    struct fid_ep endpoint;
    struct fid_cntr counter;
    struct fi_info *info;
    char calls[256]; /* "regattr bind-ep enable " */
    int n_calls, failing_call, failure;
    int n_live, n_mapped, close_failure;
    bool uses_lock, locked;
    struct fi_mr_attr attr; /* as asked for last */
    struct iovec range;
    uint64_t flags, key, base;
};

struct fake_mr {
    struct fid_mr mr;
    struct fake *fake;
};

/* Note the call; what it has to return. Every call comes under the lock, if there is one.
 */
static int note(struct fake *fake, const char *call)
{
    size_t used = strlen(fake->calls);

    assert_true(fake->locked == fake->uses_lock);
    snprintf(fake->calls + used, sizeof(fake->calls) - used, "%s ", call);
    return fake->n_calls++ == fake->failing_call ? fake->failure : 0;
}

static int fake_mr_close(struct fid *fid)
{
    struct fake_mr *mr = CONTAINER(struct fake_mr, mr.fid, fid);
    int code = note(mr->fake, "close");

    if (code == 0) {
        code = mr->fake->close_failure;
    }
    if (code == 0) {
        mr->fake->n_live--;
        free(mr);
    }
    return code;
}

static int fake_mr_bind(struct fid *fid, struct fid *with, uint64_t flags)
{
    struct fake *fake = CONTAINER(struct fake_mr, mr.fid, fid)->fake;
    bool is_counter = with == &fake->counter.fid;

    assert_true(is_counter || with == &fake->endpoint.fid);
    assert_true(flags == (is_counter ? FI_REMOTE_WRITE : 0));
    return note(fake, is_counter ? "bind-counter" : "bind-ep");
}

static int fake_mr_raw(struct fake *fake, struct fi_mr_raw_attr *raw)
{
    size_t room = *raw->key_size;
    int code = note(fake, "raw");

    if (code != 0) {
        return code;
    }
    *raw->key_size = RAW_KEY_SIZE;
    if (room < RAW_KEY_SIZE) {
        return -FI_ETOOSMALL;
    }
    for (size_t i = 0; i < RAW_KEY_SIZE; i++) {
        raw->raw_key[i] = (uint8_t)(i + 1);
    }
    *raw->base_addr = fake->base;
    return 0;
}

static int fake_mr_control(struct fid *fid, int command, void *argument)
{
    struct fake *fake = CONTAINER(struct fake_mr, mr.fid, fid)->fake;

    if (command == FI_GET_RAW_MR) {
        return fake_mr_raw(fake, argument);
    }
    assert_int_equal(command, FI_ENABLE);
    return note(fake, "enable");
}

static struct fi_ops fake_mr_ops = {
    .size = sizeof(struct fi_ops),
    .close = fake_mr_close,
    .bind = fake_mr_bind,
    .control = fake_mr_control,
};

static int fake_regattr(
    struct fid *fid, const struct fi_mr_attr *attr, uint64_t flags, struct fid_mr **made)
{
    struct fake *fake = CONTAINER(struct fake, domain.fid, fid);
    int code = note(fake, "regattr");
    struct fake_mr *mr;

    fake->attr = *attr;
    fake->range = *attr->mr_iov;
    fake->flags = flags;
    if (code != 0) {
        return code;
    }
    mr = calloc(1, sizeof(*mr));
    mr->fake = fake;
    mr->mr.fid.fclass = FI_CLASS_MR;
    mr->mr.fid.ops = &fake_mr_ops;
    mr->mr.mem_desc = mr;
    mr->mr.key = fake->key;
    fake->n_live++;
    *made = &mr->mr;
    return 0;
}

static int fake_domain_control(struct fid *fid, int command, void *argument)
{
    struct fake *fake = CONTAINER(struct fake, domain.fid, fid);
    int code = note(fake, command == FI_MAP_RAW_MR ? "map" : "unmap");

    if (code == 0 && command == FI_MAP_RAW_MR) {
        struct fi_mr_map_raw *map = argument;

        assert_int_equal(map->key_size, RAW_KEY_SIZE);
        assert_int_equal(map->raw_key[23], 24);
        assert_int_equal(map->base_addr, 0x1000);
        *map->key = 0xabcd;
        fake->n_mapped++;
    } else if (code == 0) {
        assert_int_equal(*(uint64_t *)argument, 0xabcd);
        fake->n_mapped--;
    }
    return code;
}

static struct fi_ops fake_domain_ops = {
    .size = sizeof(struct fi_ops),
    .control = fake_domain_control,
};

static struct fi_ops_mr fake_domain_mr_ops = {
    .size = sizeof(struct fi_ops_mr),
    .regattr = fake_regattr,
};

static inline void fake_init(struct fake *fake, int mr_mode)
{
    memset(fake, 0, sizeof(*fake));
    fake->domain.fid.fclass = FI_CLASS_DOMAIN;
    fake->domain.fid.ops = &fake_domain_ops;
    fake->domain.mr = &fake_domain_mr_ops;
    fake->info = fi_allocinfo();
    fake->info->caps = FI_MSG | FI_RMA | FI_ATOMIC;
    fake->info->domain_attr->mr_mode = mr_mode;
    fake->info->domain_attr->mr_key_size = 8;
    fake->info->domain_attr->threading = FI_THREAD_SAFE;
    fake->key = 0x77;
    fake->failing_call = -1;
}

static inline void fake_lock(void *argument)
{
    struct fake *fake = argument;

    assert_false(fake->locked);
    fake->locked = true;
}

static inline void fake_unlock(void *argument)
{
    struct fake *fake = argument;

    assert_true(fake->locked);
    fake->locked = false;
}

static inline void *wrap(struct fake *fake, bool with_counter)
{
    struct mrp_ofi_wrap_params params = MRP_OFI_WRAP_PARAMS_INIT;
    struct fid_ep *endpoint = &fake->endpoint;
    void *state = NULL;

    params.domain = &fake->domain;
    params.info = fake->info;
    params.endpoints = &endpoint;
    params.n_endpoints = 1;
    params.rma_counter = with_counter ? &fake->counter : NULL;
    if (fake->uses_lock) {
        params.lock = fake_lock;
        params.unlock = fake_unlock;
        params.lock_arg = fake;
    }
    assert_int_equal(ofi_wrap(&params, &state), MRP_OK);
    return state;
}

static inline void finish(struct fake *fake, void *state)
{
    ofi_ops()->close(state);
    assert_int_equal(fake->n_live, 0);
    assert_int_equal(fake->n_mapped, 0);
    assert_false(fake->locked);
    fi_freeinfo(fake->info);
}

#endif
