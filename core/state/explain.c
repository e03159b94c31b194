/* What an entry or a record has that this program does not know. Read again from the
 * bytes: the way of every entry carries no text for a case that ends the node. */
#include "state/members.h"
#include "state/object.h"
#include "state/snapshot.h"

#include <inttypes.h>
#include <stdio.h>

static void explain_version(char out[RK_MACHINE_WHY_SIZE], const char *what, uint64_t found,
                            uint64_t known)
{
    if (found > known)
        (void)snprintf(out, RK_MACHINE_WHY_SIZE,
                       "%s version %" PRIu64 "; this program knows up to %" PRIu64, what,
                       found, known);
}

static void explain_request(const struct rk_machine *machine, struct rk_slice bytes,
                            char out[RK_MACHINE_WHY_SIZE])
{
    struct rk_reader reader;
    struct rk_arena arena;
    struct rk_request request;
    rk_reader_init(&reader, bytes);
    uint8_t version = rk_read_u8(&reader);
    uint8_t op = rk_read_u8(&reader);
    explain_version(out, "request", version, RK_REQUEST_LOG_VERSION);
    if (out[0] != '\0' || reader.is_failed) return;
    const struct rk_op_handler *handler = op < RK_OP_MAX ? machine->handlers[op] : NULL;
    if (handler == NULL || handler->apply == NULL) {
        (void)snprintf(out, RK_MACHINE_WHY_SIZE, "operation %u; this program has none", op);
        return;
    }
    rk_arena_init(&arena);
    enum rk_status status = rk_request_decode(&request, bytes, &arena);
    if (status == RK_EUNSUPPORTED)
        (void)snprintf(out, RK_MACHINE_WHY_SIZE,
                       "operation %u has a field that this program does not know", op);
    else if (status == RK_OK && op == RK_OP_MACHINE_VERSION)
        explain_version(out, "machine", request.number, machine->version_max);
    else if (status == RK_OK && op == RK_OP_MEMBERS && request.value.bytes.size > 0)
        explain_version(out, "member table", request.value.bytes.data[0],
                        RK_MEMBER_TABLE_FORMAT);
    rk_arena_fini(&arena);
}

void rk_machine_explain_entry(const struct rk_machine *machine, struct rk_slice data,
                              char out[RK_MACHINE_WHY_SIZE])
{
    struct rk_command command;
    out[0] = '\0';
    if (data.size == 0) return;
    explain_version(out, "command", data.data[0], RK_COMMAND_VERSION);
    if (out[0] == '\0' && rk_command_decode(&command, data) == RK_OK)
        explain_request(machine, command.request, out);
}

const char *rk_machine_record_name(const struct rk_machine *machine, struct rk_slice record)
{
    if (record.size == 0 || record.data[0] >= RK_OBJECT_KIND_MAX) return NULL;
    if (record.data[0] == RK_OBJECT_META) return "machine";
    const struct rk_object_class *class = machine->classes[record.data[0]];
    return class != NULL ? class->name : NULL;
}

void rk_machine_explain_record(const struct rk_machine *machine, struct rk_slice record,
                               char out[RK_MACHINE_WHY_SIZE])
{
    struct rk_reader reader;
    out[0] = '\0';
    rk_reader_init(&reader, record);
    uint8_t kind = rk_read_u8(&reader);
    if (kind == RK_OBJECT_META) {
        explain_version(out, "record", rk_read_u8(&reader), RK_RECORD_VERSION);
        if (out[0] == '\0')
            explain_version(out, "machine", rk_read_varint(&reader), machine->version_max);
    } else if (!reader.is_failed &&
               (kind >= RK_OBJECT_KIND_MAX || machine->classes[kind] == NULL)) {
        (void)snprintf(out, RK_MACHINE_WHY_SIZE, "record kind %u; this program has none",
                       kind);
    }
}
