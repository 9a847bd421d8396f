//! `cargo xtask tidy`: what no compiler checks, in seconds. Each rule looks at the tree and gives findings.

mod all;
mod documents;
mod layers;
mod manifests;
mod sources;

mod tree;

pub use all::tidy;
pub use layers::layers;
