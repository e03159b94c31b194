/* fuzz_host.h - the cluster of the target fuzz_host, which its corpus was overheard in, and
 * how a step of its input begins. */
#ifndef RK_TESTS_FUZZ_FUZZ_HOST_H
#define RK_TESTS_FUZZ_FUZZ_HOST_H

#include "cluster.h"

/* The first byte of a step: kind, peer (n2 or n3), link in bits 4 and 5. */
enum {
    FUZZ_HOST_FRAME = 0, /* the chunk: sections */
    FUZZ_HOST_RAW = 1,   /* the chunk: a frame */
    FUZZ_HOST_CALL = 2,  /* the chunk: an operation and a JSON body */
    FUZZ_HOST_PASS = 3,  /* the chunk: milliseconds, a tick each */
    FUZZ_HOST_LINK = 4,  /* the chunk: a change of a link each */
    FUZZ_HOST_KIND = 7,
    FUZZ_HOST_PEER = 8,
};

/* Three nodes with two data groups that have done a little work. */
struct cluster *fuzz_host_cluster(void (*spoil)(struct cluster *, struct packet *));
#endif
