//! A domain whose QEMU is started by the code under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use xlsnap_orchestrator::conf_store::ConfStore;
use xlsnap_orchestrator::{
    Clock, GuestState, ImageFile, MemorySave, PortError, Ports, Power, Progress, Run, SaveTo,
};
use xlsnap_qemu::process::{self, Launch, MachineSpec, Process, RunRecord, StartSpec, Written};
use xlsnap_qemu::{Description, DiskSpec, Machine, MachineParts};
use xlsnap_qemu_img::Program;
use xlsnap_qmp_transport::{Client, Options};
use xlsnap_testkit::real::{DEADLINE, Monitor, Scratch, wait_until};
use xlsnap_types::model::{AbsoluteFile, Compression, DiskName, ImageFormat, MemoryMeta, MemoryWay, SavedIn};

pub(crate) const MIB: u64 = 1 << 20;

/// Where the pattern is in the guest's memory.
const AT: u64 = 16 * MIB;

/// How long the pattern is: noise, so that it neither packs nor counts as zeros.
pub(crate) const PATTERN: usize = 8 << 20;

/// The domain's description: what it starts from.
#[derive(Debug, Default)]
pub(crate) struct Described(Mutex<Vec<DiskSpec>>);

impl Described {
    pub(crate) fn disks(&self) -> Vec<DiskSpec> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl Description for Described {
    async fn set_images(&self, images: &[(DiskName, ImageFile)]) -> Result<(), PortError> {
        let mut disks = self.0.lock().unwrap();
        for (disk, image) in images {
            let spec = disks.iter_mut().find(|spec| spec.name == *disk).unwrap();
            spec.file.clone_from(&image.file);
            spec.format.clone_from(&image.format);
        }
        Ok(())
    }
}

/// What is written down of its process.
#[derive(Debug, Default)]
struct Kept(Mutex<Option<Written>>);

impl RunRecord for Kept {
    fn load(&self) -> Result<Option<Written>, PortError> {
        Ok(*self.0.lock().unwrap())
    }

    fn store(&self, written: &Written) -> Result<(), PortError> {
        *self.0.lock().unwrap() = Some(*written);
        Ok(())
    }

    fn clear(&self) -> Result<(), PortError> {
        *self.0.lock().unwrap() = None;
        Ok(())
    }
}

/// The ports of a machine: all that it has.
pub(crate) fn ports_of<'a>(
    machine: &'a Machine,
    store: &'a dyn ConfStore,
    clock: &'a dyn Clock,
    progress: &'a dyn Progress,
) -> Ports<'a> {
    machine.offer(Ports::new(machine, machine, store, clock, progress))
}

/// No progress is shown.
pub(crate) struct Unwatched;

impl Progress for Unwatched {
    fn step(&self, _number: usize, _total: usize, _what: &str) {}

    fn bytes(&self, _done: u64, _total: Option<u64>) {}
}

/// A domain. Its QEMU ends with it.
pub(crate) struct Rig {
    pub(crate) scratch: Scratch,
    pub(crate) described: Arc<Described>,
    pub(crate) spec: MachineSpec,
    kept: Arc<Kept>,
    next: AtomicU64,
}

impl Rig {
    /// With two disks of 4 MiB, `vda` and `vdb`, and the pattern in its memory.
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        let specs = ["vda", "vdb"].map(|name| spec(name, &scratch.qcow2(&format!("{name}.qcow2"), 4 * MIB)));
        Self::of(scratch, specs.into())
    }

    /// With these disks.
    pub(crate) fn of(scratch: Scratch, disks: Vec<DiskSpec>) -> Self {
        let fixture = format!("unix:{},server=on,wait=off", scratch.path("f.qmp").display());
        let ram = scratch.path("ram");
        std::fs::write(&ram, noise(1)).unwrap();
        let loader = format!("loader,file={},addr={AT},force-raw=on", ram.display());
        let spec = MachineSpec {
            accel: "tcg".into(),
            memory: 64,
            arguments: ["-qmp", &fixture, "-device", &loader].map(str::to_owned).into(),
            ..MachineSpec::default()
        };
        let described = Arc::new(Described(Mutex::new(disks)));
        std::fs::create_dir(scratch.path("run")).unwrap();
        std::fs::create_dir(scratch.path("saves")).unwrap();
        Self { scratch, described, spec, kept: Arc::default(), next: AtomicU64::new(0) }
    }

    /// The adapter, as a new program makes it.
    pub(crate) async fn reach(&self) -> Machine {
        let monitor = Client::connect_unix(self.qmp(), Options::default()).await.ok();
        self.machine(monitor)
    }

    /// The same of a QEMU that runs, and may be busy, or with the client before.
    pub(crate) async fn reach_soon(&self) -> Machine {
        let start = std::time::Instant::now();
        loop {
            match Client::connect_unix(self.qmp(), Options::default()).await {
                Ok(monitor) => return self.machine(Some(monitor)),
                Err(e) if start.elapsed() < DEADLINE => drop(e),
                Err(e) => panic!("{e}"),
            }
        }
    }

    pub(crate) fn machine(&self, monitor: Option<Client>) -> Machine {
        let start = Some(StartSpec::Machine(Box::new(self.spec.clone())));
        self.parts(monitor, start)
    }

    pub(crate) fn parts(&self, monitor: Option<Client>, start: Option<StartSpec>) -> Machine {
        let launch = Launch {
            name: "guest".parse().unwrap(),
            uuid: "1d8d7c4e-0b1f-4b0e-9a39-9c5d0f6b0d2e".parse().unwrap(),
            start,
            disks: self.described.disks(),
            qmp: self.qmp(),
            agent: None,
            log: self.scratch.path("log"),
            sockets: None,
        };
        let wait = std::time::Duration::from_secs(5);
        Machine::new(MachineParts {
            name: "guest".parse().unwrap(),
            disks: self.described.disks(),
            description: self.described.clone(),
            qemu_img: Arc::new(Program::default()),
            process: Some(Process::new(launch, self.kept.clone(), wait)),
            monitor,
            memory: self.scratch.path("saves"),
            sockets: self.scratch.path("run"),
        })
    }

    /// Starts it; its guest runs.
    pub(crate) async fn started(&self) -> Machine {
        let machine = self.reach().await;
        machine.start(Run::Runs).await.unwrap();
        machine
    }

    pub(crate) fn qmp(&self) -> PathBuf {
        self.scratch.path("d.qmp")
    }

    fn run(&self) -> Option<process::Run> {
        match *self.kept.0.lock().unwrap() {
            Some(Written::Started(run)) => Some(run),
            _ => None,
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.run().map(|run| run.process.pid)
    }

    /// Kills QEMU as a crash would, and waits until it is gone.
    pub(crate) fn kill(&self) {
        let Some(run) = self.run() else { return };
        if run.process.lives().unwrap() {
            let pid = Pid::from_raw(run.process.pid.cast_signed()).unwrap();
            kill_process(pid, Signal::KILL).unwrap();
            wait_until("QEMU is gone", || (!run.process.lives().unwrap()).then_some(()));
        }
    }

    /// The fixture's own monitor, of the QEMU that runs now.
    pub(crate) fn monitor(&self) -> Monitor {
        Monitor::connect(&self.scratch.path("f.qmp")).unwrap()
    }

    pub(crate) fn status(&self) -> String {
        let status = self.monitor().must("query-status", json!({}));
        status["status"].as_str().unwrap().to_owned()
    }

    /// A save that no other is.
    pub(crate) fn save(&self, way: MemoryWay) -> MemorySave {
        let token = format!("t{}", self.next.fetch_add(1, Ordering::Relaxed));
        let file = self.scratch.path("saves").join(format!("{token}.save"));
        let to = match way {
            MemoryWay::Internal => SaveTo::Inside,
            _ => to_file(file.to_str().unwrap(), way, Compression::None),
        };
        MemorySave { to, was: Run::Runs, token }
    }

    /// The same to a file that is packed so.
    pub(crate) fn packed(&self, way: MemoryWay, compression: Compression) -> MemorySave {
        let save = self.save(way);
        let to = to_file(save.file().unwrap(), way, compression);
        MemorySave { to, ..save }
    }

    /// The same of a guest that stands still.
    pub(crate) fn of_paused(&self, way: MemoryWay) -> MemorySave {
        MemorySave { was: Run::Waits, ..self.save(way) }
    }

    /// What is in the directories of memory files and sockets.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut names = Vec::new();
        for directory in ["saves", "run"] {
            for entry in std::fs::read_dir(self.scratch.path(directory)).unwrap() {
                names.push(entry.unwrap().file_name().into_string().unwrap());
            }
        }
        names.sort();
        names
    }

    /// Another pattern for the next QEMU that starts.
    pub(crate) fn next_pattern(&self, seed: u64) {
        std::fs::write(self.scratch.path("ram"), noise(seed)).unwrap();
    }

    /// Whether the guest's memory holds the pattern of `seed`.
    pub(crate) fn remembers(&self, seed: u64) -> bool {
        let file = self.scratch.path("dump");
        let _ = std::fs::remove_file(&file);
        let command = format!("pmemsave {AT} {PATTERN} \"{}\"", file.display());
        self.human(&command);
        std::fs::read(&file).unwrap() == noise(seed)
    }

    pub(crate) fn human(&self, command: &str) -> Value {
        self.monitor().must("human-monitor-command", json!({"command-line": command}))
    }

    /// Fills the first 64 KiB of a disk, as the guest would.
    pub(crate) fn write(&self, disk: &str, byte: u8) {
        let command =
            format!("qemu-io -d /machine/peripheral/{disk}/virtio-backend \"write -P {byte} 0 65536\"");
        assert_eq!(self.human(&command), "", "writing to {disk}");
        assert_eq!(self.read(disk), byte);
    }

    /// The byte that the first 64 KiB of a disk have, as the guest sees them.
    pub(crate) fn read(&self, disk: &str) -> u8 {
        let socket = self.scratch.path("nbd");
        let mut monitor = self.monitor();
        let address = json!({"type": "unix", "data": {"path": socket.to_str().unwrap()}});
        // The one that an earlier QEMU left would be in the way.
        if monitor.execute("nbd-server-start", json!({"addr": address})).is_err() {
            monitor.must("query-status", json!({}));
        }
        let export = json!({"type": "nbd", "id": "f", "node-name": node_of(&mut monitor, disk), "name": "f"});
        monitor.must("block-export-add", export);
        let url = format!("nbd+unix:///f?socket={}", socket.display());
        let byte = byte(&["-r", "-f", "raw"], &url);
        monitor.must("nbd-server-stop", json!({}));
        wait_until("the export is gone", || {
            let exports = monitor.must("query-block-exports", json!({}));
            exports.as_array().unwrap().is_empty().then_some(())
        });
        byte
    }

    /// What the guest's state is, as the adapter says.
    pub(crate) async fn state(&self, machine: &Machine) -> GuestState {
        xlsnap_orchestrator::Guest::state(machine).await.unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.kill();
    }
}

fn node_of(monitor: &mut Monitor, disk: &str) -> String {
    let block = monitor.must("query-block", json!({}));
    let device = format!("/{disk}/");
    let is_it = |entry: &&Value| entry["qdev"].as_str().is_some_and(|path| path.contains(&device));
    let entry = block.as_array().unwrap().iter().find(is_it).unwrap();
    entry["inserted"]["node-name"].as_str().unwrap().to_owned()
}

/// The byte of the first 64 KiB of what qemu-io opens.
fn byte(options: &[&str], target: &str) -> u8 {
    let run = |command: &str| {
        let output = Command::new("qemu-io").args(options).args(["-c", command, target]).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let said = run("read -v 0 1");
    let byte = said.split_whitespace().nth(1).and_then(|byte| u8::from_str_radix(byte, 16).ok());
    let byte = byte.unwrap_or_else(|| panic!("qemu-io shows no byte: {said}"));
    let all = run(&format!("read -P {byte} 0 65536"));
    assert!(!all.contains("failed"), "{target} begins with {byte} and goes on otherwise: {all}");
    byte
}

pub(crate) fn spec(name: &str, file: &Path) -> DiskSpec {
    DiskSpec::new(name.parse().unwrap(), file.to_str().unwrap().to_owned(), ImageFormat::Qcow2)
}

/// Bytes that do not pack.
pub(crate) fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(PATTERN);
    while bytes.len() < PATTERN {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes
}

/// Where a file takes the memory.
pub(crate) fn to_file(file: &str, way: MemoryWay, compression: Compression) -> SaveTo {
    SaveTo::File { file: AbsoluteFile::new(file).unwrap(), way, compression }
}

/// What a record would say of a finished save.
pub(crate) fn meta(save: &MemorySave, saved: &xlsnap_orchestrator::SavedMemory) -> MemoryMeta {
    let file = save.file().expect("it is saved to a file").to_owned();
    let (way, checksum, compression) = (save.way(), saved.checksum.clone(), save.compression());
    MemoryMeta { place: SavedIn::File { file, way, checksum, compression }, bytes: saved.bytes }
}

/// An error with its causes.
pub(crate) fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
