/* export_internal.h - what export*.c share. */
#ifndef RK_REDIS_EXPORT_INTERNAL_H
#define RK_REDIS_EXPORT_INTERNAL_H

#include "base/alloc.h"
#include "base/map.h"
#include "redis/export.h"

struct rk_export_topic {
    struct rk_map_node node; /* by key */
    struct rk_export_topic *next;
    struct rk_slice name, key; /* they stand in bytes */
    uint8_t bytes[];
};

struct rk_export {
    struct rk_offline *offline;
    struct rk_export_io io;
    const char *prefix;
    size_t prefix_size;
    uint64_t history;
    uint64_t clock_us;
    struct rk_map by_key;
    struct rk_export_topic *topics, **last;
    struct rk_export_topic *topic; /* whose messages are read */
    uint64_t cursor;
    uint32_t node; /* being scanned */
    struct rk_buf text, key;
    struct rk_export_stats stats;
};

/* Gives one thing on; a failure ends it all. */
void rk_export_give(struct rk_export *export, const struct rk_content *content,
                    struct rk_slice id);
enum rk_status rk_export_memory(struct rk_export *export);
/* Runs a command whose second word is a key. */
enum rk_status rk_export_ask(struct rk_export *export, const struct rk_slice *args,
                             uint32_t count, rk_offline_heard *heard, void *context);
/* The value in an answer to HGETALL; NULL: there is none. */
const struct redisReply *rk_export_field(const struct redisReply *hash, const char *name);
struct rk_slice rk_export_text(const struct redisReply *reply);
uint64_t rk_export_number(const struct redisReply *reply); /* 0: it is none */

/* export_topics.c: all topics and their messages. */
enum rk_status rk_export_topics(struct rk_export *export);
void rk_export_topics_free(struct rk_export *export);
/* export_scan.c: windows, fences, caches. */
enum rk_status rk_export_scan(struct rk_export *export);
#endif
