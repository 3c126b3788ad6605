//! The programs of this package are its [examples](https://doc.rust-lang.org/cargo/reference/cargo-targets.html#examples):
//! thin calls of the commands of `nightshift`, one a program. This library has only the snippets of the project's README.

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct FrontPage;
