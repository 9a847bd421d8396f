//! The header is what cbindgen makes of the sources.

use crate::compiler::here;

const UPDATE: &str = "XLSNAP_UPDATE_HEADER";

#[test]
fn the_header_is_that_of_the_sources() {
    let config = cbindgen::Config::from_file(here("cbindgen.toml")).expect("cbindgen.toml is one");
    let mut made = Vec::new();
    cbindgen::Builder::new()
        .with_config(config)
        .with_crate(here(""))
        .generate()
        .expect("cbindgen reads the sources")
        .write(&mut made);
    let made = String::from_utf8(made).expect("the sources are UTF-8");
    let path = here("include/libxl_snapshot.h");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &made).expect("the header can be written");
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(there == made, "{} is stale: run this test with {UPDATE}=1", path.display());
}
