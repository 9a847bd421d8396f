//! The shell of [`xlsnap_fuzz::qemu_inventory`] for libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| xlsnap_fuzz::qemu_inventory(data));
