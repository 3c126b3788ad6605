// Included before every mlx-c source: what mlx-c 0.7.0 expects and the compiler or MLX 0.32.4 lacks.
#pragma once

#include <sstream>
#include <string>
#include <string_view>

#include "mlx/ops.h"

#if __has_include(<format>)
#include <format>
#else
// GCC before 13 has no std::format. mlx-c only uses plain `{}` fields with strings and integers.
namespace std {
template <class... Args>
string format(string_view pattern, const Args&... args) {
  ostringstream out;
  auto fill = [&](const auto& arg) {
    auto field = pattern.find("{}");
    if (field == string_view::npos) {
      return;
    }
    out << pattern.substr(0, field) << arg;
    pattern.remove_prefix(field + 2);
  };
  (fill(args), ...);
  out << pattern;
  return out.str();
}
} // namespace std
#endif

namespace mlx::core {
// MLX 0.32.4 inserted the parameter `global_scale` before `sorted_indices`; mlx-c calls the older signature.
inline array gather_qmm(
    const array& x,
    const array& w,
    const array& scales,
    const std::optional<array>& biases,
    std::optional<array> lhs_indices,
    std::optional<array> rhs_indices,
    bool transpose,
    std::optional<int> group_size,
    std::optional<int> bits,
    const std::string& mode,
    bool sorted_indices,
    StreamOrDevice s) {
  return gather_qmm(
      x,
      w,
      scales,
      biases,
      std::move(lhs_indices),
      std::move(rhs_indices),
      transpose,
      group_size,
      bits,
      mode,
      /* global_scale = */ std::nullopt,
      sorted_indices,
      s);
}
} // namespace mlx::core
