/* What the test programs share. */
#ifndef CHECK_H
#define CHECK_H

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
