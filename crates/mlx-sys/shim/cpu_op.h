// An operation of MLX's graph that is computed, on a CPU, by a function of the caller's.
#pragma once

#include <stddef.h>

#include "mlx/c/array.h"
#include "mlx/c/stream.h"
#include "mlx/c/vector.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Fills `outputs`, all in f32, from `inputs`, of the types they have; all dense, the sizes in values. Called on a thread
 * of MLX's, any number of times at once. Must not throw.
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
 * The arrays that `kernel` makes of `inputs` when they are evaluated: as many as `dims` has entries, their shapes one
 * after the other in `shapes`. `release` is called once with `payload`, also when this fails. Not differentiable.
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
