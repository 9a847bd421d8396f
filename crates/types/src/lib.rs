#![doc = include_str!("../README.md")]

pub mod config;
pub mod libxl;
pub mod model;
mod text;
