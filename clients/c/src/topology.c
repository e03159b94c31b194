/* topology.c - the client's picture of the cluster: nodes, leaders, slots. */
#include "internal.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "api/delivery_id.h"
#include "base/slot.h"

const struct rk_node *rk_topology_node(const struct rukun_client *client, const char *name)
{
    const struct rk_topology *topology = &client->topology;
    if (name[0] == '\0') return NULL;
    for (uint32_t i = 0; i < topology->node_count; i++)
        if (strcmp(topology->nodes[i].name, name) == 0) return &topology->nodes[i];
    return NULL;
}

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static bool take_nodes(struct rk_topology *out, const json_t *nodes)
{
    if (!json_is_array(nodes) || json_array_size(nodes) > RK_NODES_MAX) return false;
    out->node_count = 0;
    size_t i;
    const json_t *node;
    json_array_foreach(nodes, i, node)
    {
        const char *name = text_of(node, "name"), *rpc = text_of(node, "rpc");
        /* One that is about to join has not told its addresses yet. */
        if (name[0] == '\0' || strrchr(rpc, ':') == NULL) continue;
        struct rk_node *to = &out->nodes[out->node_count++];
        (void)snprintf(to->name, sizeof(to->name), "%s", name);
        (void)snprintf(to->rpc, sizeof(to->rpc), "%s", rpc);
        to->is_up = json_is_true(json_object_get(node, "up"));
    }
    return out->node_count > 0;
}

/* A node that lags behind names an older leader: the higher term wins. */
static bool take_groups(struct rk_topology *out, const json_t *groups)
{
    if (!json_is_array(groups) || json_array_size(groups) > RK_GROUPS_MAX) return false;
    size_t i;
    const json_t *group;
    json_array_foreach(groups, i, group)
    {
        json_int_t id = json_integer_value(json_object_get(group, "id"));
        if (id < 0 || id >= RK_GROUPS_MAX) return false;
        uint64_t term = (uint64_t)json_integer_value(json_object_get(group, "term"));
        const char *leader = text_of(group, "leader");
        if ((uint32_t)id >= out->group_count) out->group_count = (uint32_t)id + 1;
        if (term < out->terms[id]) continue;
        if (term == out->terms[id] && leader[0] == '\0') continue;
        out->terms[id] = term;
        (void)snprintf(out->leaders[id], sizeof(out->leaders[id]), "%s", leader);
    }
    return out->group_count > 0;
}

static bool take_slots(struct rk_topology *out, const json_t *slots)
{
    if (!json_is_array(slots)) return false;
    size_t i;
    const json_t *range;
    json_array_foreach(slots, i, range)
    {
        json_int_t first = json_integer_value(json_array_get(range, 0));
        json_int_t last = json_integer_value(json_array_get(range, 1));
        json_int_t group = json_integer_value(json_array_get(range, 2));
        if (first < 0 || first > last || last >= RK_SLOTS || group < 1 ||
            group >= RK_GROUPS_MAX)
            return false;
        for (json_int_t slot = first; slot <= last; slot++)
            out->slots[slot] = (uint16_t)group;
    }
    return true;
}

static void name_links(struct rukun_client *client)
{
    for (uint32_t i = 0; i < client->topology.node_count; i++) {
        const struct rk_node *node = &client->topology.nodes[i];
        struct rk_link *link = rk_link_of(client, node->rpc);
        if (link == NULL) continue;
        link->is_known = true;
        (void)snprintf(link->node, sizeof(link->node), "%s", node->name);
    }
}

enum rk_status rk_topology_take(struct rukun_client *client, struct rk_slice text)
{
    json_t *document = json_loadb((const char *)text.data, text.size, 0, NULL);
    if (document == NULL) return RK_EPROTO;
    const char *cluster = text_of(document, "cluster");
    static const struct rk_topology empty;
    struct rk_topology next = client->topology;
    if (strcmp(next.cluster, cluster) != 0) {
        next = empty;
        (void)snprintf(next.cluster, sizeof(next.cluster), "%s", cluster);
    }
    bool is_good = cluster[0] != '\0' &&
                   take_nodes(&next, json_object_get(document, "nodes")) &&
                   take_groups(&next, json_object_get(document, "groups")) &&
                   take_slots(&next, json_object_get(document, "slots"));
    json_decref(document);
    if (!is_good) {
        /* Before the birth of the cluster there is none: not an error, ask again. */
        if (cluster[0] != '\0') return RK_EPROTO;
        rk_route_want_refresh(client, rk_now_ms() + RK_REFRESH_MS);
        return RK_OK;
    }
    next.version++;
    pthread_mutex_lock(&client->lock);
    client->topology = next;
    pthread_cond_broadcast(&client->changed);
    pthread_mutex_unlock(&client->lock);
    name_links(client);
    client->is_pump_wanted = true;
    return RK_OK;
}

enum rk_status rk_topology_take_msgpack(struct rukun_client *client,
                                        struct rk_slice document)
{
    struct rk_arena arena;
    rk_arena_init(&arena);
    struct rk_value json;
    struct rk_value in = {document, RK_ENCODING_MSGPACK};
    enum rk_status status = rk_value_convert(&json, in, RK_ENCODING_JSON, &arena);
    if (status == RK_OK) status = rk_topology_take(client, json.bytes);
    rk_arena_fini(&arena);
    return status;
}

bool rk_topology_hint(struct rukun_client *client, uint32_t group, struct rk_slice leader)
{
    struct rk_topology *topology = &client->topology;
    if (group >= RK_GROUPS_MAX || leader.size == 0) return false;
    for (uint32_t i = 0; i < topology->node_count; i++) {
        const struct rk_node *node = &topology->nodes[i];
        if (!rk_slice_is_equal(leader, rk_slice_of_string(node->name)) &&
            !rk_slice_is_equal(leader, rk_slice_of_string(node->rpc)))
            continue;
        bool is_news = strcmp(topology->leaders[group], node->name) != 0;
        pthread_mutex_lock(&client->lock);
        memcpy(topology->leaders[group], node->name, sizeof(node->name));
        pthread_mutex_unlock(&client->lock);
        return is_news;
    }
    return false;
}

uint32_t rk_topology_group(const struct rukun_client *client,
                           const struct rk_request *request, const struct rk_op_info *info)
{
    uint32_t slot = UINT32_MAX;
    struct rk_delivery_id id;
    switch (info->group) {
    case RK_GROUP_ZERO: return 0;
    case RK_GROUP_TOPIC:
        if (request->topic.size > 0)
            slot = rk_slot_of_topic(request->topic);
        else if (request->ids.count == 1 &&
                 rk_delivery_id_parse(&id, request->ids.items[0]) == RK_OK)
            slot = id.slot;
        break;
    case RK_GROUP_KEY:
        if (request->key.size > 0 && request->keys.count <= 1)
            slot = rk_slot_of_name(request->key);
        else if (request->keys.count == 1)
            slot = rk_slot_of_name(request->keys.items[0]);
        break;
    case RK_GROUP_NONE:
    case RK_GROUP_ALL: break;
    }
    if (slot >= RK_SLOTS || client->topology.group_count == 0) return UINT32_MAX;
    return client->topology.slots[slot];
}
