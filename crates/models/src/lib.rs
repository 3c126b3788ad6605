//! Language models on MLX: checkpoints, layers, adapters, generation.
