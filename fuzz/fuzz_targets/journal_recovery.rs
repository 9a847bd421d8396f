//! The shell of [`xlsnap_fuzz::journal_recovery`] for libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| xlsnap_fuzz::journal_recovery(data));
