//! A libvirt of the scenario's own, with a running machine.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::machine::{Running, image_of, loader, until, write_memory};
use super::process::run;
use crate::Failure;
use crate::command::target;

/// A user's daemon, all of whose files are in one directory, and a machine `bench` that it runs.
#[derive(Debug)]
pub(super) struct Libvirt {
    home: PathBuf,
    programs: Programs,
    /// A monitor of the machine beside libvirt's.
    pub(super) qmp: PathBuf,
    /// One more, to listen to its events.
    pub(super) events: PathBuf,
    _daemon: Running,
}

impl Libvirt {
    /// Whether there is one to compare with; which, or that there is none, is told.
    pub(super) fn is_installed() -> Result<bool, Failure> {
        let programs = Programs::found()?;
        let is_there = ["libvirtd", "virsh"]
            .iter()
            .all(|program| run(programs.command(program).arg("--version")).is_ok());
        match (is_there, &programs) {
            (false, _) => eprintln!("libvirt is not installed: not compared with it (ci/setup libvirt)"),
            (true, Programs::Installed) => eprintln!("libvirt: the installed one"),
            (true, Programs::Unpacked(root)) => eprintln!("libvirt: {}", root.display()),
        }
        Ok(is_there)
    }

    /// Starts both below `home`, with disks `vda` and `vdb`.
    pub(super) fn start(home: &Path) -> Result<Self, Failure> {
        Self::start_with_disks(home, "64M")
    }

    /// The same with disks of another size.
    pub(super) fn start_with_disks(home: &Path, size: &str) -> Result<Self, Failure> {
        let libvirt = Self::of(home, &["vda", "vdb"], size)?;
        run(&mut libvirt.virsh(["create", &libvirt.description()])?)?;
        Ok(libvirt)
    }

    /// The daemon, and a machine with these disks that is off.
    pub(super) fn off(home: &Path, disks: &[&str]) -> Result<Self, Failure> {
        let libvirt = Self::of(home, disks, "64M")?;
        run(&mut libvirt.virsh(["define", &libvirt.description()])?)?;
        Ok(libvirt)
    }

    fn description(&self) -> String {
        self.home.join("domain.xml").display().to_string()
    }

    /// The daemon, and the description of a machine.
    fn of(home: &Path, disks: &[&str], size: &str) -> Result<Self, Failure> {
        let failed = |e| Failure(format!("{}: {e}", home.display()));
        for directory in ["libvirt", "run", "cache", "data"] {
            fs::create_dir(home.join(directory)).map_err(failed)?;
        }
        // There is no log daemon here, and no system of labels to confine a machine with.
        let settings = "stdio_handler = \"file\"\nsecurity_driver = \"none\"\n";
        fs::write(home.join("libvirt/qemu.conf"), settings).map_err(failed)?;
        fs::write(home.join("domain.xml"), domain(home, disks)).map_err(failed)?;
        write_memory(&home.join("memory"), 64).map_err(failed)?;
        for disk in disks {
            image_of(&home.join(disk), size)?;
        }
        if is_root()? {
            run(Command::new("chown").args(["-R", "nobody"]).arg(home))?;
            fs::set_permissions(home, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        }
        let programs = Programs::found()?;
        let daemon = Running::start(&mut programs.daemon(home)?)?;
        let libvirt = Self {
            home: home.to_owned(),
            programs,
            qmp: home.join("qmp"),
            events: home.join("events"),
            _daemon: daemon,
        };
        until(|| run(&mut libvirt.virsh(["version"])?))?;
        Ok(libvirt)
    }

    /// A directory of its user's.
    pub(super) fn directory(&self, name: &str) -> Result<PathBuf, Failure> {
        let directory = self.home.join(name);
        run(as_user(&self.home, "mkdir")?.arg(&directory))?;
        Ok(directory)
    }

    /// A program as the user that its machine runs as.
    pub(super) fn as_its_user(&self, program: &Path) -> Result<Command, Failure> {
        as_user(&self.home, program)
    }

    pub(super) fn virsh<const N: usize>(&self, arguments: [&str; N]) -> Result<Command, Failure> {
        let mut command = as_user(&self.home, self.programs.path("virsh"))?;
        command.args(["--quiet", "--connect", "qemu:///session"]).args(arguments);
        Ok(command)
    }
}

impl Drop for Libvirt {
    fn drop(&mut self) {
        // The machine is the daemon's, and would outlive it.
        let _ = self.virsh(["destroy", "bench"]).and_then(|mut virsh| run(&mut virsh));
    }
}

/// The newest libvirt that `ci/setup` unpacks, below the target directory.
const UNPACKED: &str = "tools/libvirt-12.9";

/// Which libvirt it is.
#[derive(Debug)]
enum Programs {
    /// That of this machine.
    Installed,
    /// One that is unpacked in this directory (`ci/setup libvirt-12.9`).
    Unpacked(PathBuf),
}

impl Programs {
    /// The unpacked one, where it is there. Its data is looked for where it would be installed, and only root can show it there.
    fn found() -> Result<Self, Failure> {
        let unpacked = target().join(UNPACKED);
        Ok(if unpacked.is_dir() && is_root()? { Self::Unpacked(unpacked) } else { Self::Installed })
    }

    fn path(&self, program: &str) -> PathBuf {
        match self {
            Self::Installed => program.into(),
            Self::Unpacked(root) => root.join("usr/bin").join(program),
        }
    }

    fn command(&self, program: &str) -> Command {
        Command::new(self.path(program))
    }

    /// The daemon, as the user of its machine.
    fn daemon(&self, home: &Path) -> Result<Command, Failure> {
        let daemon = as_user(home, self.path("libvirtd"))?;
        let Self::Unpacked(root) = self else { return Ok(daemon) };
        let mut apart = Command::new("unshare");
        apart.args(["--mount", "sh", "-c", SHOW_DATA, "sh"]).arg(root.join("usr/share"));
        apart.arg(daemon.get_program()).args(daemon.get_args());
        apart.current_dir(home).envs(daemon.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let libraries = root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
        apart.env("LIBVIRT_DRIVER_DIR", libraries.join("libvirt/connection-driver"));
        Ok(apart)
    }
}

/// What the daemon is started by that looks for its data in a fixed place: this and what is there are one for it, and for nobody else.
const SHOW_DATA: &str =
    r#"mount -t overlay -o lowerdir="$1:/usr/share" overlay /usr/share && shift && exec "$@""#;

/// `program` as a user without privileges, for whom libvirt keeps all that it has in the user's directories: as root it
/// would be the system's.
fn as_user(home: &Path, program: impl AsRef<OsStr>) -> Result<Command, Failure> {
    let mut command;
    if is_root()? {
        command = Command::new("setpriv");
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(program);
    } else {
        command = Command::new(program);
    }
    command.current_dir(home).env("HOME", home).env("XDG_CONFIG_HOME", home);
    for (name, directory) in [("RUNTIME_DIR", "run"), ("CACHE_HOME", "cache"), ("DATA_HOME", "data")] {
        command.env(format!("XDG_{name}"), home.join(directory));
    }
    Ok(command)
}

fn is_root() -> Result<bool, Failure> {
    let of = fs::metadata("/proc/self").map_err(|e| Failure(format!("/proc/self: {e}")))?;
    Ok(of.uid() == 0)
}

fn domain(home: &Path, disks: &[&str]) -> String {
    let disk = |name: &str| {
        format!(
            "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{}'/>\
             <target dev='{name}' bus='virtio'/></disk>",
            home.join(name).display()
        )
    };
    format!(
        "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>bench</name>\
         <memory unit='MiB'>256</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='q35'>hvm</type></os>\
         <devices>{}<memballoon model='none'/></devices>\
         <qemu:commandline><qemu:arg value='-qmp'/><qemu:arg value='unix:{home}/qmp,server=on,wait=off'/>\
         <qemu:arg value='-qmp'/><qemu:arg value='unix:{home}/events,server=on,wait=off'/>\
         <qemu:arg value='-device'/><qemu:arg value='{}'/></qemu:commandline></domain>",
        disks.iter().map(|name| disk(name)).collect::<String>(),
        loader(&home.join("memory")),
        home = home.display()
    )
}
