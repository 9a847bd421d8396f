//! Beside Xen's own libxl: no clash of headers, values or symbols.

use std::collections::BTreeSet;

use crate::compiler::{Language, Program, command, here, must};

#[test]
fn stands_beside_libxl_in_either_order_of_the_headers() {
    for language in [Language::C99, Language::Cxx] {
        let without = Program::new(&here("tests/c/values.c"), language, &["-DXLSNAP_NO_LIBXL_H"]).run(&[]);
        for order in ["-DLIBXL_FIRST", "-DLIBXL_LAST"] {
            let with = Program::new(&here("tests/c/values.c"), language, &[order, "-lxenlight"]).run(&[]);
            assert_eq!(with, without, "{language:?} {order}: a value is not libxl's");
        }
    }
}

#[test]
fn no_symbol_is_one_of_libxls() {
    let names = |library: &str| -> BTreeSet<String> {
        let listed = must(&mut command("nm", &["-D", "--defined-only", "--format=posix", library]));
        listed.lines().filter_map(|line| Some(line.split_once([' ', '@'])?.0.to_owned())).collect()
    };
    let libxl = must(&mut command("cc", &["-print-file-name=libxenlight.so"]));
    let theirs = names(libxl.trim());
    assert!(theirs.contains("libxl_ctx_alloc"), "that is not libxenlight");
    let ours =
        names(crate::compiler::built("libxlsnap_capi.so").to_str().expect("a path of cargo's is text"));
    let both: Vec<_> = ours.intersection(&theirs).collect();
    assert!(both.is_empty(), "{both:?}");
}
