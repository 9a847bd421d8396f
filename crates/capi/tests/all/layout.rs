//! The structs have the same layout in Rust and in C.

use std::mem::offset_of;

use xlsnap_capi::{LibxlDiskSnapshot as Disk, LibxlDomainSnapshot as Domain};

use crate::compiler::{Language, Program, here};

#[test]
fn the_layout_is_what_the_c_compiler_says() {
    let rust = [
        size_of::<Disk>(),
        align_of::<Disk>(),
        offset_of!(Disk, device),
        offset_of!(Disk, name),
        offset_of!(Disk, file),
        offset_of!(Disk, format),
        offset_of!(Disk, path),
        size_of::<Domain>(),
        align_of::<Domain>(),
        offset_of!(Domain, name),
        offset_of!(Domain, description),
        offset_of!(Domain, creation_time),
        offset_of!(Domain, memory),
        offset_of!(Domain, running),
        offset_of!(Domain, blocked),
        offset_of!(Domain, paused),
        offset_of!(Domain, shutdown),
        offset_of!(Domain, dying),
        offset_of!(Domain, num_disks),
        offset_of!(Domain, disks),
    ];
    let rust = rust.map(|number| number.to_string()).join("\n");
    for (language, flags) in [
        (Language::C99, &[][..]),
        (Language::C99, &["-DXLSNAP_NO_LIBXL_H"]),
        (Language::Cxx, &[]),
        (Language::Cxx, &["-DXLSNAP_NO_LIBXL_H"]),
    ] {
        let c = Program::new(&here("tests/c/layout.c"), language, flags).run(&[]);
        assert_eq!(c.trim_end(), rust, "{language:?} {flags:?}");
    }
}
