#include "cpu_op.h"

#include "mlx/allocator.h"
#include "mlx/backend/cpu/encoder.h"
#include "mlx/c/error.h"
#include "mlx/c/private/mlx.h"
#include "mlx/primitives.h"

namespace {
// Where the elements of an array lie, each of four bytes, and where they shall lie one after the other.
struct DenseCopy {
  const uint32_t* source;
  uint32_t* target;
  mlx::core::Shape shape;
  mlx::core::Strides strides;

  void run() const {
    auto* out = target;
    copy(source, 0, out);
  }

 private:
  void copy(const uint32_t* from, size_t axis, uint32_t*& out) const {
    if (axis == shape.size()) {
      *out++ = *from;
      return;
    }
    const auto stride = strides[axis];
    if (axis + 1 == shape.size()) {
      for (int i = 0; i < shape[axis]; ++i) {
        *out++ = from[i * stride];
      }
      return;
    }
    for (int i = 0; i < shape[axis]; ++i) {
      copy(from + i * stride, axis + 1, out);
    }
  }
};

class CpuOp : public mlx::core::Primitive {
 public:
  CpuOp(mlx::core::Stream stream, mlx_cpu_kernel kernel, std::shared_ptr<void> payload)
      : Primitive(stream), kernel_(kernel), payload_(std::move(payload)) {}

  void eval_cpu(
      const std::vector<mlx::core::array>& inputs,
      std::vector<mlx::core::array>& outputs) override {
    auto& encoder = mlx::core::cpu::get_command_encoder(stream());
    std::vector<const void*> in;
    std::vector<float*> out;
    std::vector<size_t> in_sizes, out_sizes;
    std::vector<DenseCopy> copies;
    for (auto& input : inputs) {
      encoder.set_input_array(input);
      in_sizes.push_back(input.size());
      if (input.flags().row_contiguous) {
        in.push_back(input.data<void>());
        continue;
      }
      mlx::core::array dense(input.shape(), input.dtype(), nullptr, {});
      dense.set_data(mlx::core::allocator::malloc(dense.nbytes()));
      copies.push_back({input.data<uint32_t>(), dense.data<uint32_t>(), input.shape(), input.strides()});
      in.push_back(dense.data<void>());
      encoder.add_temporary(std::move(dense));
    }
    for (auto& output : outputs) {
      output.set_data(mlx::core::allocator::malloc(output.nbytes()));
      encoder.set_output_array(output);
      out.push_back(output.data<float>());
      out_sizes.push_back(output.size());
    }
    // MLX keeps the buffers of inputs and outputs alive until this has run.
    encoder.dispatch([kernel = kernel_,
                      payload = payload_,
                      in = std::move(in),
                      in_sizes = std::move(in_sizes),
                      copies = std::move(copies),
                      out = std::move(out),
                      out_sizes = std::move(out_sizes)]() {
      for (auto& copy : copies) {
        copy.run();
      }
      kernel(
          in.data(), in_sizes.data(), in.size(), out.data(), out_sizes.data(), out.size(), payload.get());
    });
  }

  void eval_gpu(const std::vector<mlx::core::array>&, std::vector<mlx::core::array>&) override {
    throw std::runtime_error("CpuOp: expected a CPU stream, found a GPU stream");
  }

  const char* name() const override {
    return "CpuOp";
  }

 private:
  mlx_cpu_kernel kernel_;
  std::shared_ptr<void> payload_;
};
} // namespace

extern "C" int mlx_cpu_op(
    mlx_vector_array* res,
    const mlx_vector_array inputs,
    const int* shapes,
    const size_t* dims,
    size_t output_count,
    mlx_cpu_kernel kernel,
    void* payload,
    void (*release)(void*),
    const mlx_stream s) {
  try {
    std::shared_ptr<void> owned(payload, release);
    auto stream = mlx_stream_get_(s);
    const auto& arrays = mlx_vector_array_get_(inputs);
    for (auto& array : arrays) {
      if (array.itemsize() != sizeof(uint32_t)) {
        throw std::invalid_argument("CpuOp: expected elements of four bytes");
      }
    }
    std::vector<mlx::core::Shape> out;
    for (size_t i = 0; i < output_count; ++i) {
      out.emplace_back(shapes, shapes + dims[i]);
      shapes += dims[i];
    }
    std::vector<mlx::core::Dtype> dtypes(output_count, mlx::core::float32);
    auto op = std::make_shared<CpuOp>(stream, kernel, std::move(owned));
    mlx_vector_array_set_(
        *res, mlx::core::array::make_arrays(std::move(out), dtypes, op, arrays));
  } catch (std::exception& e) {
    mlx_error(e.what());
    return 1;
  }
  return 0;
}
