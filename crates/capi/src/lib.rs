#![doc = include_str!("../README.md")]

mod error;
mod string;
mod structs;

pub use structs::*;
