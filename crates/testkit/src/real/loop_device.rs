//! A block device on a file.

use std::path::Path;
use std::process::{Command, Stdio};

use super::process::wait_until;

/// A loop device, which goes when this is dropped.
#[derive(Debug)]
pub struct LoopDevice(String);

impl LoopDevice {
    /// The device on the file; `None` where there are none: they take root, and a kernel that has them.
    pub fn of(file: &Path) -> Option<Self> {
        let output = Command::new("losetup").args(["-f", "--show"]).arg(file).stderr(Stdio::null()).output();
        let output = output.ok().filter(|output| output.status.success())?;
        let device = String::from_utf8(output.stdout).ok()?.trim().to_owned();
        wait_until("the device is there", || Path::new(&device).exists().then_some(()));
        Some(Self(device))
    }

    /// Its node in `/dev`.
    pub fn path(&self) -> &str {
        &self.0
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // A test that failed may have it open still; then it stays.
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}
