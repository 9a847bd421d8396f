//! A root with domains, for programs to work on.

use std::path::{Path, PathBuf};
use std::process::Command;

use xlsnap_testkit::real::Scratch;

/// The uuid of the domain `web`.
pub(crate) const WEB: &str = "1d8d7c4e-0b1f-4b0e-9a39-9c5d0f6b0d2e";
const RAW: &str = "2d8d7c4e-0b1f-4b0e-9a39-9c5d0f6b0d2e";

/// Domains under a root of their own: `web` (domid 7) with the qcow2 disks hda and xvdb, `raw` (domid 8) with a raw one.
pub(crate) struct Fixture {
    pub(crate) scratch: Scratch,
    pub(crate) images: [PathBuf; 2],
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        let images = [scratch.qcow2_with("a.qcow2", 1 << 20, 1), scratch.qcow2_with("b.qcow2", 1 << 20, 2)];
        let fixture = Self { scratch, images };
        fixture.describe(None);
        let raw = fixture.scratch.raw("raw.img", 1 << 20);
        fixture.write("raw", &format!("uuid = \"{RAW}\"\ndomid = 8\n{}", disk("hda", &raw, "raw")));
        fixture
    }

    /// Writes the file of the domain `web`.
    pub(crate) fn describe(&self, qmp: Option<&Path>) {
        let [a, b] = &self.images;
        let socket = qmp.map(|socket| format!("qmp = {socket:?}\n")).unwrap_or_default();
        let disks = [disk("hda", a, "qcow2"), disk("xvdb", b, "qcow2")].concat();
        self.write("web", &format!("uuid = \"{WEB}\"\ndomid = 7\n{socket}{disks}"));
    }

    fn write(&self, domain: &str, text: &str) {
        let directory = self.root().join("domains");
        std::fs::create_dir_all(&directory).expect("the scratch directory takes a new one");
        std::fs::write(directory.join(format!("{domain}.toml")), text).expect("the file can be written");
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.scratch.path("root")
    }

    /// Puts a file at the place of a record of `web`.
    pub(crate) fn plant(&self, name: &str, text: &str) {
        use std::os::unix::fs::DirBuilderExt;
        let directory = self.root().join(WEB);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .expect("the root takes a directory");
        std::fs::write(directory.join(format!("snapshotdata-{name}.libxl-json")), text)
            .expect("the file can be written");
    }

    /// The same command in this fixture.
    pub(crate) fn of<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("XLSNAP_ROOT", self.root())
    }
}

fn disk(name: &str, image: &Path, format: &str) -> String {
    format!("[[disk]]\nname = \"{name}\"\nimage = {image:?}\nformat = \"{format}\"\n")
}
