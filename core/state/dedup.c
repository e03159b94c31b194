#include "state/dedup.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "base/mutant.h"
#include "state/waits.h"

enum {
    ANSWER_KEY_SIZE = 16,
    CLIENT_BYTES = 160, /* logical, beside the name */
    ANSWER_BYTES = 128, /* logical, beside the body */
};

enum answer_state { /* fixed: stands in records */
                    ANSWER_GIVEN = 1,
                    ANSWER_PENDING = 2,
                    ANSWER_CANCELLED = 3, /* before the request was seen */
};

struct answer {
    struct rk_object object;
    struct rk_map_node node; /* machine->answers; key is key */
    struct rk_list link;     /* of the client, by seq */
    struct rk_client *client;
    uint64_t seq;
    struct rk_object *wait; /* ANSWER_PENDING: what waits */
    uint8_t *body;          /* owned; ANSWER_GIVEN: the encoded reply */
    uint32_t body_size;
    uint8_t state;
    uint8_t key[ANSWER_KEY_SIZE];
};

static struct answer *answer_at(struct rk_list *link)
{
    return RK_CONTAINER(link, struct answer, link);
}

static void make_key(uint8_t *key, uint64_t client_id, uint64_t seq)
{
    rk_put_u64(key, client_id);
    rk_put_u64(key + 8, seq);
}

static struct rk_client *find_client(const struct rk_machine *machine, struct rk_slice name)
{
    struct rk_map_node *node = rk_map_find(&machine->clients, name);
    return node != NULL ? RK_CONTAINER(node, struct rk_client, node) : NULL;
}

static struct answer *find_answer(const struct rk_machine *machine,
                                  const struct rk_client *client, uint64_t seq)
{
    uint8_t key[ANSWER_KEY_SIZE];
    make_key(key, client->object.id, seq);
    struct rk_map_node *node =
        rk_map_find(&machine->answers, rk_slice_of(key, sizeof(key)));
    return node != NULL ? RK_CONTAINER(node, struct answer, node) : NULL;
}

static struct rk_client *enter_client(struct rk_machine *machine, struct rk_slice name,
                                      uint64_t id)
{
    struct rk_client *client = rk_calloc(1, sizeof(*client) + name.size);
    if (client == NULL) return NULL;
    rk_list_init(&client->answers);
    memcpy(client->name, name.data, name.size);
    client->node.key = rk_slice_of(client->name, name.size);
    if (rk_map_insert(&machine->clients, &client->node) != RK_OK) {
        rk_free(client);
        return NULL;
    }
    if (rk_object_enter(machine, &client->object, RK_OBJECT_CLIENT, id) != RK_OK) {
        rk_map_remove(&machine->clients, &client->node);
        rk_free(client);
        return NULL;
    }
    rk_object_count(machine, &client->object, CLIENT_BYTES + (uint32_t)name.size);
    return client;
}

static void count_answer(struct rk_machine *machine, struct answer *answer)
{
    rk_object_count(machine, &answer->object, ANSWER_BYTES + answer->body_size);
}

/* Requests come nearly in order, so the place is found from the end. */
static void link_answer(struct rk_client *client, struct answer *answer)
{
    struct rk_list *after = client->answers.prev;
    while (after != &client->answers && answer_at(after)->seq > answer->seq)
        after = after->prev;
    rk_list_insert_between(&answer->link, after, after->next);
    client->answer_count++;
    if (answer->state == ANSWER_PENDING) client->pending_count++;
}

static struct answer *enter_answer(struct rk_machine *machine, struct rk_client *client,
                                   uint64_t seq, enum answer_state state, uint64_t id)
{
    struct answer *answer = rk_calloc(1, sizeof(*answer));
    if (answer == NULL) return NULL;
    answer->client = client;
    answer->seq = seq;
    answer->state = (uint8_t)state;
    make_key(answer->key, client->object.id, seq);
    answer->node.key = rk_slice_of(answer->key, sizeof(answer->key));
    if (rk_map_insert(&machine->answers, &answer->node) != RK_OK) {
        rk_free(answer);
        return NULL;
    }
    if (rk_object_enter(machine, &answer->object, RK_OBJECT_ANSWER, id) != RK_OK) {
        rk_map_remove(&machine->answers, &answer->node);
        rk_free(answer);
        return NULL;
    }
    link_answer(client, answer);
    count_answer(machine, answer);
    return answer;
}

static enum rk_status drop_answer(struct rk_machine *machine, struct answer *answer)
{
    RK_ASSERT(answer->state != ANSWER_PENDING);
    enum rk_status status = rk_object_touch(machine, &answer->object);
    if (status != RK_OK) return status;
    rk_object_leave(machine, &answer->object);
    rk_map_remove(&machine->answers, &answer->node);
    rk_list_remove(&answer->link);
    answer->client->answer_count--;
    rk_free(answer->body);
    rk_free(answer);
    return RK_OK;
}

static enum rk_status set_body(struct rk_machine *machine, struct answer *answer,
                               const struct rk_reply *reply)
{
    rk_buf_reset(&machine->scratch);
    rk_reply_encode(&machine->scratch, reply);
    if (rk_buf_check(&machine->scratch) != RK_OK) return RK_ENOMEM;
    answer->body = rk_memdup(machine->scratch.data, machine->scratch.size);
    if (answer->body == NULL) return RK_ENOMEM;
    answer->body_size = (uint32_t)machine->scratch.size;
    count_answer(machine, answer);
    return RK_OK;
}

/* Answers below first_unanswered are not needed any more. A wait among them was given up.
 */
static enum rk_status forget_below(struct rk_machine *machine, struct rk_apply *apply,
                                   struct rk_client *client, uint64_t first_unanswered)
{
    if (first_unanswered > client->first_unanswered)
        client->first_unanswered = first_unanswered;
    while (!rk_list_is_empty(&client->answers)) {
        struct answer *answer = answer_at(client->answers.next);
        if (answer->seq >= client->first_unanswered) break;
        enum rk_status status = RK_OK;
        if (answer->state == ANSWER_PENDING)
            status = rk_wait_cancel(machine, apply, answer->wait);
        if (status == RK_OK) status = drop_answer(machine, answer);
        if (status != RK_OK) return status;
    }
    return RK_OK;
}

static enum rk_status say_cancelled(struct rk_reply *reply)
{
    return rk_refuse(reply, RK_ECANCELLED, NULL, "the request was cancelled");
}

/* The same request again: the same answer, or the same wait. */
static enum rk_status answer_again(struct rk_machine *machine, struct rk_apply *apply,
                                   const struct answer *answer)
{
    if (answer->state == ANSWER_CANCELLED) return say_cancelled(apply->reply);
    if (answer->state == ANSWER_GIVEN)
        return rk_reply_decode(apply->reply, rk_slice_of(answer->body, answer->body_size),
                               apply->arena);
    apply->is_pending = true;
    enum rk_status status = rk_wait_rehome(machine, answer->wait, apply->command->home);
    const struct rk_machine_output *output = apply->output;
    if (status == RK_OK && output != NULL && output->pending != NULL)
        output->pending(output->context, apply->command->client, answer->seq,
                        apply->command->home);
    return status;
}

static enum rk_status meet_client(struct rk_machine *machine, struct rk_apply *apply,
                                  struct rk_client *client, bool *is_done)
{
    const struct rk_command *command = apply->command;
    enum rk_status status = rk_object_touch(machine, &client->object);
    if (status != RK_OK) return status;
    client->active_ms = apply->now;
    status = forget_below(machine, apply, client, command->first_unanswered);
    if (status != RK_OK) return status;
    *is_done = true;
    if (command->seq < client->first_unanswered)
        return rk_refuse(apply->reply, RK_EGONE, NULL,
                         "the answer to request %llu was given and acknowledged",
                         (unsigned long long)command->seq);
    struct answer *answer = find_answer(machine, client, command->seq);
    if (RK_MUTANT(dedup_skipped) && answer != NULL && answer->state == ANSWER_GIVEN) {
        status = drop_answer(machine, answer);
        if (status != RK_OK) return status;
        answer = NULL;
    }
    if (answer != NULL) return answer_again(machine, apply, answer);
    *is_done = false;
    return RK_OK;
}

bool rk_machine_remembers(const struct rk_machine *machine, struct rk_slice client,
                          uint64_t seq)
{
    const struct rk_client *found = find_client(machine, client);
    return found != NULL && find_answer(machine, found, seq) != NULL;
}

enum rk_status rk_dedup_begin(struct rk_machine *machine, struct rk_apply *apply,
                              struct rk_client **out, bool *is_done)
{
    const struct rk_command *command = apply->command;
    struct rk_client *client = find_client(machine, command->client);
    *is_done = false;
    if (client != NULL) {
        enum rk_status status = meet_client(machine, apply, client, is_done);
        if (status != RK_OK || *is_done) return status;
    }
    *is_done = true;
    if (command->deadline_ms != 0 && apply->now > command->deadline_ms)
        return rk_refuse(apply->reply, RK_ECANCELLED, "deadline_ms",
                         "the deadline passed before the request was carried out");
    if (command->seq < command->first_unanswered)
        return rk_refuse(apply->reply, RK_EINVAL, "first_unanswered",
                         "first_unanswered is above the request's own seq");
    if (client == NULL && machine->clients.count >= RK_CLIENTS_MAX)
        return rk_refuse(apply->reply, RK_EBUSY, "client",
                         "%d clients are remembered already", RK_CLIENTS_MAX);
    if (client != NULL && client->answer_count >= RK_CLIENT_REPLIES_MAX)
        return rk_refuse(apply->reply, RK_EBUSY, "first_unanswered",
                         "%d answers of this client are kept already",
                         RK_CLIENT_REPLIES_MAX);
    *is_done = false;
    if (client == NULL) {
        client = enter_client(machine, command->client, 0);
        if (client == NULL) return RK_ENOMEM;
        client->first_unanswered = command->first_unanswered;
        client->active_ms = apply->now;
        rk_timer_start(machine, &client->object, apply->now, RK_CLIENT_IDLE_MS);
    }
    *out = client;
    return RK_OK;
}

enum rk_status rk_dedup_end(struct rk_machine *machine, struct rk_apply *apply,
                            struct rk_client *client)
{
    uint64_t seq = apply->command->seq;
    if (apply->is_pending) {
        RK_ASSERT(apply->wait != NULL);
        struct answer *answer = enter_answer(machine, client, seq, ANSWER_PENDING, 0);
        if (answer == NULL) return RK_ENOMEM;
        answer->wait = apply->wait;
        const struct rk_machine_output *output = apply->output;
        if (output != NULL && output->pending != NULL)
            output->pending(output->context, apply->command->client, seq,
                            apply->command->home);
        return RK_OK;
    }
    if (apply->is_forgotten) return RK_OK;
    struct answer *answer = enter_answer(machine, client, seq, ANSWER_GIVEN, 0);
    return answer == NULL ? RK_ENOMEM : set_body(machine, answer, apply->reply);
}

enum rk_status rk_answer_pending(struct rk_machine *machine, struct rk_apply *apply,
                                 struct rk_slice name, uint64_t seq, struct rk_reply *reply)
{
    struct rk_client *client = find_client(machine, name);
    struct answer *answer = client != NULL ? find_answer(machine, client, seq) : NULL;
    RK_ASSERT(answer != NULL && answer->state == ANSWER_PENDING);
    enum rk_status status = rk_object_touch(machine, &answer->object);
    if (status != RK_OK) return status;
    answer->state = ANSWER_GIVEN;
    answer->wait = NULL;
    client->pending_count--;
    status = set_body(machine, answer, reply);
    const struct rk_machine_output *output = apply->output;
    if (status == RK_OK && output != NULL && output->reply != NULL)
        output->reply(output->context, client->node.key, seq, reply);
    return status;
}

/* A request that was not seen yet: if it comes after all, it finds this. */
static enum rk_status cancel_unseen(struct rk_machine *machine, struct rk_apply *apply,
                                    struct rk_client *client)
{
    if (client == NULL && machine->clients.count >= RK_CLIENTS_MAX)
        return rk_refuse(apply->reply, RK_EBUSY, "client",
                         "%d clients are remembered already", RK_CLIENTS_MAX);
    if (client != NULL && client->answer_count >= RK_CLIENT_REPLIES_MAX)
        return rk_refuse(apply->reply, RK_EBUSY, "seq",
                         "%d answers of this client are kept already",
                         RK_CLIENT_REPLIES_MAX);
    if (client == NULL) {
        client = enter_client(machine, apply->request->target_client, 0);
        if (client == NULL) return RK_ENOMEM;
        client->active_ms = apply->now;
        rk_timer_start(machine, &client->object, apply->now, RK_CLIENT_IDLE_MS);
    }
    if (enter_answer(machine, client, apply->request->target_seq, ANSWER_CANCELLED, 0) ==
        NULL)
        return RK_ENOMEM;
    apply->reply->cancelled = true;
    return RK_OK;
}

/* It was answered: the caller learns how, so that it gives back what it did not want. */
static enum rk_status tell_answer(struct rk_apply *apply, const struct answer *answer)
{
    struct rk_reply given;
    enum rk_status status =
        rk_reply_decode(&given, rk_slice_of(answer->body, answer->body_size), apply->arena);
    if (status != RK_OK) return status;
    apply->reply->cancelled = given.status == RK_ECANCELLED;
    if (given.op != RK_OP_LOCK_ACQUIRE || given.status != RK_OK) return RK_OK;
    apply->reply->granted = given.granted;
    apply->reply->fence = given.fence;
    apply->reply->lease_ms = given.lease_ms;
    apply->reply->resource = given.resource;
    return RK_OK;
}

enum rk_status rk_dedup_cancel(struct rk_machine *machine, struct rk_apply *apply)
{
    struct rk_slice name = apply->request->target_client;
    uint64_t seq = apply->request->target_seq;
    if (name.size == 0 || name.size > RK_CLIENT_NAME_MAX)
        return rk_refuse(apply->reply, RK_ERANGE, "client", "1 to %d bytes are allowed",
                         RK_CLIENT_NAME_MAX);
    if (rk_slice_is_equal(name, apply->command->client) && seq == apply->command->seq)
        return rk_refuse(apply->reply, RK_EINVAL, "seq", "a request cannot cancel itself");
    struct rk_client *client = find_client(machine, name);
    if (client != NULL && seq < client->first_unanswered)
        return rk_refuse(apply->reply, RK_EGONE, "seq",
                         "the answer to request %llu was given and acknowledged",
                         (unsigned long long)seq);
    struct answer *answer = client != NULL ? find_answer(machine, client, seq) : NULL;
    if (answer == NULL) return cancel_unseen(machine, apply, client);
    if (answer->state == ANSWER_GIVEN) return tell_answer(apply, answer);
    apply->reply->cancelled = true;
    if (answer->state == ANSWER_CANCELLED) return RK_OK;
    return rk_wait_cancel(machine, apply, answer->wait);
}

static void encode_client(const struct rk_machine *machine, const struct rk_object *object,
                          struct rk_buf *out)
{
    (void)machine;
    const struct rk_client *client = RK_CONTAINER_CONST(object, struct rk_client, object);
    rk_buf_blob(out, client->node.key);
    rk_buf_varint(out, client->first_unanswered);
    rk_buf_varint(out, client->active_ms);
}

static enum rk_status restore_client(struct rk_machine *machine, struct rk_reader *body,
                                     uint64_t id, struct rk_object **out)
{
    struct rk_slice name = rk_read_blob(body);
    uint64_t first_unanswered = rk_read_varint(body);
    uint64_t active_ms = rk_read_varint(body);
    if (body->is_failed || name.size == 0 || name.size > RK_CLIENT_NAME_MAX ||
        find_client(machine, name) != NULL)
        return RK_EPROTO;
    struct rk_client *client = enter_client(machine, name, id);
    if (client == NULL) return RK_ENOMEM;
    client->first_unanswered = first_unanswered;
    client->active_ms = active_ms;
    *out = &client->object;
    return RK_OK;
}

static enum rk_status drop_client(struct rk_machine *machine, struct rk_apply *apply,
                                  struct rk_client *client)
{
    enum rk_status status = forget_below(machine, apply, client, UINT64_MAX);
    if (status != RK_OK) return status;
    if (!rk_list_is_empty(&client->answers)) {
        status = drop_answer(machine, answer_at(client->answers.next));
        if (status != RK_OK) return status;
    }
    rk_object_leave(machine, &client->object);
    rk_map_remove(&machine->clients, &client->node);
    rk_free(client);
    return RK_OK;
}

/* The timer is not moved by each request; when it runs out, what is left is waited for. */
static enum rk_status client_due(struct rk_machine *machine, struct rk_apply *apply,
                                 struct rk_object *object)
{
    struct rk_client *client = RK_CONTAINER(object, struct rk_client, object);
    uint64_t idle_ms = apply->now - client->active_ms;
    if (client->pending_count != 0) idle_ms = 0;
    if (idle_ms < RK_CLIENT_IDLE_MS) {
        rk_timer_start(machine, object, apply->now, RK_CLIENT_IDLE_MS - idle_ms);
        return RK_OK;
    }
    return drop_client(machine, apply, client);
}

static bool is_consume(struct rk_apply *apply, const struct answer *answer)
{
    struct rk_reply reply;
    return answer->state == ANSWER_GIVEN &&
           rk_reply_decode(&reply, rk_slice_of(answer->body, answer->body_size),
                           apply->arena) == RK_OK &&
           reply.op == RK_OP_QUEUE_CONSUME;
}

enum rk_status rk_dedup_retire(struct rk_machine *machine, struct rk_apply *apply)
{
    struct rk_map_cursor cursor;
    enum rk_status status = RK_OK;
    rk_map_each (node, &machine->clients, &cursor) {
        if (machine->group != 0 || status != RK_OK) break;
        struct rk_client *client = RK_CONTAINER(node, struct rk_client, node);
        status = rk_object_touch(machine, &client->object);
        if (status == RK_OK) status = drop_client(machine, apply, client);
    }
    rk_list_each_safe (link, &machine->objects) {
        struct rk_object *object = RK_CONTAINER(link, struct rk_object, link);
        if (status != RK_OK || object->kind != RK_OBJECT_ANSWER) continue;
        struct answer *answer = RK_CONTAINER(object, struct answer, object);
        rk_arena_reset(apply->arena);
        if (is_consume(apply, answer)) status = drop_answer(machine, answer);
    }
    return status;
}

static void free_client(struct rk_machine *machine, struct rk_object *object)
{
    (void)machine;
    rk_free(RK_CONTAINER(object, struct rk_client, object));
}

static void encode_answer(const struct rk_machine *machine, const struct rk_object *object,
                          struct rk_buf *out)
{
    (void)machine;
    const struct answer *answer = RK_CONTAINER_CONST(object, struct answer, object);
    rk_buf_varint(out, answer->client->object.id);
    rk_buf_varint(out, answer->seq);
    rk_buf_u8(out, answer->state);
    if (answer->state == ANSWER_PENDING) rk_buf_varint(out, answer->wait->id);
    if (answer->state == ANSWER_GIVEN)
        rk_buf_blob(out, rk_slice_of(answer->body, answer->body_size));
}

static enum rk_status restore_answer(struct rk_machine *machine, struct rk_reader *body,
                                     uint64_t id, struct rk_object **out)
{
    uint64_t client_id = rk_read_varint(body);
    uint64_t seq = rk_read_varint(body);
    uint8_t state = rk_read_u8(body);
    uint64_t wait_id = state == ANSWER_PENDING ? rk_read_varint(body) : 0;
    struct rk_slice given = state == ANSWER_GIVEN ? rk_read_blob(body) : RK_SLICE_EMPTY;
    struct rk_object *client = rk_object_find(machine, RK_OBJECT_CLIENT, client_id);
    struct rk_object *wait = rk_object_find(machine, RK_OBJECT_WAIT, wait_id);
    if (body->is_failed || client == NULL || state < ANSWER_GIVEN ||
        state > ANSWER_CANCELLED)
        return RK_EPROTO;
    if ((state == ANSWER_PENDING) != (wait != NULL)) return RK_EPROTO;
    struct rk_client *owner = RK_CONTAINER(client, struct rk_client, object);
    if (find_answer(machine, owner, seq) != NULL) return RK_EPROTO;
    struct answer *answer = enter_answer(machine, owner, seq, (enum answer_state)state, id);
    if (answer == NULL) return RK_ENOMEM;
    answer->wait = wait;
    if (state == ANSWER_GIVEN) {
        answer->body = rk_memdup(given.data, given.size);
        if (answer->body == NULL) return RK_ENOMEM;
        answer->body_size = (uint32_t)given.size;
        count_answer(machine, answer);
    }
    *out = &answer->object;
    return RK_OK;
}

static void free_answer(struct rk_machine *machine, struct rk_object *object)
{
    (void)machine;
    struct answer *answer = RK_CONTAINER(object, struct answer, object);
    rk_free(answer->body);
    rk_free(answer);
}

const struct rk_object_class rk_dedup_classes[] = {
    {RK_OBJECT_CLIENT, "client", encode_client, restore_client, client_due, free_client},
    {RK_OBJECT_ANSWER, "answer", encode_answer, restore_answer, NULL, free_answer},
    {0, NULL, NULL, NULL, NULL, NULL},
};
