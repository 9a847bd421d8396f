//! The `xlsnap_` functions on whole domains: one that is off, and one that a real QEMU runs.

use xlsnap_testkit::real::{Disk, Vm, VmOptions};

use crate::compiler::{Language, Program, Watch, here, must, ways};
use crate::fixture::Fixture;

#[test]
fn on_a_domain_that_is_off() {
    for (language, watch) in ways() {
        let fixture = Fixture::new();
        let program = Program::watched(&here("tests/c/domain.c"), language, &[], watch);
        must(
            fixture.of(program
                .command()
                .arg(fixture.root())
                .args(["off".as_ref(), fixture.images[0].as_os_str()])),
        );
    }
}

#[test]
fn on_a_domain_that_runs() {
    let program = Program::watched(&here("tests/c/domain.c"), Language::C99, &[], Some(Watch::Address));
    let fixture = Fixture::new();
    let disks = [Disk::qcow2("hda", &fixture.images[0]), Disk::qcow2("xvdb", &fixture.images[1])];
    let vm = Vm::start(&fixture.scratch, &disks, &VmOptions::default());
    fixture.describe(Some(vm.qmp()));
    must(
        fixture.of(program
            .command()
            .arg(fixture.root())
            .args(["running".as_ref(), fixture.images[0].as_os_str()])),
    );
    vm.quit();
}
