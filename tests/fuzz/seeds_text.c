/* Seeds of texts and small tables: ids, positions, headers, settings, slot maps. */
#include "seeds.h"

#include "api/delivery_id.h"
#include "ring/slots.h"
#include "state/command.h"

static void seed_text(const char *target, const char *name, uint8_t kind,
                      struct rk_slice text)
{
    struct rk_buf out;
    rk_buf_init(&out);
    rk_buf_u8(&out, kind);
    rk_buf_append_slice(&out, text);
    seed_write(target, name, rk_buf_slice(&out));
    rk_buf_fini(&out);
}

static void seed_ids(void)
{
    char text[RK_DELIVERY_ID_SIZE];
    const struct rk_delivery_id delivery = {17, UINT64_MAX, 300, 2};
    const struct rk_delivery_id message = {4095, 1, 1, 0};
    const struct rk_fill_token token = {0xdeadbeef, 5, 600};
    size_t size = rk_delivery_id_print(text, &delivery);
    seed_text("text", "delivery", 0, rk_slice_of(text, size));
    size = rk_delivery_id_print(text, &message);
    seed_text("text", "message", 0, rk_slice_of(text, size));
    size = rk_fill_token_print(text, &token);
    seed_text("text", "token", 1, rk_slice_of(text, size));
    seed_text("text", "parts", 2, RK_SLICE_LITERAL("abcdefghijklmnopqrstuvwxyz"));
    seed_text("text", "position", 3, RK_SLICE_LITERAL("12ab:0=4,8=18446744073709551615"));
    seed_text("text", "address", 4, RK_SLICE_LITERAL("[::1]:7400"));
    seed_text("text", "name", 4, RK_SLICE_LITERAL("host.example:80"));
    seed_text("text", "base64", 5, RK_SLICE_LITERAL("AP+/eA=="));
}

static void seed_tables(void)
{
    static struct rk_slot_map map;
    static const uint32_t counts[] = {1, 8};
    static const uint8_t ranges[] = {0, 0, 255, 3, 1, 0, 0, 4, 255, 15, 2, 0};
    const struct rk_command command = {.client = RK_SLICE_LITERAL("client"),
                                       .seq = 5,
                                       .first_unanswered = 4,
                                       .stamp_ms = 1700000000,
                                       .deadline_ms = 1700060000,
                                       .home = 2,
                                       .request = RK_SLICE_LITERAL("request")};
    struct rk_buf out;
    rk_buf_init(&out);
    for (size_t i = 0; i < 2; i++) {
        rk_buf_reset(&out);
        RK_ASSERT(rk_slot_map_lay(&map, counts[i]) == RK_OK);
        rk_slot_map_encode(&map, &out);
        seed_text("entry", i == 0 ? "one_group" : "groups", 0, rk_buf_slice(&out));
    }
    seed_text("entry", "ranges", 1, rk_slice_of(ranges, sizeof(ranges)));
    rk_buf_reset(&out);
    rk_command_encode(&out, &command);
    seed_text("entry", "command", 2, rk_buf_slice(&out));
    rk_buf_fini(&out);
}

/* Content-Type, Origin, Accept, body. */
static void seed_media(const char *name, const char *const headers[3], const char *body)
{
    struct rk_buf out;
    rk_buf_init(&out);
    for (int i = 0; i < 3; i++)
        seed_chunk(&out, rk_slice_of_string(headers[i]));
    rk_buf_append_string(&out, body);
    seed_write("media", name, rk_buf_slice(&out));
    rk_buf_fini(&out);
}

static void seed_settings(void)
{
    static const char *const names[] = {
#define RK_TEXT(field, name, fallback, arg, help)           name,
#define RK_UINT(field, name, fallback, min, max, arg, help) name,
#define RK_SWITCH(field, name, fallback, help)              name,
#define RK_CHOICE(field, name, fallback, words, help)       name,
#include "rukund/settings.def"
#undef RK_TEXT
#undef RK_UINT
#undef RK_SWITCH
#undef RK_CHOICE
    };
    struct rk_buf out;
    rk_buf_init(&out);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        rk_buf_printf(&out, "\"%s = \"\n", names[i]);
    seed_write("dictionary", "config", rk_buf_slice(&out));
    rk_buf_fini(&out);
}

static void seed_redis(void)
{
    seed_text(
        "redis", "single", 0,
        RK_SLICE_LITERAL("redis://user:p%40ss@host.example:6380/3?prefix=a%3A&wait=1"));
    seed_text(
        "redis", "sentinel", 0,
        RK_SLICE_LITERAL("redis+sentinel://:p@a,b:1,[::1]/main/2?sentinel-password=s"));
    seed_text("redis", "cluster", 0,
              RK_SLICE_LITERAL("rediss+cluster://a,b?ca=f&cert=g&key=h&server-name=n"
                               "&timeout-ms=100&wait-ms=5"));
    seed_text("redis", "insecure", 0, RK_SLICE_LITERAL("rediss://h?insecure=1"));
    seed_text("redis", "replies", 1,
              RK_SLICE_LITERAL("+OK\r\n:-12\r\n$5\r\nhello\r\n$-1\r\n*-1\r\n*0\r\n-ERR "
                               "bad\r\n*3\r\n*2\r\n:1\r\n$1\r\nx\r\n$-1\r\n*1\r\n+y\r\n"));
    seed_text("redis", "huge", 1, RK_SLICE_LITERAL("*2000000000\r\n$9999999999\r\n"));
    seed_text("redis", "moved", 2, RK_SLICE_LITERAL("MOVED 3999 127.0.0.1:6381"));
    seed_text("redis", "script", 2,
              RK_SLICE_LITERAL("ERR Error running script (call to f_1): @user_script:1: "
                               "-OOM command not allowed"));
    seed_text("redis", "info", 3,
              RK_SLICE_LITERAL("# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\n"
                               "maxmemory:1048576\r\nmaxmemory_policy:noeviction\r\n"
                               "role:slave\r\nloading:1\r\n"));
}

void seeds_of_texts(void)
{
    seed_redis();
    static const char *const json[] = {
        "application/json; charset=utf-8", "http://a",
        "application/vnd.msgpack;q=0.5, text/json, */*;q=0.1"};
    static const char *const form[] = {"application/x-www-form-urlencoded", "",
                                       "application/problem+json"};
    static const char *const msgpack[] = {"application/x-msgpack", "", "text/html"};
    seed_settings();
    seed_ids();
    seed_tables();
    seed_media("json", json, "{}");
    seed_media("form", form, " {\"a\":1}");
    seed_media("msgpack", msgpack, "\x80");
    seed_write("config", "three",
               RK_SLICE_LITERAL(
                   "; a node of three\n[rukund]\nname = n1\ndata = /var/lib/rukund\n"
                   "http = 127.0.0.1:7401\nrpc = 127.0.0.1:7501\npeer = 127.0.0.1:7601\n"
                   "peers = n1=127.0.0.1:7601,n2=127.0.0.1:7602,n3=127.0.0.1:7603\n"
                   "groups = 4\nelection-timeout-ms = 500\nheartbeat-ms = 50\n"
                   "forward = off\nlog-level = debug\n"));
    seed_write("config", "open",
               RK_SLICE_LITERAL("http = 0.0.0.0:7400\ninsecure = on\n"
                                "advertise-http = host.example:7400\n"
                                "cluster = c\nmax-body-bytes = 1000000\n"));
    seed_write("config", "one", RK_SLICE_LITERAL("name = n1\n"));
}
