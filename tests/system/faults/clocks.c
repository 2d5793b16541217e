/* Clocks that jump, for one process: no container has a wall clock of its own, and none can sleep.
 * CLOCKS names a file with two numbers, which are seconds: what CLOCK_REALTIME is ahead by, and
 * CLOCK_BOOTTIME. CLOCK_MONOTONIC is let alone, as a jump and a sleep let it alone. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static long ahead(clockid_t clock)
{
    long wall = 0, boot = 0;
    const char *path = getenv("CLOCKS");
    FILE *file = path ? fopen(path, "re") : NULL;
    if (file) {
        if (fscanf(file, "%ld %ld", &wall, &boot) != 2)
            wall = boot = 0;
        fclose(file);
    }
    return clock == CLOCK_REALTIME ? wall : boot;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    long done = syscall(SYS_clock_gettime, clock, now);
    if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_BOOTTIME))
        now->tv_sec += ahead(clock);
    return (int)done;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec precise;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}
