use std::path::PathBuf;

use xlsnap_orchestrator::{Error, Kind};
use xlsnap_types::model::{DomainName, ImageFormat};

use super::*;

const UUID: &str = "1d8d7c4e-0b1f-4b0e-9a39-9c5d0f6b0d2e";

fn web() -> DomainName {
    DomainName::new("web").unwrap()
}

fn read(text: &str) -> Result<Domain, Error> {
    parse(&web(), text, Path::new("/store/run"))
}

/// The whole chain of a refusal, as one text.
fn refusal(text: &str) -> String {
    let error = read(text).expect_err(text);
    assert_eq!(error.kind(), Kind::Refused, "{text}");
    let mut told = error.to_string();
    let mut next = std::error::Error::source(&error);
    while let Some(cause) = next {
        told = format!("{told}\n{cause}");
        next = cause.source();
    }
    told
}

#[test]
fn what_is_written_reads_the_same() {
    let disk =
        |name: &str, file: &str| DiskSpec::new(name.parse().unwrap(), file.to_owned(), ImageFormat::Qcow2);
    let domain = Domain {
        name: web(),
        uuid: UUID.parse().unwrap(),
        domid: Some(u32::MAX),
        qmp: Some(PathBuf::from("/run/web.qmp")),
        agent: None,
        start: None,
        disks: vec![
            disk("vda", "/srv/a \"quoted\" \\ name\n.qcow2"),
            DiskSpec { format: ImageFormat::Raw, read_only: true, ..disk("vdb", "/srv/b") },
            DiskSpec { removable: true, ..disk("cd0", "") },
            DiskSpec {
                node: Some("#block1".to_owned()),
                key_file: Some(PathBuf::from("/etc/keys/vdc")),
                overlays: Some("/srv/overlays".to_owned()),
                format: ImageFormat::from_driver("vmdk"),
                ..disk("vdc", "/srv/ü")
            },
        ],
    };
    let text = render(&domain).unwrap();
    assert_eq!(read(&text).unwrap(), domain, "{text}");
}

#[test]
fn a_mistake_is_refused_with_its_line() {
    let top = format!("uuid = \"{UUID}\"\n");
    let disk = "[[disk]]\nname = \"vda\"\nimage = \"/a\"\nformat = \"qcow2\"\n";
    for (text, tells) in [
        (String::new(), "uuid"),
        (format!("{top}readonly = true\n{disk}"), "line 2"),
        (format!("{top}{disk}read_only = true\n"), "line 6"),
        (format!("{top}{disk}read-only = \"yes\"\n"), "line 6"),
        (format!("{top}{disk}format = \"raw\"\n"), "line 6"),
        ("uuid = \"1d8d\"\n".to_owned(), "line 1"),
        (format!("{top}[[disk]]\nname = \"../x\"\nimage = \"/a\"\nformat = \"raw\"\n"), "line 3"),
        ("uuid = \"00000000-0000-0000-0000-000000000000\"\n".to_owned(), "nil"),
        (format!("{top}qmp = \"web.qmp\"\n"), "absolute"),
        (format!("{top}domid = -1\n{disk}"), "line 2"),
        (format!("{top}{disk}{disk}"), "named vda"),
        (format!("{top}{disk}{}", disk.replace("vda", "vdb")), "two of its disks"),
        (format!("{top}{}", disk.replace("/a", "a.qcow2")), "absolute"),
        (format!("{top}{}", disk.replace("/a", "nbd:localhost")), "absolute"),
        (format!("{top}{}", disk.replace("image = \"/a\"\n", "")), "no image"),
        (format!("{top}{}", disk.replace("qcow2", "qcow2,file.driver=nbd")), "driver's name"),
        (format!("{top}{}", disk.replace("qcow2", "")), "driver's name"),
        (format!("{top}{disk}key-file = \"key\"\n"), "key-file key"),
        (format!("{top}{disk}overlays = \"here\"\n"), "overlays"),
        (format!("{top}overlays = \"\"\n{disk}"), "overlays"),
    ] {
        let told = refusal(&text);
        assert!(told.contains(tells), "{text}\ntells {told}\nwithout {tells}");
    }
}

#[test]
fn the_directory_for_overlays_is_the_domains_unless_the_disk_has_its_own() {
    let disk = |name: &str, more: &str| {
        format!("[[disk]]\nname = \"{name}\"\nimage = \"/{name}\"\nformat = \"raw\"\n{more}")
    };
    let text = format!(
        "uuid = \"{UUID}\"\noverlays = \"/srv/all\"\n{}{}",
        disk("vda", ""),
        disk("vdb", "overlays = \"/srv/b\"\n")
    );
    let places: Vec<_> = read(&text).unwrap().disks.into_iter().map(|disk| disk.overlays.unwrap()).collect();
    assert_eq!(places, ["/srv/all", "/srv/b"]);
}

#[test]
fn adopting_an_image_keeps_everything_else() {
    let text = format!(
        "# My machine.\nuuid = \"{UUID}\" # fixed\n\n[[disk]]\nname = \"vda\"\nimage = \"/a\" # the first\nformat = \
         \"raw\"\n\n[[disk]]\n# Data.\nname = \"vdb\"\nimage = \"/b\"\nformat = \"qcow2\"\nread-only = false\n"
    );
    let changed =
        with_image(&web(), &text, &"vda".parse().unwrap(), "/a-s1.qcow2", &ImageFormat::Qcow2).unwrap();
    assert_eq!(changed, text.replace("\"/a\"", "\"/a-s1.qcow2\"").replace("\"raw\"", "\"qcow2\""));
    // Once more changes nothing.
    let again =
        with_image(&web(), &changed, &"vda".parse().unwrap(), "/a-s1.qcow2", &ImageFormat::Qcow2).unwrap();
    assert_eq!(again, changed);

    let unknown = with_image(&web(), &text, &"vdz".parse().unwrap(), "/z", &ImageFormat::Qcow2);
    assert_eq!(unknown.unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn adopting_an_image_in_an_inline_table() {
    let text =
        format!("uuid = \"{UUID}\"\ndisk = [{{ name = \"vda\", image = \"/a\", format = \"qcow2\" }}]\n");
    let changed = with_image(&web(), &text, &"vda".parse().unwrap(), "/b", &ImageFormat::Qcow2).unwrap();
    assert_eq!(changed, text.replace("\"/a\"", "\"/b\""));
}

#[test]
fn the_documented_file_reads() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/formats.md");
    let document = std::fs::read_to_string(path).unwrap();
    let example = document.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let domain = read(example).unwrap();
    assert_eq!(domain.disks[0].node.as_deref(), Some("disk0"));
}

fn started(start: &str) -> String {
    format!("uuid = \"{UUID}\"\n\n[start]\n{start}\n")
}

#[test]
fn a_start_is_read_and_gets_its_sockets() {
    let plain = read(&started("")).unwrap();
    assert_eq!(plain.start, Some(StartSpec::Machine(Box::default())));
    assert_eq!(plain.qmp, Some(PathBuf::from(format!("/store/run/{UUID}.qmp"))));
    assert_eq!(plain.agent, None);
    let full = read(&started(
        "memory = 64\ncpus = 2\nbus = \"scsi\"\nagent = true\nserial = \"/tmp/serial\"\narguments = [\"-no-reboot\"]",
    ))
    .unwrap();
    let Some(StartSpec::Machine(spec)) = full.start else { panic!("{full:?}") };
    assert_eq!((spec.memory, spec.cpus, spec.bus), (64, 2, Bus::Scsi));
    assert_eq!(full.agent, Some(PathBuf::from(format!("/store/run/{UUID}.qga"))));
    let argv = read(&started("argv = [\"qemu\", \"-m\", \"64\"]\nagent = \"/run/a.qga\"")).unwrap();
    assert_eq!(argv.start, Some(StartSpec::Argv(["qemu", "-m", "64"].map(str::to_owned).into())));
    assert_eq!(argv.agent, Some(PathBuf::from("/run/a.qga")));
    let placed = read(&format!("qmp = \"/run/web.qmp\"\n{}", started(""))).unwrap();
    assert_eq!(placed.qmp, Some(PathBuf::from("/run/web.qmp")));
}

#[test]
fn a_start_is_read_strictly() {
    for (start, key, line) in [
        ("memroy = 64", "memroy", "line 4"),
        ("memory = \"64\"", "memory", "line 4"),
        ("cpus = 2\nmemory = -1", "memory", "line 5"),
        ("bus = \"usb\"", "bus", "line 4"),
        ("agent = 3", "agent", "line 4"),
        ("memory = 0", "start.memory", "line 3"),
        ("cpus = 0", "start.cpus", "line 3"),
        ("argv = []", "start.argv", "line 3"),
        ("argv = [\"qemu\"]\nmemory = 64", "start.memory", "line 3"),
        ("argv = [\"qemu\"]\nagent = true", "start.agent", "line 3"),
        ("serial = \"console.log\"", "start.serial", "line 3"),
        ("append = \"quiet\"", "start.kernel", "line 3"),
        ("display = \"-S\"", "start.display", "line 3"),
    ] {
        let told = refusal(&started(start));
        assert!(told.contains(key) && told.contains(line), "{start}: {told}");
    }
    let read_only = started("bus = \"ide\"")
        + "[[disk]]\nname = \"hda\"\nimage = \"/a\"\nformat = \"raw\"\nread-only = true\n";
    assert!(refusal(&read_only).contains("hda"));
}
