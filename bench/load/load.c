/* The load client: opens many HTTP streams and counts a marker in what arrives.
 *
 *   load HOST PORT MARKER OPENED < commands
 *
 * A command is one line; each gets one line of answer.
 *
 *   tokens FILE      read tokens, one a line, for the streams that are opened next. Answers "ok"
 *   open N HEAD      open N streams more. HEAD is the request with \n for CRLF; in it %d is the
 *                    number of the stream, and %t its token (from the first again after the last).
 *                    Answers when all have received OPENED (or the time is up): "opened N"
 *   expect K SECONDS wait until each stream has received K markers since the last `forget`, or the
 *                    seconds have passed. Answers with a report.
 *   total K SECONDS  the same, until all streams together have received K markers
 *   report           answer with a report at once
 *   sums             answer with COUNT:SUM for each stream: its markers, and the sum of the numbers
 *                    that follow them, which differs if another event stands in for a lost one
 *   forget           set all counts to zero. Answers "ok"
 *   close            close all streams. Answers "ok"
 *
 * A report: streams, closed, markers, fewest, most (markers of a stream), bytes, reads, seconds
 * since `forget` until the last marker, and CPU seconds of this process (user and system) since
 * then. Each 20,000 streams have a source address of their own in 127/8, so that ports do not run
 * out. It uses one thread, one epoll and no copy: a read costs little more than its system call.
 *
 * It never waits in epoll_wait. A reader that does is woken by the write itself, which costs the
 * server some 2 us a delivery here and nothing where readers are other machines. Nor would it be
 * the same for all: a server that has written everything before it answers its publisher wakes no
 * reader, since nobody has begun to wait.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MOST_OPENING = 200,
    BUFFER = 1 << 20,
    LINE = 1 << 16,
    AN_ADDRESS = 20000,
    SLEEP_MICROSECONDS = 500
};

typedef struct {
    int fd, is_open, matched, opened_matched, in_number;
    long markers, number, sum;
} stream;

static stream *streams;
static int count, opened, closed_streams, epoll_fd;
static const char *marker, *opened_marker;
static int marker_length, opened_length;
static long markers, bytes, reads;
static double began, last_marker, cpu_began;
static char buffer[BUFFER];
static char **tokens;
static int token_count;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double cpu(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Find a marker whose first byte does not occur in it again; it may be cut by two reads. */
static int find(const char *data, long size, const char *text, int length, int *matched,
                const char **end) {
    long i = 0;
    while (i < size) {
        if (*matched == 0) {
            const char *next = memchr(data + i, text[0], size - i);
            if (!next) return 0;
            i = next - data + 1;
            *matched = 1;
        } else if (data[i] == text[*matched]) {
            i++;
            ++*matched;
        } else {
            *matched = data[i] == text[0];
            i++;
        }
        if (*matched == length) {
            *matched = 0;
            *end = data + i;
            return 1;
        }
    }
    return 0;
}

/* Add up the number that follows a marker; it may be cut by two reads, too. */
static long find_numbers(const char *data, long size, stream *s) {
    long found = 0, i = 0;
    while (i < size) {
        for (; s->in_number && i < size; i++) {
            if (data[i] >= '0' && data[i] <= '9') s->number = s->number * 10 + data[i] - '0';
            else s->sum += s->number, s->number = s->in_number = 0, i--;
        }
        if (i >= size) break;
        const char *end = data + i;
        long one = find(data + i, size - i, marker, marker_length, &s->matched, &end);
        if (!one) break;
        found++;
        s->in_number = 1;
        i = end - data;
    }
    return found;
}

static void end_stream(stream *s) {
    if (s->fd < 0) return;
    close(s->fd);
    s->fd = -1;
    closed_streams++;
}

static void read_stream(stream *s) {
    long size = read(s->fd, buffer, BUFFER);
    if (size == 0 || (size < 0 && errno != EAGAIN && errno != EINTR)) end_stream(s);
    if (size <= 0) return;
    reads++;
    bytes += size;
    const char *end;
    if (!s->is_open && find(buffer, size, opened_marker, opened_length, &s->opened_matched, &end)) {
        s->is_open = 1;
        opened++;
    }
    long found = find_numbers(buffer, size, s);
    if (found) {
        s->markers += found;
        markers += found;
        last_marker = now();
    }
}

/* Read what is there; returns how many streams had something. */
static int poll_once(void) {
    static struct epoll_event events[1024];
    int ready = epoll_wait(epoll_fd, events, 1024, 0);
    for (int i = 0; i < ready; i++) {
        stream *s = &streams[events[i].data.u32];
        if (s->fd >= 0) read_stream(s);
    }
    return ready;
}

static void poll_or_sleep(void) {
    if (poll_once() <= 0) usleep(SLEEP_MICROSECONDS);
}

static int connect_stream(const struct sockaddr_in *address, const char *head, int number) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in from = {.sin_family = AF_INET,
                               .sin_addr.s_addr = htonl(INADDR_LOOPBACK + number / AN_ADDRESS)};
    if (fd >= 0 && number >= AN_ADDRESS) {
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0) {
            close(fd);
            return -1;
        }
    }
    if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof *address) < 0) {
        if (fd >= 0) close(fd);
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (write(fd, head, strlen(head)) < 0) {
        close(fd);
        return -1;
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void write_head(char *to, const char *form, int number) {
    for (; *form; form++) {
        if (form[0] == '\\' && form[1] == 'n') to = stpcpy(to, "\r\n"), form++;
        else if (form[0] == '%' && form[1] == 'd') to += sprintf(to, "%d", number), form++;
        else if (form[0] == '%' && form[1] == 't' && token_count)
            to = stpcpy(to, tokens[number % token_count]), form++;
        else *to++ = *form;
    }
    *to = 0;
}

static int read_tokens(const char *path) {
    static char line[LINE];
    FILE *file = fopen(path, "r");
    if (!file) return 0;
    while (token_count) free(tokens[--token_count]);
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        tokens = realloc(tokens, (token_count + 1) * sizeof *tokens);
        tokens[token_count++] = strdup(line);
    }
    fclose(file);
    return 1;
}

static void open_streams(const struct sockaddr_in *address, int more, const char *form) {
    static char head[LINE * 2];
    int until = count + more, before = opened;
    double end = now() + 120;
    streams = realloc(streams, until * sizeof *streams);
    memset(streams + count, 0, more * sizeof *streams);
    while (count < until) {
        write_head(head, form, count);
        stream *s = &streams[count];
        s->fd = connect_stream(address, head, count);
        if (s->fd >= 0) {
            struct epoll_event event = {.events = EPOLLIN, .data.u32 = count};
            epoll_ctl(epoll_fd, EPOLL_CTL_ADD, s->fd, &event);
        } else {
            closed_streams++;
        }
        count++;
        poll_once();
        while (count - closed_streams - opened > MOST_OPENING && now() < end) poll_or_sleep();
    }
    while (opened - before < more - closed_streams && now() < end) poll_or_sleep();
    printf("opened %d\n", opened);
}

static void report(void) {
    long fewest = -1, most = 0;
    for (int i = 0; i < count; i++) {
        long got = streams[i].markers;
        if (fewest < 0 || got < fewest) fewest = got;
        if (got > most) most = got;
    }
    printf("%d %d %ld %ld %ld %ld %ld %.6f %.6f\n", count, closed_streams, markers, fewest, most,
           bytes, reads, last_marker > began ? last_marker - began : 0.0, cpu() - cpu_began);
}

static int all_have(long each, long together) {
    if (markers < together || markers < each * count) return 0;
    for (int i = 0; each && i < count; i++)
        if (streams[i].markers < each) return 0;
    return 1;
}

static void wait_for(long each, long together, double seconds) {
    double end = now() + seconds;
    while (!all_have(each, together) && now() < end) poll_or_sleep();
    report();
}

int main(int argc, char **argv) {
    static char line[LINE];
    if (argc != 5) return 2;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &address.sin_addr);
    marker = argv[3], marker_length = strlen(marker);
    opened_marker = argv[4], opened_length = strlen(opened_marker);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    epoll_fd = epoll_create1(0);
    while (1) {
        /* Between commands the streams are read, too: nothing piles up in sockets. */
        fd_set in;
        FD_ZERO(&in);
        FD_SET(0, &in);
        struct timeval none = {0, count ? 5000 : 500000};
        if (select(1, &in, 0, 0, &none) == 0) {
            poll_once();
            continue;
        }
        if (!fgets(line, LINE, stdin)) break;
        line[strcspn(line, "\n")] = 0;
        long number;
        double seconds;
        int used = 0;
        if (sscanf(line, "open %ld %n", &number, &used) == 1 && used) {
            open_streams(&address, number, line + used);
        } else if (sscanf(line, "expect %ld %lf", &number, &seconds) == 2) {
            wait_for(number, 0, seconds);
        } else if (sscanf(line, "total %ld %lf", &number, &seconds) == 2) {
            wait_for(0, number, seconds);
        } else if (!strncmp(line, "tokens ", 7)) {
            puts(read_tokens(line + 7) ? "ok" : "?");
        } else if (!strcmp(line, "report")) {
            report();
        } else if (!strcmp(line, "sums")) {
            for (int i = 0; i < count; i++)
                printf("%ld:%ld%s", streams[i].markers, streams[i].sum, i + 1 < count ? " " : "");
            puts("");
        } else if (!strcmp(line, "forget")) {
            for (int i = 0; i < count; i++) streams[i].markers = streams[i].sum = 0;
            markers = bytes = reads = 0;
            began = last_marker = now();
            cpu_began = cpu();
            puts("ok");
        } else if (!strcmp(line, "close")) {
            for (int i = 0; i < count; i++) end_stream(&streams[i]);
            count = opened = closed_streams = 0;
            puts("ok");
        } else {
            puts("?");
        }
        fflush(stdout);
    }
    return 0;
}
