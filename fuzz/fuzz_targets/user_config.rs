//! The shell of [`xlsnap_fuzz::user_config`] for libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| xlsnap_fuzz::user_config(data));
