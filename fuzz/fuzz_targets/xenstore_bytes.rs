//! The shell of [`xlsnap_fuzz::xenstore_bytes`] for libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| xlsnap_fuzz::xenstore_bytes(data));
