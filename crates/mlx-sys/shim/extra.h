// MLX functions that mlx-c 0.7.0 does not wrap, by mlx-c's conventions.
#pragma once

#include "mlx/c/array.h"
#include "mlx/c/stream.h"
#include "mlx/c/vector.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Gated-delta linear attention (Qwen3.5): fills `res` with the output and the final state.
 */
int mlx_fast_gated_delta_update(
    mlx_vector_array* res,
    const mlx_array queries,
    const mlx_array keys,
    const mlx_array values,
    const mlx_array gates,
    const mlx_array beta,
    const mlx_array initial_state /* may be null */,
    const mlx_array mask /* may be null */,
    const mlx_stream s);

/**
 * Sets `res` to whether a gradient is being taken with respect to this array, or to one that it was computed from.
 */
int mlx_array_is_tracer(bool* res, const mlx_array array);

/**
 * Raises the number of tasks (of ten operations each) that may wait on all CPU streams together by `tasks`, or lowers it
 * if negative.
 *
 * MLX stops scheduling while more than ten tasks wait, counted over all streams. With several evaluating threads one
 * stream fills the limit and the others run dry.
 */
int mlx_cpu_queue(int tasks);

#ifdef __cplusplus
}
#endif
