//! What a start gives a guest, as far as its command line tells: what the memory of a guest has to be loaded into.

use std::collections::BTreeSet;

use super::program::Program;
use super::words::{self, Keys, size};

const MIB: u64 = 1 << 20;

/// The most devices that are told of.
const MAX_DEVICES: usize = 4096;

/// The longest id or type of a device.
const MAX_NAME: usize = 256;

/// What a machine has that a memory file of it names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StartFacts {
    /// The guest's memory, in bytes; `None` when the command line does not tell.
    pub memory: Option<u64>,
    /// The machine type, as it is written there: `q35` stands for another one in each QEMU.
    pub machine: Option<String>,
    /// The devices that have an id, each as [`device`] words it, sorted; empty when nothing is known.
    pub devices: Vec<String>,
}

impl StartFacts {
    /// What the words of a command line give.
    pub fn of(line: &[String]) -> Self {
        let words = words::of(line);
        let mut facts = Self::default();
        let mut plugged = false;
        let mut devices = BTreeSet::new();
        for word in &words {
            match word.option {
                // More options are in that file.
                "readconfig" => return Self::default(),
                "m" => {
                    facts.memory = Keys::of(word.value, "size").get("size").and_then(|text| size(text, MIB))
                }
                "machine" | "M" => {
                    let keys = Keys::of(word.value, "type");
                    if let Some(machine) = keys.get("type") {
                        facts.machine = Some(machine.to_owned());
                    }
                    plugged |= keys.get("memory-backend").is_some();
                }
                "device" => {
                    let keys = Keys::of(word.value, "driver");
                    let driver = keys.get("driver").unwrap_or_default();
                    plugged |= ["dimm", "virtio-mem", "virtio-pmem"].iter().any(|kind| driver.contains(kind));
                    devices.extend(keys.get("id").and_then(|id| device(id, driver)));
                }
                _ => {}
            }
        }
        if plugged {
            facts.memory = None;
        }
        facts.devices = devices.into_iter().take(MAX_DEVICES).collect();
        facts
    }

    /// The same without what a script may say otherwise.
    pub(super) fn started_by(mut self, program: &Program) -> Self {
        if program.says("-m ") || program.says("-readconfig") {
            self.memory = None;
        }
        if program.says("-M") || program.says("-machine") || program.says("-readconfig") {
            self.machine = None;
        }
        if program.says("-device") || program.says("-readconfig") {
            self.devices.clear();
        }
        self
    }
}

/// A device in words that are the same whether a command line gives it or a running QEMU has it: its id, and its type where
/// that has one name. Many types have further names (QEMU's `qdev_alias_table`), and some one for each bus.
pub(crate) fn device(id: &str, kind: &str) -> Option<String> {
    /// Types that are told apart.
    const KNOWN: [&str; 16] = [
        "e1000e",
        "ide-cd",
        "ide-hd",
        "nvme",
        "nvme-ns",
        "qemu-xhci",
        "scsi-block",
        "scsi-cd",
        "scsi-hd",
        "usb-storage",
        "usb-tablet",
        "virtio-balloon",
        "virtio-blk",
        "virtio-net",
        "virtio-scsi",
        "virtio-serial",
    ];
    const BUSES: [&str; 5] = ["-pci-non-transitional", "-pci-transitional", "-pci", "-device", "-ccw"];
    if id.is_empty() || id.len() > MAX_NAME || kind.len() > MAX_NAME {
        return None;
    }
    let family = BUSES.iter().find_map(|bus| kind.strip_suffix(bus)).unwrap_or(kind);
    Some(if KNOWN.contains(&family) { format!("{id} ({family})") } else { id.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_gives_facts() {
        for (options, memory, machine, devices) in [
            ("-m 64 -machine q35,accel=tcg", Some(64), Some("q35"), vec![]),
            ("-m 64 -M pc -m size=1G,slots=2", Some(1024), Some("pc"), vec![]),
            ("-machine accel=tcg", None, None, vec![]),
            ("-m 64 -machine type=virt,memory-backend=m", None, Some("virt"), vec![]),
            ("-m 64 -device pc-dimm,id=d,memdev=m", None, None, vec!["d"]),
            (
                "-device virtio-blk,id=vda,drive=a -device e1000 -device what,id=w -device scsi-cd,bus=b.0,id=cd0",
                None,
                None,
                vec!["cd0 (scsi-cd)", "vda (virtio-blk)", "w"],
            ),
            (r#"-device {"driver":"virtio-net-pci","id":"n"}"#, None, None, vec!["n (virtio-net)"]),
            ("-m 64 -readconfig /f", None, None, vec![]),
        ] {
            let line: Vec<String> =
                std::iter::once("qemu-system-x86_64").chain(options.split(' ')).map(str::to_owned).collect();
            let expected = StartFacts {
                memory: memory.map(|mib| mib * MIB),
                machine: machine.map(str::to_owned),
                devices: devices.into_iter().map(str::to_owned).collect(),
            };
            assert_eq!(StartFacts::of(&line), expected, "{options}");
        }
    }

    #[test]
    fn what_a_script_adds_is_not_known() {
        let facts = StartFacts { memory: Some(MIB), machine: Some("pc".into()), devices: vec!["a".into()] };
        let script = Program::script_of("#!/bin/sh\nexec qemu-system-x86_64 \"$@\" -m 1G\n");
        assert_eq!(facts.clone().started_by(&script), StartFacts { memory: None, ..facts.clone() });
        assert_eq!(facts.clone().started_by(&Program::default()), facts);
    }
}
