// Symbols that exist on Apple silicon only and that mlx-rs links to on every platform.
#include <chrono>
#include <cstdint>

#include "mlx/c/error.h"
#include "mlx/c/half.h"
#include "mlx/c/private/mlx.h"

#ifndef __APPLE__
// mlx-rs seeds its random state from the Mach clock.
extern "C" std::uint64_t mach_approximate_time() {
  auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
}
#endif

// mlx-c compiles its half-precision accessors on Arm only, where the compiler has the types. On other machines these
// functions return the 16-bit words; src/half.rs declares them.
namespace {
template <class Half>
int item(std::uint16_t* res, const mlx_array arr) {
  static_assert(sizeof(Half) == sizeof(std::uint16_t));
  try {
    auto value = mlx_array_get_(arr).item<Half>();
    std::memcpy(res, &value, sizeof(value));
  } catch (std::exception& e) {
    mlx_error(e.what());
    return 1;
  }
  return 0;
}

template <class Half>
const std::uint16_t* data(const mlx_array arr) {
  try {
    return reinterpret_cast<const std::uint16_t*>(mlx_array_get_(arr).data<Half>());
  } catch (std::exception& e) {
    mlx_error(e.what());
    return nullptr;
  }
}
} // namespace

#ifndef HAS_FLOAT16
extern "C" int mlx_array_item_float16(std::uint16_t* res, const mlx_array arr) {
  return item<mlx::core::float16_t>(res, arr);
}
extern "C" const std::uint16_t* mlx_array_data_float16(const mlx_array arr) {
  return data<mlx::core::float16_t>(arr);
}
#endif

#ifndef HAS_BFLOAT16
extern "C" int mlx_array_item_bfloat16(std::uint16_t* res, const mlx_array arr) {
  return item<mlx::core::bfloat16_t>(res, arr);
}
extern "C" const std::uint16_t* mlx_array_data_bfloat16(const mlx_array arr) {
  return data<mlx::core::bfloat16_t>(arr);
}
#endif
