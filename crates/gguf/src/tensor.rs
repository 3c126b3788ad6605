use std::fmt;
use std::ops::Range;

/// One entry of the tensor table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tensor {
    /// Its name, unique in the file.
    pub name: String,
    /// Its dimensions, fastest-varying first: a matrix of `out` rows and `in` columns is `[in, out]`.
    pub dims: Vec<u64>,
    /// The type of its elements.
    pub kind: TensorType,
    /// The range of its data, in bytes from the start of the file.
    pub range: Range<u64>,
}

macro_rules! tensor_types {
    ($($name:ident = $id:literal, $elements:literal in $bytes:literal;)*) => {
        /// The type of a tensor's elements. Quantized types pack a fixed number of elements into a block.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[allow(missing_docs, non_camel_case_types, reason = "the format's own names")]
        pub enum TensorType { $($name,)* }

        impl TensorType {
            /// All types, in the order of their numbers in the format.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The type with this number in the format.
            pub(crate) fn from_id(id: u32) -> Option<Self> {
                match id { $($id => Some(Self::$name),)* _ => None }
            }

            /// Elements in one block; 1 for types that are not quantized.
            pub fn block_elements(self) -> u64 {
                match self { $(Self::$name => $elements,)* }
            }

            /// Bytes in one block.
            pub fn block_bytes(self) -> u64 {
                match self { $(Self::$name => $bytes,)* }
            }
        }
    };
}

tensor_types! {
    F32 = 0, 1 in 4;
    F16 = 1, 1 in 2;
    Q4_0 = 2, 32 in 18;
    Q4_1 = 3, 32 in 20;
    Q5_0 = 6, 32 in 22;
    Q5_1 = 7, 32 in 24;
    Q8_0 = 8, 32 in 34;
    Q2_K = 10, 256 in 84;
    Q3_K = 11, 256 in 110;
    Q4_K = 12, 256 in 144;
    Q5_K = 13, 256 in 176;
    Q6_K = 14, 256 in 210;
    IQ2_XXS = 16, 256 in 66;
    IQ2_XS = 17, 256 in 74;
    IQ3_XXS = 18, 256 in 98;
    IQ1_S = 19, 256 in 50;
    IQ4_NL = 20, 32 in 18;
    IQ3_S = 21, 256 in 110;
    IQ2_S = 22, 256 in 82;
    IQ4_XS = 23, 256 in 136;
    I8 = 24, 1 in 1;
    I16 = 25, 1 in 2;
    I32 = 26, 1 in 4;
    I64 = 27, 1 in 8;
    F64 = 28, 1 in 8;
    IQ1_M = 29, 256 in 56;
    BF16 = 30, 1 in 2;
    TQ1_0 = 34, 256 in 54;
    TQ2_0 = 35, 256 in 66;
    MXFP4 = 39, 32 in 17;
    NVFP4 = 40, 64 in 36;
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
