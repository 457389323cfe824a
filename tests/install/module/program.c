/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Loads the module given as argument; exit status 0 when the failure which the module
 * records shows in this program's own error record.
 */
#include <mrpool/base.h>

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    void *module = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    void (*probe_fail)(void);
    void *symbol;

    mrp_error_clear();
    if (module == NULL || (symbol = dlsym(module, "probe_fail")) == NULL) {
        fprintf(stderr, "%s\n", argc == 2 ? dlerror() : "program MODULE");
        return 2;
    }
    memcpy(&probe_fail, &symbol, sizeof(probe_fail));
    probe_fail();
    printf("error record: native %d, '%s'\n", mrp_error_last()->native,
        mrp_error_last()->text);
    return mrp_error_last()->native == 7 ? 0 : 1;
}
