//! The library exports its functions and nothing else.

use crate::compiler::{built, command, here, must};

#[test]
fn exactly_the_listed_symbols_are_exported() {
    let library = built("libxlsnap_capi.so");
    let library = library.to_str().expect("a path of cargo's is text");
    let listed = must(&mut command("nm", &["-D", "--defined-only", "--format=posix", library]));
    let mut found: Vec<&str> = listed.lines().filter_map(|line| line.split(' ').next()).collect();
    found.sort_unstable();
    let expected = std::fs::read_to_string(here("tests/symbols.txt")).expect("the list is there");
    assert_eq!(found.join("\n"), expected.trim_end());
}

#[test]
fn the_shared_library_has_a_versioned_name() {
    let library = built("libxlsnap_capi.so");
    let dynamic = must(command("readelf", &["-d"]).arg(library));
    assert!(dynamic.contains("Library soname: [libxlsnap.so.0]"), "{dynamic}");
}
