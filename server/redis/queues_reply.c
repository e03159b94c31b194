#include "redis/queues_internal.h"

#include <stdlib.h>

/* --- what scripts answer ----------------------------------------------------------- */

uint64_t rk_answer_number(const struct redisReply *reply, size_t at)
{
    if (at >= reply->elements) return 0;
    const struct redisReply *one = reply->element[at];
    return one->type == REDIS_REPLY_INTEGER && one->integer > 0 ? (uint64_t)one->integer
                                                                : 0;
}

struct rk_slice rk_answer_text(const struct redisReply *reply)
{
    if (reply->type != REDIS_REPLY_STRING) return RK_SLICE_EMPTY;
    return rk_slice_of(reply->str, reply->len);
}

static void refused(struct rk_ask *call, const struct redisReply *reply, int64_t status)
{
    struct rk_reply out;
    memset(&out, 0, sizeof(out));
    out.status = (enum rk_status)status;
    struct rk_slice field = RK_SLICE_EMPTY, text = RK_SLICE_EMPTY;
    if (reply->elements > 4) {
        field = rk_answer_text(reply->element[3]);
        text = rk_answer_text(reply->element[4]);
    }
    out.field = field;
    if (text.size > sizeof(out.text) - 1) text.size = sizeof(out.text) - 1;
    if (text.size != 0) memcpy(out.text, text.data, text.size);
    if (status == RK_EFENCE) out.fence = rk_answer_number(reply, 5);
    rk_ask_answer(call, &out);
}

bool rk_script_ok(struct rk_ask *call, const struct redisReply *reply, bool *needs_listing)
{
    *needs_listing = false;
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 3 ||
        reply->element[0]->type != REDIS_REPLY_INTEGER) {
        rk_ask_fail(call, RK_EIO, NULL, "Redis gave an answer that no script gives");
        return false;
    }
    int64_t status = reply->element[0]->integer;
    if (rk_answer_number(reply, 2) != 0) rk_topic_announce(call->store, call->topic);
    if (status == 0) return true;
    if (status == 1)
        *needs_listing = true;
    else if (status == 2)
        rk_ask_again(call);
    else
        refused(call, reply, status);
    return false;
}

/* --- messages ---------------------------------------------------------------------- */

/* u8 encoding, blob data, then as in the embedded engine's records: varint count of headers
 * and two blobs each; nothing if there are none. */
void rk_body_encode(struct rk_buf *out, const struct rk_message_in *in)
{
    rk_buf_u8(out, in->data.encoding);
    rk_buf_blob(out, in->data.bytes);
    if (in->headers.count == 0) return;
    rk_buf_varint(out, in->headers.count);
    for (uint32_t i = 0; i < in->headers.count; i++) {
        rk_buf_blob(out, in->headers.items[i].name);
        rk_buf_blob(out, in->headers.items[i].value);
    }
}

static uint64_t varint_size(uint64_t value)
{
    uint64_t size = 1;
    for (; value >= 0x80; value >>= 7)
        size++;
    return size;
}

uint64_t rk_body_headers_size(struct rk_headers headers)
{
    if (headers.count == 0) return 0;
    uint64_t size = varint_size(headers.count);
    for (uint32_t i = 0; i < headers.count; i++)
        size += varint_size(headers.items[i].name.size) + headers.items[i].name.size +
                varint_size(headers.items[i].value.size) + headers.items[i].value.size;
    return size;
}

static enum rk_status body_decode(struct rk_store *store, struct rk_slice bytes,
                                  struct rk_delivery_out *out)
{
    struct rk_reader reader;
    rk_reader_init(&reader, bytes);
    out->message.encoding = rk_read_u8(&reader);
    out->message.bytes = rk_read_blob(&reader);
    if (out->message.encoding > RK_ENCODING_RAW) return RK_EPROTO;
    if (rk_reader_left(&reader) == 0) return rk_reader_check(&reader, true);
    uint64_t count = rk_read_varint(&reader);
    if (count > bytes.size) return RK_EPROTO;
    out->headers.items =
        rk_arena_calloc(&store->replies, count + 1, sizeof(*out->headers.items));
    if (out->headers.items == NULL) return RK_ENOMEM;
    out->headers.count = (uint32_t)count;
    for (uint64_t i = 0; i < count; i++) {
        out->headers.items[i].name = rk_read_blob(&reader);
        out->headers.items[i].value = rk_read_blob(&reader);
    }
    return rk_reader_check(&reader, true);
}

static struct rk_slice state_text(struct rk_slice state, bool is_dead)
{
    if (rk_slice_is_equal(state, RK_SLICE_LITERAL("F")))
        return RK_SLICE_LITERAL("in_flight");
    if (rk_slice_is_equal(state, RK_SLICE_LITERAL("D"))) return RK_SLICE_LITERAL("delayed");
    return is_dead ? RK_SLICE_LITERAL("dead") : RK_SLICE_LITERAL("ready");
}

enum rk_status rk_message_read(struct rk_store *store, const struct redisReply *line,
                               bool is_delivery, bool is_dead, struct rk_delivery_out *out)
{
    if (line->type != REDIS_REPLY_ARRAY || line->elements < 5) return RK_EPROTO;
    struct rk_delivery_id id;
    char text[RK_DELIVERY_ID_SIZE];
    *out = (struct rk_delivery_out){
        .message_id = rk_answer_text(line->element[0]),
        .attempt = (uint32_t)rk_answer_number(line, 1),
        .priority = (uint8_t)rk_answer_number(line, 2),
        .group = rk_answer_text(line->element[3]),
    };
    if (line->elements > 5)
        out->state = state_text(rk_answer_text(line->element[5]), is_dead);
    out->id = out->message_id;
    enum rk_status status = body_decode(store, rk_answer_text(line->element[4]), out);
    if (status == RK_OK) status = rk_delivery_id_parse(&id, out->message_id);
    if (status != RK_OK || !is_delivery) return status;
    id.attempt = out->attempt;
    out->id =
        rk_arena_copy(&store->replies, rk_slice_of(text, rk_delivery_id_print(text, &id)));
    /* As the embedded engine: a delivery has the state that it is in. */
    out->state = RK_SLICE_LITERAL("in_flight");
    return out->id.data != NULL ? RK_OK : RK_ENOMEM;
}

void rk_ask_unreadable(struct rk_ask *call, enum rk_status status)
{
    if (status == RK_ENOMEM)
        rk_ask_fail(call, RK_ENOMEM, NULL, "out of memory");
    else
        rk_ask_fail(call, RK_EIO, NULL, "Redis gave a message that can not be read");
}

void rk_stats_read(const struct redisReply *reply, struct rk_topic_stats *out)
{
    uint64_t *const fields[] = {
        &out->ready,          &out->delayed,  &out->in_flight,
        &out->dead,           &out->bytes,    &out->published,
        &out->delivered,      &out->acked,    &out->failed,
        &out->expired,        NULL,           &out->visibility_ms,
        &out->deliveries_max, &out->retry_ms, &out->retry_max_ms,
        &out->dedup_ms,       &out->ttl_ms,   &out->messages_max,
        &out->bytes_max,
    };
    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (fields[i] != NULL) *fields[i] = rk_answer_number(reply, 3 + i);
    out->paused = rk_answer_number(reply, 13) != 0;
}
