/* VRAM and who uses it.
 *
 * Memory in use is never stored: it is `memory_extra_bytes` plus what the entries hold, so that
 * processes that claim at the same time cannot lose each other's update. A LIVE entry leaves the
 * lists when its process is dead, and its memory `return_delay_ms` after that was first noticed. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "sim.h"

/* Whether that very process runs: a zombie does not, nor does a later owner of its pid. */
static int is_alive(const struct process *process) {
    char path[32], text[512];
    snprintf(path, sizeof path, "/proc/%u/stat", process->pid);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = 0;
    char state = 0;
    ull start = 0;
    char *after_name = strrchr(text, ')');
    if (!after_name ||
        sscanf(after_name + 1,
               " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %llu",
               &state, &start) != 2)
        return 0;
    return state != 'Z' && state != 'X' && start == process->start_ticks;
}

static void notice_death(struct process *process) {
    if (is_alive(process)) return;
    sim_lock();
    /* The slot may have a new owner by now. */
    if (process->pid && process->died_ns == 0 && !is_alive(process)) process->died_ns = sim_now_ns();
    sim_unlock();
}

static int is_listed(struct process *process) {
    if (!process->pid) return 0;
    if ((process->flags & SIM_LIVE) && process->died_ns == 0) notice_death(process);
    return process->died_ns == 0;
}

static int64_t held_bytes(const struct gpu *gpu, struct process *process) {
    if (!process->pid || (process->flags & SIM_UNCOUNTED)) return 0;
    if (!is_listed(process) && gpu->return_delay_ms != SIM_FOR_EVER &&
        sim_now_ns() >= process->died_ns + gpu->return_delay_ms * 1000000)
        return 0;
    return (int64_t)process->used_bytes;
}

static int64_t used_bytes(struct gpu *gpu) {
    int64_t used = gpu->memory_extra_bytes;
    for (int i = 0; i < SIM_MAX_PROCESSES; i++) used += held_bytes(gpu, &gpu->processes[i]);
    for (int i = 0; i < SIM_MAX_MIG_DEVICES; i++)
        if (gpu->mig_devices[i].present) used += gpu->mig_devices[i].memory_extra_bytes;
    return used;
}

/* A GPU instance has one memory, whichever of its compute instances is asked. */
static int64_t mig_used_bytes(struct gpu *gpu, const struct mig *mig) {
    int64_t used = mig->memory_extra_bytes;
    for (int i = 0; i < SIM_MAX_PROCESSES; i++)
        if (gpu->processes[i].gpu_instance == mig->gpu_instance)
            used += held_bytes(gpu, &gpu->processes[i]);
    return used;
}

/* --- memory ------------------------------------------------------------------------------- */

struct amounts { int64_t total, reserved, used; };

static int read_amounts(struct gpu *gpu, const struct mig *mig, struct amounts *out) {
    if (gpu->memory_total_bytes == SIM_UNSUPPORTED) return RC_NOT_SUPPORTED;
    if (mig && mig->rc != RC_SUCCESS) return mig->rc;
    if (mig)
        *out = (struct amounts){mig->memory_total_bytes, mig->memory_reserved_bytes,
                                mig_used_bytes(gpu, mig)};
    else
        *out = (struct amounts){gpu->memory_total_bytes, gpu->memory_reserved_bytes,
                                used_bytes(gpu)};
    return RC_SUCCESS;
}

/* The first version counts the driver's reserve as used. */
API nvmlDeviceGetMemoryInfo(void *device, struct abi_memory *out) {
    ENTER_ANY(device);
    struct amounts amounts;
    int rc = read_amounts(gpu, mig, &amounts);
    if (rc != RC_SUCCESS) return rc;
    out->total = (ull)amounts.total;
    out->used = (ull)(amounts.used + amounts.reserved);
    out->free = out->total - out->used;
    return RC_SUCCESS;
}
API nvmlDeviceGetMemoryInfo_v2(void *device, struct abi_memory_v2 *out) {
    ENTER_ANY(device);
    if (out->version != STRUCT_VERSION(*out, 2)) return RC_VERSION_MISMATCH;
    struct amounts amounts;
    int rc = read_amounts(gpu, mig, &amounts);
    if (rc != RC_SUCCESS) return rc;
    out->total = (ull)amounts.total;
    out->reserved = (ull)amounts.reserved;
    out->used = (ull)amounts.used;
    out->free = out->total - out->reserved - out->used;
    return RC_SUCCESS;
}
API nvmlDeviceGetBAR1MemoryInfo(void *device, struct abi_bar1 *out) {
    ENTER_GPU(device);
    *out = (struct abi_bar1){256u << 20, 254u << 20, 2u << 20};
    return RC_SUCCESS;
}

/* --- processes ---------------------------------------------------------------------------- */

static ull shown_bytes(const struct gpu *gpu, const struct process *process) {
    int hidden = gpu->hide_process_memory || (process->flags & SIM_NO_MEMORY);
    return hidden ? ~0ull : process->used_bytes;
}

static int list_processes(struct gpu *gpu, const struct mig *mig, uint32_t list, unsigned *count,
                          struct abi_process *out) {
    if (!count) return RC_INVALID_ARGUMENT;
    if (mig && mig->rc != RC_SUCCESS) return mig->rc;
    unsigned room = out ? *count : 0, found = 0;
    for (int i = 0; i < SIM_MAX_PROCESSES; i++) {
        struct process *p = &gpu->processes[i];
        if (!(p->lists & list) || !is_listed(p)) continue;
        if (mig && (p->gpu_instance != mig->gpu_instance ||
                    p->compute_instance != mig->compute_instance))
            continue;
        if (found++ < room)
            out[found - 1] = (struct abi_process){p->pid, shown_bytes(gpu, p), p->gpu_instance,
                                                  p->compute_instance};
    }
    *count = found;
    return found > room ? RC_INSUFFICIENT_SIZE : RC_SUCCESS;
}

#define PROCESS_LIST(name, list)                                               \
    API name(void *device, unsigned *count, struct abi_process *out) {         \
        ENTER_ANY(device);                                                     \
        return list_processes(gpu, mig, (list), count, out);                   \
    }
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses_v2, SIM_LIST_COMPUTE)
PROCESS_LIST(nvmlDeviceGetComputeRunningProcesses_v3, SIM_LIST_COMPUTE)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses_v2, SIM_LIST_GRAPHICS)
PROCESS_LIST(nvmlDeviceGetGraphicsRunningProcesses_v3, SIM_LIST_GRAPHICS)
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v2, SIM_LIST_MPS)
PROCESS_LIST(nvmlDeviceGetMPSComputeRunningProcesses_v3, SIM_LIST_MPS)
