//! The shell of [`xlsnap_fuzz::qcow2_header`] for libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| xlsnap_fuzz::qcow2_header(data));
