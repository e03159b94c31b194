/* seeds.h - the program that writes the corpus: one function a group of targets. */
#ifndef RK_TESTS_FUZZ_SEEDS_H
#define RK_TESTS_FUZZ_SEEDS_H

#include "api/api.h"
#include "base/assert.h"

/* The file <folder>/<target>/<name>. */
void seed_write(const char *target, const char *name, struct rk_slice bytes);
/* A size as u16, then the bytes: what fuzz_chunk takes. */
void seed_chunk(struct rk_buf *out, struct rk_slice bytes);

/* One call of every operation that clients have. */
struct seed_call {
    enum rk_op op;
    const char *body;
};
extern const struct seed_call seed_calls[];
extern const uint32_t seed_call_count;

void seeds_of_api(void);
void seeds_of_texts(void);
void seeds_of_storage(void);
void seeds_of_state(void);
void seeds_of_host(void);
#endif
