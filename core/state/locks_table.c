#include "state/locks.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "state/changes.h"

/* Logical bytes of the records, beside names. */
enum {
    LOCK_BYTES = 320,
    GRANT_BYTES = 256,
    HOLD_BYTES = 128,
    WAIT_BYTES = 320,
    PLACE_BYTES = 64
};

enum { NUMBER_SIZE = 8 }; /* of the number that a key begins with */

enum rk_status rk_locks_new(struct rk_locks **out)
{
    struct rk_locks *locks = rk_calloc(1, sizeof(*locks));
    if (locks == NULL) return RK_ENOMEM;
    rk_map_init(&locks->by_name);
    rk_map_init(&locks->holds);
    rk_map_init(&locks->owners);
    rk_list_init(&locks->dirty);
    rk_list_init(&locks->waits);
    *out = locks;
    return RK_OK;
}

void rk_locks_free(struct rk_machine *machine, struct rk_locks *locks)
{
    (void)machine;
    struct rk_map_cursor cursor;
    rk_map_each (node, &locks->owners, &cursor) {
        rk_map_remove(&locks->owners, node);
        rk_free(RK_CONTAINER(node, struct rk_owner, node));
    }
    rk_map_fini(&locks->by_name);
    rk_map_fini(&locks->holds);
    rk_map_fini(&locks->owners);
    rk_free(locks);
}

struct rk_lock *rk_lock_find(const struct rk_machine *machine, struct rk_slice name)
{
    struct rk_map_node *node = rk_map_find(&machine->locks->by_name, name);
    return node != NULL ? RK_CONTAINER(node, struct rk_lock, node) : NULL;
}

struct rk_lock *rk_lock_enter(struct rk_machine *machine, struct rk_slice name, uint64_t id)
{
    struct rk_lock *lock = rk_calloc(1, sizeof(*lock) + name.size);
    if (lock == NULL) return NULL;
    rk_list_init(&lock->holds);
    rk_list_init(&lock->places);
    rk_list_init(&lock->exclusive);
    memcpy(lock->name, name.data, name.size);
    lock->node.key = lock->order.name = rk_slice_of(lock->name, name.size);
    if (rk_map_insert(&machine->locks->by_name, &lock->node) != RK_OK) {
        rk_free(lock);
        return NULL;
    }
    if (rk_object_enter(machine, &lock->object, RK_OBJECT_LOCK, id) != RK_OK) {
        rk_map_remove(&machine->locks->by_name, &lock->node);
        rk_free(lock);
        return NULL;
    }
    rk_names_insert(&machine->locks->names, &lock->order);
    rk_object_count(machine, &lock->object, LOCK_BYTES + (uint32_t)name.size);
    return lock;
}

struct rk_lock *rk_lock_take(struct rk_machine *machine, struct rk_slice name)
{
    struct rk_lock *lock = rk_lock_find(machine, name);
    if (lock != NULL) return lock;
    lock = rk_lock_enter(machine, name, 0);
    if (lock != NULL) rk_lock_mark(machine, lock);
    return lock;
}

bool rk_lock_is_idle(const struct rk_lock *lock)
{
    return lock->hold_count == 0 && lock->place_count == 0 && !lock->is_closed;
}

void rk_lock_mark(struct rk_machine *machine, struct rk_lock *lock)
{
    rk_changes_note(machine, &lock->object); /* who holds it or waits */
    if (!rk_list_is_linked(&lock->dirty))
        rk_list_push_back(&machine->locks->dirty, &lock->dirty);
}

void rk_lock_remove(struct rk_machine *machine, struct rk_lock *lock)
{
    RK_ASSERT(rk_lock_is_idle(lock));
    rk_list_remove(&lock->dirty);
    rk_names_remove(&machine->locks->names, &lock->order);
    rk_map_remove(&machine->locks->by_name, &lock->node);
    rk_object_leave(machine, &lock->object);
    rk_free(lock);
}

static void write_key(uint8_t *key, uint64_t number, struct rk_slice name)
{
    rk_put_u64(key, number);
    memcpy(key + NUMBER_SIZE, name.data, name.size);
}

struct rk_owner *rk_owner_take(struct rk_machine *machine, struct rk_session *session,
                               struct rk_slice name)
{
    uint8_t key[NUMBER_SIZE + RK_NAME_MAX];
    RK_ASSERT(name.size != 0 && name.size <= RK_NAME_MAX);
    write_key(key, session != NULL ? session->object.id : 0, name);
    struct rk_slice slice = rk_slice_of(key, NUMBER_SIZE + name.size);
    struct rk_map_node *node = rk_map_find(&machine->locks->owners, slice);
    struct rk_owner *owner;
    if (node != NULL) {
        owner = RK_CONTAINER(node, struct rk_owner, node);
        owner->references++;
        return owner;
    }
    owner = rk_calloc(1, sizeof(*owner) + slice.size);
    if (owner == NULL) return NULL;
    memcpy(owner->key, key, slice.size);
    owner->node.key = rk_slice_of(owner->key, slice.size);
    owner->name = rk_slice_of(owner->key + NUMBER_SIZE, name.size);
    owner->session = session;
    owner->references = 1;
    rk_list_init(&owner->grants);
    rk_list_init(&owner->waits);
    if (rk_map_insert(&machine->locks->owners, &owner->node) != RK_OK) {
        rk_free(owner);
        return NULL;
    }
    return owner;
}

void rk_owner_put(struct rk_machine *machine, struct rk_owner *owner)
{
    RK_ASSERT(owner->references != 0);
    if (--owner->references != 0) return;
    rk_map_remove(&machine->locks->owners, &owner->node);
    rk_free(owner);
}

struct rk_hold *rk_hold_first(const struct rk_machine *machine, const struct rk_lock *lock,
                              struct rk_slice owner)
{
    uint8_t key[NUMBER_SIZE + RK_NAME_MAX];
    if (owner.size == 0 || owner.size > RK_NAME_MAX) return NULL;
    write_key(key, lock->object.id, owner);
    struct rk_map_node *node =
        rk_map_find(&machine->locks->holds, rk_slice_of(key, NUMBER_SIZE + owner.size));
    return node != NULL ? RK_CONTAINER(node, struct rk_hold, node) : NULL;
}

struct rk_hold *rk_hold_of(const struct rk_machine *machine, const struct rk_lock *lock,
                           const struct rk_owner *owner)
{
    if (rk_list_is_empty(&owner->grants)) return NULL;
    struct rk_hold *hold = rk_hold_first(machine, lock, owner->name);
    while (hold != NULL && hold->grant->owner != owner)
        hold = hold->next;
    return hold;
}

/* Into the map, or behind the one of the same name that is there. */
static enum rk_status index_hold(struct rk_machine *machine, struct rk_hold *hold,
                                 uint8_t *key)
{
    struct rk_slice owner = hold->grant->owner->name;
    struct rk_hold *first = rk_hold_first(machine, hold->lock, owner);
    write_key(key, hold->lock->object.id, owner);
    hold->node.key = rk_slice_of(key, NUMBER_SIZE + owner.size);
    if (first == NULL) return rk_map_insert(&machine->locks->holds, &hold->node);
    hold->previous = first;
    hold->next = first->next;
    if (first->next != NULL) first->next->previous = hold;
    first->next = hold;
    return RK_OK;
}

static void unindex_hold(struct rk_machine *machine, struct rk_hold *hold)
{
    struct rk_hold *next = hold->next;
    if (next != NULL) next->previous = hold->previous;
    if (hold->previous != NULL) {
        hold->previous->next = next;
        return;
    }
    rk_map_remove(&machine->locks->holds, &hold->node);
    if (next == NULL) return;
    enum rk_status status = rk_map_insert(&machine->locks->holds, &next->node);
    RK_ASSERT(status == RK_OK); /* in the place just left: the map does not grow */
}

static void link_hold(struct rk_hold *hold)
{
    rk_list_push_back(&hold->lock->holds, &hold->link);
    hold->lock->hold_count++;
    if (hold->mode == RK_MODE_EXCLUSIVE) hold->lock->exclusive_holds++;
}

struct rk_grant *rk_grant_enter(struct rk_machine *machine, struct rk_owner *owner,
                                const struct rk_want *wants, uint32_t want_count,
                                uint64_t id)
{
    size_t key_size = NUMBER_SIZE + owner->name.size;
    size_t part_size = sizeof(struct rk_hold) + key_size;
    struct rk_grant *grant = rk_calloc(1, sizeof(*grant) + want_count * part_size);
    if (grant == NULL) return NULL;
    if (rk_object_enter(machine, &grant->object, RK_OBJECT_GRANT, id) != RK_OK) {
        rk_free(grant);
        return NULL;
    }
    grant->owner = owner;
    owner->references++;
    rk_list_push_back(&owner->grants, &grant->owner_link);
    if (owner->session != NULL) {
        rk_list_push_back(&owner->session->grants, &grant->session_link);
        owner->session->grant_count++;
    }
    uint8_t *key = (uint8_t *)&grant->holds[want_count];
    for (uint32_t i = 0; i < want_count; i++, key += key_size) {
        struct rk_hold *hold = &grant->holds[i];
        hold->grant = grant;
        hold->lock = wants[i].lock;
        hold->mode = wants[i].mode;
        link_hold(hold);
        grant->hold_count++;
        if (index_hold(machine, hold, key) != RK_OK) return NULL;
    }
    rk_object_count(machine, &grant->object,
                    GRANT_BYTES + want_count * HOLD_BYTES + (uint32_t)owner->name.size);
    return grant;
}

enum rk_status rk_grant_remove(struct rk_machine *machine, struct rk_grant *grant)
{
    enum rk_status status = rk_object_touch(machine, &grant->object);
    if (status != RK_OK) return status;
    for (uint32_t i = 0; i < grant->hold_count; i++) {
        struct rk_hold *hold = &grant->holds[i];
        unindex_hold(machine, hold);
        rk_list_remove(&hold->link);
        hold->lock->hold_count--;
        if (hold->mode == RK_MODE_EXCLUSIVE) hold->lock->exclusive_holds--;
        rk_lock_mark(machine, hold->lock);
    }
    rk_list_remove(&grant->owner_link);
    if (grant->owner->session != NULL) {
        rk_list_remove(&grant->session_link);
        grant->owner->session->grant_count--;
    }
    rk_object_leave(machine, &grant->object);
    rk_owner_put(machine, grant->owner);
    rk_free(grant);
    return RK_OK;
}

static void link_place(struct rk_place *place)
{
    struct rk_lock *lock = place->lock;
    bool is_exclusive = place->mode == RK_MODE_EXCLUSIVE;
    if (place->wait->is_upgrade) {
        rk_list_push_front(&lock->places, &place->link);
        rk_list_push_front(&lock->exclusive, &place->exclusive_link);
    } else {
        place->order = place->wait->object.id;
        rk_list_push_back(&lock->places, &place->link);
        if (is_exclusive) rk_list_push_back(&lock->exclusive, &place->exclusive_link);
    }
    lock->place_count++;
}

struct rk_wait *rk_wait_enter(struct rk_machine *machine, struct rk_owner *owner,
                              const struct rk_want *wants, uint32_t want_count,
                              const struct rk_wait *pattern, uint64_t id)
{
    size_t places_size = want_count * sizeof(struct rk_place);
    size_t client_size = pattern->client.size;
    struct rk_wait *wait = rk_calloc(1, sizeof(*wait) + places_size + client_size);
    if (wait == NULL) return NULL;
    *wait = *pattern;
    uint8_t *client = (uint8_t *)&wait->places[want_count];
    memcpy(client, pattern->client.data, client_size);
    wait->client = rk_slice_of(client, client_size);
    if (rk_object_enter(machine, &wait->object, RK_OBJECT_WAIT, id) != RK_OK) {
        rk_free(wait);
        return NULL;
    }
    wait->owner = owner;
    owner->references++;
    rk_list_push_back(&machine->locks->waits, &wait->link);
    rk_list_push_back(&owner->waits, &wait->owner_link);
    if (owner->session != NULL) {
        rk_list_push_back(&owner->session->waits, &wait->session_link);
        owner->session->wait_count++;
    }
    wait->place_count = want_count;
    for (uint32_t i = 0; i < want_count; i++) {
        struct rk_place *place = &wait->places[i];
        *place =
            (struct rk_place){.wait = wait, .lock = wants[i].lock, .mode = wants[i].mode};
        link_place(place);
        rk_changes_note(machine, &place->lock->object);
    }
    rk_object_count(machine, &wait->object,
                    WAIT_BYTES + want_count * PLACE_BYTES +
                        (uint32_t)(owner->name.size + client_size));
    return wait;
}

enum rk_status rk_wait_remove(struct rk_machine *machine, struct rk_wait *wait)
{
    enum rk_status status = rk_object_touch(machine, &wait->object);
    if (status != RK_OK) return status;
    for (uint32_t i = 0; i < wait->place_count; i++) {
        struct rk_place *place = &wait->places[i];
        rk_list_remove(&place->link);
        rk_list_remove(&place->exclusive_link);
        place->lock->place_count--;
        rk_lock_mark(machine, place->lock);
    }
    rk_list_remove(&wait->link);
    rk_list_remove(&wait->owner_link);
    if (wait->owner->session != NULL) {
        rk_list_remove(&wait->session_link);
        wait->owner->session->wait_count--;
    }
    rk_object_leave(machine, &wait->object);
    rk_owner_put(machine, wait->owner);
    rk_free(wait);
    return RK_OK;
}
