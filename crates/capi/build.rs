//! Gives the shared library its versioned name however it is built; cargo-c asks for the same one.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libxlsnap.so.0");
}
