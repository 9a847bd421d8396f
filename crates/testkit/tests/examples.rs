//! Each crate's example does what its first line says, on real images and a real QEMU.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use xlsnap_testkit::real::guest::{Guest, GuestOptions};
use xlsnap_testkit::real::{Data, Scratch, Vm, VmOptions, holds_offline};

/// What the example prints.
fn example(package: &str, name: &str, arguments: &[&Path]) -> String {
    example_that_reads(package, name, arguments, b"")
}

/// What the example prints, which reads `input`.
fn example_that_reads(package: &str, name: &str, arguments: &[&Path], input: &[u8]) -> String {
    // All of the workspace's, as its tests are built: one package alone has other features, and would be built anew with all that it
    // needs.
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--workspace", "--examples"]);
    assert!(cargo.status().expect("cargo starts").success(), "the examples are not built");
    let test = std::env::current_exe().expect("a test has a program");
    let built = test.ancestors().nth(2).expect("it is in a directory of the target directory");
    let mut program = Command::new(built.join("examples").join(name));
    program.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = program.spawn().expect("the example starts");
    // An example that reads nothing may have ended.
    let _ = child.stdin.take().expect("it is piped").write_all(input);
    let output = child.wait_with_output().expect("the example ends");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{package}, {name}: {}: {complaint}", output.status);
    String::from_utf8(output.stdout).expect("an example prints text")
}

#[test]
fn without_a_machine() {
    let scratch = Scratch::new();
    let json = scratch.path("record.libxl-json");
    std::fs::write(&json, r#"{"name":"s","disks":[{"device":"xvda"},{"device":"vdb"}]}"#).unwrap();
    let told = example("xlsnap-types", "normalise", &[&json]);
    assert!(told.contains("\"device\": \"xvda\"") && told.contains("device number 51712"), "{told}");

    let told = example("xlsnap-conf-store", "keep", &[&scratch.path("records")]);
    assert_eq!(told, "before: true\n0 left\n");

    let memory = b"QEVM\0\0\0\x03\x07\0\0\0\x0bpc-q35-10.0 and more";
    let directory = [scratch.dir(), Path::new("before")];
    let told = example_that_reads("xlsnap-memory-file", "keep_memory", &directory, memory);
    assert!(
        told.contains("before.save\nQEMU, pc-q35-10.0\n") && told.ends_with("verified and removed\n"),
        "{told}"
    );

    let image = scratch.qcow2_with("vda.qcow2", 1 << 20, 7);
    let told = example("xlsnap-qemu-img", "info", &[&image, Path::new("qcow2")]);
    assert!(told.starts_with("qcow2: 1048576 bytes"), "{told}");

    let told = example("xlsnap", "snapshot", &[&scratch.path("root"), &image]);
    assert!(told.ends_with("made before\nat before again\ndeleted 1\n"), "{told}");
    assert!(holds_offline(&image, "qcow2", Data::of(7)));

    let told = example("xlsnap-orchestrator", "embed", &[]);
    assert!(!told.is_empty());
}

#[test]
fn on_a_running_machine() {
    let scratch = Scratch::new();
    let (vm, [vda, _]) = Vm::with_two_disks(&scratch, &VmOptions::default());
    let vda = vda.to_str().unwrap();
    let told = example("xlsnap-qmp-transport", "query", &[vm.qmp()]);
    assert!(told.starts_with("QEMU ") && told.contains(vda), "{told}");
    let told = example("xlsnap-qemu", "disks", &[vm.qmp()]);
    assert!(told.contains(vda) && told.contains("takes snapshots"), "{told}");
}

#[test]
fn on_a_guest_with_an_agent() {
    let scratch = Scratch::new();
    let options = GuestOptions { agent: true, ..GuestOptions::default() };
    let guest = Guest::start(&scratch, &Guest::two_disks(&scratch), &options);
    let told = example("xlsnap-guest-agent", "status", &[guest.agent()]);
    assert_eq!(told, "they take writes\n");
}
