// MLX multiplies f32 matrices in TF32 where the device has it (CUDA, M5): 10 bits of mantissa. Here f32 is only used
// where its digits matter: low-rank products, the loss, the inverse of a gated-delta chunk.
#include <cstdlib>

namespace {
// MLX reads the variable with its first product. The value of the user counts.
const int full_precision = setenv("MLX_ENABLE_TF32", "0", /* overwrite = */ 0);
} // namespace
