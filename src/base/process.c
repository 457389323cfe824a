/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/process.h"

#include <pthread.h>

uint32_t mrp_process_epoch = 1;

static pthread_mutex_t process_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void after_fork_in_child(void)
{
    mrp_process_epoch++;
    pthread_mutex_unlock(&process_mutex);
}

static void release_in_parent(void)
{
    pthread_mutex_unlock(&process_mutex);
}

static void hold_for_fork(void)
{
    pthread_mutex_lock(&process_mutex);
}

static void install_fork_handlers(void)
{
    pthread_atfork(hold_for_fork, release_in_parent, after_fork_in_child);
}

void mrp_process_lock(void)
{
    pthread_once(&fork_once, install_fork_handlers);
    pthread_mutex_lock(&process_mutex);
}

void mrp_process_unlock(void)
{
    pthread_mutex_unlock(&process_mutex);
}
