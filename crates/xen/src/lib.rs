#![doc = include_str!("../README.md")]

mod adapter;
pub mod configuration;
pub mod domains;
mod domid;
mod error;
pub mod matching;
mod monitor;
mod save_file;
mod toolstack;
pub mod usage;
pub mod vbd;
pub mod xl;

pub use adapter::{Context, Patience, Places, XlDomain, this_boot};
pub use configuration::Configuration;
pub use domains::{Domain, GuestKind};
pub use domid::Domid;
pub use toolstack::{Saved, Suspended, Told, Toolstack};
