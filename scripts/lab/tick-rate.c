/* Prints how fast this machine's time stamp counter is, in kHz. A guest without KVM sees that counter itself, and finds out what it means with emulated timers,
   which are late where the machine is busy: its clock has run twenty times too fast. Prints nothing where there is no such counter. */
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#ifdef __x86_64__
#include <x86intrin.h>

struct moment {
    uint64_t ticks;
    int64_t ns;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The counter between two looks at the clock that are as close as any of these: nobody took the CPU away between them. */
static struct moment moment(void)
{
    struct moment best = {0, 0};
    int64_t closest = INT64_MAX;
    for (int attempt = 0; attempt < 100; attempt++) {
        int64_t before = now_ns();
        uint64_t ticks = __rdtsc();
        int64_t after = now_ns();
        if (after - before < closest) {
            closest = after - before;
            best = (struct moment){ticks, before + (after - before) / 2};
        }
    }
    return best;
}

int main(void)
{
    struct timespec pause = {0, 100000000};
    struct moment first = moment();
    nanosleep(&pause, NULL);
    struct moment last = moment();
    printf("%llu\n", (unsigned long long)((double)(last.ticks - first.ticks) * 1e6 / (double)(last.ns - first.ns) + 0.5));
    return 0;
}
#else
int main(void) { return 0; }
#endif
