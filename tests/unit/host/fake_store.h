/* fake_store.h - a store of locks in memory, as a server beside the nodes: it takes time,
 * fails, loses answers, forgets. What store.h asks of a store is what it does. */
#ifndef RK_TEST_HOST_FAKE_STORE_H
#define RK_TEST_HOST_FAKE_STORE_H

#include "base/random.h"
#include "host/host.h"

enum { FAKE_RECORDS_MAX = 8192, FAKE_ASKED_MAX = 64 };

struct fake_record {
    uint8_t kind;
    uint64_t id;
    struct rk_buf bytes;
};

struct fake_state {
    bool is_there;
    uint64_t term, history, seq, id, index;
    int64_t kept; /* the term up to which nothing is missing; -1: not even what there was */
    struct fake_record *records; /* FAKE_RECORDS_MAX */
    uint32_t count;
};

/* Something asked by a host, on its way there and back. */
struct fake_asked {
    struct rk_host **host; /* of the node; another one when it was started again */
    struct rk_host *asker;
    bool is_claim, is_done, is_answered;
    uint64_t do_ms, answer_ms;
    struct rk_host_store_claim claim;
    struct rk_host_store_batch batch;
    struct rk_buf changes; /* its own copy of them */
    enum rk_status status;
    struct rk_host_store_found found;
    struct rk_buf records; /* blobs: what a claim read */
    uint32_t records_left; /* to be read when it is answered */
    char identity[32];     /* of the server that did it */
};

struct fake_store {
    struct fake_state state;
    char identity[32];
    struct fake_asked asked[FAKE_ASKED_MAX];
    uint32_t asked_count;
    struct rk_random random;
    uint64_t delay_ms;       /* there and back */
    bool is_away;            /* nothing is done */
    bool is_full;            /* all is done, and it says so */
    uint32_t refuse_percent; /* not done, and said so */
    uint32_t lose_percent;   /* done, and said to have failed */
    uint32_t late_percent;   /* said to have failed, and done up to late_ms after that */
    uint64_t late_ms;
    uint64_t batches, fenced, regressed, repeated, claims, wholes;
    void (*on_batch)(void *context, const struct rk_host_store_batch *batch);
    void *context;
};

struct fake_store *fake_store_new(uint64_t seed);
void fake_store_free(struct fake_store *store);
void fake_store_claim(struct fake_store *store, struct rk_host **host, uint64_t now_ms,
                      const struct rk_host_store_claim *claim);
void fake_store_write(struct fake_store *store, struct rk_host **host, uint64_t now_ms,
                      const struct rk_host_store_batch *batch);
void fake_store_run(struct fake_store *store, uint64_t now_ms);
/* All it had is gone; is_restarted: it says that it is another process. */
void fake_store_empty(struct fake_store *store, bool is_restarted);
/* Its state, for fake_store_go_back, which frees it. */
struct fake_state fake_store_copy(const struct fake_store *store);
void fake_store_go_back(struct fake_store *store, struct fake_state state,
                        bool is_restarted);
void fake_state_fini(struct fake_state *state);
/* It does what it is asked, at once. */
void fake_store_mend(struct fake_store *store);
#endif
