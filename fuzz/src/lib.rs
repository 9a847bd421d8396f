//! The fuzz targets: one module and one function for each, which takes any bytes and panics on a broken promise.
//!
//! To add the target `x`:
//! 1. `src/x.rs` with `pub fn x(data: &[u8])`, and its two lines and its row of [`TARGETS`] here;
//! 2. `fuzz_targets/x.rs`, as the others, and its `[[bin]]` in `Cargo.toml`;
//! 3. at least one seed in `seeds/x/`: inputs that reach deep, and every input that once failed.
//!
//! `tests/replay.rs` says which of these was forgotten, and runs every seed through its function on each
//! `cargo xtask test`. `cargo xtask fuzz x` goes on from there with new inputs.

mod agent_bytes;
mod headers;
mod image_chain;
mod journal_recovery;
mod libxl_json;
mod memory_header;
mod qcow2_header;
mod qemu_img_json;
mod qemu_inventory;
mod qemu_jobs;
mod qmp;
mod snapshot_meta;
mod user_config;
mod xenstore_bytes;

pub use agent_bytes::agent_bytes;
pub use image_chain::image_chain;
pub use journal_recovery::journal_recovery;
pub use libxl_json::libxl_json;
pub use memory_header::memory_header;
pub use qcow2_header::qcow2_header;
pub use qemu_img_json::qemu_img_json;
pub use qemu_inventory::qemu_inventory;
pub use qemu_jobs::qemu_jobs;
pub use qmp::{qmp_bytes, qmp_ops};
pub use snapshot_meta::snapshot_meta;
pub use user_config::user_config;
pub use xenstore_bytes::xenstore_bytes;

/// A target: bytes in, a panic when a promise is broken.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("agent_bytes", agent_bytes),
    ("image_chain", image_chain),
    ("journal_recovery", journal_recovery),
    ("libxl_json", libxl_json),
    ("memory_header", memory_header),
    ("qcow2_header", qcow2_header),
    ("qemu_img_json", qemu_img_json),
    ("qemu_inventory", qemu_inventory),
    ("qemu_jobs", qemu_jobs),
    ("qmp_bytes", qmp_bytes),
    ("qmp_ops", qmp_ops),
    ("snapshot_meta", snapshot_meta),
    ("user_config", user_config),
    ("xenstore_bytes", xenstore_bytes),
];
