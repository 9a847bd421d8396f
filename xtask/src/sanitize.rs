//! `cargo xtask sanitize`: the C library under AddressSanitizer.

use crate::command::{build_target, cargo, command, output, run, target};
use crate::{Done, Echo, Failure};

/// Builds the C library and its tests with AddressSanitizer, and runs its C programs against it. The tests that are always run have it in
/// the programs alone: there Valgrind watches the library, which misses what overruns a variable on the stack or a static one.
///
/// The compiler is the stable one, with what it calls unstable; its runtime for C programs is the C compiler's.
///
/// # Errors
/// What the sanitizer found, as the test that it failed prints it; or a library that it is not in.
pub fn sanitize(echo: Echo) -> Done {
    let triple = build_target()?;
    let directory = target().join("sanitize");
    let mut tests = cargo("test --quiet --locked --package xlsnap-capi --lib --test all");
    tests.args(["--target", &triple]).arg("--target-dir").arg(&directory);
    // What a library exports, and what its header says, the other tests compare.
    tests.args(["--", "--skip", "symbols::", "--skip", "header::", "--skip", "libxl::no_symbol"]);
    // With --target given, the flag is for the target only, and not for build scripts and macros.
    tests.env_remove("CARGO_ENCODED_RUSTFLAGS").env("RUSTFLAGS", "-Zsanitizer=address");
    tests.env("RUSTC_BOOTSTRAP", "1").env("XLSNAP_SANITIZED", "yes");
    run(echo, tests)?;
    let library = directory.join(&triple).join("debug/libxlsnap_capi.so");
    let symbols =
        output(command("nm", ["-D"].map(Into::into).into_iter().chain([library.clone().into_os_string()])))?;
    match String::from_utf8_lossy(&symbols).contains("__asan_report_load") {
        true => Ok(()),
        false => Err(Failure(format!("{} was built without AddressSanitizer", library.display()))),
    }
}
