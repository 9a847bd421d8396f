//! The main job, step by step, on two disks of a real machine: `main_job PATH-OF-XLSNAP`.
//!
//! Every step is shown as the line that a user would type, with what it answered, and every promise is looked up on the
//! disks. The first thing that goes wrong ends it, and the machine too.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use serde_json::json;
use xlsnap_testkit::real::{Monitor, Scratch, wait_until};

type Step<T = ()> = Result<T, Box<dyn Error>>;

/// The disks, and what each holds at first and later.
const DISKS: [(&str, &str, &str); 2] = [("vda", "0x11", "0x33"), ("vdb", "0x22", "0x44")];

fn main() -> ExitCode {
    let Some(xlsnap) = std::env::args_os().nth(1) else {
        eprintln!("usage: main_job PATH-OF-XLSNAP");
        return ExitCode::from(2);
    };
    let scratch = Scratch::new();
    let place = Place { directory: scratch.dir().to_owned(), xlsnap: xlsnap.into() };
    match main_job(&place) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nmain_job: {error}");
            ExitCode::FAILURE
        }
    }
}

fn main_job(place: &Place) -> Step {
    say("Two disks, and a machine that runs on them.");
    println!("$ cd {}", place.directory.display());
    println!("$ export XLSNAP_ROOT=$PWD/records");
    for (disk, old, _) in DISKS {
        let image = format!("{disk}.qcow2");
        place.typed(&["qemu-img", "create", "-q", "-f", "qcow2", &image, "64M"])?;
        place.typed(&["qemu-io", "-f", "qcow2", "-c", &format!("write -q -P {old} 0 1M"), &image])?;
    }
    let mut machine = place.start_machine()?;

    say("A snapshot of both disks at one instant, while it runs.");
    place.typed(&[
        "xlsnap",
        "domain",
        "add",
        "web",
        "--disk",
        "vda=vda.qcow2",
        "--disk",
        "vdb=vdb.qcow2",
        "--qmp",
        "web.qmp",
    ])?;
    place.typed(&["xlsnap", "create", "web", "before-upgrade", "--description", "known good"])?;

    say("The upgrade goes wrong: the guest overwrites both.");
    for (disk, _, new) in DISKS {
        machine.write(disk, new)?;
    }
    if !place.typed(&["xlsnap", "list", "web"])?.contains("before-upgrade") {
        return Err("the snapshot is not listed".into());
    }
    place.typed(&["xlsnap", "show", "web", "before-upgrade"])?;

    say("The machine is shut down; what the guest wrote is on the disks.");
    machine.quit()?;
    for (disk, _, new) in DISKS {
        place.must_hold(disk, new)?;
    }

    say("Back to the snapshot: both disks hold the old data again.");
    place.typed(&["xlsnap", "revert", "web", "before-upgrade"])?;
    for (disk, old, _) in DISKS {
        place.must_hold(disk, old)?;
    }

    say("Without the snapshot nothing of it is left.");
    place.typed(&["xlsnap", "delete", "web", "before-upgrade"])?;
    let left = place.typed(&["xlsnap", "list", "web"])?;
    if left.contains("before-upgrade") {
        return Err("the snapshot is still listed".into());
    }
    for (disk, old, _) in DISKS {
        let image = format!("{disk}.qcow2");
        if place.typed(&["qemu-img", "snapshot", "-l", &image])?.contains("before-upgrade") {
            return Err(format!("{image} still has the snapshot").into());
        }
        place.must_hold(disk, old)?;
    }
    say("Done: every step did what it says.");
    Ok(())
}

/// Where all of it happens.
struct Place {
    directory: PathBuf,
    xlsnap: PathBuf,
}

impl Place {
    /// Shows the line, runs it, and shows and gives what it printed.
    fn typed(&self, line: &[&str]) -> Step<String> {
        let (succeeded, printed) = self.tried(line)?;
        if succeeded { Ok(printed) } else { Err(format!("this failed: {}", shown(line)).into()) }
    }

    /// The same with whether it succeeded, and no opinion on that.
    fn tried(&self, line: &[&str]) -> Step<(bool, String)> {
        println!("$ {}", shown(line));
        let output = self.command(line).output().map_err(|e| format!("cannot run {}: {e}", line[0]))?;
        let printed = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        print!("{printed}");
        Ok((output.status.success(), printed))
    }

    /// `line`, in the directory, with the right xlsnap, and with nothing of the caller's in its settings.
    fn command(&self, line: &[&str]) -> Command {
        let program = if line[0] == "xlsnap" { self.xlsnap.as_path() } else { Path::new(line[0]) };
        let mut command = Command::new(program);
        command.args(&line[1..]).current_dir(&self.directory).stdin(Stdio::null());
        command.env("XLSNAP_ROOT", self.directory.join("records"));
        command
    }

    /// Reads back the first mebibyte of a disk that nobody has open.
    fn must_hold(&self, disk: &str, byte: &str) -> Step {
        let image = format!("{disk}.qcow2");
        let line = ["qemu-io", "-r", "-f", "qcow2", "-c", &format!("read -P {byte} 0 1M"), &image];
        let (succeeded, printed) = self.tried(&line)?;
        let holds =
            succeeded && printed.contains("read 1048576/1048576") && !printed.contains("verification failed");
        if holds { Ok(()) } else { Err(format!("{image} does not hold {byte} in its first mebibyte").into()) }
    }

    fn start_machine(&self) -> Step<Machine> {
        let mut line: Vec<String> =
            "qemu-system-x86_64 -machine q35,accel=tcg -m 64 -nodefaults -display none"
                .split(' ')
                .map(str::to_owned)
                .collect();
        for (disk, ..) in DISKS {
            // QEMU names an image as it was given, and only a whole path says elsewhere which file that is.
            let image = self.directory.join(format!("{disk}.qcow2"));
            let node =
                format!("driver=qcow2,node-name={disk},file.driver=file,file.filename={}", image.display());
            line.extend([
                "-blockdev".into(),
                node,
                "-device".into(),
                format!("virtio-blk-pci,drive={disk},id={disk}"),
            ]);
        }
        for socket in ["web.qmp", "console.qmp"] {
            line.extend(["-qmp".into(), format!("unix:{socket},server=on,wait=off")]);
        }
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        println!("$ {} &", shown(&line));
        let mut process =
            Ended(self.command(&line).spawn().map_err(|e| format!("cannot run {}: {e}", line[0]))?);
        let console = self.directory.join("console.qmp");
        let monitor = wait_until("QEMU's monitor answers or QEMU ends", || match process.0.try_wait() {
            Ok(None) => Monitor::connect(&console).ok().map(Ok),
            Ok(Some(status)) => Some(Err(format!("QEMU ended at once ({status})"))),
            Err(error) => Some(Err(format!("QEMU cannot be waited for: {error}"))),
        })?;
        Ok(Machine { process, monitor })
    }
}

/// The machine, and the monitor where a person would sit.
struct Machine {
    process: Ended,
    monitor: Monitor,
}

impl Machine {
    /// Writes through the disk's device, as the guest does.
    fn write(&mut self, disk: &str, byte: &str) -> Step {
        let line =
            format!("qemu-io -d /machine/peripheral/{disk}/virtio-backend \"write -q -P {byte} 0 1M\"");
        println!("(qemu) {line}");
        // Whether it worked is not said here, but on QEMU's output; the disk is looked at when the machine is off.
        self.monitor.execute("human-monitor-command", json!({"command-line": line}))?;
        Ok(())
    }

    fn quit(mut self) -> Step {
        println!("(qemu) quit");
        self.monitor.execute("quit", json!({}))?;
        let status = wait_until("QEMU ends", || self.process.0.try_wait().transpose())?;
        if status.success() { Ok(()) } else { Err(format!("QEMU ended with {status}").into()) }
    }
}

/// A process that does not outlive its guard.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // One that has ended already can be neither killed nor waited for again.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn say(text: &str) {
    println!("\n# {text}");
}

/// The line as it would be typed into a shell.
fn shown(line: &[&str]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=,:".contains(c);
    let words: Vec<String> = line
        .iter()
        .map(|word| if word.chars().all(plain) { (*word).to_owned() } else { format!("'{word}'") })
        .collect();
    words.join(" ")
}
