/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Status codes, the error record, settings. Everything else includes this file.
 *
 * Conventions of every public call:
 *   - it returns MRP_OK (0) or a negative enum mrp_status; calls that return an object
 *     return NULL on failure;
 *   - outputs come last and are written only on success;
 *   - a failure leaves a record in the calling thread (mrp_error_last) whose text carries
 *     the numbers a person needs. The library never prints, asserts or aborts on a
 *     caller's mistake;
 *   - parameter structs begin with struct_size (use the *_INIT macros); zero in any other
 *     member means "the default". A struct from a newer header is accepted as long as the
 *     members this library does not know are zero.
 */
#ifndef MRPOOL_BASE_H
#define MRPOOL_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MRP_VERSION_MAJOR 0
#define MRP_VERSION_MINOR 1
#define MRP_VERSION_PATCH 0

#define MRP_API __attribute__((visibility("default")))
#define MRP_PRINTF(text, first) __attribute__((format(printf, text, first)))

#ifdef __cplusplus
extern "C" {
#endif

/** What happened; each code asks for a different reaction. */
enum mrp_status {
    MRP_OK = 0,
    MRP_ERR_INVALID = -1, /**< an argument or setting is wrong: correct it */
    MRP_ERR_STALE = -2, /**< the handle, region or pointer is not, or no longer, ours */
    MRP_ERR_NOT_FOUND = -3, /**< no object of that name, or none at that address */
    MRP_ERR_EXISTS = -4, /**< the name is taken: choose another */
    MRP_ERR_MEMORY = -5, /**< the system has no memory of the kind asked for */
    MRP_ERR_LIMIT = -6, /**< a budget or a system limit is reached: free or raise it */
    MRP_ERR_AGAIN =
        -7, /**< would have to grow or to block: call from a thread that may */
    MRP_ERR_BUSY = -8, /**< still referenced or used: release it first */
    MRP_ERR_UNSUPPORTED = -9, /**< this backend, provider or rail cannot do that */
    MRP_ERR_REGISTER = -10, /**< the network refused to register or deregister */
    MRP_ERR_UNAVAILABLE =
        -11, /**< module or device missing: install it, or choose another */
    MRP_ERR_SYSTEM = -12, /**< the operating system refused; native holds errno */
    MRP_ERR_FORKED = -13, /**< the object belongs to the parent of this forked process */
    MRP_ERR_LEAKED = -14, /**< destroyed, but something was still live: it was freed */
    MRP_ERR_CORRUPT = -15 /**< an invariant does not hold: memory was overwritten */
};

/** "MRP_ERR_LIMIT" for MRP_ERR_LIMIT; "unknown status" for a value that is none. */
MRP_API const char *mrp_status_name(enum mrp_status status);

/** One sentence that says what the code means; never NULL. */
MRP_API const char *mrp_status_text(enum mrp_status status);

/** The last failure of a thread. */
struct mrp_error {
    enum mrp_status status; /**< MRP_OK when nothing has failed yet */
    int native; /**< errno, a libfabric code, ...: as the text says; 0 if none */
    const char *function; /**< where it was noticed first; a literal, never NULL */
    char text[512]; /**< what failed, with its numbers and the remedy; terminated */
};

/** The calling thread's record, valid and unchanged until its next failing call. Never
 *  NULL. A successful call does not clear it. */
MRP_API const struct mrp_error *mrp_error_last(void);

/** Forget the calling thread's record. */
MRP_API void mrp_error_clear(void);

/** Record a failure in the calling thread and return `status`.
 *
 *  For providers and backends: who first knows of an error reports it, with the numbers
 *  and what to change; everyone above passes the status on silently. Text beyond 511
 *  bytes is cut. Arguments must not point into the record itself. */
#define mrp_fail(status, native, ...) \
    mrp_fail_at(__func__, (status), (native), __VA_ARGS__)
MRP_API enum mrp_status mrp_fail_at(const char *function, enum mrp_status status,
    int native, const char *format, ...) MRP_PRINTF(4, 5);

/** Copy a size-first parameter struct of a caller into *params, which has params_size bytes
 *  as the reader's header knows it: members that an older caller's struct does not have
 *  become zero, those that a newer one has beyond them must be. NULL gives all zero.
 *
 *  For providers and backends that take a struct of their own, before they look at
 *  another member. `what` names the struct. MRP_ERR_INVALID: struct_size is none, or a
 *  member that is not known here is set. */
MRP_API enum mrp_status mrp_params_read(
    void *params, size_t params_size, const void *given, const char *what);

/** MRP_ERR_INVALID when the struct `what` has one of a lock pair without the other. */
MRP_API enum mrp_status mrp_params_check_lock(
    void (*lock)(void *lock_arg), void (*unlock)(void *lock_arg), const char *what);

/** "0.1.0": the version of the library that is running. */
MRP_API const char *mrp_version(void);

/* -- settings -- */

/** What values a setting takes. */
enum mrp_setting_kind {
    MRP_SETTING_TEXT, /**< any text */
    MRP_SETTING_CHOICE, /**< one word of `choices` */
    MRP_SETTING_SWITCH, /**< on, off, yes, no, true, false, 1, 0 */
    MRP_SETTING_COUNT, /**< a decimal number within min..max */
    /** bytes within min..max, optionally with K, M, G or T (powers of 1024) */
    MRP_SETTING_SIZE,
    MRP_SETTING_POWER, /**< a SIZE that is a power of two */
    MRP_SETTING_FOLDERS, /**< absolute folders, separated by ':' */
    /** words of `choices`, separated by commas; the first one means none of them, and
     *  stands alone */
    MRP_SETTING_FLAGS
};

/** One setting: a row of a table, of the library or of a provider module. */
struct mrp_setting_spec {
    const char *variable; /**< the environment variable, "MRPOOL_PAGES" */
    enum mrp_setting_kind kind;
    uint64_t min, max; /**< inclusive; for COUNT, SIZE and POWER */
    const char *choices; /**< "auto|4k|thp|2m|1g"; for CHOICE and FLAGS */
    /** the value when nobody sets it; "" means "derived", as `purpose` says */
    const char *default_text;
    const char *purpose; /**< one sentence */
};

/** A setting with its present value. */
struct mrp_setting {
    const struct mrp_setting_spec *spec;
    const char *value; /**< the text in force: of the environment, or the default */
    bool from_environment;
    enum mrp_status status; /**< MRP_OK, or MRP_ERR_INVALID: the value will be refused */
    char problem[256]; /**< why it will be refused; "" otherwise */
};

/** The present value of one row of a table, of the library's or a module's. Leaves the
 *  error record alone: describing a wrong value is no failure. */
MRP_API void mrp_setting_query(
    const struct mrp_setting_spec *spec, struct mrp_setting *setting);

typedef void mrp_setting_visitor(const struct mrp_setting *setting, void *user);

/** Call `visit` for every setting of the library (for those of provider modules see
 *  mrp_module_visit). Parameter structs win over the environment, the environment over
 *  the default. */
MRP_API void mrp_setting_visit(mrp_setting_visitor *visit, void *user);

/* -- limits of the machine -- */

#define MRP_UNLIMITED SIZE_MAX

/** What the system allows this process; read anew at each call, 0 where unknown. */
struct mrp_system {
    size_t struct_size;
    size_t page_size; /**< bytes of a base page */
    size_t memory_size; /**< bytes of RAM, or the cgroup's limit where that is less */
    /** bytes this process may lock; MRP_UNLIMITED with CAP_IPC_LOCK */
    size_t memlock_limit;
    size_t locked_size; /**< bytes locked now (VmLck) */
    size_t huge_page_size; /**< bytes of a default huge page */
    size_t huge_2m_total, huge_2m_free; /**< pages of 2 MiB */
    size_t huge_1g_total, huge_1g_free; /**< pages of 1 GiB */
    bool transparent_huge; /**< madvise or always */
    size_t max_map_count; /**< mappings a process may have */
    size_t n_nodes; /**< NUMA nodes with memory, at least 1 */
    /** bytes that registrations with devices and rings pin now (VmPin), which VmLck does not
     *  count; memlock limits them all the same */
    size_t pinned_size;
};
#define MRP_SYSTEM_INIT \
    { \
        sizeof(struct mrp_system), 0, 0, 0, 0, 0, 0, 0, 0, 0, false, 0, 0, 0 \
    }

/** Fill `system`. Reads /proc and /sys: microseconds, not for a fast path. */
MRP_API enum mrp_status mrp_system_query(struct mrp_system *system);

#ifdef __cplusplus
}
#endif
#endif
