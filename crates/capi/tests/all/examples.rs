//! The README's example and those of `examples/` do what they say.

use xlsnap_testkit::real::{Disk, Scratch, Vm, VmOptions, snapshots_in};

use crate::compiler::{Language, Program, STRICT, Watch, command, here, must};
use crate::fixture::Fixture;

#[test]
fn the_example_of_the_readme() {
    let readme = std::fs::read_to_string(here("README.md")).unwrap();
    let example = readme.split("```c\n").nth(1).unwrap().split("```").next().unwrap();
    let fixture = Fixture::new();
    let source = fixture.scratch.path("example.c");
    std::fs::write(&source, example).unwrap();
    for language in [Language::C99, Language::Cxx] {
        let program = Program::new(&source, language, &[]);
        let said = must(fixture.of(program.command().arg("web")));
        let name = said.trim().strip_prefix("made ").unwrap();
        assert!(snapshots_in(&fixture.images[1]).contains(&name.to_owned()), "{said}");
    }
}

/// What a program's author may have the compiler hold them to. No feature is asked for beyond it.
const STANDARDS: [(&str, &str); 6] =
    [("c", "c99"), ("c", "c11"), ("c", "c17"), ("c++", "c++11"), ("c++", "c++17"), ("c++", "c++20")];

#[test]
fn the_header_and_the_examples_are_of_each_standard_alone() {
    let scratch = Scratch::new();
    let twice = scratch.path("header.c");
    std::fs::write(&twice, "#include <libxl_snapshot.h>\n#include <libxl_snapshot.h>\nint nothing;\n")
        .unwrap();
    let mut sources = vec![twice];
    for entry in std::fs::read_dir(here("examples")).unwrap() {
        sources.push(entry.unwrap().path());
    }
    assert!(sources.len() > 2, "{sources:?}");
    for source in &sources {
        for (language, standard) in STANDARDS {
            for libxl in ["-UXLSNAP_NO_LIBXL_H", "-DXLSNAP_NO_LIBXL_H"] {
                let mut compiler = command("cc", &["-x", language, &format!("-std={standard}"), libxl]);
                compiler.args(STRICT).arg("-I").arg(here("include")).arg("-fsyntax-only").arg(source);
                must(&mut compiler);
            }
        }
    }
}

#[test]
fn the_domain_example_on_a_running_qemu() {
    let program = Program::watched(&here("examples/domain.c"), Language::C99, &[], Some(Watch::Address));
    let fixture = Fixture::new();
    let disks = [Disk::qcow2("hda", &fixture.images[0]), Disk::qcow2("xvdb", &fixture.images[1])];
    let vm = Vm::start(&fixture.scratch, &disks, &VmOptions::default());
    fixture.describe(Some(vm.qmp()));
    let run = |words: &[&str]| must(fixture.of(program.command().args(words)));

    run(&["create", "web", "before"]);
    assert_eq!(snapshots_in(&fixture.images[0]), ["before"]);
    assert_eq!(snapshots_in(&fixture.images[1]), ["before"]);
    let listed = run(&["list", "web"]);
    assert!(listed.contains("* before"), "{listed}");
    vm.quit();
    run(&["revert", "web", "before"]);
    run(&["delete", "web", "before"]);
    assert!(snapshots_in(&fixture.images[0]).is_empty());
    let refused = fixture.of(program.command().args(["revert", "web", "before"])).output().unwrap();
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
}

#[test]
fn the_design_example_on_a_running_qemu() {
    let program = Program::watched(&here("examples/design.c"), Language::C99, &[], Some(Watch::Address));
    let fixture = Fixture::new();
    let disks = [Disk::qcow2("hda", &fixture.images[0]), Disk::qcow2("xvdb", &fixture.images[1])];
    let vm = Vm::start(&fixture.scratch, &disks, &VmOptions::default());
    fixture.describe(Some(vm.qmp()));
    let run = |words: &[&str]| must(fixture.of(program.command().args(words)));

    run(&["create", "7", "before", "hda", "xvdb"]);
    assert_eq!(snapshots_in(&fixture.images[1]), ["before"]);
    let listed = run(&["list", "7"]);
    assert!(listed.contains("before") && listed.contains("hda"), "{listed}");
    vm.quit();
    run(&["revert", "7", "before"]);
    run(&["delete", "7", "before"]);
    assert!(snapshots_in(&fixture.images[1]).is_empty());
    assert_eq!(run(&["list", "7"]), "");
    let refused = fixture.of(program.command().args(["revert", "7", "before"])).output().unwrap();
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(
        told.starts_with("load: error -23: domain web: snapshot before cannot be loaded\n  because: "),
        "{told}"
    );
    let unknown = fixture.of(program.command().args(["list", "99"])).output().unwrap();
    let told = String::from_utf8(unknown.stderr).unwrap();
    assert!(!unknown.status.success() && told.contains("99"), "{told}");
}
