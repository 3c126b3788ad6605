//! The MLX runtime.
