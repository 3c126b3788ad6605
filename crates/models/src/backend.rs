//! How a model computes: device, kernels and number type, chosen once when a model is opened.
//!
//! On a CPU, MLX's quantized kernels run on one thread without SIMD (2 GFLOP/s) and its bf16
//! products at 4.5 GFLOP/s, while dequantizing and an f32 product through BLAS reach 110 on two
//! cores. So on a CPU everything is f32 and goes through BLAS; on CUDA and Metal the native bf16
//! and quantized kernels are the right ones.

use std::str::FromStr;

use mlx_rs::{Array, Device, DeviceType, Dtype};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Overrides the choice of kernels for models that are opened without one: `native`, `native-f32` or
/// `blas`.
const VARIABLE: &str = "NIGHTSHIFT_KERNELS";

/// The memory [`WeightResidency::Auto`] may spend on dequantized weights.
const AUTO_LIMIT: usize = 2 << 30;

/// How matrix products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kernels {
    /// In f32 through BLAS; quantized weights are dequantized first. The default on a CPU.
    Blas,
    /// By MLX's own 16-bit and quantized kernels: f16 for a checkpoint in f16, else bf16. The default
    /// on CUDA and Metal; slow on a CPU.
    Native,
    /// The same operations in f32: tells an error of the device path from the rounding of 16 bits.
    NativeF32,
}

impl FromStr for Kernels {
    type Err = Error;

    /// Parses the value of `NIGHTSHIFT_KERNELS`.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "blas" => Ok(Self::Blas),
            "native" => Ok(Self::Native),
            "native-f32" => Ok(Self::NativeF32),
            found => Err(Error::Argument {
                name: VARIABLE,
                expected: "native, native-f32 or blas".into(),
                found: format!("{found:?}"),
            }),
        }
    }
}

/// Where weights are kept, and in which form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WeightResidency {
    /// [`PackedAndDequantized`](Self::PackedAndDequantized) on a CPU while all weights take at most
    /// 2 GiB dequantized, else [`Packed`](Self::Packed).
    #[default]
    Auto,
    /// In memory, as in the checkpoint; a CPU dequantizes a weight each time it is used for more than
    /// a few rows.
    Packed,
    /// In memory, dequantized when the model is opened: faster for more than a few rows, and about
    /// six times larger at 4 bits.
    Dequantized,
    /// In memory in both forms. A CPU multiplies up to sixteen rows, as decoding has, with the packed
    /// weights, which are a sixth to read, and more rows, as prefill has, with the dequantized ones.
    PackedAndDequantized,
    /// On disk: read from the checkpoint each time they are used. For models that are larger than
    /// the memory.
    Streamed,
}

impl WeightResidency {
    /// The same without packed weights beside dequantized ones.
    pub(crate) fn in_one_form(self) -> Self {
        match self {
            Self::PackedAndDequantized => Self::Dequantized,
            other => other,
        }
    }

    /// Whether weights are dequantized when they are read.
    pub(crate) fn dequantizes(self) -> bool {
        matches!(self, Self::Dequantized | Self::PackedAndDequantized)
    }
}

/// How [`Model::open_with`](crate::Model::open_with) opens a model. [`WeightResidency`] converts
/// into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Where weights are kept.
    pub residency: WeightResidency,
    /// How products are computed. Without a choice, what the environment variable
    /// `NIGHTSHIFT_KERNELS` says (`native`, `native-f32` or `blas`), else the device's default.
    pub kernels: Option<Kernels>,
}

impl OpenOptions {
    /// Sets where weights are kept.
    pub fn residency(self, residency: WeightResidency) -> Self {
        Self { residency, ..self }
    }

    /// Sets how products are computed.
    pub fn kernels(self, kernels: Kernels) -> Self {
        Self { kernels: Some(kernels), ..self }
    }
}

impl From<WeightResidency> for OpenOptions {
    fn from(residency: WeightResidency) -> Self {
        Self::default().residency(residency)
    }
}

/// The device and how it computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    kernels: Kernels,
    /// Whether MLX's default device is a CPU.
    cpu: bool,
    /// Of weights and activations.
    dtype: Dtype,
    packs_few_rows: bool,
}

impl Backend {
    /// MLX's default device with these kernels, else those of the environment, else its default.
    pub fn choose(kernels: Option<Kernels>) -> Result<Self> {
        let cpu = matches!(Device::try_default()?.get_type()?, DeviceType::Cpu);
        let kernels = match (kernels, std::env::var_os(VARIABLE)) {
            (Some(kernels), _) => kernels,
            (None, Some(name)) => name.to_string_lossy().parse()?,
            (None, None) if cpu => Kernels::Blas,
            (None, None) => Kernels::Native,
        };
        let dtype = match kernels {
            Kernels::Blas | Kernels::NativeF32 => Dtype::Float32,
            Kernels::Native => Dtype::Bfloat16,
        };
        Ok(Self { kernels, cpu, dtype, packs_few_rows: kernels == Kernels::Blas })
    }

    /// The same for a checkpoint made in this type. f16 stays f16: bf16 would cut three bits off its
    /// weights and scales.
    pub fn of_checkpoint(self, stored: Dtype) -> Self {
        match (self.kernels, stored) {
            (Kernels::Native, Dtype::Float16) => Self { dtype: Dtype::Float16, ..self },
            _ => self,
        }
    }

    /// The same, with few rows too multiplied with dequantized weights.
    pub fn with_dense_products(self) -> Self {
        Self { packs_few_rows: false, ..self }
    }

    /// Whether few rows are multiplied with packed weights by the `kernels` crate.
    pub fn packs_few_rows(self) -> bool {
        self.packs_few_rows
    }

    /// Whether MLX's own kernels are used.
    pub fn is_native(self) -> bool {
        self.kernels != Kernels::Blas
    }

    /// Whether MLX's default device is a CPU.
    pub fn is_cpu(self) -> bool {
        self.cpu
    }

    /// Whether operations on `x` run through the `kernels` crate, which is for f32 on a CPU.
    pub fn fuses(self, x: &Array) -> bool {
        self.cpu && !self.is_native() && x.dtype() == Dtype::Float32
    }

    /// The type of weights and activations.
    pub fn dtype(self) -> Dtype {
        self.dtype
    }

    /// The size of that type.
    pub fn bytes_per_value(self) -> usize {
        if self.dtype == Dtype::Float32 { 4 } else { 2 }
    }

    /// Resolves [`WeightResidency::Auto`] for a model of so many weights.
    pub fn residency(self, asked: WeightResidency, weights: usize) -> WeightResidency {
        match asked {
            WeightResidency::Auto if !self.is_native() && weights * 4 <= AUTO_LIMIT => {
                WeightResidency::PackedAndDequantized
            }
            WeightResidency::Auto => WeightResidency::Packed,
            asked => asked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_parsed_by_name() {
        assert_eq!("native".parse::<Kernels>().unwrap(), Kernels::Native);
        assert_eq!("native-f32".parse::<Kernels>().unwrap(), Kernels::NativeF32);
        assert_eq!("blas".parse::<Kernels>().unwrap(), Kernels::Blas);
        let error = "cuda".parse::<Kernels>().unwrap_err().to_string();
        assert_eq!(
            error,
            r#"NIGHTSHIFT_KERNELS: expected native, native-f32 or blas, found "cuda""#
        );
    }

    #[test]
    fn only_16_bit_kernels_take_the_checkpoints_type() {
        let dtype =
            |kernels, stored| Backend::choose(Some(kernels)).unwrap().of_checkpoint(stored).dtype();
        use Dtype::{Bfloat16, Float16, Float32};
        for (kernels, of_f16, of_bf16) in [
            (Kernels::Native, Float16, Bfloat16),
            (Kernels::NativeF32, Float32, Float32),
            (Kernels::Blas, Float32, Float32),
        ] {
            assert_eq!((dtype(kernels, Float16), dtype(kernels, Bfloat16)), (of_f16, of_bf16));
        }
        assert_eq!(dtype(Kernels::Native, Float32), Bfloat16);
    }

    #[test]
    fn an_argument_decides_before_the_default() {
        let native = Backend::choose(Some(Kernels::Native)).unwrap();
        assert_eq!((native.dtype(), native.bytes_per_value()), (Dtype::Bfloat16, 2));
        let auto = native.residency(WeightResidency::Auto, 1);
        assert_eq!(auto, WeightResidency::Packed);
    }
}
