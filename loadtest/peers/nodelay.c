/* Preloaded into a server that leaves Nagle's algorithm on: its accepted sockets send at once, as everybody else's do. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

int accept4(int listener, struct sockaddr *address, socklen_t *length, int flags)
{
    int (*original)(int, struct sockaddr *, socklen_t *, int) = dlsym(RTLD_NEXT, "accept4");
    int client = original(listener, address, length, flags);
    int one = 1;

    if (client >= 0)
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return client;
}
