/* Stands in for the CUDA runtime and driver, so that torch's own caching allocator runs where there is no GPU.

   The allocator is part of torch (libc10_cuda.so); of CUDA it needs little more than someone who gives out segments and
   takes them back. This library answers those calls, and the few that torch makes to start CUDA. It is put before the
   real runtime with LD_PRELOAD, and linked under the driver's name (libcuda.so.1), which torch insists on loading.

   There is no device: addresses are numbers that nothing may read or write, no kernel can run, and whatever is not
   defined here is answered by the real runtime, with an error for want of a driver.

   A stream's work ends when stand_in_finish() says so, or when somebody waits for it: that is how the freeing of memory
   that another stream uses gets deferred.

   Written against CUDA 13; its headers are not needed, since only plain integers and pointers are passed. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_READY = 600 };

/* The beginning of cudaDeviceProp, as far as anybody looks here; the rest stays as the caller had it. */
struct properties {
    char name[256], uuid[16], luid[8];
    unsigned luid_mask;
    size_t memory, shared_memory;
    int registers, warp;
    size_t pitch;
    int block_threads, block_size[3], grid_size[3];
    size_t constant_memory;
    int major, minor;
};

/* cudaGetLastError: the runtime remembers the last failure until it is asked. */
static int last_error;

static int failed(int error)
{
    last_error = error;
    return error;
}

int cudaGetLastError(void)
{
    int error = last_error;
    last_error = SUCCESS;
    return error;
}

int cudaPeekAtLastError(void) { return last_error; }

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

int cudaMalloc(void **address, size_t size)
{
    size_t length = size / SLOT_BYTES + (size % SLOT_BYTES != 0);
    if (length > SLOTS || given_bytes + length * SLOT_BYTES > capacity())
        return failed(OUT_OF_MEMORY);
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
            return SUCCESS;
        }
    }
    return failed(OUT_OF_MEMORY);
}

int cudaFree(void *address)
{
    size_t first = ((uintptr_t)address - BASE) / SLOT_BYTES;
    if (!address)
        return SUCCESS;
    if (first >= SLOTS || !occupied[first])
        return failed(INVALID_VALUE);
    size_t length = occupied[first];
    memset(occupied + first, 0, length * sizeof *occupied);
    given_bytes -= length * SLOT_BYTES;
    return SUCCESS;
}

int cudaMemGetInfo(size_t *unused, size_t *total)
{
    *total = capacity();
    *unused = *total - given_bytes;
    return SUCCESS;
}

/* Streams and events. An event is a moment in the order of all recorded work; it is over once that many are finished. */

static uint64_t recorded, finished;

void stand_in_finish(uint64_t events)
{
    finished = events < recorded - finished ? finished + events : recorded;
}

int cudaEventCreateWithFlags(uint64_t **event, unsigned flags)
{
    (void)flags;
    *event = calloc(1, sizeof **event);
    return SUCCESS;
}

int cudaEventDestroy(uint64_t *event)
{
    free(event);
    return SUCCESS;
}

int cudaEventRecord(uint64_t *event, void *stream)
{
    (void)stream;
    *event = ++recorded;
    return SUCCESS;
}

int cudaEventQuery(uint64_t *event) { return *event <= finished ? SUCCESS : failed(NOT_READY); }

int cudaEventSynchronize(uint64_t *event)
{
    if (*event > finished)
        finished = *event;
    return SUCCESS;
}

int cudaDeviceSynchronize(void)
{
    finished = recorded;
    return SUCCESS;
}

int cudaStreamCreateWithPriority(void **stream, unsigned flags, int priority)
{
    static uintptr_t last = 0x100; /* handles below are CUDA's own names for the default streams */
    (void)flags, (void)priority;
    *stream = (void *)++last;
    return SUCCESS;
}

int cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = *greatest = 0;
    return SUCCESS;
}

int cudaStreamIsCapturing(void *stream, int *status)
{
    (void)stream;
    *status = 0;
    return SUCCESS;
}

int cudaStreamGetCaptureInfo(void *stream, int *status, uint64_t *id, void **graph, void ***needed, void **edges,
                             size_t *count)
{
    (void)stream, (void)id, (void)graph, (void)needed, (void)edges, (void)count;
    *status = 0;
    return SUCCESS;
}

/* The device. */

int cudaGetDeviceCount(int *count)
{
    *count = 1;
    return SUCCESS;
}

int cudaGetDevice(int *device)
{
    *device = 0;
    return SUCCESS;
}

int cudaSetDevice(int device) { return device == 0 ? SUCCESS : failed(INVALID_VALUE); }

int cudaGetDeviceProperties(struct properties *properties, int device)
{
    (void)device;
    strcpy(properties->name, "stand-in, no GPU");
    properties->memory = capacity();
    properties->warp = 32;
    properties->block_threads = 1024;
    properties->major = 8;
    properties->minor = 0;
    return SUCCESS;
}

/* The driver: torch asks whether a device has a context yet. Without one it would not look at its streams. */

int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active)
{
    (void)device;
    *flags = 0;
    *active = 1;
    return SUCCESS;
}
