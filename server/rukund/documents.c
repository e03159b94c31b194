#include "rukund/documents.h"

#include "base/slot.h"
#include "rukund/worker.h"

extern const uint8_t rk_ui_page[];
extern const uint32_t rk_ui_page_size;

struct rk_slice rk_document_ui(void)
{
    return rk_slice_of(rk_ui_page, rk_ui_page_size);
}

static void text_field(struct rk_buf *out, const char *name, const char *value)
{
    rk_buf_printf(out, "\"%s\":", name);
    rk_json_text(out, value);
}

static void number_field(struct rk_buf *out, const char *name, uint64_t value)
{
    rk_buf_printf(out, "\"%s\":%llu", name, (unsigned long long)value);
}

/* As in positions; empty before the birth of the cluster. */
static void history_field(struct rk_buf *out, uint64_t history)
{
    if (history == 0)
        rk_buf_append_string(out, "\"history\":\"\"");
    else
        rk_buf_printf(out, "\"history\":\"%llx\"", (unsigned long long)history);
}

static void print_nodes(struct rk_buf *out, const struct rk_host_status *status)
{
    rk_buf_append_string(out, ",\"nodes\":[");
    const char *comma = "";
    for (uint32_t i = 0; i < status->node_count; i++) {
        const struct rk_host_node_status *node = &status->nodes[i];
        if (strcmp(node->role, "removed") == 0) continue;
        rk_buf_printf(out, "%s{", comma);
        comma = ",";
        text_field(out, "name", node->name);
        rk_buf_append_string(out, ",");
        number_field(out, "number", node->number);
        rk_buf_append_string(out, ",");
        text_field(out, "http", node->http);
        rk_buf_append_string(out, ",");
        text_field(out, "rpc", node->rpc);
        rk_buf_append_string(out, ",");
        text_field(out, "peer", node->peer);
        rk_buf_append_string(out, ",");
        text_field(out, "role", node->role);
        rk_buf_printf(out, ",\"up\":%s,\"damaged\":%s}", node->is_up ? "true" : "false",
                      node->is_damaged ? "true" : "false");
    }
    rk_buf_append_string(out, "]");
}

/* Thousands of ranges, and hardly ever other ones: the text is kept. */
static void print_slots(struct rk_buf *to, struct rk_worker *worker,
                        const struct rk_host_status *status)
{
    struct rk_buf *out = &worker->slots_text;
    const uint16_t *slots = status->group_count > 0 ? status->slots : NULL;
    uint64_t version = slots != NULL ? status->map_version : 0;
    if (out->size > 0 && !out->is_failed && worker->slots_version == version) {
        rk_buf_append_slice(to, rk_buf_slice(out));
        return;
    }
    rk_buf_reset(out);
    worker->slots_version = version;
    rk_buf_append_string(out, ",\"slots\":[");
    for (uint32_t first = 0; slots != NULL && first < RK_SLOT_COUNT;) {
        uint32_t last = first;
        while (last + 1 < RK_SLOT_COUNT && slots[last + 1] == slots[first])
            last++;
        rk_buf_printf(out, "%s[%u,%u,%u]", first == 0 ? "" : ",", first, last,
                      slots[first]);
        first = last + 1;
    }
    rk_buf_append_string(out, "]");
    rk_buf_append_slice(to, rk_buf_slice(out));
    if (out->is_failed) to->is_failed = true;
}

void rk_document_cluster(struct rk_buf *out, struct rk_worker *worker, bool is_hello)
{
    struct rk_host_status status;
    worker->engine->status(worker, &status);
    rk_buf_append_string(out, "{");
    text_field(out, "cluster", status.cluster);
    rk_buf_append_string(out, ",");
    history_field(out, status.history);
    rk_buf_append_string(out, ",");
    number_field(out, "map_version", status.map_version);
    if (is_hello) {
        rk_buf_append_string(out, ",");
        text_field(out, "node", status.name);
        rk_buf_append_string(out, ",\"protocol\":1");
    }
    rk_buf_append_string(out, ",");
    text_field(out, "engine", worker->engine->name);
    rk_buf_append_string(out, ",\"durability\":\"");
    worker->engine->print_durability(worker, out); /* nothing that JSON would escape */
    rk_buf_append_string(out, "\",");
    text_field(out, "version", RK_VERSION);
    rk_buf_append_string(out, ",");
    number_field(out, "members_version", status.members_version);
    rk_buf_printf(out, ",\"reconciled\":%s", status.is_reconciled ? "true" : "false");
    print_nodes(out, &status);
    rk_buf_append_string(out, ",\"groups\":[");
    for (uint32_t i = 0; i < status.group_count; i++) {
        rk_buf_printf(out, "%s{\"id\":%u,", i == 0 ? "" : ",", status.groups[i].id);
        text_field(out, "leader", status.groups[i].leader);
        rk_buf_printf(out, ",\"term\":%llu}", (unsigned long long)status.groups[i].term);
    }
    rk_buf_append_string(out, "]");
    print_slots(out, worker, &status);
    rk_buf_append_string(out, "}");
}

static void print_group(struct rk_buf *out, const struct rk_host_group_status *group)
{
    text_field(out, "role", group->role);
    rk_buf_append_string(out, ",");
    number_field(out, "term", group->term);
    rk_buf_append_string(out, ",");
    text_field(out, "leader", group->leader);
    rk_buf_append_string(out, ",");
    number_field(out, "commit", group->commit);
    rk_buf_append_string(out, ",");
    number_field(out, "applied", group->applied);
}

void rk_document_raft(struct rk_buf *out, struct rk_worker *worker)
{
    struct rk_host_status status;
    worker->engine->status(worker, &status);
    rk_buf_append_string(out, "{");
    text_field(out, "node", status.name);
    rk_buf_append_string(out, ",");
    number_field(out, "number", status.number);
    rk_buf_append_string(out, ",");
    text_field(out, "state", status.state);
    rk_buf_append_string(out, ",");
    if (status.group_count > 0) {
        print_group(out, &status.groups[0]);
        rk_buf_append_string(out, ",");
    }
    rk_buf_append_string(out, "\"groups\":[");
    for (uint32_t i = 0; i < status.group_count; i++) {
        const struct rk_host_group_status *group = &status.groups[i];
        rk_buf_printf(out, "%s{\"id\":%u,", i == 0 ? "" : ",", group->id);
        print_group(out, group);
        rk_buf_append_string(out, ",");
        number_field(out, "first_index", group->first_index);
        rk_buf_append_string(out, ",");
        number_field(out, "last_index", group->last_index);
        rk_buf_append_string(out, ",");
        number_field(out, "voters", group->voter_count);
        rk_buf_append_string(out, ",");
        number_field(out, "learners", group->learner_count);
        rk_buf_append_string(out, ",");
        number_field(out, "bytes", group->bytes);
        rk_buf_append_string(out, ",");
        number_field(out, "objects", group->objects);
        rk_buf_append_string(out, ",");
        number_field(out, "machine_version", group->machine_version);
        rk_buf_append_string(out, "}");
    }
    rk_buf_append_string(out, "]}");
}

bool rk_document_health(struct rk_buf *out, struct rk_worker *worker)
{
    struct rk_host_status status;
    worker->engine->status(worker, &status);
    bool is_ready = status.has_quorum && !status.is_damaged && !worker->is_stopping;
    rk_buf_printf(out, "{\"status\":\"%s\",", is_ready ? "ok" : "unavailable");
    text_field(out, "node", status.name);
    rk_buf_append_string(out, ",");
    text_field(out, "state", worker->is_stopping ? "stopping" : status.state);
    rk_buf_printf(out, ",\"quorum\":%s", status.has_quorum ? "true" : "false");
    const char *reason =
        worker->engine->reason != NULL ? worker->engine->reason(worker) : "";
    if (reason[0] != '\0') {
        rk_buf_append_string(out, ",");
        text_field(out, "reason", reason);
    }
    rk_buf_append_string(out, "}");
    return is_ready;
}
