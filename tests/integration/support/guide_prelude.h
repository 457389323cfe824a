/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the fragments of docs/GUIDE.md and docs/MEMORY.md take for granted: a transport's own
 * names. Only for the compiler's eyes: nothing here is defined anywhere.
 */
#include <mrpool/mrpool.h>
#include <mrpool/ofi.h>

#include <rdma/fi_endpoint.h>
#include <rdma/fi_rma.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>

#pragma GCC diagnostic ignored "-Wshadow"

extern struct mrp_context *context;
extern struct mrp_provider *provider;
extern struct mrp_pool *pool;
extern struct mrp_region *region;

extern struct connection {
    uint64_t number;
} * connection;
extern struct fid_ep *endpoint;
extern fi_addr_t peer_address;
extern void *local_desc;
extern struct iovec *iov;
extern void **desc;
extern size_t n_entries;
extern void *matrix;
extern size_t matrix_size;

extern const struct mrp_token *token;
extern struct mrp_remote **remotes;
extern size_t n_remotes;
extern unsigned char keys[1024];
extern size_t keys_size;

bool complain(const char *text);
void fill(void *bytes, size_t size);
void ask_for_growth(struct mrp_pool *pool, size_t size);
void tell_peer(const void *bytes, size_t size);
size_t ask_peer_for_keys(void *keys, size_t size);

bool fragment(void);
