/* Prints each address that the C library finds for the name in its first argument, a line each. */
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int count, char **arguments)
{
    struct addrinfo wanted = {.ai_socktype = SOCK_STREAM}, *found, *one;
    int error = count == 2 ? getaddrinfo(arguments[1], NULL, &wanted, &found) : EAI_NONAME;
    if (error != 0) {
        puts(gai_strerror(error));
        return 1;
    }
    for (one = found; one != NULL; one = one->ai_next) {
        char text[64];
        if (getnameinfo(one->ai_addr, one->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0)
            puts(text);
    }
    freeaddrinfo(found);
    return 0;
}
