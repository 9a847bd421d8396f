//! The `[start]` table of a domain's file.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use xlsnap_qemu::process::{Bus, MachineSpec, StartSpec};

/// The most words of a command line, and the most bytes of one.
const MAX_WORDS: usize = 4096;
const MAX_WORD: usize = 64 << 10;

/// How a domain is started, and the guest agent's socket that it then has.
///
/// What is wrong in it is an error of the table's deserialisation, so that it names the table's line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "StartTable")]
pub(crate) struct Start {
    pub(crate) spec: StartSpec,
    pub(crate) agent: Agent,
}

/// Whether there is a guest agent's socket, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Agent {
    #[default]
    No,
    /// At the place that is made for it.
    Made,
    At(PathBuf),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "agent has to be true, false, or the absolute path of a socket")]
enum AgentWord {
    Wanted(bool),
    At(PathBuf),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum BusWord {
    Virtio,
    Ide,
    Scsi,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartTable {
    argv: Option<Vec<String>>,
    program: Option<String>,
    machine: Option<String>,
    accel: Option<String>,
    cpu: Option<String>,
    memory: Option<u32>,
    cpus: Option<u16>,
    bus: Option<BusWord>,
    network: Option<String>,
    display: Option<String>,
    kernel: Option<String>,
    initrd: Option<String>,
    append: Option<String>,
    serial: Option<String>,
    arguments: Option<Vec<String>>,
    agent: Option<AgentWord>,
}

impl TryFrom<StartTable> for Start {
    type Error = String;

    fn try_from(table: StartTable) -> Result<Self, String> {
        let agent = match &table.agent {
            None | Some(AgentWord::Wanted(false)) => Agent::No,
            Some(AgentWord::Wanted(true)) => Agent::Made,
            Some(AgentWord::At(path)) if path.is_absolute() => Agent::At(path.clone()),
            Some(AgentWord::At(path)) => {
                return Err(format!("start.agent: {} is no absolute path", path.display()));
            }
        };
        let spec = match table.argv {
            Some(_) => {
                if agent == Agent::Made {
                    return Err("start.agent: beside argv it has to be the socket that argv makes".to_owned());
                }
                StartSpec::Argv(only_argv(table)?)
            }
            None => StartSpec::Machine(Box::new(machine(table)?)),
        };
        Ok(Self { spec, agent })
    }
}

fn only_argv(table: StartTable) -> Result<Vec<String>, String> {
    let StartTable {
        argv,
        program,
        machine,
        accel,
        cpu,
        memory,
        cpus,
        bus,
        network,
        display,
        kernel,
        initrd,
        append,
        serial,
        arguments,
        agent: _,
    } = table;
    let given = [
        ("program", program.is_some()),
        ("machine", machine.is_some()),
        ("accel", accel.is_some()),
        ("cpu", cpu.is_some()),
        ("memory", memory.is_some()),
        ("cpus", cpus.is_some()),
        ("bus", bus.is_some()),
        ("network", network.is_some()),
        ("display", display.is_some()),
        ("kernel", kernel.is_some()),
        ("initrd", initrd.is_some()),
        ("append", append.is_some()),
        ("serial", serial.is_some()),
        ("arguments", arguments.is_some()),
    ];
    if let Some((key, _)) = given.into_iter().find(|(_, given)| *given) {
        return Err(format!("start.{key}: means nothing beside start.argv, which is the whole command line"));
    }
    let argv = argv.unwrap_or_default();
    if argv.first().is_none_or(String::is_empty) {
        return Err("start.argv: it names no program".to_owned());
    }
    words("argv", &argv)?;
    Ok(argv)
}

fn machine(table: StartTable) -> Result<MachineSpec, String> {
    let usual = MachineSpec::default();
    let spec = MachineSpec {
        program: table.program.unwrap_or(usual.program),
        machine: table.machine.unwrap_or(usual.machine),
        accel: table.accel.unwrap_or(usual.accel),
        cpu: table.cpu,
        memory: table.memory.unwrap_or(usual.memory),
        cpus: table.cpus.unwrap_or(usual.cpus),
        bus: match table.bus {
            None | Some(BusWord::Virtio) => Bus::Virtio,
            Some(BusWord::Ide) => Bus::Ide,
            Some(BusWord::Scsi) => Bus::Scsi,
        },
        network: table.network.unwrap_or(usual.network),
        display: table.display.unwrap_or(usual.display),
        kernel: table.kernel,
        initrd: table.initrd,
        append: table.append,
        serial: table.serial,
        arguments: table.arguments.unwrap_or_default(),
    };
    if spec.memory == 0 {
        return Err("start.memory: a machine without memory does not start; it is in MiB".to_owned());
    }
    if spec.cpus == 0 {
        return Err("start.cpus: a machine without a processor does not start".to_owned());
    }
    for (key, value) in [
        ("program", Some(&spec.program)),
        ("machine", Some(&spec.machine)),
        ("accel", Some(&spec.accel)),
        ("cpu", spec.cpu.as_ref()),
        ("network", Some(&spec.network)),
        ("display", Some(&spec.display)),
    ] {
        if value.is_some_and(|value| value.is_empty() || value.starts_with('-')) {
            return Err(format!("start.{key}: it is empty, or reads as an option"));
        }
    }
    for (key, value) in [("kernel", &spec.kernel), ("initrd", &spec.initrd), ("serial", &spec.serial)] {
        if let Some(path) = value
            && !Path::new(path).is_absolute()
        {
            return Err(format!("start.{key}: {path} is no absolute path"));
        }
    }
    if spec.kernel.is_none() && (spec.initrd.is_some() || spec.append.is_some()) {
        return Err("start.kernel: initrd and append mean nothing without it".to_owned());
    }
    words("arguments", &spec.arguments)?;
    let texts = [
        &spec.program,
        &spec.machine,
        &spec.accel,
        &spec.network,
        &spec.display,
        spec.cpu.as_ref().unwrap_or(&spec.program),
        spec.kernel.as_ref().unwrap_or(&spec.program),
        spec.initrd.as_ref().unwrap_or(&spec.program),
        spec.append.as_ref().unwrap_or(&spec.program),
        spec.serial.as_ref().unwrap_or(&spec.program),
    ];
    if texts.iter().any(|text| text.contains('\0') || text.len() > MAX_WORD) {
        return Err(format!("start: a value holds a NUL, or more than {MAX_WORD} bytes"));
    }
    Ok(spec)
}

/// Checks what no command line can hold.
fn words(key: &str, words: &[String]) -> Result<(), String> {
    if words.len() > MAX_WORDS {
        return Err(format!("start.{key}: it has {} words; at most {MAX_WORDS} are allowed", words.len()));
    }
    if words.iter().any(|word| word.contains('\0') || word.len() > MAX_WORD) {
        return Err(format!("start.{key}: a word holds a NUL, or more than {MAX_WORD} bytes"));
    }
    Ok(())
}
