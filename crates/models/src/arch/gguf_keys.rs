//! The configuration of a model in the metadata of its GGUF file.

use gguf::{Metadata, Parts};

use super::config::Sizes;
use super::config_file::ConfigFile;
use super::rope_parameters::Rotary;
use crate::Result;
use crate::nn::{Frequencies, Scaling};

/// The keys of an architecture, `ARCHITECTURE.NAME`.
#[derive(Clone, Copy, Debug)]
pub(super) struct GgufKeys<'a> {
    parts: &'a Parts,
    pub architecture: &'a str,
}

impl<'a> GgufKeys<'a> {
    /// The keys of the file's own architecture.
    pub fn of(parts: &'a Parts) -> Result<Self> {
        Ok(Self { parts, architecture: parts.metadata().str("general.architecture")? })
    }

    /// The whole name of a key.
    pub fn key(self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    /// Checks of values, whose errors name the file.
    pub fn file(self) -> ConfigFile<'a, Metadata> {
        ConfigFile { path: self.parts.path(), keys: self.parts.metadata() }
    }

    /// An integer that every file has.
    pub fn size(self, name: &str) -> Result<usize> {
        Ok(self.parts.metadata().u32(&self.key(name))? as usize)
    }

    /// An integer, or `default` in a file without it.
    pub fn size_or(self, name: &str, default: usize) -> Result<usize> {
        if self.has(name) { self.size(name) } else { Ok(default) }
    }

    /// A number, if the file has it.
    pub fn number(self, name: &str) -> Result<Option<f64>> {
        let number = || self.parts.metadata().f32(&self.key(name));
        Ok(self.has(name).then(number).transpose()?.map(f64::from))
    }

    /// Added to the mean square in RMS norms.
    pub fn norm_eps(self) -> Result<f32> {
        Ok(self.parts.metadata().f32(&self.key("attention.layer_norm_rms_epsilon"))?)
    }

    /// The sizes, of a model whose heads rotate as a whole.
    pub fn sizes(self) -> Result<Sizes> {
        let file = self.file();
        let hidden_size = self.size("embedding_length")?;
        let num_heads = self.size("attention.head_count")?;
        let head_dim = self.size_or("attention.key_length", hidden_size / num_heads.max(1))?;
        for (name, expected) in
            [("rope.dimension_count", head_dim), ("attention.value_length", head_dim)]
        {
            file.require(&self.key(name), expected, self.size_or(name, expected)?)?;
        }
        let embedding = self.parts.tensor("token_embd.weight");
        let vocab_size = embedding.and_then(|tensor| tensor.dims.get(1).copied());
        let sizes = Sizes {
            hidden_size,
            intermediate_size: self.size("feed_forward_length")?,
            num_layers: self.size("block_count")?,
            num_heads,
            num_kv_heads: self.size_or("attention.head_count_kv", num_heads)?,
            head_dim,
            vocab_size: vocab_size.unwrap_or_default() as usize,
        };
        sizes.checked(file.path)
    }

    /// Refuses a model with experts.
    pub fn dense(self) -> Result<()> {
        self.file().require(&self.key("expert_count"), 0, self.size_or("expert_count", 0)?)
    }

    /// Whether the output matrix is the embedding.
    pub fn tied(self) -> bool {
        self.parts.tensor("output.weight").is_none()
    }

    /// The rotary embedding, which means what it means to llama.cpp: a factor without a type is linear,
    /// and 0 is none.
    pub fn rotary(self, head_dim: usize) -> Result<Rotary> {
        let file = self.file();
        let theta = self.number("rope.freq_base")?.or(Some(10_000.0));
        let theta = file.positive(&self.key("rope.freq_base"), theta)?;
        // The second key is older.
        let factor = self.number("rope.scaling.factor")?.or(self.number("rope.scale_linear")?);
        let factor_key = self.key("rope.scaling.factor");
        let kind_key = self.key("rope.scaling.type");
        let kind = match file.keys.has(&kind_key) {
            true => file.keys.str(&kind_key)?,
            false => "linear",
        };
        let scaling = match (kind, factor.filter(|&factor| factor != 0.0)) {
            ("none", _) | ("linear", None) => Scaling::None,
            ("linear", factor) => Scaling::Linear(file.positive(&factor_key, factor)?),
            ("yarn", factor) => {
                return self.yarn(theta, file.positive(&factor_key, factor)?, head_dim);
            }
            (other, _) => return file.refuse(&kind_key, "none, linear or yarn", other),
        };
        Ok(Rotary::new(Frequencies { theta, scaling }, head_dim))
    }

    fn yarn(self, theta: f64, factor: f64, head_dim: usize) -> Result<Rotary> {
        let number = |name: &str, default: Option<f64>| {
            let value = self.number(&format!("rope.scaling.{name}"))?.or(default);
            self.file().positive(&self.key(&format!("rope.scaling.{name}")), value)
        };
        let context = "rope.scaling.original_context_length";
        let original_context = self.file().size(&self.key(context), self.size(context)?)? as f64;
        let scaling = Scaling::Yarn {
            factor,
            fast: number("yarn_beta_fast", Some(32.0))?,
            slow: number("yarn_beta_slow", Some(1.0))?,
            original_context,
        };
        let attention = number("attn_factor", Some(1.0))? * Rotary::yarn_attention(factor, 1.0);
        Ok(Rotary::new(Frequencies { theta, scaling }, head_dim).with_attention(attention))
    }

    fn has(self, name: &str) -> bool {
        self.parts.metadata().has(&self.key(name))
    }
}
