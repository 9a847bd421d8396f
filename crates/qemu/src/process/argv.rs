//! From a description to QEMU's command line. Nothing is looked up here.

use std::path::Path;

use serde_json::json;
use xlsnap_orchestrator::{Effect, PortError, PortErrorKind};
use xlsnap_types::model::ImageFormat;

use super::words::{self, Keys};
use super::{Bus, Launch, MachineSpec, StartOptions, StartSpec, images};
use crate::DiskSpec;

/// A Unix socket's address holds 108 bytes, with the NUL that ends it (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// The longest name of a node (QEMU, include/block/block_int-common.h: 32 bytes with the NUL).
const MAX_NODE_NAME: usize = 31;

/// The command line of a domain. `is_device` tells whether a disk's image is a block device of the host.
///
/// Disks are given as `-blockdev` in JSON, which needs no quoting. A disk's node and its device have the name that its
/// description has for it (`node`), else the disk's own, where QEMU takes that as a name. In a command line of the user's
/// `{disk:NAME}` and `{format:NAME}` stand for a disk's image and its format. An encrypted disk's key-file is given as a secret.
///
/// # Errors
/// [`PortErrorKind::Refused`] when there is nothing to start it from, a placeholder names a disk that the domain has not, a command
/// line of the user's gives no secret for a disk with a key-file, or a socket's path is too long or no text.
pub fn argv(
    domain: &Launch,
    options: &StartOptions,
    is_device: &dyn Fn(&str) -> bool,
) -> Result<Vec<String>, PortError> {
    let mut line = match &domain.start {
        None => {
            let message =
                format!("domain {}: its description does not say how it is started ([start])", domain.name);
            return Err(refused(message));
        }
        Some(StartSpec::Argv(argv)) => {
            keys_are_given(domain, argv)?;
            images::put_in(&domain.name, argv, &domain.disks)?
        }
        Some(StartSpec::Machine(spec)) => machine(domain, spec, is_device)?,
    };
    let qmp = socket(domain, &domain.qmp)?;
    line.extend(["-qmp".into(), format!("unix:{},server=on,wait=off", quoted(qmp))]);
    if options.paused {
        line.push("-S".into());
    }
    if options.incoming {
        line.extend(["-incoming".into(), "defer".into()]);
    }
    Ok(line)
}

fn machine(
    domain: &Launch,
    spec: &MachineSpec,
    is_device: &dyn Fn(&str) -> bool,
) -> Result<Vec<String>, PortError> {
    let mut line = vec![spec.program.clone()];
    let mut add = |words: &[&str]| line.extend(words.iter().map(|word| (*word).to_owned()));
    // What a user's or a host's configuration adds could be another machine the next time.
    add(&["-no-user-config", "-nodefaults"]);
    add(&["-name", &format!("guest={}", quoted(domain.name.as_str())), "-uuid", &domain.uuid.to_string()]);
    add(&["-machine", &spec.machine]);
    for accel in spec.accel.split(':') {
        add(&["-accel", accel]);
    }
    if let Some(cpu) = &spec.cpu {
        add(&["-cpu", cpu]);
    }
    add(&["-m", &format!("{}M", spec.memory), "-smp", &spec.cpus.to_string()]);
    add(&["-display", &spec.display]);
    if spec.display != "none" {
        add(&["-vga", "std"]);
    }
    let nic = if spec.network == "user" { "user,model=virtio-net-pci" } else { &spec.network };
    add(&["-nic", nic]);
    for (option, value) in [("-kernel", &spec.kernel), ("-initrd", &spec.initrd), ("-append", &spec.append)] {
        if let Some(value) = value {
            add(&[option, value]);
        }
    }
    if let Some(serial) = &spec.serial {
        let chardev = format!("file,id=xlsnap-serial,append=on,path={}", quoted(serial));
        add(&["-chardev", &chardev, "-serial", "chardev:xlsnap-serial"]);
    }
    if let Some(agent) = &domain.agent {
        let path = quoted(socket(domain, agent)?);
        add(&["-device", "virtio-serial,id=xlsnap-ports"]);
        add(&["-chardev", &format!("socket,id=xlsnap-agent,server=on,wait=off,path={path}")]);
        // The name that the agent looks for in the guest (QEMU, docs/interop/qemu-ga.rst).
        add(&["-device", "virtserialport,chardev=xlsnap-agent,name=org.qemu.guest_agent.0"]);
    }
    if domain.disks.iter().any(|disk| on_scsi(spec.bus, disk)) {
        add(&["-device", "virtio-scsi,id=xlsnap-scsi"]);
    }
    for (at, disk) in domain.disks.iter().enumerate() {
        let name = name_of(disk, at);
        let mut device = match (spec.bus, disk.removable) {
            (Bus::Ide, true) => "ide-cd".to_owned(),
            (Bus::Ide, false) => "ide-hd".to_owned(),
            (_, true) => "scsi-cd,bus=xlsnap-scsi.0".to_owned(),
            (Bus::Scsi, false) => "scsi-hd,bus=xlsnap-scsi.0".to_owned(),
            (Bus::Virtio, false) => "virtio-blk".to_owned(),
        };
        device.push_str(&format!(",id={name}"));
        if !disk.file.is_empty() {
            let driver = if is_device(&disk.file) { "host_device" } else { "file" };
            let mut node = json!({
                "driver": disk.format.driver(),
                "node-name": name,
                "read-only": disk.read_only || disk.removable,
                "file": {"driver": driver, "filename": disk.file},
            });
            if let Some(key_file) = key_of(disk) {
                let key = format!("xlsnap-key-{name}");
                let file = key_file.to_str().ok_or_else(|| {
                    let message =
                        format!("the key-file {} of disk {} is no UTF-8 text", key_file.display(), disk.name);
                    refused(format!("domain {}: {message}", domain.name))
                })?;
                if disk.format == ImageFormat::Qcow2 {
                    // An emulator opens no other encryption of qcow2 (QEMU, block/qcow2.c).
                    node["encrypt"] = json!({"format": "luks", "key-secret": key});
                } else {
                    node["key-secret"] = json!(key);
                }
                add(&["-object", &format!("secret,id={key},file={}", quoted(file))]);
            }
            add(&["-blockdev", &node.to_string()]);
            device.push_str(&format!(",drive={name},bootindex={}", at + 1));
        }
        add(&["-device", &device]);
    }
    line.extend(spec.arguments.iter().cloned());
    Ok(line)
}

/// Refuses a command line of the user's that gives QEMU no secret for an encrypted disk. A program that only starts QEMU may add one.
fn keys_are_given(domain: &Launch, argv: &[String]) -> Result<(), PortError> {
    let Some(options) = words::of_qemu(argv) else { return Ok(()) };
    let gives_secret = |word: &words::Word<'_>| {
        word.option == "object" && Keys::of(word.value, "qom-type").get("qom-type") == Some("secret")
    };
    if options.iter().any(gives_secret) {
        return Ok(());
    }
    for (at, disk) in domain.disks.iter().enumerate() {
        let Some(key_file) = key_of(disk) else { continue };
        let key = format!("key-{}", name_of(disk, at));
        let option = if disk.format == ImageFormat::Qcow2 {
            format!("encrypt.format=luks,encrypt.key-secret={key}")
        } else {
            format!("key-secret={key}")
        };
        let object = format!("secret,id={key},file={}", quoted(&key_file.to_string_lossy()));
        return Err(refused(format!(
            "domain {}: its disk {} has a key-file, and its start.argv gives QEMU no secret: add \"-object\", {object:?} to \
             argv, and {option} to the option of that disk",
            domain.name, disk.name
        )));
    }
    Ok(())
}

/// The file with the key of a disk whose format can be encrypted.
fn key_of(disk: &DiskSpec) -> Option<&Path> {
    disk.key_file.as_deref().filter(|_| matches!(disk.format.driver(), "qcow2" | "luks"))
}

fn on_scsi(bus: Bus, disk: &DiskSpec) -> bool {
    bus == Bus::Scsi || (bus == Bus::Virtio && disk.removable)
}

/// The name of a disk's node and device: its description's, else its own if QEMU takes that (a letter first, no longer than a
/// node's name may be), else one by its place.
fn name_of(disk: &DiskSpec, at: usize) -> String {
    let fits = |name: &str| {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.len() <= MAX_NODE_NAME
            && name.chars().all(word)
    };
    let names = [disk.node.as_deref(), Some(disk.name.as_str())];
    names
        .into_iter()
        .flatten()
        .find(|name| fits(name))
        .map_or_else(|| format!("xlsnap-disk{at}"), str::to_owned)
}

fn socket<'a>(domain: &Launch, path: &'a Path) -> Result<&'a str, PortError> {
    let cannot = |why: String| {
        refused(format!("domain {}: the path of its socket {} {why}", domain.name, path.display()))
    };
    let text = path.to_str().ok_or_else(|| cannot("is no UTF-8 text".into()))?;
    if text.len() > MAX_SOCKET_PATH {
        let why = format!(
            "has {} bytes, and a socket's has {MAX_SOCKET_PATH} at most; give a shorter one in the domain's file",
            text.len()
        );
        return Err(cannot(why));
    }
    Ok(text)
}

/// A comma ends a value in QEMU's options unless it is doubled.
fn quoted(text: &str) -> String {
    text.replace(',', ",,")
}

fn refused(message: String) -> PortError {
    PortError::new(PortErrorKind::Refused, Effect::None, message)
}
