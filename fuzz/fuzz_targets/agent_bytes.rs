//! The shell of [`xlsnap_fuzz::agent_bytes`] for libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| xlsnap_fuzz::agent_bytes(data));
