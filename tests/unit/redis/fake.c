#include "fake.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* Answers the greeting as a master would; false: it is no part of it. */
static bool greet(struct fake_link *link, const char *text)
{
    if (strcmp(text, "INFO") == 0) {
        const char *info = link->fake->info;
        char head[32];
        (void)snprintf(head, sizeof(head), "$%zu\r\n", strlen(info));
        fake_write(link, head);
        fake_write(link, info);
        fake_write(link, "\r\n");
    } else if (strcmp(text, "CONFIG GET appendfsync") == 0) {
        fake_write(link, link->fake->fsync);
    } else if (strcmp(text, "ROLE") == 0) {
        fake_write(link, "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n");
    } else if (strncmp(text, "CLIENT SETNAME", 14) == 0) {
        fake_write(link, "+OK\r\n");
    } else {
        return false;
    }
    return true;
}

static bool is_open(const struct fake *fake, const struct fake_link *link)
{
    rk_list_each (at, &fake->links)
        if (at == &link->place) return true;
    return false;
}

static void on_read(struct bufferevent *bev, void *context)
{
    struct fake_link *link = context;
    struct fake *fake = link->fake;
    char bytes[4096];
    int size;
    while (is_open(fake, link) &&
           (size = evbuffer_remove(bufferevent_get_input(bev), bytes, sizeof(bytes))) > 0) {
        void *made;
        assert_int_equal(redisReaderFeed(link->reader, bytes, (size_t)size), REDIS_OK);
        while (is_open(fake, link) &&
               redisReaderGetReply(link->reader, &made) == REDIS_OK && made != NULL) {
            const struct redisReply *command = made;
            char text[512] = "";
            for (size_t i = 0; i < command->elements; i++) {
                size_t used = strlen(text);
                (void)snprintf(text + used, sizeof(text) - used, "%s%s", i > 0 ? " " : "",
                               command->element[i]->str);
            }
            freeReplyObject(made);
            if (greet(link, text)) continue;
            fake->commands++;
            fake->command(link, text);
        }
    }
}

static void on_event(struct bufferevent *bev, short what, void *context)
{
    (void)bev;
    (void)what;
    fake_hang_up(context);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd,
                      struct sockaddr *address, int size, void *context)
{
    struct fake *fake = context;
    struct fake_link *link = test_calloc(1, sizeof(*link));
    (void)listener;
    (void)address;
    (void)size;
    fake->connects++;
    link->fake = fake;
    link->reader = redisReaderCreate();
    link->bev = bufferevent_socket_new(fake->base, fd, BEV_OPT_CLOSE_ON_FREE);
    assert_non_null(link->reader);
    assert_non_null(link->bev);
    rk_list_push_back(&fake->links, &link->place);
    bufferevent_setcb(link->bev, on_read, NULL, on_event, link);
    assert_int_equal(bufferevent_enable(link->bev, EV_READ | EV_WRITE), 0);
}

void fake_init(struct fake *fake, struct event_base *base, fake_command *command,
               void *context)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof(address);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    memset(fake, 0, sizeof(*fake));
    fake->base = base;
    fake->info = "run_id:abc\r\nredis_version:7.0.15\r\nrole:master\r\n"
                 "maxmemory_policy:noeviction\r\n";
    fake->fsync = "*2\r\n$11\r\nappendfsync\r\n$8\r\neverysec\r\n";
    fake->command = command;
    fake->context = context;
    rk_list_init(&fake->links);
    fake->listener =
        evconnlistener_new_bind(base, on_accept, fake, LEV_OPT_CLOSE_ON_FREE, 8,
                                (struct sockaddr *)&address, sizeof(address));
    assert_non_null(fake->listener);
    assert_int_equal(getsockname(evconnlistener_get_fd(fake->listener),
                                 (struct sockaddr *)&address, &size),
                     0);
    fake->port = ntohs(address.sin_port);
}

void fake_fini(struct fake *fake)
{
    fake_hang_up_all(fake);
    evconnlistener_free(fake->listener);
}

void fake_write(struct fake_link *link, const char *bytes)
{
    /* At once, so that it arrives though the connection ends next. */
    ssize_t size = send(bufferevent_getfd(link->bev), bytes, strlen(bytes), MSG_NOSIGNAL);
    assert_int_equal(size, strlen(bytes));
}

void fake_hang_up(struct fake_link *link)
{
    rk_list_remove(&link->place);
    bufferevent_free(link->bev);
    redisReaderFree(link->reader);
    test_free(link);
}

void fake_hang_up_all(struct fake *fake)
{
    while (!rk_list_is_empty(&fake->links))
        fake_hang_up(RK_CONTAINER(rk_list_first(&fake->links), struct fake_link, place));
}
