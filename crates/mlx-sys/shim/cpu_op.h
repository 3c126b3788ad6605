// A primitive of MLX's graph whose CPU evaluation is a function of the caller.
#pragma once

#include <stddef.h>

#include "mlx/c/array.h"
#include "mlx/c/stream.h"
#include "mlx/c/vector.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Fills `outputs` (f32) from `inputs` (each of a dtype of four bytes). All arrays are row-contiguous; sizes count elements. MLX
 * calls it on its own threads, several at a time. Must not throw.
 */
typedef void (*mlx_cpu_kernel)(
    const void* const* inputs,
    const size_t* input_sizes,
    size_t input_count,
    float* const* outputs,
    const size_t* output_sizes,
    size_t output_count,
    const void* payload);

/**
 * Fills `res` with `output_count` f32 arrays that `kernel` computes when they are evaluated. `dims` holds the number of
 * dimensions of each, `shapes` their shapes one after the other. `release` is called once with `payload`, also when this
 * fails. Not differentiable.
 */
int mlx_cpu_op(
    mlx_vector_array* res,
    const mlx_vector_array inputs,
    const int* shapes,
    const size_t* dims,
    size_t output_count,
    mlx_cpu_kernel kernel,
    void* payload,
    void (*release)(void*),
    const mlx_stream s);

#ifdef __cplusplus
}
#endif
