/* Stands in for NVML, the driver's management library: it tells of the stand-in GPU of cuda_runtime.c.

   It is a library of its own (libnvidia-ml.so.1), since pynvml and torch load it by that name. What it calls of
   cuda_runtime.c is found there because that is put before every library; where it is not, this one cannot be loaded,
   as if there were no driver. It knows of no other process than its own.

   There is no nvml.h here: types are as pynvml passes them. A function that is not defined here is not found, as with an
   old driver. */

#define _POSIX_C_SOURCE 200809L

#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DONE = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };

enum { CLOCK_OF_MEMORY = 2, CLOCKS = 4, NO_INSTANCE = -1 };

#define CONTEXT_BYTES ((size_t)400 << 20)
#define POWER_MILLIWATTS 250000

/* Whether the process has a context, and what cudaMalloc gave it. */
int stand_in_has_context(size_t *given);

static unsigned sessions;
static const char gpu_0; /* its address is the handle */

/* Why a question about a GPU gets no answer. */
static int refusal(const void *gpu) { return !sessions ? UNINITIALIZED : gpu != &gpu_0 ? INVALID_ARGUMENT : DONE; }

static int tell(const void *gpu, unsigned *answer, unsigned value)
{
    int error = refusal(gpu);
    if (!error)
        *answer = value;
    return error;
}

static int tell_text(int error, char *answer, unsigned size, const char *text)
{
    if (error || strlen(text) >= size)
        return error ? error : INSUFFICIENT_SIZE;
    strcpy(answer, text);
    return DONE;
}

static struct cudaDeviceProp properties(void)
{
    struct cudaDeviceProp found;
    cudaGetDeviceProperties(&found, 0);
    return found;
}

static size_t used_bytes(void)
{
    size_t given;
    return stand_in_has_context(&given) ? given + CONTEXT_BYTES : 0;
}

/* Sessions nest. */

int nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    sessions++;
    return DONE;
}

/* torch's names for it. */
int nvmlInit(void) { return nvmlInitWithFlags(0); }

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void)
{
    if (!sessions)
        return UNINITIALIZED;
    sessions--;
    return DONE;
}

int nvmlSystemGetDriverVersion(char *version, unsigned size)
{
    return tell_text(sessions ? DONE : UNINITIALIZED, version, size, "stand-in");
}

/* The GPU and its handle. */

static int tell_handle(int is_it, const void **gpu)
{
    if (!sessions || !is_it)
        return sessions ? NOT_FOUND : UNINITIALIZED;
    *gpu = &gpu_0;
    return DONE;
}

int nvmlDeviceGetCount_v2(unsigned *count) { return tell(&gpu_0, count, 1); }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, const void **gpu)
{
    int error = tell_handle(index == 0, gpu);
    return error == NOT_FOUND ? INVALID_ARGUMENT : error;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *id, const void **gpu) { return (void)id, tell_handle(1, gpu); }

int nvmlDeviceGetUUID(const void *gpu, char *uuid, unsigned size)
{
    char text[64] = "GPU-";
    struct cudaDeviceProp found = properties();
    for (size_t n = 0, end = strlen(text); n < sizeof found.uuid.bytes; n++) {
        const char *dash = n == 4 || n == 6 || n == 8 || n == 10 ? "-" : "";
        end += (size_t)sprintf(text + end, "%s%02x", dash, (unsigned char)found.uuid.bytes[n]);
    }
    return tell_text(refusal(gpu), uuid, size, text);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, const void **gpu)
{
    char own[64];
    int error = nvmlDeviceGetUUID(&gpu_0, own, sizeof own);
    return error ? error : tell_handle(!strcmp(uuid, own), gpu);
}

int nvmlDeviceGetName(const void *gpu, char *name, unsigned size)
{
    struct cudaDeviceProp found = properties();
    return tell_text(refusal(gpu), name, size, found.name);
}

int nvmlDeviceGetCudaComputeCapability(const void *gpu, int *major, int *minor)
{
    int error = refusal(gpu);
    if (!error) {
        struct cudaDeviceProp found = properties();
        *major = found.major;
        *minor = found.minor;
    }
    return error;
}

int nvmlDeviceGetNumGpuCores(const void *gpu, unsigned *cores)
{
    struct cudaDeviceProp found = properties();
    int few = found.major == 7 || ((found.major == 6 || found.major == 8) && found.minor == 0);
    return tell(gpu, cores, (unsigned)found.multiProcessorCount * (few ? 64 : 128));
}

/* Memory. CUDA counts a context among what the driver keeps, and so the total is larger here. */

struct memory {
    unsigned long long total, unused, used;
};

int nvmlDeviceGetMemoryInfo(const void *gpu, struct memory *memory)
{
    int error = refusal(gpu);
    if (!error) {
        memory->total = properties().totalGlobalMem + CONTEXT_BYTES;
        memory->used = used_bytes();
        memory->unused = memory->total - memory->used;
    }
    return error;
}

struct process_v1 {
    unsigned number;
    unsigned long long used;
};

struct process {
    unsigned number;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
};

/* Whether the process is to be written down: it has a context, and there is room. */
static int list_processes(const void *gpu, unsigned *room, int *has_one)
{
    size_t given;
    unsigned count = stand_in_has_context(&given) ? 1 : 0;
    int error = refusal(gpu), too_small = *room < count;
    if (error)
        return error;
    *room = count;
    *has_one = count && !too_small;
    return too_small ? INSUFFICIENT_SIZE : DONE;
}

/* The oldest form, which torch asks for where memory ran out. */
int nvmlDeviceGetComputeRunningProcesses(const void *gpu, unsigned *room, struct process_v1 *processes)
{
    int has_one = 0, error = list_processes(gpu, room, &has_one);
    if (has_one) {
        struct process_v1 own = {(unsigned)getpid(), used_bytes()};
        *processes = own;
    }
    return error;
}

int nvmlDeviceGetComputeRunningProcesses_v3(const void *gpu, unsigned *room, struct process *processes)
{
    int has_one = 0, error = list_processes(gpu, room, &has_one);
    if (has_one) {
        struct process own = {(unsigned)getpid(), used_bytes(), (unsigned)NO_INSTANCE, (unsigned)NO_INSTANCE};
        *processes = own;
    }
    return error;
}

/* Power, which is always the same, and energy since the system was started. */

int nvmlDeviceGetPowerUsage(const void *gpu, unsigned *milliwatts) { return tell(gpu, milliwatts, POWER_MILLIWATTS); }

int nvmlDeviceGetEnforcedPowerLimit(const void *gpu, unsigned *milliwatts) { return tell(gpu, milliwatts, 400000); }

int nvmlDeviceGetTotalEnergyConsumption(const void *gpu, unsigned long long *millijoules)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double seconds = (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
    int error = refusal(gpu);
    if (!error)
        *millijoules = (unsigned long long)(seconds * POWER_MILLIWATTS);
    return error;
}

/* Clocks are at their highest, as nothing holds them back. */

int nvmlDeviceGetMaxClockInfo(const void *gpu, unsigned kind, unsigned *mhz)
{
    return kind < CLOCKS ? tell(gpu, mhz, kind == CLOCK_OF_MEMORY ? 1215 : 1410) : INVALID_ARGUMENT;
}

int nvmlDeviceGetClockInfo(const void *gpu, unsigned kind, unsigned *mhz)
{
    return nvmlDeviceGetMaxClockInfo(gpu, kind, mhz);
}

int nvmlDeviceGetCurrentClocksEventReasons(const void *gpu, unsigned long long *reasons)
{
    int error = refusal(gpu);
    if (!error)
        *reasons = 0;
    return error;
}

int nvmlDeviceGetTemperature(const void *gpu, unsigned sensor, unsigned *celsius)
{
    return sensor == 0 ? tell(gpu, celsius, 30) : INVALID_ARGUMENT;
}

/* How it is set and connected. */

int nvmlDeviceGetCurrPcieLinkGeneration(const void *gpu, unsigned *generation) { return tell(gpu, generation, 4); }

int nvmlDeviceGetCurrPcieLinkWidth(const void *gpu, unsigned *width) { return tell(gpu, width, 16); }

int nvmlDeviceGetPersistenceMode(const void *gpu, unsigned *is_on) { return tell(gpu, is_on, 1); }

int nvmlDeviceGetEccMode(const void *gpu, unsigned *is_on, unsigned *later)
{
    int error = tell(gpu, is_on, 0);
    return error ? error : tell(gpu, later, 0);
}

int nvmlDeviceGetMigMode(const void *gpu, unsigned *is_on, unsigned *later)
{
    (void)is_on, (void)later;
    int error = refusal(gpu);
    return error ? error : NOT_SUPPORTED;
}

/* What torch looks up when memory ran out, and does not call then. */

int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    *version = CUDART_VERSION;
    return DONE;
}

int nvmlDeviceGetGpuFabricInfoV(void) { return NOT_SUPPORTED; }

int nvmlDeviceGetNvLinkRemoteDeviceType(void) { return NOT_SUPPORTED; }

int nvmlDeviceGetNvLinkRemotePciInfo_v2(void) { return NOT_SUPPORTED; }
