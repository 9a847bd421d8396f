//! The shell of [`xlsnap_fuzz::qemu_jobs`] for libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| xlsnap_fuzz::qemu_jobs(data));
