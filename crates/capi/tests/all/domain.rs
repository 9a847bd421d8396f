//! The `xlsnap_` functions on whole domains: one that is off, and one that a real QEMU runs.

use xlsnap_testkit::real::{Disk, Vm, VmOptions};

use crate::compiler::{Language, Program, WAYS, Watch, here, must};
use crate::world::World;

#[test]
fn on_a_domain_that_is_off() {
    for (language, watch) in WAYS {
        let world = World::new();
        let program = Program::watched(&here("tests/c/domain.c"), language, &[], watch);
        must(world.of(program.command().arg(world.root()).arg("off")));
    }
}

#[test]
fn on_a_domain_that_runs() {
    let program = Program::watched(&here("tests/c/domain.c"), Language::C99, &[], Some(Watch::Address));
    let world = World::new();
    let disks = [Disk::qcow2("hda", &world.images[0]), Disk::qcow2("xvdb", &world.images[1])];
    let vm = Vm::start(&world.scratch, &disks, &VmOptions::default());
    world.describe(Some(vm.qmp()));
    must(world.of(program.command().arg(world.root()).arg("running")));
    vm.quit();
}
