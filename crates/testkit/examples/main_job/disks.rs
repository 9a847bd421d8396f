//! Snapshots of two disks of a machine that runs.

use std::process::Child;

use serde_json::json;
use xlsnap_testkit::real::{Monitor, wait_until};

use super::place::{Place, Step, say, shown};

/// The disks, and what each holds at first and later.
const DISKS: [(&str, &str, &str); 2] = [("vda", "0x11", "0x33"), ("vdb", "0x22", "0x44")];

pub(crate) fn job(place: &Place) -> Step {
    say("Two disks, and a machine that runs on them.");
    println!("$ cd {}", place.directory.display());
    println!("$ export XLSNAP_ROOT=$PWD/records");
    for (disk, old, _) in DISKS {
        let image = format!("{disk}.qcow2");
        place.typed(&["qemu-img", "create", "-q", "-f", "qcow2", &image, "64M"])?;
        place.typed(&["qemu-io", "-f", "qcow2", "-c", &format!("write -q -P {old} 0 1M"), &image])?;
    }
    let mut machine = start_machine(place)?;

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
    Ok(())
}

fn start_machine(place: &Place) -> Step<Machine> {
    let mut line: Vec<String> = "qemu-system-x86_64 -machine q35,accel=tcg -m 64 -nodefaults -display none"
        .split(' ')
        .map(str::to_owned)
        .collect();
    for (disk, ..) in DISKS {
        // QEMU names an image as it was given, and only a whole path says elsewhere which file that is.
        let image = place.directory.join(format!("{disk}.qcow2"));
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
        Ended(place.command(&line).spawn().map_err(|e| format!("cannot run {}: {e}", line[0]))?);
    let console = place.directory.join("console.qmp");
    let monitor = wait_until("QEMU's monitor answers or QEMU ends", || match process.0.try_wait() {
        Ok(None) => Monitor::connect(&console).ok().map(Ok),
        Ok(Some(status)) => Some(Err(format!("QEMU ended at once ({status})"))),
        Err(error) => Some(Err(format!("QEMU cannot be waited for: {error}"))),
    })?;
    Ok(Machine { process, monitor })
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
