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

/// Overrides the choice of kernels for models that are opened without one: `native` or `blas`.
const VARIABLE: &str = "NIGHTSHIFT_KERNELS";

/// The memory [`WeightResidency::Auto`] may spend on dequantized weights.
const AUTO_LIMIT: usize = 2 << 30;

/// How matrix products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kernels {
    /// In f32 through BLAS; quantized weights are dequantized first. The default on a CPU.
    Blas,
    /// By MLX's own bf16 and quantized kernels. The default on CUDA and Metal; on a CPU slow, and
    /// not all operations exist.
    Native,
}

impl FromStr for Kernels {
    type Err = Error;

    /// Parses the value of `NIGHTSHIFT_KERNELS`.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "blas" => Ok(Self::Blas),
            "native" => Ok(Self::Native),
            found => Err(Error::Argument {
                name: VARIABLE,
                expected: "native or blas".into(),
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
    /// [`Dequantized`](Self::Dequantized) on a CPU while all weights take at most 2 GiB that way,
    /// else [`Packed`](Self::Packed).
    #[default]
    Auto,
    /// In memory, as in the checkpoint; a CPU dequantizes a weight each time it is used.
    Packed,
    /// In memory, dequantized when the model is opened: faster, and about six times larger at 4
    /// bits.
    Dequantized,
    /// On disk: read from the checkpoint each time they are used. For models that are larger than
    /// the memory.
    Streamed,
}

/// How [`Model::open_with`](crate::Model::open_with) opens a model. [`WeightResidency`] converts
/// into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenOptions {
    /// Where weights are kept.
    pub residency: WeightResidency,
    /// How products are computed. Without a choice, what the environment variable
    /// `NIGHTSHIFT_KERNELS` says (`native` or `blas`), else the device's default.
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
}

impl Backend {
    /// MLX's default device with these kernels, else those of the environment, else its default.
    pub fn choose(kernels: Option<Kernels>) -> Result<Self> {
        let default = Self::of_default_device()?;
        let kernels = match (kernels, std::env::var_os(VARIABLE)) {
            (Some(kernels), _) => kernels,
            (None, Some(name)) => name.to_string_lossy().parse()?,
            (None, None) => default.kernels,
        };
        Ok(Self { kernels, ..default })
    }

    /// MLX's default device with its default kernels.
    pub fn of_default_device() -> Result<Self> {
        Ok(match Device::try_default()?.get_type()? {
            DeviceType::Cpu => Self { kernels: Kernels::Blas, cpu: true },
            DeviceType::Gpu => Self { kernels: Kernels::Native, cpu: false },
        })
    }

    /// Whether MLX's own kernels are used.
    pub fn is_native(self) -> bool {
        self.kernels == Kernels::Native
    }

    /// Whether operations on `x` run through the `kernels` crate, which is for f32 on a CPU.
    pub fn fuses(self, x: &Array) -> bool {
        self.cpu && !self.is_native() && x.dtype() == Dtype::Float32
    }

    /// The type of weights and activations.
    pub fn dtype(self) -> Dtype {
        match self.kernels {
            Kernels::Blas => Dtype::Float32,
            Kernels::Native => Dtype::Bfloat16,
        }
    }

    /// The size of that type.
    pub fn bytes_per_value(self) -> usize {
        match self.kernels {
            Kernels::Blas => 4,
            Kernels::Native => 2,
        }
    }

    /// Resolves [`WeightResidency::Auto`] for a model of so many weights.
    pub fn residency(self, asked: WeightResidency, weights: usize) -> WeightResidency {
        match asked {
            WeightResidency::Auto if !self.is_native() && weights * 4 <= AUTO_LIMIT => {
                WeightResidency::Dequantized
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
        assert_eq!("blas".parse::<Kernels>().unwrap(), Kernels::Blas);
        let error = "cuda".parse::<Kernels>().unwrap_err().to_string();
        assert_eq!(error, r#"NIGHTSHIFT_KERNELS: expected native or blas, found "cuda""#);
    }

    #[test]
    fn an_argument_decides_before_the_default() {
        let native = Backend::choose(Some(Kernels::Native)).unwrap();
        assert_eq!((native.dtype(), native.bytes_per_value()), (Dtype::Bfloat16, 2));
        let auto = native.residency(WeightResidency::Auto, 1);
        assert_eq!(auto, WeightResidency::Packed);
    }
}
