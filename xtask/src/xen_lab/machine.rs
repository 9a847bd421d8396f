//! The emulated machine.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::Release;
use super::dom0::Dom0;
use super::recipe::{self, Lab};
use crate::command::{command, output};
use crate::{Done, Failure};

/// It takes half a minute where nothing else runs.
const BOOT: Duration = Duration::from_secs(900);

/// How long it may take to end.
const END: Duration = Duration::from_secs(20);

/// What Xen and dom0 print.
const CONSOLE: &str = "console.log";

/// What is known of one that is left running.
const STATE: &str = "state.json";

/// What QEMU prints.
const LOG: &str = "qemu.log";

/// SVM is what HVM guests need. TCG has no good AVX and the like under it, and with MONITOR Xen's idle loop panics.
const PROCESSOR: &str = "EPYC,+svm,+npt,-monitor,-avx,-avx2,-fma,-f16c,-fxsr-opt,-misalignsse,-osvw,-topoext,\
                         -nrip-save,-xsavec";

/// Its clock counts instructions, two nanoseconds each, and follows ours only while it is idle: on a busy machine it is slow, and
/// no time runs out in it that would not elsewhere. libxl gives a device model 10 s for an answer, and no setting changes that.
const CLOCK: &str = "shift=1";

/// On one processor dom0 and its guests take turns, as slowly as on more and more surely.
const XEN: &str = "console=com1 com1=115200,8n1 loglvl=warning guest_loglvl=warning dom0_mem=1536M,max:1536M \
                   dom0_max_vcpus=1 noreboot sched=credit spec-ctrl=eager-fpu";

const LINUX: &str =
    "console=hvc0 root=LABEL=xen-lab rw quiet net.ifnames=0 mitigations=off systemd.show_status=0";

/// One that runs.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) dom0: Dom0,
    directory: PathBuf,
    pid: u32,
}

impl Machine {
    /// Boots one that outlives us, and that [`Machine::left_running`] finds.
    pub(super) fn boot(lab: &Lab) -> Result<Self, Failure> {
        let directory = kept(lab.release())?;
        let failed = |e| Failure(format!("cannot write to {}: {e}", directory.display()));
        if directory.exists() {
            fs::remove_dir_all(&directory).map_err(failed)?;
        }
        fs::create_dir(&directory).map_err(failed)?;
        // In a session of its own: no terminal's Ctrl-C reaches it.
        let (machine, _) = boot(lab, &directory, &["setsid"])?;
        let Dom0 { key, port, .. } = &machine.dom0;
        let state = json!({ "pid": machine.pid, "port": port, "key": key });
        fs::write(directory.join(STATE), state.to_string()).map_err(failed)?;
        Ok(machine)
    }

    /// The one of this release that was left running, whatever recipe it is of.
    pub(super) fn left_running(release: Release) -> Result<Option<Self>, Failure> {
        let directory = kept(release)?;
        let read = || {
            let state: Value = serde_json::from_slice(&fs::read(directory.join(STATE)).ok()?).ok()?;
            let number = |name: &str| state[name].as_u64();
            let (key, port) = (state["key"].as_str()?.into(), number("port")?.try_into().ok()?);
            let dom0 = Dom0 { release, key, port };
            Some(Self { dom0, pid: number("pid")?.try_into().ok()?, directory: directory.clone() })
        };
        Ok(read().filter(Self::is_alive))
    }

    /// Whether it was booted from this lab.
    pub(super) fn is_of(&self, lab: &Lab) -> bool {
        self.dom0.key == lab.file("key")
    }

    /// Whether the process is there and is this machine: a pid may be another's by now.
    fn is_alive(&self) -> bool {
        let line = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&*self.directory.to_string_lossy())
    }

    /// Keeps others from using it, as long as the file is open.
    pub(super) fn reserve(&self) -> Result<fs::File, Failure> {
        let file = fs::File::create(self.directory.join("reserved"));
        let file = file.map_err(|e| Failure(format!("the lab that runs cannot be reserved: {e}")))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(fs::TryLockError::WouldBlock) => {
                Err(Failure("another process uses the lab that runs; wait until it has ended".into()))
            }
            Err(fs::TryLockError::Error(e)) => {
                Err(Failure(format!("the lab that runs cannot be reserved: {e}")))
            }
        }
    }

    /// Ends it. Nothing need be saved: its disk goes with it.
    pub(super) fn stop(&self) -> Done {
        let signal = |name| output(command("kill", ["-s", name, &self.pid.to_string()]));
        signal("TERM")?;
        let start = Instant::now();
        while self.is_alive() {
            if start.elapsed() > END {
                signal("KILL")?;
            }
            sleep(Duration::from_millis(100));
        }
        fs::remove_dir_all(&self.directory)
            .map_err(|e| Failure(format!("cannot remove {}: {e}", self.directory.display())))
    }

    /// The failure, with what Xen and dom0 said last.
    pub(super) fn with_console(&self, failure: Failure) -> Failure {
        with_console(&self.directory, failure)
    }
}

/// A machine of one run: it is gone with this, and with us.
#[derive(Debug)]
pub(super) struct Throwaway {
    pub(super) machine: Machine,
    process: Child,
    // Dropped after the process has ended.
    directory: TempDir,
}

/// What a machine is started by that ends with us.
const OURS: [&str; 3] = ["setpriv", "--pdeathsig", "KILL"];

impl Throwaway {
    pub(super) fn boot(lab: &Lab) -> Result<Self, Failure> {
        // Beside the image: the overlay may grow to gigabytes.
        let directory = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(lab.directory())
            .map_err(|e| Failure(format!("no directory for the lab's disk: {e}")))?;
        let (machine, process) = boot(lab, directory.path(), &OURS)?;
        Ok(Self { machine, process, directory })
    }

    /// Cuts its power, and boots it again from the disk as that is then: what dom0 held in its caches is lost.
    pub(super) fn reset(&mut self, lab: &Lab) -> Done {
        // Asked so QEMU ends at once, and brings what dom0 gave its disk to the file.
        output(command("kill", ["-s", "TERM", &self.process.id().to_string()]))?;
        self.process.wait().map_err(|e| Failure(format!("the lab's QEMU cannot be waited for: {e}")))?;
        let (machine, process) = boot_again(lab, self.directory.path(), &OURS)?;
        (self.machine, self.process) = (machine, process);
        Ok(())
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// The directory of one that is left running: there is one of a release at a time.
fn kept(release: Release) -> Result<PathBuf, Failure> {
    Ok(recipe::cache()?.join(format!("running-{release}")))
}

fn end(process: &mut Child) {
    // It may have ended by itself; either way nothing of it is left.
    let _ = process.kill();
    let _ = process.wait();
}

/// Boots a machine from a fresh overlay of the lab's image in `directory`, and waits for dom0.
fn boot(lab: &Lab, directory: &Path, through: &[&str]) -> Result<(Machine, Child), Failure> {
    let mut overlay = command("qemu-img", ["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
    overlay.arg(lab.file("dom0.img")).arg(disk(directory));
    output(overlay)?;
    boot_again(lab, directory, through)
}

/// Where a machine's disk is.
fn disk(directory: &Path) -> PathBuf {
    directory.join("disk.qcow2")
}

/// Boots a machine from the disk in `directory`, and waits for dom0.
fn boot_again(lab: &Lab, directory: &Path, through: &[&str]) -> Result<(Machine, Child), Failure> {
    let port = free_port().map_err(|e| Failure(format!("no free port: {e}")))?;
    let mut process = start_qemu(lab, directory, port, through)?;
    let dom0 = Dom0 { release: lab.release(), key: lab.file("key"), port };
    if let Err(failure) = wait_for(&dom0, &mut process, directory) {
        end(&mut process);
        return Err(with_console(directory, failure));
    }
    let machine = Machine { dom0, directory: directory.to_owned(), pid: process.id() };
    Ok((machine, process))
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn start_qemu(lab: &Lab, directory: &Path, port: u16, through: &[&str]) -> Result<Child, Failure> {
    let (first, more) = through.split_first().expect("there is at least one word");
    let mut qemu = command(first, more);
    qemu.args(["qemu-system-x86_64", "-name", "xen-lab", "-nodefaults", "-no-user-config", "-no-reboot"]);
    qemu.args(["-machine", "q35", "-accel", "tcg,thread=single,tb-size=512", "-icount", CLOCK]);
    qemu.args(["-cpu", PROCESSOR]);
    qemu.args(["-smp", "1", "-m", "3G", "-display", "none"]);
    // Xen is a multiboot kernel, and these are its modules, each with its command line.
    qemu.arg("-kernel").arg(lab.file("xen")).args(["-append", XEN]);
    let (linux, initrd) = (lab.file("vmlinuz"), lab.file("initrd"));
    qemu.arg("-initrd").arg(format!("{} {LINUX},{}", linux.display(), initrd.display()));
    // No power cut of this machine will come: what is flushed need not reach its disk.
    let disk = disk(directory);
    qemu.arg("-drive").arg(format!("file={},if=none,id=disk,format=qcow2,cache=unsafe", disk.display()));
    qemu.args(["-device", "ide-hd,bus=ide.0,drive=disk", "-device", "e1000,netdev=net"]);
    qemu.arg("-netdev").arg(format!("user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"));
    qemu.arg("-serial").arg(format!("file:{}", directory.join(CONSOLE).display()));

    let log = fs::File::create(directory.join(LOG));
    let log = log.and_then(|log| Ok((log.try_clone()?, log)));
    let (out, err) = log.map_err(|e| Failure(format!("no log for QEMU: {e}")))?;
    qemu.stdin(Stdio::null()).stdout(out).stderr(err);
    qemu.spawn().map_err(|e| Failure(format!("cannot run {first}: {e}")))
}

fn wait_for(dom0: &Dom0, process: &mut Child, directory: &Path) -> Done {
    let start = Instant::now();
    loop {
        let mut hello = dom0.shell(Duration::from_secs(20), "xl info");
        let hello = hello.stdout(Stdio::null()).stderr(Stdio::null()).status();
        if hello.map_err(|e| Failure(format!("cannot run ssh: {e}")))?.success() {
            return Ok(());
        }
        if let Ok(Some(status)) = process.try_wait() {
            let said = fs::read_to_string(directory.join(LOG)).unwrap_or_default();
            return Err(Failure(format!("the lab's QEMU has ended ({status}): {}", said.trim())));
        }
        if start.elapsed() > BOOT {
            return Err(Failure(format!("dom0 does not answer after {} s", BOOT.as_secs())));
        }
        sleep(Duration::from_millis(500));
    }
}

fn with_console(directory: &Path, failure: Failure) -> Failure {
    let console = fs::read(directory.join(CONSOLE)).unwrap_or_default();
    let console = String::from_utf8_lossy(&console);
    let lines: Vec<&str> = console.lines().collect();
    let last = &lines[lines.len().saturating_sub(20)..];
    Failure(format!("{failure}\nthe lab's console ends so:\n  {}", last.join("\n  ")))
}
