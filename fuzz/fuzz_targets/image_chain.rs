//! The shell of [`xlsnap_fuzz::image_chain`] for libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| xlsnap_fuzz::image_chain(data));
