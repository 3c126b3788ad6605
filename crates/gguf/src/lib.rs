//! Reads and checks the header of a GGUF file: metadata and tensor table.
