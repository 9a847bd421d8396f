//! The shell of [`xlsnap_fuzz::memory_header`] for libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| xlsnap_fuzz::memory_header(data));
