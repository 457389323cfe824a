/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The load of mrpool-bench memory: requests of mixed sizes and lifetimes on two threads,
 * in phases, the same numbers for every subject in each run; and how a worker tells what
 * it found, one line of text each:
 *
 *     text WORDS                          which library this is
 *     phase NAME                          what follows belongs to it
 *     sample MS LIVE HELD RESIDENT REGISTRATIONS
 *     value CASE THREADS UNIT NUMBER      several of one case are repetitions
 *     problem WORDS                       why something was not measured
 *     end
 */
#ifndef BENCH_WORKERS_MEMORY_LOAD_H
#define BENCH_WORKERS_MEMORY_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct memory_subject {
    void *(*alloc)(size_t size); /* NULL: refused */
    void *(*address)(void *item);
    void (*free)(void *item);
    /** give back what nobody uses; called by each thread in turn */
    void (*trim)(void);
    size_t (*held)(void); /* bytes; NULL: what the process has become larger by */
    size_t (*registrations)(void); /* NULL: none */
    const char *(*problem)(void); /* why alloc refused */
    void (*detail)(const char *phase); /* at its end; NULL: nothing to tell */
};

struct memory_plan {
    size_t live; /* bytes, of both threads, in the steady phases */
    double scale; /* of the numbers of steps; 1: a whole run */
    unsigned idle_ms;
};

/** Run all phases and tell of them. False, with a problem told, when a request was
 * refused. */
bool memory_load(const struct memory_subject *subject, const struct memory_plan *plan);

/** Take 64 KiB regions of so many bytes together, free them and trim: what that takes,
 *  and what is still held, as cases give-back and given-back-left. */
bool memory_give_back(const struct memory_subject *subject, size_t size, unsigned rounds);

/* -- telling -- */

void memory_tell_value(
    const char *name, unsigned threads, const char *unit, double number);
void memory_tell_problem(const char *format, ...) __attribute__((format(printf, 1, 2)));

/** What the command line of a worker says. */
struct memory_arguments {
    const char *section; /* the first word */
    struct memory_plan plan;
    bool quick, no_rail;
    unsigned repetitions;
};
void memory_arguments_read(struct memory_arguments *arguments, int argc, char **argv);

/** Bytes of this process in RAM. */
size_t memory_resident(void);

#endif
