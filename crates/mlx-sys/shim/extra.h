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

#ifdef __cplusplus
}
#endif
