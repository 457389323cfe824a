/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Workers of mrpool-bench keys: every process learns to reach every buffer of every other
 * one, twice. With mrpool: the packed keys of each chunk once, and a token of 32 bytes for
 * each buffer. Without: each buffer is registered by itself, and its key, address and size
 * are sent. keys_main.h does it; one file for each network library has its calls.
 *
 * Processes are forked before any network library is touched; what they send each other
 * lies in memory that all of them share, so that bytes are counted and nobody waits for a
 * wire. Told by the first process, line by line, of an average process:
 *   text <library and version>
 *   value <figure>/<chunks|buffers> <processes> <unit> <number>
 *   problem <why something was left out>
 *   end
 * Figures: bytes (received), imports (keys made usable), import (ns for all of them),
 * resolve (ns to find all buffers by their tokens), registrations, memory (bytes the process
 * has become larger by).
 */
#ifndef BENCH_WORKERS_KEYS_H
#define BENCH_WORKERS_KEYS_H

#include "mrpool/mrpool.h"

#include "support.h"

#include <stdbool.h>
#include <stddef.h>

#define KEYS_PROCESSES_MAX 64
#define KEYS_SIZE_MAX 1024 /* bytes of a key, or of an endpoint's address */

/** What a network knows of one buffer that is registered by itself. */
struct keys_buffer {
    void *address;
    void *registration;
    size_t key_size;
    unsigned char key[KEYS_SIZE_MAX];
};

struct keys_network {
    /** Open, and write where this process is reached; @return bytes of it, 0 on failure
     *  with keys_why written. */
    size_t (*open)(const char *options, void *address, size_t size);
    /** Endpoints to all n processes: addresses[i] has address_sizes[i] bytes. */
    bool (*connect)(
        const unsigned char *const *addresses, const size_t *address_sizes, size_t n);
    bool (*provide)(struct mrp_context *context, struct mrp_provider **provider);
    /** For mrp_remote_open; NULL: nothing. */
    void *(*endpoint)(size_t process);
    bool (*register_buffer)(struct keys_buffer *buffer, size_t size);
    void (*deregister_buffer)(struct keys_buffer *buffer);
    /** Make a key usable, as the library's users do; NULL on failure. What needs nothing
     *  returns the key's own place. */
    void *(*import_key)(size_t process, const void *key, size_t size);
    void (*release_key)(void *imported);
    void (*progress)(void);
    void (*close)(void);
    void (*describe)(char *text, size_t size);
};

/** Why a library has refused. */
static char keys_why[160];

#endif
