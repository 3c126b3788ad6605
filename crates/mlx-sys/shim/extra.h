// MLX functions that mlx-c 0.7.0 does not wrap, in mlx-c's own conventions.
#pragma once

#include "mlx/c/array.h"
#include "mlx/c/stream.h"
#include "mlx/c/vector.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * The gated delta rule of linear attention (Qwen3.5): fills `res` with the output and the final state.
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
 * Lets the CPU's streams together have so many more tasks (of ten operations) waiting than MLX would, or, if negative,
 * fewer again.
 *
 * MLX stops asking for operations while more than ten tasks wait, and counts those of all streams: of several threads
 * that evaluate, one takes all ten and the others' streams run dry.
 */
int mlx_cpu_queue(int tasks);

#ifdef __cplusplus
}
#endif
