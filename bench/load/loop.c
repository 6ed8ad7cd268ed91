/* The bare limit: a server that writes the same bytes to each of its streams, and does nothing else.
 *
 *   loop PORT < commands
 *
 * Whoever connects and sends something gets the head of an event stream and "event: connected". A
 * command is one line; each gets one line of answer.
 *
 *   publish N JOINED SIZE  write N events of SIZE bytes to every stream, JOINED of them in one
 *                          write. Answers with the CPU seconds (user and system) that it took
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static const char HEAD[] =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    "12\r\nevent: connected\n\n\r\n";

static double cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void write_all(int fd, const char *data, long size) {
    while (size > 0) {
        long sent = write(fd, data, size);
        if (sent > 0) data += sent, size -= sent;
        else if (errno == EAGAIN) usleep(200);
        else return;
    }
}

int main(int argc, char **argv) {
    static int fds[65536];
    static char line[256];
    int count = 0, one = 1;
    if (argc != 2) return 2;
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    int server = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(server, (struct sockaddr *)&address, sizeof address) < 0 || listen(server, 4096) < 0)
        return 1;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = server};
    epoll_ctl(poll, EPOLL_CTL_ADD, server, &event);
    event.data.fd = 0;
    epoll_ctl(poll, EPOLL_CTL_ADD, 0, &event);
    puts("ready");
    fflush(stdout);
    while (1) {
        struct epoll_event ready;
        if (epoll_wait(poll, &ready, 1, -1) < 1) continue;
        int fd = ready.data.fd;
        if (fd == server) {
            int stream = accept4(server, 0, 0, SOCK_NONBLOCK);
            if (stream < 0) continue;
            setsockopt(stream, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            event.data.fd = stream;
            epoll_ctl(poll, EPOLL_CTL_ADD, stream, &event);
        } else if (fd == 0) {
            int events, joined, size;
            if (!fgets(line, sizeof line, stdin)) return 0;
            if (sscanf(line, "publish %d %d %d", &events, &joined, &size) != 3) continue;
            char *frame = malloc(size + 64), *chunk = malloc((size + 64) * (long)joined);
            long length = 0;
            int head = sprintf(frame, "%x\r\ndata: {\"action\":\"create\"}", size);
            memset(frame + head, ' ', size + 64 - head);
            long whole = strchr(frame, '\r') - frame + 2 + size;
            memcpy(frame + whole - 2, "\n\n", 2);
            memcpy(frame + whole, "\r\n", 2);
            for (int i = 0; i < joined; i++)
                memcpy(chunk + length, frame, whole + 2), length += whole + 2;
            double began = cpu();
            for (int sent = 0; sent < events; sent += joined)
                for (int i = 0; i < count; i++) write_all(fds[i], chunk, length);
            printf("%.6f\n", cpu() - began);
            fflush(stdout);
            free(frame);
            free(chunk);
        } else {
            static char request[65536];
            long size = read(fd, request, sizeof request);
            if (size > 0 && count < 65536) {
                write_all(fd, HEAD, sizeof HEAD - 1);
                fds[count++] = fd;
            } else if (size == 0) {
                for (int i = 0; i < count; i++)
                    if (fds[i] == fd) fds[i] = fds[--count];
                close(fd);
            }
        }
    }
}
