//! The seven stages, each a value that holds its input and knows how to work on it.

pub(crate) mod convert;
pub(crate) mod enrich;
pub(crate) mod exam;
pub(crate) mod gate;
pub(crate) mod promote;
pub(crate) mod second_half;
mod smoke;
pub(crate) mod train;
