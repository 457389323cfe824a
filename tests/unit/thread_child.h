/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The thread model is one per process and settled once, so each test of it runs in a
 * child process of its own.
 */
#ifndef THREAD_CHILD_H
#define THREAD_CHILD_H

#include "base/thread.h"
#include "mrpool/mrpool.h"
#include "refusal.h"
#include "support/child.h"
#include "support/test_system.h"
#include "support/thread_models.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static inline void in_child(void (*job)(const struct mrp_thread_model *model),
    const struct mrp_thread_model *model)
{
    pid_t child;
    int status = 0;

    fflush(stdout);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        alarm(240);
        if (model != NULL) {
            EXPECT(mrp_thread_model_set(model) == MRP_OK);
        }
        job(model);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status != 0) {
        fail_msg("under %s the child ended with status 0x%x",
            model != NULL ? model->name : "pthreads", (unsigned)status);
    }
}

static inline void under_both(void (*job)(const struct mrp_thread_model *model))
{
    in_child(job, NULL);
    in_child(job, test_counting_model());
}

static inline bool is_in_force(const char *name)
{
    struct mrp_thread_model model = MRP_THREAD_MODEL_INIT;

    return mrp_thread_model_query(&model) == MRP_OK && strcmp(model.name, name) == 0;
}

static inline bool is_refused(
    enum mrp_status status, enum mrp_status wanted, const char *words)
{
    return status == wanted && mrp_error_last()->status == wanted &&
        strstr(mrp_error_last()->text, words) != NULL;
}

#endif
