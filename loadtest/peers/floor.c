/* The floor: what is left when a server does nothing but send() the same bytes to every socket.
 *
 * A client says "SUB <number>\n" or "PUB 0\n" and is answered "OK\n". The publisher then sends records: the number of
 * the listener (0xffffffff: all of them), a length, both 32 bits little-endian, and a WebSocket frame that is ready to
 * be sent on. What one read brings for all is sent on with one send() to each.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CLIENTS 131072
#define BUFFER (1 << 20)
#define EVERYBODY 0xffffffffu
#define HEAD 8

static int members[MAX_CLIENTS];    /* sockets, in the order of their arrival */
static int by_number[MAX_CLIENTS];  /* listener's number -> socket */
static int member_count, publisher = -1;
static unsigned char in[BUFFER], out[BUFFER];
static size_t in_length;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

/* The sockets block: a client that does not read holds up everybody, but nothing is ever lost or queued. */
static void deliver(int socket, const unsigned char *data, size_t length) {
    while (length) {
        ssize_t sent = send(socket, data, length, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EINTR) continue;
            return;
        }
        data += sent;
        length -= (size_t)sent;
    }
}

static size_t deliver_to_all(size_t length) {
    for (int i = 0; i < member_count && length; i++) deliver(members[i], out, length);
    return 0;
}

static void publish(void) {
    ssize_t got = recv(publisher, in + in_length, BUFFER - in_length, 0);
    if (got <= 0) {
        close(publisher);
        publisher = -1;
        in_length = 0;
        return;
    }
    in_length += (size_t)got;
    size_t at = 0, joined = 0;
    while (in_length - at >= HEAD) {
        uint32_t number, length;
        memcpy(&number, in + at, 4);
        memcpy(&length, in + at + 4, 4);
        if (length > BUFFER - HEAD) exit(1);
        if (in_length - at - HEAD < length) break;
        if (number == EVERYBODY) {
            memcpy(out + joined, in + at + HEAD, length);
            joined += length;
        } else {
            joined = deliver_to_all(joined);
            if (number < MAX_CLIENTS && by_number[number] > 0) deliver(by_number[number], in + at + HEAD, length);
        }
        at += HEAD + length;
    }
    deliver_to_all(joined);
    memmove(in, in + at, in_length - at);
    in_length -= at;
}

static void leave(int socket) {
    for (int i = 0; i < member_count; i++)
        if (members[i] == socket) members[i] = members[--member_count];
    close(socket);
}

static void hear(int socket) {
    char words[64] = {0};
    unsigned number;
    ssize_t got = recv(socket, words, sizeof words - 1, 0);
    if (got <= 0) {
        leave(socket);
    } else if (sscanf(words, "SUB %u", &number) == 1 && number < MAX_CLIENTS && member_count < MAX_CLIENTS) {
        members[member_count++] = socket;
        by_number[number] = socket;
        deliver(socket, (const unsigned char *)"OK\n", 3);
    } else if (strncmp(words, "PUB", 3) == 0) {
        publisher = socket;
        deliver(socket, (const unsigned char *)"OK\n", 3);
    }
}

int main(int argc, char **argv) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 0))};
    struct epoll_event event = {.events = EPOLLIN}, events[256];
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) fail("listen");
    event.data.fd = listener;
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int ready = events[i].data.fd;
            if (ready == listener) {
                int client = accept(listener, NULL, NULL);
                if (client < 0) continue;
                setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                event.data.fd = client;
                epoll_ctl(epoll, EPOLL_CTL_ADD, client, &event);
            } else if (ready == publisher) {
                publish();
            } else {
                hear(ready);
            }
        }
    }
}
