/* caches_internal.h - what the files of cache.* share.
 *
 * caches.c life, calls and their answers; caches_script.c what scripts are given and say;
 * caches_read.c get and filling; caches_write.c put, delete, touch, add; caches_scan.c
 * invalidate; caches_bus.c invalidations, ticks and settings. Nothing else includes it. */
#ifndef RK_REDIS_CACHES_INTERNAL_H
#define RK_REDIS_CACHES_INTERNAL_H

#include "base/alloc.h"
#include "base/assert.h"
#include "base/hash.h"
#include "base/heap.h"
#include "redis/caches.h"

enum { RK_CACHES_WAITING = 256 /* lists of waiting calls, by hash of the key */ };

struct event;

/* One key of a call, on its way to Redis or back. */
struct rk_cache_part {
    struct rk_cache_call *call;
    struct rk_slice key;
    struct rk_lru_ticket ticket;
    uint64_t asked_ms;
    uint64_t eval; /* id of the command; 0: none is under way */
    uint64_t token, busy_ms;
    uint64_t position; /* what the answer says of the key's group */
};

struct rk_cache_call {
    struct rk_redis_caches *caches;
    struct rk_map_node node; /* in caches->calls, by number */
    uint8_t number_key[8];
    struct rk_list link;       /* in unready, or in a list of waiting */
    struct rk_heap_node timer; /* in caches->timers, by wake_ms */
    struct rk_cache_call *next_free;
    uint64_t number;
    uint64_t wake_ms;
    uint64_t deadline_ms;
    uint64_t wait_ms; /* until then it waits for another caller's value */
    struct rk_request request;
    struct rk_slice client; /* of the request id; empty: it has none */
    uint64_t seq;
    struct rk_buf copy; /* what request points into */
    struct rk_arena arena;
    struct rk_cache_part *parts;
    uint32_t part_count;
    uint32_t open_count; /* commands under way */
    bool is_filling;     /* in a list of waiting */
    bool has_done;       /* a key was changed, or may have been */
    struct rk_entry_out *entries;
    struct rk_result *results;
    struct rk_reply failure; /* status RK_OK: none */
    /* cache.invalidate: one master after the other, some keys at a time. */
    struct rk_cache_part *batch; /* owned; the parts while keys are being removed */
    uint64_t removed;
    uint64_t cursor;
    uint64_t scan;      /* id of the SCAN under way; 0: none */
    uint32_t scan_node; /* from 1 */
    uint32_t scan_round;
    uint64_t removed_before; /* this round */
};

/* The settings of a cache. */
struct rk_cache_setting {
    struct rk_map_node node;
    uint64_t ttl_ms;
    uint8_t name[];
};

struct rk_redis_caches {
    struct rk_redis_caches_io io;
    struct rk_redis *redis;
    struct event *timer;
    char *node;
    char *channel;
    char *settings_key;
    char *prefix;
    uint32_t wait;
    uint64_t history;
    struct rk_redis_script get, put, remove, touch, add;
    struct rk_redis_subscription bus;
    struct rk_lru lru;
    struct rk_map calls;
    struct rk_heap timers;
    struct rk_list waiting[RK_CACHES_WAITING];
    struct rk_list unready; /* came before history or settings are known */
    struct rk_cache_call *free_calls;
    uint32_t free_count;
    uint32_t filling;
    struct rk_map settings;
    uint64_t settings_id; /* the command that reads them; 0: none */
    uint64_t settings_ms; /* when they are read next */
    bool has_settings;
    bool is_live;
    uint64_t tick_ms;  /* when the next one is sent */
    uint64_t heard_ms; /* when the last one came back */
    uint64_t tick;
    uint64_t silences;
    struct rk_buf keys[4]; /* of the command being made */
    struct rk_buf text;
};

uint64_t rk_redis_caches_now(void); /* CLOCK_BOOTTIME in ms */

/* caches.c */
/* Sends a script for a part; false: it could not, and the call has failed. */
bool rk_cache_part_eval(struct rk_cache_part *part, struct rk_redis_script *script,
                        uint32_t key_count, const struct rk_slice *args, uint32_t arg_count,
                        rk_redis_done *done);
/* The command of the part came back: false if it failed, or too few replicas have it, and
 * the call has failed with it. */
bool rk_cache_part_done(struct rk_cache_part *part, const struct rk_redis_result *result);
/* The same for a script, which answers with a list. */
bool rk_cache_part_came(struct rk_cache_part *part, const struct rk_redis_result *result);
/* Notes a failure; the first one counts. */
__attribute__((format(printf, 4, 5))) void rk_cache_call_fail(struct rk_cache_call *call,
                                                              enum rk_status status,
                                                              const char *field,
                                                              const char *format, ...);
/* Answers the call if nothing of it is under way. */
void rk_cache_call_check(struct rk_cache_call *call);
void rk_cache_call_answer(struct rk_cache_call *call, struct rk_reply *reply);
void rk_cache_call_wake_at(struct rk_cache_call *call, uint64_t at_ms);
void rk_caches_timer_set(struct rk_redis_caches *caches);
void rk_cache_call_start(struct rk_cache_call *call);
/* Those that waited for history or settings, as far as they are known now. */
void rk_caches_start_ready(struct rk_redis_caches *caches);

/* caches_script.c */
struct rk_slice rk_cache_call_cache(const struct rk_cache_call *call); /* "" for default */
/* The key of an entry, or of what belongs to it by `suffix`, into caches->keys[at]. */
struct rk_slice rk_caches_key(struct rk_redis_caches *caches, uint32_t at,
                              struct rk_slice cache, struct rk_slice key,
                              const char *suffix);
/* The request's id as a key in the entry's slot. */
struct rk_slice rk_caches_request_key(const struct rk_cache_call *call, uint32_t at,
                                      struct rk_slice key);
/* How long Redis keeps an answer, in ms; 0: the call has no id under which it could come
 * again. Its client may ask with another deadline than before, or another client for it. */
uint64_t rk_cache_call_keep_ms(const struct rk_cache_call *call);
/* The beginning of an invalidation, up to its version, into caches->text. */
struct rk_slice rk_caches_message(struct rk_redis_caches *caches, struct rk_slice cache,
                                  struct rk_slice key);
/* What a script answered: its n-th element. */
uint64_t rk_cache_reply_number(const struct redisReply *reply, size_t at);      /* or 0 */
struct rk_slice rk_cache_reply_text(const struct redisReply *reply, size_t at); /* or "" */
/* Whether its first element is this word. */
bool rk_cache_reply_is(const struct redisReply *reply, const char *word);

/* caches_read.c */
/* From a copy, without a call; false: it has to go to Redis. */
bool rk_caches_read_now(struct rk_redis_caches *caches, uint64_t number,
                        const struct rk_request *request);
void rk_cache_read_start(struct rk_cache_call *call);
void rk_cache_read_done(struct rk_cache_call *call);
void rk_cache_read_wake(struct rk_cache_call *call);
/* One item a group, with the highest of its keys. */
void rk_cache_positions_fill(struct rk_cache_call *call, struct rk_reply *reply);
/* The key has another value: whoever waits for it asks again. */
void rk_caches_wake(struct rk_redis_caches *caches, struct rk_slice cache,
                    struct rk_slice key);

/* caches_write.c */
void rk_cache_write_start(struct rk_cache_call *call);
void rk_cache_write_done(struct rk_cache_call *call);

/* caches_scan.c */
void rk_cache_scan_start(struct rk_cache_call *call);
void rk_cache_scan_done(struct rk_cache_call *call);

/* caches_bus.c */
enum rk_status rk_caches_bus_open(struct rk_redis_caches *caches);
void rk_caches_bus_close(struct rk_redis_caches *caches);
void rk_caches_bus_run(struct rk_redis_caches *caches, uint64_t now_ms);
uint64_t rk_caches_setting_ttl(const struct rk_redis_caches *caches, struct rk_slice cache);
void rk_cache_configure_start(struct rk_cache_call *call);
#endif
