/* Stands in for cuBLAS and cuDNN, over cuda_runtime.c: descriptors are kept, questions answered, and nothing computed.

   Where a library would choose (an algorithm, its workspace) it chooses one that needs no workspace: what the real ones
   take cannot be known without a GPU. An LSTM's reserve is what bench/predict/device_rules.py takes it for. */

#include <cudnn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DONE CUDNN_STATUS_SUCCESS

/* cuBLAS. Its headers want others that not every installation has, so that plain integers and pointers are passed. */

int cublasCreate_v2(void **handle)
{
    *handle = calloc(1, 1);
    return 0;
}

int cublasDestroy_v2(void *handle)
{
    free(handle);
    return 0;
}

int cublasGetMathMode(void *handle, int *mode)
{
    (void)handle;
    *mode = 0; /* CUBLAS_DEFAULT_MATH */
    return 0;
}

int cublasGetPointerMode_v2(void *handle, int *mode)
{
    (void)handle;
    *mode = 0; /* CUBLAS_POINTER_MODE_HOST */
    return 0;
}

/* cublasLtMatmulHeuristicResult_t */
struct found_algorithm {
    uint64_t algorithm[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

int cublasLtMatmulAlgoGetHeuristic(void *handle, void *operation, void *a, void *b, void *c, void *d, void *preference,
                                   int wanted, struct found_algorithm results[], int *found)
{
    (void)handle, (void)operation, (void)a, (void)b, (void)c, (void)d, (void)preference;
    memset(results, 0, (size_t)wanted * sizeof *results);
    *found = 1;
    return 0;
}

/* cuDNN: handle and descriptors. */

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    *handle = calloc(1, 1);
    return DONE;
}

#define DESCRIPTOR(name, type)                                                                                         \
    cudnnStatus_t cudnnCreate##name(type *descriptor)                                                                  \
    {                                                                                                                  \
        *descriptor = calloc(1, sizeof **descriptor);                                                                  \
        return DONE;                                                                                                   \
    }                                                                                                                  \
    cudnnStatus_t cudnnDestroy##name(type descriptor)                                                                  \
    {                                                                                                                  \
        free(descriptor);                                                                                              \
        return DONE;                                                                                                   \
    }

struct cudnnTensorStruct {
    cudnnDataType_t type;
    int dimensions, sizes[CUDNN_DIM_MAX], strides[CUDNN_DIM_MAX];
};

DESCRIPTOR(TensorDescriptor, cudnnTensorDescriptor_t)

cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t descriptor, cudnnDataType_t type, int dimensions,
                                         const int sizes[], const int strides[])
{
    descriptor->type = type;
    descriptor->dimensions = dimensions;
    memcpy(descriptor->sizes, sizes, (size_t)dimensions * sizeof *sizes);
    memcpy(descriptor->strides, strides, (size_t)dimensions * sizeof *strides);
    return DONE;
}

cudnnStatus_t cudnnGetTensorNdDescriptor(const cudnnTensorDescriptor_t descriptor, int wanted, cudnnDataType_t *type,
                                         int *dimensions, int sizes[], int strides[])
{
    size_t least = (size_t)(wanted < descriptor->dimensions ? wanted : descriptor->dimensions);
    *type = descriptor->type;
    *dimensions = descriptor->dimensions;
    memcpy(sizes, descriptor->sizes, least * sizeof *sizes);
    memcpy(strides, descriptor->strides, least * sizeof *strides);
    return DONE;
}

/* LSTMs. */

enum { GATES = 4, MATRICES = 2 * GATES, RESERVED_NUMBERS = 6 };

struct cudnnRNNStruct {
    cudnnDataType_t type;
    int inputs, units, layers, directions;
};

struct cudnnRNNDataStruct {
    int steps, batch;
};

static size_t bytes_of(cudnnDataType_t type)
{
    return type == CUDNN_DATA_DOUBLE ? 8 : type == CUDNN_DATA_FLOAT ? 4 : 2;
}

DESCRIPTOR(RNNDescriptor, cudnnRNNDescriptor_t)

cudnnStatus_t cudnnSetRNNDescriptor_v8(cudnnRNNDescriptor_t descriptor, cudnnRNNAlgo_t algorithm, cudnnRNNMode_t cell,
                                       cudnnRNNBiasMode_t bias, cudnnDirectionMode_t direction,
                                       cudnnRNNInputMode_t input_mode, cudnnDataType_t type, cudnnDataType_t precision,
                                       cudnnMathType_t math, int32_t inputs, int32_t units, int32_t projection,
                                       int32_t layers, cudnnDropoutDescriptor_t dropout, uint32_t flags)
{
    (void)algorithm, (void)input_mode, (void)precision, (void)math, (void)dropout, (void)flags;
    if (cell != CUDNN_LSTM || bias != CUDNN_RNN_DOUBLE_BIAS || projection != units)
        return CUDNN_STATUS_NOT_SUPPORTED;
    struct cudnnRNNStruct told = {type, inputs, units, layers, direction == CUDNN_BIDIRECTIONAL ? 2 : 1};
    *descriptor = told;
    return DONE;
}

DESCRIPTOR(RNNDataDescriptor, cudnnRNNDataDescriptor_t)

cudnnStatus_t cudnnSetRNNDataDescriptor(cudnnRNNDataDescriptor_t descriptor, cudnnDataType_t type,
                                        cudnnRNNDataLayout_t layout, int steps, int batch, int vector,
                                        const int lengths[], void *padding)
{
    (void)type, (void)layout, (void)vector, (void)lengths, (void)padding;
    descriptor->steps = steps;
    descriptor->batch = batch;
    return DONE;
}

/* Numbers of the matrices of one layer and direction; the biases come after all matrices. */
static size_t matrix_numbers(cudnnRNNDescriptor_t rnn, int pseudo_layer)
{
    int above_first = pseudo_layer >= rnn->directions;
    size_t inputs = (size_t)(above_first ? rnn->directions * rnn->units : rnn->inputs), units = (size_t)rnn->units;
    return GATES * units * (inputs + units);
}

static size_t matrices_before(cudnnRNNDescriptor_t rnn, int pseudo_layer)
{
    size_t numbers = 0;
    for (int layer = 0; layer < pseudo_layer; layer++)
        numbers += matrix_numbers(rnn, layer);
    return numbers;
}

cudnnStatus_t cudnnGetRNNWeightSpaceSize(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, size_t *size)
{
    (void)handle;
    int pseudo_layers = rnn->layers * rnn->directions;
    size_t biases = (size_t)pseudo_layers * MATRICES * (size_t)rnn->units;
    *size = (matrices_before(rnn, pseudo_layers) + biases) * bytes_of(rnn->type);
    return DONE;
}

static void describe(cudnnTensorDescriptor_t descriptor, cudnnDataType_t type, int rows, int columns)
{
    const int sizes[] = {1, rows, columns}, strides[] = {rows * columns, columns, 1};
    cudnnSetTensorNdDescriptor(descriptor, type, 3, sizes, strides);
}

cudnnStatus_t cudnnGetRNNWeightParams(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, int32_t pseudo_layer,
                                      size_t space_bytes, const void *space, int32_t matrix,
                                      cudnnTensorDescriptor_t weight, void **weight_address,
                                      cudnnTensorDescriptor_t bias, void **bias_address)
{
    (void)handle, (void)space_bytes;
    size_t units = (size_t)rnn->units, all = matrix_numbers(rnn, pseudo_layer);
    size_t recurrent = GATES * units * units, columns = matrix < GATES ? (all - recurrent) / (GATES * units) : units;
    size_t before = matrix < GATES ? (size_t)matrix * units * columns
                                   : all - recurrent + (size_t)(matrix - GATES) * units * units;
    size_t biases_before = ((size_t)pseudo_layer * MATRICES + (size_t)matrix) * units;
    size_t every_matrix = matrices_before(rnn, rnn->layers * rnn->directions), width = bytes_of(rnn->type);
    if (weight_address) { /* either may be NULL */
        *weight_address = (char *)space + (matrices_before(rnn, pseudo_layer) + before) * width;
        describe(weight, rnn->type, rnn->units, (int)columns);
    }
    if (bias_address) {
        *bias_address = (char *)space + (every_matrix + biases_before) * width;
        describe(bias, rnn->type, rnn->units, 1);
    }
    return DONE;
}

cudnnStatus_t cudnnGetRNNTempSpaceSizes(cudnnHandle_t handle, cudnnRNNDescriptor_t rnn, cudnnForwardMode_t mode,
                                        cudnnRNNDataDescriptor_t data, size_t *workspace, size_t *reserve)
{
    (void)handle;
    size_t cells = (size_t)data->steps * (size_t)data->batch * (size_t)(rnn->units * rnn->layers * rnn->directions);
    *workspace = 0;
    if (reserve) /* it is not asked for in the backward pass */
        *reserve = mode == CUDNN_FWD_MODE_TRAINING ? RESERVED_NUMBERS * cells * bytes_of(rnn->type) : 0;
    return DONE;
}

/* Batch normalization: only training asks for memory of its own. */

cudnnStatus_t cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t operations, const cudnnTensorDescriptor_t x,
    const cudnnTensorDescriptor_t z, const cudnnTensorDescriptor_t y, const cudnnTensorDescriptor_t statistics,
    const cudnnActivationDescriptor_t activation, size_t *size)
{
    (void)handle, (void)mode, (void)operations, (void)x, (void)z, (void)y, (void)statistics, (void)activation;
    *size = 0;
    return DONE;
}

cudnnStatus_t cudnnGetBatchNormalizationBackwardExWorkspaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t operations, const cudnnTensorDescriptor_t x,
    const cudnnTensorDescriptor_t y, const cudnnTensorDescriptor_t dy, const cudnnTensorDescriptor_t dz,
    const cudnnTensorDescriptor_t dx, const cudnnTensorDescriptor_t statistics,
    const cudnnActivationDescriptor_t activation, size_t *size)
{
    (void)handle, (void)mode, (void)operations, (void)x, (void)y, (void)dy, (void)dz, (void)dx, (void)statistics;
    (void)activation;
    *size = 0;
    return DONE;
}

cudnnStatus_t cudnnGetBatchNormalizationTrainingExReserveSpaceSize(cudnnHandle_t handle, cudnnBatchNormMode_t mode,
                                                                   cudnnBatchNormOps_t operations,
                                                                   const cudnnActivationDescriptor_t activation,
                                                                   const cudnnTensorDescriptor_t x, size_t *size)
{
    (void)handle, (void)mode, (void)operations, (void)activation, (void)x;
    *size = 0;
    return DONE;
}

/* Convolutions, by cuDNN's graphs: there is one engine, without notes or knobs, and its plan needs no workspace. */

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *descriptor)
{
    (void)type;
    *descriptor = calloc(1, 1);
    return DONE;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor)
{
    free(descriptor);
    return DONE;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t wanted, int64_t *found, void *values)
{
    (void)descriptor;
    int has_none = name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE || name == CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE ||
                   name == CUDNN_ATTR_ENGINECFG_KNOB_CHOICES;
    if (found)
        *found = has_none ? 0 : 1;
    if (wanted > 0 && values && !has_none && type == CUDNN_TYPE_INT64)
        memset(values, 0, sizeof(int64_t));
    return DONE;
}
