/* Round trips of one byte. Without arguments: answers TCP and UDP on port 7007 for ever.
 * PROTOCOL ADDRESS TRIPS: prints the median round trip in microseconds. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in there = {.sin_family = AF_INET};

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int make(int type) {
    int one = 1, made = socket(AF_INET, type, 0);
    if (made < 0) fail("socket");
    setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (type == SOCK_STREAM) setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return made;
}

static void serve_udp(void) {
    int sock = make(SOCK_DGRAM);
    struct sockaddr_in from;
    socklen_t size;
    char byte;
    if (bind(sock, (struct sockaddr *)&there, sizeof there)) fail("bind");
    for (;;) {
        size = sizeof from;
        if (recvfrom(sock, &byte, 1, 0, (struct sockaddr *)&from, &size) == 1)
            sendto(sock, &byte, 1, 0, (struct sockaddr *)&from, size);
    }
}

static void serve_tcp(void) {
    int sock = make(SOCK_STREAM), one = 1, client;
    char byte;
    if (bind(sock, (struct sockaddr *)&there, sizeof there) || listen(sock, 8)) fail("bind");
    for (;;) {
        if ((client = accept(sock, NULL, NULL)) < 0) continue;
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        while (read(client, &byte, 1) == 1 && write(client, &byte, 1) == 1) {
        }
        close(client);
    }
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int order(const void *a, const void *b) {
    double d = *(const double *)a - *(const double *)b;
    return (d > 0) - (d < 0);
}

int main(int count, char **words) {
    there.sin_port = htons(7007);
    if (count == 1) {
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            serve_udp();
        }
        serve_tcp();
    }
    if (count != 4) return 2;
    int trips = atoi(words[3]), sock = make(strcmp(words[1], "tcp") ? SOCK_DGRAM : SOCK_STREAM);
    struct timeval limit = {.tv_sec = 2};
    double *took = calloc(trips, sizeof *took);
    char byte = 0;
    setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    inet_pton(AF_INET, words[2], &there.sin_addr);
    if (!took || connect(sock, (struct sockaddr *)&there, sizeof there)) fail("connect");
    for (int i = 0; i < trips; i++) {
        double start = now();
        if (write(sock, &byte, 1) != 1 || read(sock, &byte, 1) != 1) fail("round trip");
        took[i] = now() - start;
    }
    qsort(took, trips, sizeof *took, order);
    printf("%.3f\n", took[trips / 2]);
    return 0;
}
