/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Providers: who registers memory and gives keys.
 *
 * For users: mrp_provider_open (a module found by name) and mrp_provider_create (the
 * caller's own callbacks). For authors of one: struct mrp_provider_ops, a const table at
 * the end of one file; docs/PROVIDERS.md says how to write one. A provider sees only
 * this header, backend.h and base.h.
 */
#ifndef MRPOOL_PROVIDER_H
#define MRPOOL_PROVIDER_H

#include "mrpool/backend.h"
#include "mrpool/base.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mrp_provider;

/** Rights of a registration. Least rights: a pool grants LOCAL unless told more. */
enum mrp_access {
    MRP_ACCESS_LOCAL_READ = 1 << 0, /**< source of sends and writes */
    MRP_ACCESS_LOCAL_WRITE = 1 << 1, /**< target of receives and reads */
    MRP_ACCESS_REMOTE_READ = 1 << 2, /**< who holds the key can read the whole chunk */
    MRP_ACCESS_REMOTE_WRITE = 1 << 3, /**< who holds the key can write the whole chunk */
    MRP_ACCESS_REMOTE_ATOMIC = 1 << 4
};
#define MRP_ACCESS_LOCAL (MRP_ACCESS_LOCAL_READ | MRP_ACCESS_LOCAL_WRITE)
#define MRP_ACCESS_REMOTE (MRP_ACCESS_REMOTE_READ | MRP_ACCESS_REMOTE_WRITE)
#define MRP_ACCESS_ALL (MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE | MRP_ACCESS_REMOTE_ATOMIC)

/** Rails a pool can have. */
#define MRP_RAILS_MAX 64

/** Parameters of mrp_provider_open. */
struct mrp_provider_params {
    size_t struct_size;
    const char *name; /**< unique in the context; NULL: "<module>-<number>" */
    /** "key=value,key=value": the module's settings (mrp_module_visit) in lower case
     *  without MRPOOL_<MODULE>_; wins over the environment */
    const char *options;
    const void
        *native; /**< the module's own struct (mrp_ofi_wrap_params, ...), or NULL */
};
#define MRP_PROVIDER_PARAMS_INIT \
    { \
        sizeof(struct mrp_provider_params), NULL, NULL, NULL \
    }

/** Open a provider by module name ("host", "ofi"): built in, or libmrpool-<name>.so
 *  from MRPOOL_PROVIDER_PATH (folders separated by ':', absolute) or the library's
 *  module folder.
 *  @return MRP_ERR_UNAVAILABLE when there is no such module, it does not load, or it
 *  finds no device: the text says which and what to install. Thread-safe; blocks. */
MRP_API enum mrp_status mrp_provider_open(struct mrp_context *context, const char *module,
    const struct mrp_provider_params *params, struct mrp_provider **provider);

struct mrp_provider_ops;

/** A provider from the caller's own register and deregister callbacks: no module
 *  needed. `ops` must outlive the provider; `state` is passed to each op; open is never
 *  called, close is when set. Callbacks run under no lock of the library, possibly on
 *  several threads at once, and must not call the pool they serve. */
MRP_API enum mrp_status mrp_provider_create(struct mrp_context *context, const char *name,
    const struct mrp_provider_ops *ops, void *state, struct mrp_provider **provider);

/** No other thread may be using or closing it. MRP_ERR_BUSY while a pool has it as a rail,
 *  a registration, an import or a backend of it is there. What it kept mapped goes, so
 *  who waits for memory of the context's pools may be called back here. */
MRP_API enum mrp_status mrp_provider_close(struct mrp_provider *provider);

/** The context's provider of that name; MRP_ERR_NOT_FOUND. */
MRP_API enum mrp_status mrp_provider_find(
    struct mrp_context *context, const char *name, struct mrp_provider **provider);

enum mrp_provider_trait {
    MRP_PROVIDER_PINS = 1 << 0, /**< registering pins pages, against memlock */
    MRP_PROVIDER_LOCAL_DESC = 1 << 1, /**< local access needs the local descriptor */
    MRP_PROVIDER_REMOTE_KEY = 1 << 2, /**< gives remote keys */
    /** remote addresses are virtual addresses, not offsets from the registration */
    MRP_PROVIDER_VIRTUAL_ADDRESS = 1 << 3,
    MRP_PROVIDER_RAW_KEY = 1 << 4, /**< keys are blobs that the peer has to import */
    /** Once deregister has returned, nobody reaches the memory by the key any more: the
     *  network refuses transfers that begin then, and ends those that had begun. */
    MRP_PROVIDER_REVOKES = 1 << 5
};

struct mrp_provider_info {
    size_t struct_size;
    const char *name, *module; /**< valid as long as the provider */
    const char *device; /**< what it opened, "tcp;ofi_rxm on lo"; "" if nothing */
    uint32_t traits; /**< enum mrp_provider_trait */
    uint32_t access; /**< enum mrp_access it can grant */
    uint32_t memory_kinds; /**< bit 1 << enum mrp_memory_kind */
    /** what the network is made for; 0: not known. Advice, which pools take as the
     *  default of their own limit */
    size_t max_registrations;
    size_t max_size; /**< bytes of one registration; 0: no known limit */
    size_t key_size; /**< bytes of a remote key; 0: none */
    int node; /**< MRP_NODE(n) of the device; 0: unknown */
    size_t n_registrations; /**< live now */
    size_t registered_size; /**< bytes of them */
    uint64_t n_registered, n_deregistered; /**< ever: made, and given back */
};
#define MRP_PROVIDER_INFO_INIT \
    { \
        sizeof(struct mrp_provider_info), NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
            0, 0 \
    }

MRP_API enum mrp_status mrp_provider_query(
    struct mrp_provider *provider, struct mrp_provider_info *info);

/** What the provider opened or wraps, as its module's header says: struct
 *  mrp_ofi_native for "ofi". Borrowed, valid as long as the provider.
 *  MRP_ERR_UNSUPPORTED: it has nothing to show. */
MRP_API enum mrp_status mrp_provider_native(
    struct mrp_provider *provider, const void **native);

/** A backend of the context over memory that the provider allocates itself, where a
 *  network needs or prefers that: pass it as mrp_pool_params.backend, with the provider
 *  among the rails. name: as in mrp_backend_create. The provider cannot be closed before
 *  it is destroyed. MRP_ERR_UNSUPPORTED: the provider allocates nothing; MRP_ERR_EXISTS,
 *  MRP_ERR_INVALID, MRP_ERR_MEMORY. Thread-safe; does not block. */
MRP_API enum mrp_status mrp_provider_backend(
    struct mrp_provider *provider, const char *name, struct mrp_backend **backend);

/* -- modules, for `mrpool info` -- */

/** One device that a module could open. */
struct mrp_device {
    size_t struct_size;
    const char *name; /**< "tcp;ofi_rxm" */
    const char *domain; /**< "lo", "mlx5_0"; "" if none */
    const char
        *options; /**< what to pass as mrp_provider_params.options to get this one */
    const char *detail; /**< one line for people, "" if nothing to say */
};
typedef void mrp_device_visitor(const struct mrp_device *device, void *user);

/** One module, present or known and missing. */
struct mrp_module {
    const char *name;
    const char *purpose; /**< "" when it could not be loaded */
    const char *path; /**< file, or "built in", or "" */
    const struct mrp_setting_spec *settings; /**< n_settings rows */
    size_t n_settings;
    enum mrp_status status; /**< MRP_OK: usable */
    const char *problem; /**< why not, and what to do; "" when usable */
};
typedef void mrp_module_visitor(const struct mrp_module *module, void *user);

/** Load and describe every module: built in, found in the folders, or known to this
 *  library and absent. Loads network libraries: tens of milliseconds. */
MRP_API void mrp_module_visit(mrp_module_visitor *visit, void *user);

/** List the devices of one module; MRP_ERR_UNAVAILABLE when it finds none, with the reason.
 *  MRP_OK without a visit: the module needs no device. */
MRP_API enum mrp_status mrp_module_devices(
    const char *module, mrp_device_visitor *visit, void *user);

/* -- the contract -- */

/** MRP_NODE(n) of a device, for mrp_provider_info.node: the NUMA node that /sys gives to
 *  `folder`/`name` ("/sys/class/infiniband", "mlx5_0") or to what holds it, as with
 *  virtual functions; for an RDMA device in software that of the network interface below
 *  it. 0: not known, there is no such device, or the name is NULL or has a '/'. Reads a
 *  few files. Thread-safe. */
MRP_API int mrp_device_node(const char *folder, const char *name);

/** One registration wanted. The core has held it against what query said: register_memory
 *  need not check again what is called checked here, and has to refuse what it has no use
 *  for of the rest. */
struct mrp_register_request {
    size_t struct_size;
    void *address; /**< checked: not NULL */
    size_t size; /**< bytes; checked: 1 to max_size */
    uint32_t access; /**< enum mrp_access; checked: one at least, all of them granted */
    uint64_t native_flags; /**< passed on to the network library as they are */
    enum mrp_memory_kind kind; /**< checked: one of memory_kinds */
    int device;
    int dmabuf_fd; /**< valid when has_dmabuf; the provider does not close it */
    uint64_t dmabuf_offset;
    bool has_dmabuf;
};

/** One registration got. The provider fills it; the core keeps it and gives it back. */
struct mrp_registration {
    size_t struct_size;
    void *native; /**< fid_mr*, ibv_mr*, ucp_mem_h, ...; what deregister needs */
    void *local_desc; /**< what local access needs; NULL when it needs none */
    uint64_t remote_key; /**< keys of up to 64 bits; 0 otherwise */
    /** raw keys, of any size, valid until deregistered; NULL otherwise */
    const void *key_blob;
    size_t key_size; /**< bytes of the key; 0: no remote key, remote access is refused */
    /** what a peer uses to address the first byte: the virtual address, or where it lies
     *  in what addresses count from: 0 where that is the registration itself, the
     *  displacement in a window of MPI's */
    uint64_t remote_base;
};

/** A peer's registration, imported. */
struct mrp_import_request {
    size_t struct_size;
    void *endpoint; /**< whatever the network ties imports to; NULL for most */
    const void *key;
    size_t key_size;
    uint64_t remote_base;
    size_t size; /**< bytes the peer registered */
};

#define MRP_PROVIDER_ABI 1

/** What mrp_provider_open hands to a module. */
struct mrp_provider_open_request {
    size_t struct_size;
    const char *const *values; /**< one validated text per row of ops->settings */
    const void *native; /**< as mrp_provider_params.native; check its struct_size */
    /** the same as numbers: COUNT, SIZE, SWITCH as 0 or 1, CHOICE as the word's index */
    const uint64_t *numbers;
};

struct mrp_provider_ops {
    size_t struct_size;
    uint32_t abi; /**< MRP_PROVIDER_ABI */
    const char *module; /**< "ofi": lower case, no spaces */
    const char *purpose; /**< one line, for `mrpool info` */
    const struct mrp_setting_spec *settings; /**< variables named MRPOOL_<MODULE>_... */
    size_t n_settings;

    /* required; may run on several threads at once. MRP_ERR_UNAVAILABLE from registration
     * says that the device is gone for good: pools mark the rail failed and go on without
     * it. Any other failure is of this registration alone. Deregistration gets what
     * registration gave, once: when it fails the memory is kept mapped until the provider
     * closes. */
    enum mrp_status (*register_memory)(void *state,
        const struct mrp_register_request *request,
        struct mrp_registration *registration);
    enum mrp_status (*deregister_memory)(
        void *state, const struct mrp_registration *registration);

    /* required in a module, unused in mrp_provider_create */
    enum mrp_status (*open)(
        const struct mrp_provider_open_request *request, void **state);

    /* optional */
    void (*close)(void *state);
    /** Called once, after open. Fill device, traits, access, memory_kinds, limits,
     *  key_size, node. Without it: local and remote access to host memory, no known
     *  limit, no traits. */
    void (*query)(void *state, struct mrp_provider_info *info);
    /** List usable devices; fails with the reason when there are none. */
    enum mrp_status (*devices)(mrp_device_visitor *visit, void *user);
    /** Make a peer's raw key usable; other keys are used as they are. */
    enum mrp_status (*import_key)(void *state, const struct mrp_import_request *request,
        uint64_t *key, void **handle);
    /** Called once for each import_key that succeeded. */
    void (*release_key)(void *state, void *handle, uint64_t key);
    /** What mrp_provider_native gives. */
    const void *(*native)(void *state);
    /** Memory of the network's own making, for mrp_provider_backend: its state is the
     *  provider's, create and destroy are NULL. register_memory knows such memory by its
     *  address, and gets it before unmap does. It goes, at the latest, with close. */
    const struct mrp_backend_ops *backend;
};

/** The symbol a module exports: const struct mrp_provider_ops mrp_provider_<name>. */
#define MRP_PROVIDER_SYMBOL_PREFIX "mrp_provider_"

#ifdef __cplusplus
}
#endif
#endif
