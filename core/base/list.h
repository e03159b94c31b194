/* list.h - an intrusive doubly linked list. The list owns nothing. */
#ifndef RK_BASE_LIST_H
#define RK_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#define RK_CONTAINER(pointer, type, member)                                                \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#define RK_CONTAINER_CONST(pointer, type, member)                                          \
    ((const type *)(const void *)((const char *)(pointer)-offsetof(type, member)))

/* A link, and also the head. A link not in a list points to itself or is {NULL, NULL}. */
struct rk_list {
    struct rk_list *next;
    struct rk_list *prev;
};

static inline void rk_list_init(struct rk_list *head)
{
    head->next = head->prev = head;
}
static inline bool rk_list_is_empty(const struct rk_list *head)
{
    return head->next == head;
}
static inline bool rk_list_is_linked(const struct rk_list *link)
{
    return link->next != NULL && link->next != link;
}
static inline void rk_list_insert_between(struct rk_list *link, struct rk_list *prev,
                                          struct rk_list *next)
{
    link->prev = prev;
    link->next = next;
    prev->next = link;
    next->prev = link;
}
static inline void rk_list_push_back(struct rk_list *head, struct rk_list *link)
{
    rk_list_insert_between(link, head->prev, head);
}
static inline void rk_list_push_front(struct rk_list *head, struct rk_list *link)
{
    rk_list_insert_between(link, head, head->next);
}
/* Removes link if it is in a list; harmless otherwise. */
static inline void rk_list_remove(struct rk_list *link)
{
    if (link->next != NULL) {
        link->prev->next = link->next;
        link->next->prev = link->prev;
    }
    link->next = link->prev = link;
}
static inline struct rk_list *rk_list_first(const struct rk_list *head)
{
    return rk_list_is_empty(head) ? NULL : head->next;
}

#define rk_list_each(link, head)                                                           \
    for (struct rk_list *link = (head)->next; link != (head); link = link->next)
/* The current link may be removed in the body. */
#define rk_list_each_safe(link, head)                                                      \
    for (struct rk_list *link = (head)->next, *link##_next = link->next; link != (head);   \
         link = link##_next, link##_next = link->next)
#endif
