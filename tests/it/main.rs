//! The one integration binary.

mod git;
mod probe;
mod process;
mod tidy;
