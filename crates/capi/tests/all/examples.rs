//! The README's example and those of `examples/` do what they say.

use xlsnap_testkit::real::{Disk, Vm, VmOptions, snapshots_in};

use crate::compiler::{Language, Program, Watch, here, must};
use crate::world::World;

#[test]
fn the_example_of_the_readme() {
    let readme = std::fs::read_to_string(here("README.md")).unwrap();
    let example = readme.split("```c\n").nth(1).unwrap().split("```").next().unwrap();
    let world = World::new();
    let source = world.scratch.path("example.c");
    std::fs::write(&source, example).unwrap();
    for language in [Language::C99, Language::Cxx] {
        let program = Program::new(&source, language, &[]);
        let said = must(world.of(program.command().arg("web")));
        let name = said.trim().strip_prefix("made ").unwrap();
        assert!(snapshots_in(&world.images[1]).contains(&name.to_owned()), "{said}");
    }
}

#[test]
fn the_domain_example_on_a_running_qemu() {
    let program = Program::watched(&here("examples/domain.c"), Language::C99, &[], Some(Watch::Address));
    let world = World::new();
    let disks = [Disk::qcow2("hda", &world.images[0]), Disk::qcow2("xvdb", &world.images[1])];
    let vm = Vm::start(&world.scratch, &disks, &VmOptions::default());
    world.describe(Some(vm.qmp()));
    let run = |words: &[&str]| must(world.of(program.command().args(words)));

    run(&["create", "web", "before"]);
    assert_eq!(snapshots_in(&world.images[0]), ["before"]);
    assert_eq!(snapshots_in(&world.images[1]), ["before"]);
    let listed = run(&["list", "web"]);
    assert!(listed.contains("* before"), "{listed}");
    vm.quit();
    run(&["revert", "web", "before"]);
    run(&["delete", "web", "before"]);
    assert!(snapshots_in(&world.images[0]).is_empty());
    let refused = world.of(program.command().args(["revert", "web", "before"])).output().unwrap();
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
}

#[test]
fn the_design_example_on_a_running_qemu() {
    let program = Program::watched(&here("examples/design.c"), Language::C99, &[], Some(Watch::Address));
    let world = World::new();
    let disks = [Disk::qcow2("hda", &world.images[0]), Disk::qcow2("xvdb", &world.images[1])];
    let vm = Vm::start(&world.scratch, &disks, &VmOptions::default());
    world.describe(Some(vm.qmp()));
    let run = |words: &[&str]| must(world.of(program.command().args(words)));

    run(&["create", "7", "before", "hda", "xvdb"]);
    assert_eq!(snapshots_in(&world.images[1]), ["before"]);
    let listed = run(&["list", "7"]);
    assert!(listed.contains("before") && listed.contains("hda"), "{listed}");
    vm.quit();
    run(&["revert", "7", "before"]);
    run(&["delete", "7", "before"]);
    assert!(snapshots_in(&world.images[1]).is_empty());
    assert_eq!(run(&["list", "7"]), "");
}
