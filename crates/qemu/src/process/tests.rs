use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use xlsnap_orchestrator::{PortError, PortErrorKind};
use xlsnap_types::model::ImageFormat;

use super::identity::start_of_living;
use super::*;
use crate::DiskSpec;

fn disk(name: &str, file: &str) -> DiskSpec {
    DiskSpec::new(name.parse().unwrap(), file.to_owned(), ImageFormat::Qcow2)
}

fn domain(start: Option<StartSpec>, disks: Vec<DiskSpec>) -> Launch {
    Launch {
        name: "we,b".parse().unwrap(),
        uuid: "1d8d7c4e-0b1f-4b0e-9a39-9c5d0f6b0d2e".parse().unwrap(),
        start,
        disks,
        qmp: PathBuf::from("/run/a,b.qmp"),
        agent: None,
        log: PathBuf::from("/nowhere"),
        sockets: None,
    }
}

fn machine(spec: MachineSpec) -> Option<StartSpec> {
    Some(StartSpec::Machine(Box::new(spec)))
}

fn line(domain: &Launch, options: &StartOptions) -> Vec<String> {
    argv(domain, options, &|file| file.starts_with("/dev/")).unwrap()
}

fn argv_of(domain: &Launch) -> Result<Vec<String>, PortError> {
    argv(domain, &StartOptions::default(), &|_| false)
}

/// The values of an option.
fn of<'a>(line: &'a [String], option: &str) -> Vec<&'a str> {
    line.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].as_str()).collect()
}

#[test]
fn an_argv_is_taken_as_it_is() {
    let given: Vec<String> = ["/usr/bin/qemu", "-m", "64"].map(str::to_owned).into();
    let domain = domain(Some(StartSpec::Argv(given.clone())), vec![disk("vda", "/a")]);
    let plain = line(&domain, &StartOptions::default());
    assert_eq!(plain[..3], given[..]);
    assert_eq!(plain[3..], ["-qmp", "unix:/run/a,,b.qmp,server=on,wait=off"]);
    let waiting = line(&domain, &StartOptions { paused: true, incoming: true, ..StartOptions::default() });
    assert_eq!(waiting[5..], ["-S", "-incoming", "defer"]);
}

#[test]
fn the_usual_becomes_a_line() {
    let spec = MachineSpec {
        accel: "kvm:tcg".into(),
        memory: 64,
        cpus: 2,
        network: "user".into(),
        display: "vnc=:1".into(),
        kernel: Some("/boot/vmlinuz".into()),
        serial: Some("/var/log/a,b".into()),
        arguments: vec!["-no-reboot".into()],
        ..MachineSpec::default()
    };
    let mut domain = domain(machine(spec), Vec::new());
    domain.agent = Some("/run/a.qga".into());
    let line = line(&domain, &StartOptions::default());
    assert_eq!(line[0], "qemu-system-x86_64");
    for (option, values) in [
        ("-name", &["guest=we,,b"][..]),
        ("-uuid", &["1d8d7c4e-0b1f-4b0e-9a39-9c5d0f6b0d2e"]),
        ("-machine", &["q35"]),
        ("-accel", &["kvm", "tcg"]),
        ("-m", &["64M"]),
        ("-smp", &["2"]),
        ("-nic", &["user,model=virtio-net-pci"]),
        ("-display", &["vnc=:1"]),
        ("-vga", &["std"]),
        ("-kernel", &["/boot/vmlinuz"]),
        ("-initrd", &[]),
        ("-serial", &["chardev:xlsnap-serial"]),
        (
            "-chardev",
            &[
                "file,id=xlsnap-serial,append=on,path=/var/log/a,,b",
                "socket,id=xlsnap-agent,server=on,wait=off,path=/run/a.qga",
            ],
        ),
        ("-no-reboot", &["-qmp"]),
    ] {
        assert_eq!(of(&line, option), values, "{option} in {line:?}");
    }
}

#[test]
fn disks_have_names_that_are_found_again() {
    let mut node = disk("vdb", "/dev/vg/b");
    node.node = Some("data0".into());
    let mut cd = disk("cd0", "/a \"quoted\", name.iso");
    cd.removable = true;
    cd.format = ImageFormat::Raw;
    let mut empty = disk("cd1", "");
    empty.removable = true;
    let mut fixed = disk("0numbered", "/c");
    fixed.read_only = true;
    let disks = vec![disk("vda", "/a"), node, cd, empty, fixed];
    let on = |bus| {
        let spec = MachineSpec { bus, ..MachineSpec::default() };
        line(&domain(machine(spec), disks.clone()), &StartOptions::default())
    };
    let virtio = on(Bus::Virtio);
    let nodes: Vec<serde_json::Value> =
        of(&virtio, "-blockdev").iter().map(|node| serde_json::from_str(node).unwrap()).collect();
    let names: Vec<&str> = nodes.iter().map(|node| node["node-name"].as_str().unwrap()).collect();
    assert_eq!(names, ["vda", "data0", "cd0", "xlsnap-disk4"]);
    let read_only: Vec<bool> = nodes.iter().map(|node| node["read-only"].as_bool().unwrap()).collect();
    assert_eq!(read_only, [false, false, true, true]);
    assert_eq!(nodes[1]["file"]["driver"], "host_device");
    assert_eq!(nodes[2]["file"]["filename"], "/a \"quoted\", name.iso");
    assert_eq!(
        of(&virtio, "-device"),
        [
            "virtio-scsi,id=xlsnap-scsi",
            "virtio-blk,id=vda,drive=vda,bootindex=1",
            "virtio-blk,id=data0,drive=data0,bootindex=2",
            "scsi-cd,bus=xlsnap-scsi.0,id=cd0,drive=cd0,bootindex=3",
            "scsi-cd,bus=xlsnap-scsi.0,id=cd1",
            "virtio-blk,id=xlsnap-disk4,drive=xlsnap-disk4,bootindex=5",
        ]
    );
    assert_eq!(of(&on(Bus::Ide), "-device")[0], "ide-hd,id=vda,drive=vda,bootindex=1");
    assert_eq!(of(&on(Bus::Ide), "-device")[3], "ide-cd,id=cd1");
    assert_eq!(of(&on(Bus::Scsi), "-device")[1], "scsi-hd,bus=xlsnap-scsi.0,id=vda,drive=vda,bootindex=1");
}

#[test]
fn an_encrypted_disk_comes_with_its_secret() {
    let encrypted = |name: &str, format: ImageFormat| DiskSpec {
        format,
        key_file: Some(PathBuf::from("/keys/a,b")),
        ..disk(name, "/a")
    };
    let luks = ImageFormat::from_driver("luks");
    let disks = vec![encrypted("vda", ImageFormat::Qcow2), encrypted("vdb", luks), disk("vdc", "/c")];
    let made = line(&domain(machine(MachineSpec::default()), disks.clone()), &StartOptions::default());
    assert_eq!(
        of(&made, "-object"),
        ["secret,id=xlsnap-key-vda,file=/keys/a,,b", "secret,id=xlsnap-key-vdb,file=/keys/a,,b"]
    );
    let nodes: Vec<serde_json::Value> =
        of(&made, "-blockdev").iter().map(|node| serde_json::from_str(node).unwrap()).collect();
    assert_eq!(nodes[0]["encrypt"], serde_json::json!({"format": "luks", "key-secret": "xlsnap-key-vda"}));
    assert_eq!(nodes[1]["key-secret"], "xlsnap-key-vdb");
    assert!(nodes[2].get("encrypt").is_none() && nodes[2].get("key-secret").is_none());

    // A command line of the user's has to give it by itself, unless another program starts QEMU.
    let written = |words: &[&str]| {
        let argv = words.iter().map(|word| (*word).to_owned()).collect();
        argv_of(&domain(Some(StartSpec::Argv(argv)), disks.clone()))
    };
    let error = written(&["qemu-system-x86_64", "-drive", "file={disk:vda}"]).unwrap_err();
    assert_eq!(error.kind, PortErrorKind::Refused);
    for word in [
        "we,b",
        "disk vda",
        r#""-object", "secret,id=key-vda,file=/keys/a,,b""#,
        "encrypt.key-secret=key-vda",
    ] {
        assert!(error.to_string().contains(word), "{word} is not in {error}");
    }
    for given in ["secret,id=k,file=/k", r#"{"qom-type": "secret", "id": "k", "data": "x"}"#] {
        written(&["qemu-system-x86_64", "-object", given, "-drive", "file={disk:vda}"]).unwrap();
    }
    written(&["/usr/local/bin/start-web", "{disk:vda}"]).unwrap();
}

#[test]
fn what_cannot_be_started_is_refused() {
    let nothing = domain(None, Vec::new());
    let mut long = domain(machine(MachineSpec::default()), Vec::new());
    long.qmp = format!("/{}", "x".repeat(107)).into();
    for (domain, word) in [(nothing, "[start]"), (long, "108 bytes")] {
        let error = argv(&domain, &StartOptions::default(), &|_| false).unwrap_err();
        assert_eq!(error.kind, PortErrorKind::Refused);
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn the_start_of_a_process_is_read_off_its_stat() {
    let stat = |state: &str, threads: u32| {
        format!("12 (a) b) () {state} 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 {threads} 0 987654 1 2 3")
            .into_bytes()
    };
    assert_eq!(start_of_living(&stat("S", 1)), Some(987_654));
    assert_eq!(start_of_living(&stat("Z", 1)), None);
    assert_eq!(start_of_living(&stat("Z", 2)), Some(987_654), "its other threads have its files open");
    assert_eq!(start_of_living(b""), None);
    assert_eq!(start_of_living(b"12 (a) S 1"), None);
}

#[test]
fn a_process_is_known_again_and_not_taken_for_another() {
    let own = Identity::of(std::process::id()).unwrap().unwrap();
    assert!(own.lives().unwrap());
    assert!(!Identity { start_ticks: own.start_ticks + 1, ..own }.lives().unwrap());
    assert!(!Identity { boot: uuid::Uuid::nil(), ..own }.lives().unwrap());
    assert_eq!(Identity::of(u32::MAX).unwrap(), None);
}

/// A start that was begun, and no more.
struct BegunOnly(Begun);

impl RunRecord for BegunOnly {
    fn load(&self) -> Result<Option<Written>, PortError> {
        Ok(Some(Written::Begun(self.0)))
    }

    fn store(&self, _written: &Written) -> Result<(), PortError> {
        unreachable!("it is only looked")
    }

    fn clear(&self) -> Result<(), PortError> {
        unreachable!("it is only looked")
    }
}

#[tokio::test]
async fn a_process_that_is_about_to_become_its_program_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let launch = Launch { qmp: path("qmp"), log: path("log"), ..domain(None, Vec::new()) };
    let begun = Begun { start: uuid::Uuid::new_v4(), since: 7 };
    let wait = Duration::from_secs(1);
    let process = Process::new(launch.clone(), Arc::new(BegunOnly(begun)), wait);

    let log = log::Log::open(&launch).unwrap();
    let script = format!("sleep 0.5; XLSNAP_START={} exec sleep 60", begun.start);
    let mut child = std::process::Command::new("sh")
        .args(["-c", &script])
        .stdout(log.file.try_clone().unwrap())
        .spawn()
        .unwrap();
    drop(log);
    let found = process.find().await.unwrap().and_then(|found| found.process);
    assert_eq!(found.map(|found| found.pid), Some(child.id()));

    child.kill().unwrap();
    child.wait().unwrap();
    assert!(process.find().await.unwrap().is_none());
}
