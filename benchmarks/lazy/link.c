// A link of given rate and delay between two network namespaces.
//
// Usage: link NETNS NEAR FAR BITS_PER_SECOND DELAY_US QUEUE_BYTES
//
// Makes the TUN device NEAR here and FAR in the network namespace at the path NETNS, prints
// "ready", and carries packets between them until it is killed. Each direction sends one packet
// after the other at the rate, holds each for the delay, and drops what does not fit its queue.
// Kernels without the netem discipline have nothing else that delays.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 8192
#define LARGEST 2048

struct packet {
    int64_t due;
    int size;
    char data[LARGEST];
};

struct direction {
    int from, to;
    int64_t idle_at;
    unsigned first, count;
    struct packet ring[SLOTS];
};

static struct direction ways[2];
static double nanoseconds_per_byte;
static int64_t delay, queue_limit;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int device(const char *name) {
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    if (fd < 0) fail("/dev/net/tun");
    snprintf(request.ifr_name, IFNAMSIZ, "%s", name);
    if (ioctl(fd, TUNSETIFF, &request)) fail(name);
    return fd;
}

static void take(struct direction *way) {
    char data[LARGEST];
    for (;;) {
        int size = read(way->from, data, sizeof data);
        if (size <= 0) return;
        int64_t moment = now();
        int64_t start = way->idle_at > moment ? way->idle_at : moment;
        if (way->count == SLOTS || (start - moment) / nanoseconds_per_byte > queue_limit) continue;
        struct packet *slot = &way->ring[(way->first + way->count++) % SLOTS];
        way->idle_at = start + (int64_t)(size * nanoseconds_per_byte);
        slot->due = way->idle_at + delay;
        slot->size = size;
        memcpy(slot->data, data, size);
    }
}

static int64_t give(struct direction *way) {
    while (way->count) {
        struct packet *slot = &way->ring[way->first];
        int64_t left = slot->due - now();
        if (left > 0) return left;
        if (write(way->to, slot->data, slot->size) < 0 && errno != EIO && errno != EAGAIN)
            fail("write");
        way->first = (way->first + 1) % SLOTS;
        way->count--;
    }
    return INT64_MAX;
}

int main(int count, char **argument) {
    if (count != 7) return 2;
    nanoseconds_per_byte = 8e9 / atof(argument[4]);
    delay = atoll(argument[5]) * 1000;
    queue_limit = atoll(argument[6]);
    int near = device(argument[2]);
    int space = open(argument[1], O_RDONLY | O_CLOEXEC);
    if (space < 0 || setns(space, CLONE_NEWNET)) fail(argument[1]);
    int far = device(argument[3]);
    ways[0] = (struct direction){.from = near, .to = far};
    ways[1] = (struct direction){.from = far, .to = near};
    puts("ready");
    fflush(stdout);
    for (;;) {
        int64_t next = give(&ways[0]), other = give(&ways[1]);
        if (other < next) next = other;
        struct timespec patience = {next / 1000000000, next % 1000000000};
        struct pollfd files[2] = {{near, POLLIN, 0}, {far, POLLIN, 0}};
        if (ppoll(files, 2, next == INT64_MAX ? NULL : &patience, NULL) < 0 && errno != EINTR)
            fail("ppoll");
        take(&ways[0]);
        take(&ways[1]);
    }
}
