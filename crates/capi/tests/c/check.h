/* What the test programs share. */
#ifndef CHECK_H
#define CHECK_H

/* strdup, sigaction and threads, which the tests use and no header of C declares by itself. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include <libxl_snapshot.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(truth)                                                                    \
    do {                                                                                \
        if (!(truth)) {                                                                 \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #truth);         \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

/* The same for a number, which is told. */
#define GIVES(call, expected)                                                           \
    do {                                                                                \
        int got = (call);                                                               \
        if (got != (expected)) {                                                        \
            fprintf(stderr, "%s:%d: %s gave %d and not %s\n", __FILE__, __LINE__,       \
                    #call, got, #expected);                                             \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

static inline bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

#endif
