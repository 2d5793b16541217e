/* Event sets. XIDs only: an event comes to every set that was registered before it happened. */
#include <stdlib.h>

#include "sim.h"

enum { SLICE_MS = 250 };

struct event_set {
    pthread_mutex_t lock;
    ull types[SIM_MAX_GPUS];
    ull delivered[SIM_MAX_GPUS];
};

API nvmlDeviceGetSupportedEventTypes(void *device, ull *out) {
    ENTER_GPU(device);
    ANSWER(out, gpu->event_types);
}

API nvmlEventSetCreate(struct event_set **out) {
    ENTER_LIBRARY();
    struct event_set *set = calloc(1, sizeof *set);
    if (!set) return RC_MEMORY;
    pthread_mutex_init(&set->lock, NULL);
    *out = set;
    return RC_SUCCESS;
}

API nvmlEventSetFree(struct event_set *set) {
    ENTER_LIBRARY();
    if (!set) return RC_INVALID_ARGUMENT;
    free(set);
    return RC_SUCCESS;
}

API nvmlDeviceRegisterEvents(void *device, ull types, struct event_set *set) {
    ENTER_GPU(device);
    if (!set) return RC_INVALID_ARGUMENT;
    if (gpu->event_types == SIM_UNSUPPORTED || (types & ~(ull)gpu->event_types))
        return RC_NOT_SUPPORTED;
    unsigned index = sim_index(gpu);
    pthread_mutex_lock(&set->lock);
    if (!set->types[index]) set->delivered[index] = gpu->xid_count;
    set->types[index] |= types;
    pthread_mutex_unlock(&set->lock);
    return RC_SUCCESS;
}

/* Give the next event, or say that there is none (RC_TIMEOUT) or that a GPU is lost. */
static int next_event(struct event_set *set, struct abi_event *out) {
    int rc = RC_TIMEOUT;
    pthread_mutex_lock(&set->lock);
    for (uint32_t i = 0; i < sim_state->gpu_count && rc == RC_TIMEOUT; i++) {
        struct gpu *gpu = &sim_state->gpus[i];
        if (!(set->types[i] & EVENT_XID)) continue;
        if (set->delivered[i] != __atomic_load_n(&gpu->xid_count, __ATOMIC_ACQUIRE)) {
            ull xid = gpu->xids[set->delivered[i]++ % SIM_MAX_XIDS];
            *out = (struct abi_event){gpu, EVENT_XID, xid, (unsigned)NO_INSTANCE,
                                      (unsigned)NO_INSTANCE};
            rc = RC_SUCCESS;
        } else if (gpu->rc == RC_GPU_IS_LOST) {
            rc = RC_GPU_IS_LOST;
        }
    }
    pthread_mutex_unlock(&set->lock);
    return rc;
}

static int wait_event(struct event_set *set, struct abi_event *out, unsigned timeout_ms) {
    int64_t deadline_ns = sim_now_ns() + timeout_ms * 1000000LL;
    for (;;) {
        uint32_t seen = __atomic_load_n(&sim_state->event_sequence, __ATOMIC_ACQUIRE);
        int rc = next_event(set, out);
        int64_t left_ms = (deadline_ns - sim_now_ns() + 999999) / 1000000;
        if (rc != RC_TIMEOUT || left_ms <= 0) return rc;
        sim_wait_event(seen, left_ms < SLICE_MS ? (int)left_ms : SLICE_MS);
    }
}

API nvmlEventSetWait_v2(struct event_set *set, struct abi_event *out, unsigned timeout_ms) {
    ENTER_LIBRARY();
    if (!set || !out) return RC_INVALID_ARGUMENT;
    return wait_event(set, out, timeout_ms);
}
API nvmlEventSetWait(struct event_set *set, struct abi_event *out, unsigned timeout_ms) {
    return nvmlEventSetWait_v2(set, out, timeout_ms);
}
