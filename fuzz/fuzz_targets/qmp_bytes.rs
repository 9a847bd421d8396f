//! The shell of [`xlsnap_fuzz::qmp_bytes`] for libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| xlsnap_fuzz::qmp_bytes(data));
