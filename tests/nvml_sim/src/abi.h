/* What NVML's callers pass and receive, as far as the simulator reads or fills it.
 *
 * Written from the published interface; a test checks every size, offset and number against
 * NVIDIA's own header. */
#pragma once
#include <stdint.h>

typedef unsigned long long ull;

enum rc {
    RC_SUCCESS = 0,
    RC_UNINITIALIZED = 1,
    RC_INVALID_ARGUMENT = 2,
    RC_NOT_SUPPORTED = 3,
    RC_NO_PERMISSION = 4,
    RC_NOT_FOUND = 6,
    RC_INSUFFICIENT_SIZE = 7,
    RC_DRIVER_NOT_LOADED = 9,
    RC_TIMEOUT = 10,
    RC_GPU_IS_LOST = 15,
    RC_MEMORY = 20,
    RC_VERSION_MISMATCH = 25,
};

enum { INIT_NO_GPUS = 1, EVENT_XID = 8, NO_INSTANCE = -1 };
enum { THRESHOLD_SHUTDOWN, THRESHOLD_SLOWDOWN, THRESHOLD_MEMORY_MAX, THRESHOLD_GPU_MAX };
enum { CLOCK_GRAPHICS, CLOCK_SM, CLOCK_MEMORY, CLOCK_VIDEO };
enum { TYPE_UNSIGNED_INT = 1, TYPE_UNSIGNED_LONG_LONG = 3, TYPE_SIGNED_INT = 5 };
enum {
    FIELD_MEMORY_TEMPERATURE = 82,
    FIELD_ENERGY = 83,
    FIELD_POWER_AVERAGE = 185,
    FIELD_POWER_INSTANT = 186,
    FIELD_TLIMIT_SHUTDOWN = 193,
    FIELD_TLIMIT_SLOWDOWN = 194,
    FIELD_TLIMIT_MEMORY_MAX = 195,
    FIELD_TLIMIT_GPU_MAX = 196,
    FIELD_RECOVERY_ACTION = 230,
};

#define STRUCT_VERSION(type, n) ((unsigned)(sizeof(type) | ((n) << 24)))

struct abi_memory { ull total, free, used; };
struct abi_memory_v2 { unsigned version; ull total, reserved, free, used; };
struct abi_bar1 { ull total, free, used; };
struct abi_utilization { unsigned gpu, memory; };
struct abi_temperature { unsigned version; int sensor; int temperature; };
struct abi_margin { unsigned version; int margin; };
struct abi_process { unsigned pid; ull used; unsigned gpu_instance, compute_instance; };
struct abi_pci {
    char legacy_bus_id[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
};
union abi_value { double d; int si; unsigned ui; unsigned long ul; ull ull_; long long sll; };
struct abi_field {
    unsigned id, scope;
    long long timestamp_us, latency_us;
    int type, rc;
    union abi_value value;
};
struct abi_attributes {
    unsigned multiprocessors, copy_engines, decoders, encoders, jpegs, ofas;
    unsigned gpu_slices, compute_slices;
    ull memory_mib;
};
struct abi_event { void *device; ull type, data; unsigned gpu_instance, compute_instance; };
