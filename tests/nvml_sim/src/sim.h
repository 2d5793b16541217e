/* What the parts of the simulator share. */
#pragma once
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"
#include "layout.h"

#define API __attribute__((visibility("default"))) int

extern struct state *sim_state;

/* What an NVML handle points to: a GPU, or one of its MIG devices. */
struct target {
    struct gpu *gpu;
    struct mig *mig;
};

/* Count the call, then fail or hang as the state says. `enter_device` resolves a handle too.
 * Each returns an NVML code, and the call goes on only if it is RC_SUCCESS. */
int sim_enter(const char *call, struct counter **counter);
int sim_enter_device(const char *call, struct counter **counter, void *handle, struct target *out);
/* Reach for the GPU: hang, or fail, as its state says. */
int sim_touch(struct gpu *gpu);

/* The start of a call: on the library, on a GPU, and on a GPU or a MIG device. */
#define ENTER_LIBRARY()                                 \
    static struct counter *counter_;                    \
    int rc_ = sim_enter(__func__, &counter_);           \
    if (rc_ != RC_SUCCESS) return rc_
#define ENTER_ANY(handle)                                                   \
    static struct counter *counter_;                                        \
    struct target target_;                                                  \
    int rc_ = sim_enter_device(__func__, &counter_, (handle), &target_);    \
    if (rc_ != RC_SUCCESS) return rc_;                                      \
    struct gpu *gpu = target_.gpu;                                          \
    struct mig *mig = target_.mig;                                          \
    (void)gpu, (void)mig
#define ENTER_GPU(handle)  \
    ENTER_ANY(handle);     \
    if (mig) return RC_NOT_SUPPORTED

/* Write `value` to `*out`, or say that the card has no such thing. */
#define ANSWER(out, value)                                    \
    do {                                                      \
        int64_t value_ = (value);                             \
        if (!(out)) return RC_INVALID_ARGUMENT;               \
        if (value_ == SIM_UNSUPPORTED) return RC_NOT_SUPPORTED; \
        *(out) = value_;                                      \
        return RC_SUCCESS;                                    \
    } while (0)

int sim_copy_text(char *out, unsigned room, const char *text);
unsigned sim_index(const struct gpu *gpu);
int64_t sim_now_ns(void);
/* Sleep until the state's event sequence leaves `seen`, or for `ms` at most. */
void sim_wait_event(uint32_t seen, int ms);
/* The lock that every writer of the state holds; freed by the kernel if its owner dies. */
void sim_lock(void);
void sim_unlock(void);
