/* The state file, the start of every call, and faults. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

struct state *sim_state;
static atomic_int references;
static int state_fd = -1;
static pthread_mutex_t thread_lock = PTHREAD_MUTEX_INITIALIZER;
/* Hangs and waits look at the state this often even if nobody moved the event sequence. */
enum { LOOK_AGAIN_MS = 50 };

int64_t sim_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

void sim_lock(void) {
    pthread_mutex_lock(&thread_lock);
    while (flock(state_fd, LOCK_EX) != 0) {
    }
}

void sim_unlock(void) {
    flock(state_fd, LOCK_UN);
    pthread_mutex_unlock(&thread_lock);
}

void sim_wait_event(uint32_t seen, int ms) {
    struct timespec limit = {ms / 1000, ms % 1000 * 1000000L};
    syscall(SYS_futex, &sim_state->event_sequence, FUTEX_WAIT, seen, &limit, NULL, 0);
}

int sim_copy_text(char *out, unsigned room, const char *text) {
    if (!out) return RC_INVALID_ARGUMENT;
    if (strlen(text) + 1 > room) return RC_INSUFFICIENT_SIZE;
    strcpy(out, text);
    return RC_SUCCESS;
}

unsigned sim_index(const struct gpu *gpu) { return (unsigned)(gpu - sim_state->gpus); }

/* Block for `ms`, or for ever; less if the setting at `watched`, which asked for it, changes. */
static void hang(int64_t ms, const void *watched, size_t size) {
    char setting[sizeof(struct fault)];
    int64_t start = sim_now_ns();
    memcpy(setting, watched, size);
    while (ms != 0) {
        uint32_t seen = __atomic_load_n(&sim_state->event_sequence, __ATOMIC_ACQUIRE);
        if (memcmp(watched, setting, size) != 0) return;
        int64_t left_ms = ms == SIM_FOR_EVER ? LOOK_AGAIN_MS : ms - (sim_now_ns() - start) / 1000000;
        if (left_ms <= 0) return;
        sim_wait_event(seen, left_ms < LOOK_AGAIN_MS ? (int)left_ms : LOOK_AGAIN_MS);
    }
}

/* Whether one more call may use up the fault. */
static int take(struct fault *fault) {
    int32_t left = __atomic_load_n(&fault->remaining, __ATOMIC_RELAXED);
    while (left != SIM_FOR_EVER) {
        if (left <= 0) return 0;
        if (__atomic_compare_exchange_n(&fault->remaining, &left, left - 1, 0, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
            break;
    }
    return 1;
}

static int apply_faults(const char *call, uint32_t gpus) {
    uint32_t count = __atomic_load_n(&sim_state->fault_count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < count && i < SIM_MAX_FAULTS; i++) {
        struct fault *fault = &sim_state->faults[i];
        int every = fault->call[0] == '*' && strcmp(call, "nvmlShutdown") != 0;
        if ((fault->gpus & gpus) != gpus || !(every || strcmp(fault->call, call) == 0)) continue;
        int32_t rc = fault->rc;
        if (!take(fault)) continue;
        hang(fault->hang_ms, fault->call, sizeof fault->call);
        if (rc != RC_SUCCESS) return rc;
    }
    return RC_SUCCESS;
}

static struct counter *find_counter(const char *call) {
    struct counter *found = NULL;
    sim_lock();
    for (struct counter *c = sim_state->counters; c < sim_state->counters + SIM_MAX_COUNTERS; c++) {
        if (c->call[0] == 0) strncpy(c->call, call, sizeof c->call - 1);
        if (strcmp(c->call, call) == 0) {
            found = c;
            break;
        }
    }
    sim_unlock();
    return found;
}

static void count(const char *call, struct counter **counter) {
    struct counter *known = __atomic_load_n(counter, __ATOMIC_ACQUIRE);
    if (!known) {
        known = find_counter(call);
        __atomic_store_n(counter, known, __ATOMIC_RELEASE);
    }
    if (known) __atomic_fetch_add(&known->count, 1, __ATOMIC_RELAXED);
}

int sim_enter(const char *call, struct counter **counter) {
    if (!references) return RC_UNINITIALIZED;
    count(call, counter);
    return apply_faults(call, SIM_ALL_GPUS);
}

int sim_touch(struct gpu *gpu) {
    __atomic_fetch_add(&gpu->calls, 1, __ATOMIC_RELAXED);
    hang(gpu->hang_ms, &gpu->hang_ms, sizeof gpu->hang_ms);
    return (int)gpu->rc;
}

static int resolve(void *handle, struct target *out) {
    char *at = handle;
    for (uint32_t i = 0; i < sim_state->gpu_count; i++) {
        struct gpu *gpu = &sim_state->gpus[i];
        *out = (struct target){.gpu = gpu};
        if (at == (char *)gpu) return 1;
        for (struct mig *mig = gpu->mig_devices; mig < gpu->mig_devices + SIM_MAX_MIG_DEVICES; mig++) {
            out->mig = mig;
            if (at == (char *)mig) return mig->present;
        }
    }
    return 0;
}

int sim_enter_device(const char *call, struct counter **counter, void *handle,
                     struct target *out) {
    if (!references) return RC_UNINITIALIZED;
    count(call, counter);
    if (!handle || !resolve(handle, out)) return RC_INVALID_ARGUMENT;
    int rc = sim_touch(out->gpu);
    if (rc == RC_SUCCESS) rc = apply_faults(call, 1u << sim_index(out->gpu));
    /* It may have been destroyed while the call hung. */
    if (rc == RC_SUCCESS && out->mig && !out->mig->present) rc = RC_INVALID_ARGUMENT;
    return rc;
}

static int map_state(void) {
    const char *path = getenv("NVML_SIM_STATE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    struct stat info;
    if (fd < 0) return RC_DRIVER_NOT_LOADED;
    void *map = MAP_FAILED;
    if (fstat(fd, &info) == 0 && info.st_size >= (off_t)sizeof(struct state))
        map = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    struct state *state = map;
    if (map == MAP_FAILED || state->magic != SIM_MAGIC || state->version != SIM_VERSION ||
        state->size != sizeof *state) {
        if (map != MAP_FAILED) munmap(map, sizeof(struct state));
        close(fd);
        return RC_DRIVER_NOT_LOADED;
    }
    state_fd = fd;
    sim_state = state;
    return RC_SUCCESS;
}

API nvmlInitWithFlags(unsigned flags) {
    static struct counter *counter;
    static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&init_lock);
    int rc = sim_state ? RC_SUCCESS : map_state();
    if (rc == RC_SUCCESS) {
        count(__func__, &counter);
        rc = sim_state->init_rc;
    }
    if (rc == RC_SUCCESS) rc = apply_faults(__func__, SIM_ALL_GPUS);
    if (rc == RC_SUCCESS && sim_state->gpu_count == 0 && !(flags & INIT_NO_GPUS)) rc = RC_NOT_FOUND;
    if (rc == RC_SUCCESS) references++;
    pthread_mutex_unlock(&init_lock);
    return rc;
}
API nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
API nvmlInit(void) { return nvmlInitWithFlags(0); }

API nvmlShutdown(void) {
    ENTER_LIBRARY();
    references--;
    return RC_SUCCESS;
}

__attribute__((visibility("default"))) const char *nvmlErrorString(int rc) {
    switch (rc) {
    case RC_SUCCESS: return "The operation was successful";
    case RC_NOT_SUPPORTED: return "Not Supported";
    case RC_GPU_IS_LOST: return "GPU is lost";
    default: return "Simulated error";
    }
}

/* What stubs.c calls for a function that the simulator does not have. */
int sim_stub(const char *call, struct counter **counter) {
    int rc = sim_enter(call, counter);
    return rc == RC_SUCCESS ? RC_NOT_SUPPORTED : rc;
}
