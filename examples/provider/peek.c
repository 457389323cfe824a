/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Two processes and the provider "cma": the first puts a text into a pool region and hands
 * the region's token and its packed key to the second, which reads the text and writes an
 * answer, while the first does nothing but wait for its end.
 *
 *     peek                    both
 *     peek TOKEN KEY          the second, as the first starts it; both in hexadecimal
 */
#include "cma.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE 100000

/* Byte i of a text; the answer to it is its complement. */
static unsigned char text_byte(size_t i)
{
    return (unsigned char)(i * 7 + i / 251);
}

static void must(const char *what, enum mrp_status status)
{
    if (status != MRP_OK) {
        fprintf(stderr, "peek: %s: %s\n", what, mrp_error_last()->text);
        exit(EXIT_FAILURE);
    }
}

static void to_hex(const unsigned char *bytes, size_t size, char *text)
{
    for (size_t i = 0; i < size; i++) {
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    }
}

static size_t from_hex(const char *text, unsigned char *bytes, size_t room)
{
    size_t size = 0;

    while (size < room && sscanf(text + 2 * size, "%2hhx", &bytes[size]) == 1) {
        size++;
    }
    return size;
}

/* The second process: all it knows of the region is in its arguments. */
static int look(
    struct mrp_provider *provider, const char *token_text, const char *key_text)
{
    struct mrp_remote_region found = MRP_REMOTE_REGION_INIT;
    static unsigned char text[SIZE];
    unsigned char packed[1024];
    struct mrp_token token = {{0}};
    struct mrp_remote *remote;
    size_t size = from_hex(key_text, packed, sizeof(packed));

    from_hex(token_text, token.bytes, sizeof(token.bytes));
    must("key", mrp_remote_open(provider, NULL, 0, packed, size, &remote));
    must("token", mrp_remote_resolve(remote, &token, &found));
    if (found.size != SIZE) {
        fprintf(stderr, "peek: a region of %zu bytes\n", found.size);
        return EXIT_FAILURE;
    }
    must("read", cma_transfer(found.handle, false, text, found.address, SIZE));
    for (size_t i = 0; i < SIZE; i++) {
        if (text[i] != text_byte(i)) {
            fprintf(stderr, "peek: byte %zu is %02x\n", i, text[i]);
            return EXIT_FAILURE;
        }
        text[i] = (unsigned char)~text[i];
    }
    must("write", cma_transfer(found.handle, true, text, found.address, SIZE));
    must("close", mrp_remote_close(remote));
    return EXIT_SUCCESS;
}

/* The first process: memory as any transport gets it. */
static int offer(
    struct mrp_context *context, struct mrp_provider *provider, const char *program)
{
    struct mrp_pool_params params = MRP_POOL_PARAMS_INIT;
    char token_text[2 * MRP_TOKEN_SIZE + 1], key_text[2049];
    unsigned char *text, packed[1024];
    size_t size = sizeof(packed);
    struct mrp_region *region;
    struct mrp_token token;
    struct mrp_pool *pool;
    int status;
    pid_t child;

    params.rails = &provider;
    params.n_rails = 1;
    params.access = MRP_ACCESS_LOCAL | MRP_ACCESS_REMOTE;
    must("pool", mrp_pool_create(context, &params, &pool));
    region = mrp_region_alloc(pool, SIZE);
    must("region", region != NULL ? MRP_OK : mrp_error_last()->status);
    text = mrp_region_address(region);
    for (size_t i = 0; i < SIZE; i++) {
        text[i] = text_byte(i);
    }
    must("token", mrp_region_token(region, &token));
    must("key", mrp_region_key_pack(region, 1, packed, &size));
    to_hex(token.bytes, sizeof(token.bytes), token_text);
    to_hex(packed, size, key_text);
    child = fork();
    if (child == 0) {
        execl(program, "peek", token_text, key_text, (char *)NULL);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "peek: the second process failed\n");
        return EXIT_FAILURE;
    }
    for (size_t i = 0; i < SIZE; i++) {
        if (text[i] != (unsigned char)~text_byte(i)) {
            fprintf(stderr, "peek: byte %zu of the answer is %02x\n", i, text[i]);
            return EXIT_FAILURE;
        }
    }
    must("free", mrp_region_free(region));
    must("pool", mrp_pool_destroy(pool));
    printf("peek: %d bytes read and written by another process, with a token of %d bytes "
           "and a key of %zu\n",
        SIZE, MRP_TOKEN_SIZE, size);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    struct mrp_provider_params params = MRP_PROVIDER_PARAMS_INIT;
    struct mrp_context *context;
    struct mrp_provider *provider;
    int status;

    /* the child is to reach its parent: not what Yama allows by itself */
    params.options = "ptracer=any";
    must("context", mrp_context_create(NULL, &context));
    must("provider", mrp_provider_open(context, "cma", &params, &provider));
    status = argc == 3 ? look(provider, argv[1], argv[2])
                       : offer(context, provider, "/proc/self/exe");
    must("closing", mrp_context_destroy(context));
    return status;
}
