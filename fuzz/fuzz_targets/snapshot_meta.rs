//! The shell of [`xlsnap_fuzz::snapshot_meta`] for libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| xlsnap_fuzz::snapshot_meta(data));
