/* What NVML tells of the system, and of a GPU apart from memory, processes and events. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "sim.h"

/* --- system ------------------------------------------------------------------------------- */

API nvmlSystemGetDriverVersion(char *out, unsigned room) {
    ENTER_LIBRARY();
    return sim_copy_text(out, room, sim_state->driver_version);
}
API nvmlSystemGetNVMLVersion(char *out, unsigned room) {
    ENTER_LIBRARY();
    return sim_copy_text(out, room, sim_state->nvml_version);
}
API nvmlSystemGetCudaDriverVersion_v2(int *out) {
    ENTER_LIBRARY();
    ANSWER(out, sim_state->cuda_version);
}
API nvmlSystemGetCudaDriverVersion(int *out) {
    ENTER_LIBRARY();
    ANSWER(out, sim_state->cuda_version);
}

/* --- handles ------------------------------------------------------------------------------ */

static int give(struct gpu *gpu, void *handle, void **out) {
    int rc = sim_touch(gpu);
    if (rc == RC_SUCCESS) *out = handle;
    return rc;
}

API nvmlDeviceGetCount_v2(unsigned *out) {
    ENTER_LIBRARY();
    ANSWER(out, sim_state->gpu_count);
}
API nvmlDeviceGetCount(unsigned *out) { return nvmlDeviceGetCount_v2(out); }

API nvmlDeviceGetHandleByIndex_v2(unsigned index, void **out) {
    ENTER_LIBRARY();
    if (!out || index >= sim_state->gpu_count) return RC_INVALID_ARGUMENT;
    return give(&sim_state->gpus[index], &sim_state->gpus[index], out);
}
API nvmlDeviceGetHandleByIndex(unsigned index, void **out) {
    return nvmlDeviceGetHandleByIndex_v2(index, out);
}

API nvmlDeviceGetHandleByUUID(const char *uuid, void **out) {
    ENTER_LIBRARY();
    if (!uuid || !out) return RC_INVALID_ARGUMENT;
    for (uint32_t i = 0; i < sim_state->gpu_count; i++) {
        struct gpu *gpu = &sim_state->gpus[i];
        if (strcmp(gpu->uuid, uuid) == 0) return give(gpu, gpu, out);
        for (struct mig *mig = gpu->mig_devices; mig < gpu->mig_devices + SIM_MAX_MIG_DEVICES; mig++)
            if (mig->present && strcmp(mig->uuid, uuid) == 0) return give(gpu, mig, out);
    }
    return RC_NOT_FOUND;
}

API nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **out) {
    ENTER_LIBRARY();
    if (!bus_id || !out) return RC_INVALID_ARGUMENT;
    for (uint32_t i = 0; i < sim_state->gpu_count; i++)
        if (strcasecmp(sim_state->gpus[i].pci_bus_id, bus_id) == 0)
            return give(&sim_state->gpus[i], &sim_state->gpus[i], out);
    return RC_NOT_FOUND;
}

/* --- identity ----------------------------------------------------------------------------- */

API nvmlDeviceGetName(void *device, char *out, unsigned room) {
    ENTER_ANY(device);
    return sim_copy_text(out, room, mig ? mig->name : gpu->name);
}
API nvmlDeviceGetUUID(void *device, char *out, unsigned room) {
    ENTER_ANY(device);
    return sim_copy_text(out, room, mig ? mig->uuid : gpu->uuid);
}
API nvmlDeviceGetIndex(void *device, unsigned *out) {
    ENTER_ANY(device);
    ANSWER(out, mig ? mig - gpu->mig_devices : sim_index(gpu));
}
API nvmlDeviceGetMinorNumber(void *device, unsigned *out) {
    ENTER_GPU(device);
    ANSWER(out, sim_index(gpu));
}
API nvmlDeviceGetPciInfo_v3(void *device, struct abi_pci *out) {
    ENTER_GPU(device);
    if (!out) return RC_INVALID_ARGUMENT;
    *out = (struct abi_pci){.device_id = 0x250310de};
    sscanf(gpu->pci_bus_id, "%x:%x:%x", &out->domain, &out->bus, &out->device);
    snprintf(out->bus_id, sizeof out->bus_id, "%.31s", gpu->pci_bus_id);
    snprintf(out->legacy_bus_id, sizeof out->legacy_bus_id, "%04X:%02X:%02X.0",
             out->domain & 0xffff, out->bus & 0xff, out->device & 0x1f);
    return RC_SUCCESS;
}
API nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    ENTER_ANY(device);
    if (!major || !minor) return RC_INVALID_ARGUMENT;
    *major = (int)gpu->compute_major;
    *minor = (int)gpu->compute_minor;
    return RC_SUCCESS;
}
API nvmlDeviceGetComputeMode(void *device, int *out) {
    ENTER_GPU(device);
    ANSWER(out, gpu->compute_mode);
}
API nvmlDeviceGetPersistenceMode(void *device, int *out) {
    ENTER_GPU(device);
    ANSWER(out, 1);
}
API nvmlDeviceGetDisplayActive(void *device, int *out) {
    ENTER_GPU(device);
    ANSWER(out, gpu->display_active);
}
API nvmlDeviceGetDisplayMode(void *device, int *out) {
    ENTER_GPU(device);
    ANSWER(out, gpu->display_mode);
}
API nvmlDeviceGetPerformanceState(void *device, int *out) {
    ENTER_GPU(device);
    ANSWER(out, gpu->performance_state);
}

/* --- load, heat, power -------------------------------------------------------------------- */

API nvmlDeviceGetUtilizationRates(void *device, struct abi_utilization *out) {
    ENTER_GPU(device);
    if (gpu->mig_mode == 1 || gpu->utilization_core_percent == SIM_UNSUPPORTED)
        return RC_NOT_SUPPORTED;
    out->gpu = (unsigned)gpu->utilization_core_percent;
    out->memory = (unsigned)gpu->utilization_memory_percent;
    return RC_SUCCESS;
}
API nvmlDeviceGetEncoderUtilization(void *device, unsigned *out, unsigned *period_us) {
    ENTER_GPU(device);
    *period_us = 167000;
    ANSWER(out, 0);
}
API nvmlDeviceGetDecoderUtilization(void *device, unsigned *out, unsigned *period_us) {
    ENTER_GPU(device);
    *period_us = 167000;
    ANSWER(out, 0);
}
API nvmlDeviceGetTemperature(void *device, int sensor, unsigned *out) {
    ENTER_GPU(device);
    if (sensor != 0) return RC_INVALID_ARGUMENT;
    ANSWER(out, gpu->temperature_c);
}
API nvmlDeviceGetTemperatureV(void *device, struct abi_temperature *out) {
    ENTER_GPU(device);
    if (out->version != STRUCT_VERSION(*out, 1)) return RC_VERSION_MISMATCH;
    if (out->sensor != 0) return RC_INVALID_ARGUMENT;
    ANSWER(&out->temperature, gpu->temperature_c);
}
API nvmlDeviceGetTemperatureThreshold(void *device, int kind, unsigned *out) {
    ENTER_GPU(device);
    switch (kind) {
    case THRESHOLD_SHUTDOWN: ANSWER(out, gpu->threshold_shutdown_c);
    case THRESHOLD_SLOWDOWN: ANSWER(out, gpu->threshold_slowdown_c);
    case THRESHOLD_MEMORY_MAX: ANSWER(out, gpu->threshold_memory_max_c);
    case THRESHOLD_GPU_MAX: ANSWER(out, gpu->threshold_gpu_max_c);
    default: return RC_NOT_SUPPORTED;
    }
}
API nvmlDeviceGetMarginTemperature(void *device, struct abi_margin *out) {
    ENTER_GPU(device);
    if (out->version != STRUCT_VERSION(*out, 1)) return RC_VERSION_MISMATCH;
    if (gpu->tlimit_zero_c == SIM_UNSUPPORTED) return RC_NOT_SUPPORTED;
    ANSWER(&out->margin, gpu->tlimit_zero_c - gpu->temperature_c);
}
API nvmlDeviceGetFanSpeed(void *device, unsigned *out) {
    ENTER_GPU(device);
    ANSWER(out, gpu->fan_percent);
}
API nvmlDeviceGetPowerUsage(void *device, unsigned *out) {
    ENTER_GPU(device);
    ANSWER(out, gpu->power_mw);
}
API nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *out) {
    ENTER_GPU(device);
    ANSWER(out, gpu->power_limit_mw);
}
API nvmlDeviceGetPowerManagementLimit(void *device, unsigned *out) {
    ENTER_GPU(device);
    ANSWER(out, gpu->power_limit_mw);
}
API nvmlDeviceGetTotalEnergyConsumption(void *device, ull *out) {
    ENTER_GPU(device);
    ANSWER(out, gpu->energy_mj);
}
API nvmlDeviceGetCurrentClocksEventReasons(void *device, ull *out) {
    ENTER_GPU(device);
    ANSWER(out, gpu->throttle_mask);
}
API nvmlDeviceGetCurrentClocksThrottleReasons(void *device, ull *out) {
    ENTER_GPU(device);
    ANSWER(out, gpu->throttle_mask);
}

/* --- clocks, ECC, bus --------------------------------------------------------------------- */

API nvmlDeviceGetClockInfo(void *device, int kind, unsigned *out) {
    ENTER_GPU(device);
    ANSWER(out, kind == CLOCK_MEMORY ? gpu->clock_memory_mhz : gpu->clock_core_mhz);
}
API nvmlDeviceGetMaxClockInfo(void *device, int kind, unsigned *out) {
    ENTER_GPU(device);
    ANSWER(out, kind == CLOCK_MEMORY ? gpu->clock_memory_mhz : gpu->clock_core_mhz);
}
API nvmlDeviceGetEccMode(void *device, int *current, int *pending) {
    ENTER_GPU(device);
    if (pending) *pending = (int)gpu->ecc_enabled;
    ANSWER(current, gpu->ecc_enabled);
}
API nvmlDeviceGetTotalEccErrors(void *device, int uncorrected, int aggregate, ull *out) {
    ENTER_GPU(device);
    (void)aggregate;
    if (gpu->ecc_enabled != 1) return RC_NOT_SUPPORTED;
    ANSWER(out, uncorrected ? gpu->ecc_uncorrected : gpu->ecc_corrected);
}
API nvmlDeviceGetCurrPcieLinkGeneration(void *device, unsigned *out) {
    ENTER_GPU(device);
    ANSWER(out, gpu->pcie_generation);
}
API nvmlDeviceGetMaxPcieLinkGeneration(void *device, unsigned *out) {
    ENTER_GPU(device);
    ANSWER(out, gpu->pcie_generation_max);
}
API nvmlDeviceGetCurrPcieLinkWidth(void *device, unsigned *out) {
    ENTER_GPU(device);
    ANSWER(out, gpu->pcie_width);
}
API nvmlDeviceGetMaxPcieLinkWidth(void *device, unsigned *out) {
    ENTER_GPU(device);
    ANSWER(out, gpu->pcie_width_max);
}
API nvmlDeviceGetPcieThroughput(void *device, int counter, unsigned *out) {
    ENTER_GPU(device);
    (void)counter;
    ANSWER(out, 0);
}

/* --- fields ------------------------------------------------------------------------------- */

/* What is undefined after a failure reads as a plausible number here, so that a caller who does
 * not look at the field's own code is found out. */
enum { UNDEFINED_VALUE = 77 };

static void set_field(struct abi_field *field, int type, int64_t value) {
    field->type = type;
    field->rc = value == SIM_UNSUPPORTED ? RC_NOT_SUPPORTED : RC_SUCCESS;
    memset(&field->value, 0x5a, sizeof field->value);
    if (field->rc != RC_SUCCESS) value = UNDEFINED_VALUE;
    if (type == TYPE_SIGNED_INT) field->value.si = (int)value;
    else if (type == TYPE_UNSIGNED_INT) field->value.ui = (unsigned)value;
    else field->value.ull_ = (ull)value;
}

API nvmlDeviceGetFieldValues(void *device, int count, struct abi_field *fields) {
    ENTER_GPU(device);
    if (count < 1 || !fields) return RC_INVALID_ARGUMENT;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    for (struct abi_field *f = fields; f < fields + count; f++) {
        f->timestamp_us = now.tv_sec * 1000000LL + now.tv_nsec / 1000;
        f->latency_us = 0;
        switch (f->id) {
        case FIELD_MEMORY_TEMPERATURE:
            set_field(f, TYPE_UNSIGNED_INT, gpu->memory_temperature_c);
            break;
        case FIELD_ENERGY: set_field(f, TYPE_UNSIGNED_LONG_LONG, gpu->energy_mj); break;
        case FIELD_POWER_AVERAGE:
        case FIELD_POWER_INSTANT: set_field(f, TYPE_UNSIGNED_INT, gpu->power_mw); break;
        case FIELD_TLIMIT_SHUTDOWN: set_field(f, TYPE_SIGNED_INT, gpu->tlimit_shutdown_c); break;
        case FIELD_TLIMIT_SLOWDOWN: set_field(f, TYPE_SIGNED_INT, gpu->tlimit_slowdown_c); break;
        case FIELD_TLIMIT_MEMORY_MAX:
            set_field(f, TYPE_SIGNED_INT, gpu->tlimit_memory_max_c);
            break;
        case FIELD_TLIMIT_GPU_MAX: set_field(f, TYPE_SIGNED_INT, gpu->tlimit_gpu_max_c); break;
        case FIELD_RECOVERY_ACTION: set_field(f, TYPE_UNSIGNED_INT, gpu->recovery_action); break;
        default: set_field(f, TYPE_UNSIGNED_INT, SIM_UNSUPPORTED);
        }
    }
    return RC_SUCCESS;
}

/* --- MIG ---------------------------------------------------------------------------------- */

API nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    ENTER_GPU(device);
    if (pending) *pending = (unsigned)gpu->mig_mode;
    ANSWER(current, gpu->mig_mode);
}
API nvmlDeviceIsMigDeviceHandle(void *device, unsigned *out) {
    ENTER_ANY(device);
    ANSWER(out, mig != NULL);
}
API nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *out) {
    ENTER_GPU(device);
    ANSWER(out, gpu->mig_mode == 1 ? SIM_MAX_MIG_DEVICES : 0);
}
API nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **out) {
    ENTER_GPU(device);
    if (gpu->mig_mode != 1) return RC_NOT_SUPPORTED;
    if (index >= SIM_MAX_MIG_DEVICES) return RC_INVALID_ARGUMENT;
    if (!gpu->mig_devices[index].present) return RC_NOT_FOUND;
    *out = &gpu->mig_devices[index];
    return RC_SUCCESS;
}
API nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *device, void **out) {
    ENTER_ANY(device);
    if (!mig) return RC_INVALID_ARGUMENT;
    *out = gpu;
    return RC_SUCCESS;
}
API nvmlDeviceGetGpuInstanceId(void *device, unsigned *out) {
    ENTER_ANY(device);
    if (!mig) return RC_NOT_SUPPORTED;
    ANSWER(out, mig->gpu_instance);
}
API nvmlDeviceGetComputeInstanceId(void *device, unsigned *out) {
    ENTER_ANY(device);
    if (!mig) return RC_NOT_SUPPORTED;
    ANSWER(out, mig->compute_instance);
}
API nvmlDeviceGetAttributes_v2(void *device, struct abi_attributes *out) {
    ENTER_ANY(device);
    if (!mig) return RC_NOT_SUPPORTED;
    if (mig->rc != RC_SUCCESS) return mig->rc;
    *out = (struct abi_attributes){.gpu_slices = mig->gpu_slices,
                                   .compute_slices = mig->compute_slices,
                                   .memory_mib = (ull)mig->memory_total_bytes >> 20};
    return RC_SUCCESS;
}
