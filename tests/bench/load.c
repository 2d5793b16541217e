/* A closed-loop client for newline-delimited JSON-RPC over a Unix socket, and for echo servers.
 *
 *   load SOCKET CONNECTIONS DEPTH SECONDS REQUEST [PID ...]
 *
 * Each connection keeps DEPTH requests in flight. REQUEST is one JSON text without its newline; it
 * is sent as it is, so every reply is expected to be one line. Prints one JSON object: requests,
 * latency percentiles in microseconds, and the CPU time of the PIDs per request. A client in C
 * costs little enough that the server is what is measured. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { MAX_DEPTH = 256, SUB_BUCKETS = 64, BUCKETS = 64 * SUB_BUCKETS };

struct connection {
    int fd;
    unsigned sent, received;
    uint64_t started_ns[MAX_DEPTH];
};

static uint64_t histogram[BUCKETS];
static uint64_t completed, refused;
static int depth, measuring;
static char *request_line;
static size_t request_size;

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(2);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Logarithmic buckets with 64 steps an octave: under 2 % of error at any latency. */
static int bucket_of(uint64_t value) {
    if (value < SUB_BUCKETS) return (int)value;
    int octave = 63 - __builtin_clzll(value);
    return (octave - 5) * SUB_BUCKETS + (int)((value >> (octave - 6)) & (SUB_BUCKETS - 1));
}

static double bucket_us(int bucket) {
    if (bucket < SUB_BUCKETS) return bucket / 1e3;
    int octave = bucket / SUB_BUCKETS + 5;
    return ((1ull << octave) + ((uint64_t)(bucket % SUB_BUCKETS) << (octave - 6))) / 1e3;
}

static double percentile(double fraction) {
    uint64_t wanted = (uint64_t)(completed * fraction), seen = 0;
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += histogram[i]) > wanted) return bucket_us(i);
    return 0;
}

/* User and system time of a process, all its threads, at the kernel's nanosecond resolution. */
static uint64_t cpu_ns(long pid) {
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid((pid_t)pid, &clock) || clock_gettime(clock, &t)) fail("cpu clock");
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void send_requests(struct connection *c, int count) {
    static char out[1 << 20];
    size_t size = 0, done = 0;
    uint64_t now = now_ns();
    for (int i = 0; i < count; i++) {
        memcpy(out + size, request_line, request_size);
        size += request_size;
        c->started_ns[c->sent++ % MAX_DEPTH] = now;
    }
    while (done < size) {
        ssize_t n = write(c->fd, out + done, size - done);
        if (n < 0 && errno == EAGAIN) {
            struct pollfd p = {c->fd, POLLOUT, 0};
            poll(&p, 1, 1000);
        } else if (n < 0) {
            fail("write");
        } else {
            done += (size_t)n;
        }
    }
}

static void receive_replies(struct connection *c) {
    static char in[1 << 20];
    ssize_t n = read(c->fd, in, sizeof in);
    if (n == 0) { errno = ECONNRESET; fail("read"); }
    if (n < 0) { if (errno == EAGAIN) return; fail("read"); }
    uint64_t now = now_ns();
    int replies = 0;
    for (char *p = in, *end = in + n; (p = memchr(p, '\n', (size_t)(end - p))); p++) {
        if (measuring) {
            histogram[bucket_of(now - c->started_ns[c->received % MAX_DEPTH])]++;
            completed++;
        }
        c->received++;
        replies++;
    }
    if (memmem(in, (size_t)n, "\"error\":{", 9)) refused++;
    if (replies) send_requests(c, replies);
}

static int connect_to(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    for (int tries = 0; connect(fd, (struct sockaddr *)&address, sizeof address); tries++) {
        if (tries > 2000) fail("connect");
        usleep(1000);
    }
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

int main(int argc, char **argv) {
    if (argc < 6) { fprintf(stderr, "usage: load SOCKET CONNECTIONS DEPTH SECONDS REQUEST [PID ...]\n"); return 2; }
    int connections = atoi(argv[2]);
    double seconds = atof(argv[4]);
    depth = atoi(argv[3]);
    if (connections < 1 || connections > 10000 || depth < 1 || depth > MAX_DEPTH || seconds > 60) { errno = EINVAL; fail("arguments"); }
    request_size = strlen(argv[5]) + 1;
    request_line = malloc(request_size);
    memcpy(request_line, argv[5], request_size - 1);
    request_line[request_size - 1] = '\n';

    struct connection *all = calloc((size_t)connections, sizeof *all);
    int poller = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < connections; i++) {
        all[i].fd = connect_to(argv[1]);
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &all[i]};
        epoll_ctl(poller, EPOLL_CTL_ADD, all[i].fd, &e);
    }
    for (int i = 0; i < connections; i++) send_requests(&all[i], depth);

    uint64_t start = now_ns() + 300000000u, end = start + (uint64_t)(seconds * 1e9), cpu = 0, now;
    while ((now = now_ns()) < end) {
        if (!measuring && now >= start) {
            measuring = 1;
            for (int i = 6; i < argc; i++) cpu -= cpu_ns(atol(argv[i]));
        }
        struct epoll_event ready[256];
        int n = epoll_wait(poller, ready, 256, 100);
        for (int i = 0; i < n; i++) receive_replies(ready[i].data.ptr);
    }
    for (int i = 6; i < argc; i++) cpu += cpu_ns(atol(argv[i]));
    printf("{\"requests\": %lu, \"rps\": %.0f, \"p50_us\": %.2f, \"p99_us\": %.2f, \"server_cpu_us\": %.3f, \"error_reads\": %lu}\n",
           completed, completed / seconds, percentile(0.5), percentile(0.99), completed ? cpu / 1e3 / completed : 0.0, refused);
    return refused > 0 ? 3 : 0;
}
