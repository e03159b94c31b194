#include "state/command.h"

#include "state/machine.h"

void rk_command_encode(struct rk_buf *out, const struct rk_command *command)
{
    rk_buf_u8(out, RK_COMMAND_VERSION);
    rk_buf_blob(out, command->client);
    rk_buf_varint(out, command->seq);
    rk_buf_varint(out, command->first_unanswered);
    rk_buf_varint(out, command->stamp_ms);
    rk_buf_varint(out, command->deadline_ms);
    rk_buf_varint(out, command->home);
    rk_buf_blob(out, command->request);
}

enum rk_status rk_command_decode(struct rk_command *out, struct rk_slice bytes)
{
    struct rk_reader reader;
    rk_reader_init(&reader, bytes);
    uint8_t version = rk_read_u8(&reader);
    if (reader.is_failed || version == 0) return RK_EPROTO;
    if (version > RK_COMMAND_VERSION) return RK_EUNSUPPORTED;
    out->client = rk_read_blob(&reader);
    out->seq = rk_read_varint(&reader);
    out->first_unanswered = rk_read_varint(&reader);
    out->stamp_ms = rk_read_varint(&reader);
    out->deadline_ms = rk_read_varint(&reader);
    out->home = rk_read_varint(&reader);
    out->request = rk_read_blob(&reader);
    if (out->client.size > RK_CLIENT_NAME_MAX) return RK_EPROTO;
    return rk_reader_check(&reader, true);
}
