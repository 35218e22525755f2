/* Stands in for the CUDA runtime and driver, so that torch's own CUDA code runs where there is no GPU.

   What torch decides on the host is all real: which kernels an operator launches, what it allocates for them, and what
   its caching allocator makes of that. Only what the device would do is missing: kernels and copies between places in
   its memory are accepted and do nothing, and whatever is read back from it is zeros. Its addresses are numbers that
   nothing may read or write.

   This library is put before the real runtime with LD_PRELOAD, and linked under the driver's name (libcuda.so.1), which
   torch insists on loading. A function that is not defined here is answered by the real runtime, with an error for want
   of a driver.

   A stream's work ends when stand_in_finish() says so, or when somebody waits for it: that is how the freeing of memory
   that another stream uses gets deferred. */

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* cudaGetLastError: the runtime remembers the last failure until it is asked. */
static cudaError_t last_error;

static cudaError_t failed(cudaError_t error)
{
    last_error = error;
    return error;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void) { return last_error; }

/* Memory: slots of 2 MiB. A segment gets the lowest gap that fits, or the highest, by turns, so that the addresses of
   equal blocks come in another order than their allocation. */

#define SLOT_BYTES ((size_t)2 << 20)
#define SLOTS ((size_t)1 << 17)
#define BASE ((uintptr_t)0x7f0000000000)

static uint32_t occupied[SLOTS]; /* 0: free; the first slot of a segment holds its length, the others 1 */
static size_t given_bytes;
static unsigned segments_made;

static size_t capacity(void)
{
    const char *text = getenv("STAND_IN_CAPACITY_BYTES");
    size_t all = SLOTS * SLOT_BYTES, wanted = text ? strtoull(text, NULL, 10) : all;
    return wanted < all ? wanted : all;
}

static int is_gap(size_t first, size_t length)
{
    for (size_t slot = first; slot < first + length; slot++)
        if (occupied[slot])
            return 0;
    return 1;
}

cudaError_t cudaMalloc(void **address, size_t size)
{
    size_t length = size / SLOT_BYTES + (size % SLOT_BYTES != 0);
    if (length > SLOTS || given_bytes + length * SLOT_BYTES > capacity())
        return failed(cudaErrorMemoryAllocation);
    int from_above = segments_made % 2;
    for (size_t n = 0; n <= SLOTS - length; n++) {
        size_t first = from_above ? SLOTS - length - n : n;
        if (is_gap(first, length)) {
            for (size_t slot = first; slot < first + length; slot++)
                occupied[slot] = 1;
            occupied[first] = (uint32_t)length;
            given_bytes += length * SLOT_BYTES;
            segments_made++;
            *address = (void *)(BASE + first * SLOT_BYTES);
            return cudaSuccess;
        }
    }
    return failed(cudaErrorMemoryAllocation);
}

cudaError_t cudaFree(void *address)
{
    size_t first = ((uintptr_t)address - BASE) / SLOT_BYTES;
    if (!address)
        return cudaSuccess;
    if (first >= SLOTS || !occupied[first])
        return failed(cudaErrorInvalidValue);
    size_t length = occupied[first];
    memset(occupied + first, 0, length * sizeof *occupied);
    given_bytes -= length * SLOT_BYTES;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *unused, size_t *total)
{
    *total = capacity();
    *unused = *total - given_bytes;
    return cudaSuccess;
}

/* For nvml.c: whether the process has a context, which comes with its first memory, and what it was given. */
int stand_in_has_context(size_t *given)
{
    *given = given_bytes;
    return segments_made > 0;
}

/* Pinned host memory is ordinary memory whose address is remembered. */

static struct {
    void *address;
    size_t size;
} pinned[1 << 12];
static size_t pinned_made;

static cudaError_t remember_pinned(void *address, size_t size)
{
    if (pinned_made == sizeof pinned / sizeof *pinned)
        return failed(cudaErrorMemoryAllocation);
    pinned[pinned_made].address = address;
    pinned[pinned_made++].size = size;
    return cudaSuccess;
}

static int forget_pinned(const void *address)
{
    for (size_t n = 0; n < pinned_made; n++)
        if (pinned[n].address == address) {
            pinned[n] = pinned[--pinned_made];
            return 1;
        }
    return 0;
}

cudaError_t cudaHostAlloc(void **address, size_t size, unsigned flags)
{
    (void)flags;
    *address = calloc(1, size);
    return *address ? remember_pinned(*address, size) : failed(cudaErrorMemoryAllocation);
}

cudaError_t cudaMallocHost(void **address, size_t size) { return cudaHostAlloc(address, size, 0); }

cudaError_t cudaFreeHost(void *address)
{
    if (!forget_pinned(address))
        return failed(cudaErrorInvalidValue);
    free(address);
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void *address, size_t size, unsigned flags)
{
    (void)flags;
    return remember_pinned(address, size);
}

cudaError_t cudaHostUnregister(void *address)
{
    return forget_pinned(address) ? cudaSuccess : failed(cudaErrorInvalidValue);
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *address)
{
    memset(attributes, 0, sizeof *attributes);
    attributes->type = cudaMemoryTypeUnregistered;
    size_t offset = (uintptr_t)address - BASE;
    if (offset < SLOTS * SLOT_BYTES && occupied[offset / SLOT_BYTES]) {
        attributes->type = cudaMemoryTypeDevice;
        attributes->devicePointer = (void *)address;
    }
    for (size_t n = 0; n < pinned_made; n++)
        if ((uintptr_t)address - (uintptr_t)pinned[n].address < pinned[n].size)
            attributes->type = cudaMemoryTypeHost;
    return cudaSuccess;
}

/* Copies. */

cudaError_t cudaMemcpy(void *to, const void *from, size_t size, enum cudaMemcpyKind kind)
{
    switch (kind) {
    case cudaMemcpyDeviceToHost:
        memset(to, 0, size);
        return cudaSuccess;
    case cudaMemcpyHostToHost:
        memcpy(to, from, size);
        return cudaSuccess;
    case cudaMemcpyHostToDevice:
    case cudaMemcpyDeviceToDevice:
        return cudaSuccess;
    default: /* from where to where is to be told from the addresses; torch always says it */
        return failed(cudaErrorInvalidMemcpyDirection);
    }
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    (void)stream;
    return cudaMemcpy(to, from, size, kind);
}

cudaError_t cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    for (size_t row = 0; row < height; row++) {
        cudaError_t error = cudaMemcpyAsync((char *)to + row * to_pitch, (const char *)from + row * from_pitch, width,
                                            kind, stream);
        if (error)
            return error;
    }
    return cudaSuccess;
}

cudaError_t cudaMemset(void *address, int value, size_t size) { return (void)address, (void)value, (void)size, 0; }

cudaError_t cudaMemsetAsync(void *address, int value, size_t size, cudaStream_t stream)
{
    return (void)stream, cudaMemset(address, value, size);
}

/* Kernels. The compiler's host code asks the runtime for a launch in two ways. */

cudaError_t cudaLaunchKernel(const void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared_memory,
                             cudaStream_t stream)
{
    return (void)kernel, (void)grid, (void)block, (void)arguments, (void)shared_memory, (void)stream, cudaSuccess;
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *kernel, void **arguments)
{
    return (void)config, (void)kernel, (void)arguments, cudaSuccess;
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_memory, struct CUstream_st *stream)
{
    return (void)grid, (void)block, (void)shared_memory, (void)stream, 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared_memory, void *stream)
{
    dim3 one = {1, 1, 1};
    *grid = *block = one;
    *shared_memory = 0;
    *(cudaStream_t *)stream = NULL;
    return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function)
{
    *kernel = (cudaKernel_t)function;
    return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **arguments, size_t shared_memory,
                               cudaStream_t stream)
{
    return cudaLaunchKernel((const void *)kernel, grid, block, arguments, shared_memory, stream);
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *kernel)
{
    (void)kernel;
    memset(attributes, 0, sizeof *attributes);
    attributes->maxThreadsPerBlock = 1024;
    attributes->numRegs = 32;
    attributes->ptxVersion = attributes->binaryVersion = 80;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *kernel, enum cudaFuncAttribute attribute, int value)
{
    return (void)kernel, (void)attribute, (void)value, cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *kernel, int threads,
                                                                   size_t shared_memory, unsigned flags)
{
    (void)kernel, (void)shared_memory, (void)flags;
    *blocks = 2048 / threads;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *kernel, int threads,
                                                          size_t shared_memory)
{
    return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, kernel, threads, shared_memory, 0);
}

/* Streams and events. An event is a moment in the order of all recorded work; it is over once that many are finished. */

struct CUevent_st {
    uint64_t order;
    struct timespec when; /* it was recorded, by the host's clock, since there is no work whose end could count */
};

static uint64_t recorded, finished;

void stand_in_finish(uint64_t events)
{
    finished = events < recorded - finished ? finished + events : recorded;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    *event = calloc(1, sizeof **event);
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event) { return cudaEventCreateWithFlags(event, 0); }

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    free(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags)
{
    (void)stream, (void)flags;
    event->order = ++recorded;
    timespec_get(&event->when, TIME_UTC);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { return cudaEventRecordWithFlags(event, stream, 0); }

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    return event->order <= finished ? cudaSuccess : failed(cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (event->order > finished)
        finished = event->order;
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    double seconds = difftime(to->when.tv_sec, from->when.tv_sec);
    *milliseconds = (float)(seconds * 1e3 + (double)(to->when.tv_nsec - from->when.tv_nsec) * 1e-6);
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    finished = recorded;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) { return (void)stream, cudaDeviceSynchronize(); }

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    return (void)stream, finished == recorded ? cudaSuccess : failed(cudaErrorNotReady);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    return (void)stream, (void)event, (void)flags, cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int priority)
{
    static uintptr_t last = 0x100; /* handles below are CUDA's own names for the default streams */
    (void)flags, (void)priority;
    *stream = (cudaStream_t)++last;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) { return (void)stream, cudaSuccess; }

cudaError_t cudaStreamGetPriority(cudaStream_t stream, int *priority)
{
    (void)stream;
    *priority = 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = *greatest = 0;
    return cudaSuccess;
}

/* Graphs: what is captured does nothing, and neither does its replay. One stream at a time captures. */

static cudaStream_t capturing;
static unsigned long long captures;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    (void)mode;
    if (capturing)
        return failed(cudaErrorIllegalState);
    capturing = stream;
    captures++;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    if (stream != capturing)
        return failed(cudaErrorIllegalState);
    capturing = NULL;
    *graph = malloc(1);
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status)
{
    *status = capturing && stream == capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, enum cudaStreamCaptureStatus *status, unsigned long long *id,
                                     cudaGraph_t *graph, const cudaGraphNode_t **needed,
                                     const cudaGraphEdgeData **edges, size_t *count)
{
    (void)graph, (void)needed, (void)edges, (void)count;
    if (id)
        *id = captures;
    return cudaStreamIsCapturing(stream, status);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    (void)graph, (void)nodes;
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags)
{
    (void)graph, (void)flags;
    *executable = malloc(1);
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *executable, cudaGraph_t graph, unsigned long long flags)
{
    return cudaGraphInstantiateWithFlags(executable, graph, flags);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream)
{
    return (void)executable, (void)stream, cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    free(graph);
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable)
{
    free(executable);
    return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode) { return (void)mode, cudaSuccess; }

/* The device. */

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : failed(cudaErrorInvalidValue); }

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *properties, int device)
{
    (void)device;
    memset(properties, 0, sizeof *properties);
    strcpy(properties->name, "stand-in, no GPU");
    memcpy(properties->uuid.bytes, properties->name, sizeof properties->uuid.bytes);
    properties->totalGlobalMem = capacity();
    properties->warpSize = 32;
    properties->maxThreadsPerBlock = 1024;
    properties->maxThreadsPerMultiProcessor = 2048;
    properties->maxThreadsDim[0] = properties->maxThreadsDim[1] = 1024;
    properties->maxThreadsDim[2] = 64;
    properties->maxGridSize[0] = 0x7fffffff;
    properties->maxGridSize[1] = properties->maxGridSize[2] = 65535;
    properties->sharedMemPerBlock = 48 << 10;
    properties->sharedMemPerBlockOptin = 163 << 10;
    properties->sharedMemPerMultiprocessor = 164 << 10;
    properties->regsPerBlock = properties->regsPerMultiprocessor = 65536;
    properties->multiProcessorCount = 108;
    properties->l2CacheSize = 40 << 20;
    properties->textureAlignment = 512;
    const char *capability = getenv("STAND_IN_CAPABILITY");
    if (sscanf(capability ? capability : "8.0", "%d.%d", &properties->major, &properties->minor) != 2)
        return failed(cudaErrorInvalidValue);
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    struct cudaDeviceProp properties;
    cudaGetDeviceProperties(&properties, device);
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = properties.maxThreadsPerBlock;
        return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = properties.maxThreadsPerMultiProcessor;
        return cudaSuccess;
    case cudaDevAttrMaxGridDimX:
        *value = properties.maxGridSize[0];
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = (int)properties.sharedMemPerBlock;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)properties.sharedMemPerBlockOptin;
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *value = properties.multiProcessorCount;
        return cudaSuccess;
    case cudaDevAttrWarpSize:
        *value = properties.warpSize;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = properties.major;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = properties.minor;
        return cudaSuccess;
    default:
        fprintf(stderr, "cuda stand-in: device attribute %d is not known\n", attribute);
        return failed(cudaErrorNotSupported);
    }
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

/* The driver: torch asks for a thread's context, and whether a device has one; without, it would not look at streams. */

CUresult cuCtxGetCurrent(CUcontext *context)
{
    *context = (CUcontext)1;
    return CUDA_SUCCESS;
}

/* Where memory ran out, torch asks NVML who holds it; it has all it ever wants of the driver looked up before. */

static CUresult not_supported(void) { return CUDA_ERROR_NOT_SUPPORTED; }

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version,
                                             unsigned long long flags, enum cudaDriverEntryPointQueryResult *result)
{
    (void)name, (void)version, (void)flags;
    *function = (void *)not_supported;
    if (result)
        *result = cudaDriverEntryPointSuccess;
    return cudaSuccess;
}

/* Some kernels of torch's are compiled when they are first used; the true compiler (NVRTC) needs no GPU. */

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
    *module = (CUmodule)image;
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
    (void)name;
    *function = (CUfunction)module;
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_memory, CUstream stream, void **arguments,
                        void **extra)
{
    (void)function, (void)grid_x, (void)grid_y, (void)grid_z, (void)block_x, (void)block_y, (void)block_z;
    (void)shared_memory, (void)stream, (void)arguments, (void)extra;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active)
{
    (void)device;
    *flags = 0;
    *active = 1;
    return CUDA_SUCCESS;
}
