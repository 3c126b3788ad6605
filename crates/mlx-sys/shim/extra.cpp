#include "extra.h"

#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlx/fast.h"
#include "mlx/scheduler.h"

namespace {
std::optional<mlx::core::array> optional(const mlx_array array) {
  return array.ctx ? std::make_optional(mlx_array_get_(array)) : std::nullopt;
}
} // namespace

extern "C" int mlx_fast_gated_delta_update(
    mlx_vector_array* res,
    const mlx_array queries,
    const mlx_array keys,
    const mlx_array values,
    const mlx_array gates,
    const mlx_array beta,
    const mlx_array initial_state,
    const mlx_array mask,
    const mlx_stream s) {
  try {
    mlx_vector_array_set_(
        *res,
        mlx::core::fast::gated_delta_update(
            mlx_array_get_(queries),
            mlx_array_get_(keys),
            mlx_array_get_(values),
            mlx_array_get_(gates),
            mlx_array_get_(beta),
            optional(initial_state),
            optional(mask),
            mlx_stream_get_(s)));
  } catch (std::exception& e) {
    mlx_error(e.what());
    return 1;
  }
  return 0;
}

extern "C" int mlx_array_is_tracer(bool* res, const mlx_array array) {
  try {
    *res = mlx_array_get_(array).is_tracer();
  } catch (std::exception& e) {
    mlx_error(e.what());
    return 1;
  }
  return 0;
}

extern "C" int mlx_cpu_queue(int tasks) {
  try {
    auto stream = mlx::core::default_stream(mlx::core::Device::cpu);
    for (; tasks > 0; --tasks) {
      mlx::core::scheduler::notify_task_completion(stream);
    }
    for (; tasks < 0; ++tasks) {
      mlx::core::scheduler::notify_new_task(stream);
    }
  } catch (std::exception& e) {
    mlx_error(e.what());
    return 1;
  }
  return 0;
}
