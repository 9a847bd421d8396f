//! The operations that are cut short: one table for every way in which they are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use xlsnap_testkit::real::qemu_img;

use crate::host::{Host, Ran};
use crate::layers_crash::Web;

/// How much is written to each disk.
const STRETCH: u64 = 2 << 20;

/// Whether a QEMU has the disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Domain {
    Off,
    Runs,
}

/// Makes a test of each line, which calls a function with it. A line has its name, the domain, what comes before, and the operation. `write`
/// gives both disks the next byte, `move` renames a file, `exchange` two, `template` puts an image below a new one of its name; all else are words of xlsnap.
macro_rules! operations {
    (@tests $check:ident, $($name:ident: $domain:ident, [$($before:literal),*], $words:literal;)*) => {
        $(#[test]
        fn $name() {
            $check(&$crate::operations::Operation {
                name: stringify!($name),
                domain: $crate::operations::Domain::$domain,
                before: &[$($before),*],
                words: $words,
            });
        })*
    };
    ($check:ident) => {
        $crate::operations::operations! {
            @tests $check,
                create: Off, ["create web a", "write"], "create web new";
                create_external: Off, ["create web a", "write"], "create web new --external vda,vdb --no-keep-name";
                create_external_kept: Off, ["create web a", "write"], "create web new --external vda,vdb --keep-name";
                revert: Off, ["create web a", "write", "create web b", "write"], "revert web a";
                revert_external: Off, ["create web a --external vda,vdb --no-keep-name", "write"], "revert web a";
                revert_external_kept: Off, ["create web a --external vda,vdb --keep-name", "write"], "revert web a";
                delete: Off, ["create web a", "write", "create web b", "write"], "delete web a";
                delete_leaf: Off, ["create web a --external vda,vdb --no-keep-name", "write"], "delete web a";
                delete_leaf_kept: Off, ["create web a --external vda,vdb --keep-name", "write"], "delete web a";
                delete_middle: Off, ["create web a --external vda,vdb --no-keep-name", "write",
                    "create web b --external vda,vdb --no-keep-name", "write",
                    "create web c --external vda,vdb --no-keep-name", "write"], "delete web b";
                delete_pinned: Off, ["create web in", "write", "create web a --external vda,vdb --no-keep-name", "write",
                    "create web above", "write"], "delete web a";
                flatten: Off, ["create web a --external vda,vdb --keep-name", "write"], "flatten web";
                flatten_into: Off, ["template vda.qcow2 base.qcow2", "write"],
                    "flatten web --disk vda --into-base base.qcow2";
                relocate: Off, ["create web a --external vda --no-keep-name", "write", "move vda.qcow2 moved.qcow2"],
                    "check web --relocate vda.qcow2=moved.qcow2";
                relocate_exchanged: Off, ["create web a --external vda --no-keep-name", "write",
                    "create web b --external vda --no-keep-name", "write", "exchange vda.qcow2 vda.a-1.qcow2"],
                    "check web --relocate vda.qcow2=vda.a-1.qcow2 --relocate vda.a-1.qcow2=vda.qcow2";
                create_live: Runs, ["create web a", "write"], "create web new";
                create_external_live: Runs, ["create web a", "write"], "create web new --external vda,vdb --no-keep-name";
                create_external_kept_live: Runs, ["create web a", "write"], "create web new --external vda,vdb --keep-name";
                create_memory_live: Runs, ["create web a", "write"], "create web new --memory";
                revert_live: Runs, ["create web a", "write"], "revert web a";
                revert_external_live: Runs, ["create web a --external vda,vdb --no-keep-name", "write"], "revert web a";
                revert_external_kept_live: Runs, ["create web a --external vda,vdb --keep-name", "write"], "revert web a";
                revert_memory_live: Runs, ["create web a --memory", "write"], "revert web a";
                revert_inside_left_live: Runs, ["create web a --memory=internal", "write",
                    "create web b --external vda,vdb --no-keep-name", "write"], "revert web a";
                delete_live: Runs, ["create web a", "write", "create web b", "write"], "delete web a";
                delete_leaf_live: Runs, ["create web a --external vda,vdb --no-keep-name", "write"], "delete web a";
                delete_leaf_kept_live: Runs, ["create web a --external vda,vdb --keep-name", "write"], "delete web a";
                delete_middle_live: Runs, ["create web a --external vda,vdb --no-keep-name", "write",
                    "create web b --external vda,vdb --no-keep-name", "write",
                    "create web c --external vda,vdb --no-keep-name", "write"], "delete web b";
                delete_memory_live: Runs, ["create web a --memory", "write"], "delete web a";
                relocate_memory_live: Runs, ["create web a --memory=./saved", "write", "move saved moved"],
                    "check web --relocate saved=moved";
                flatten_live: Runs, ["create web a --external vda,vdb --keep-name", "write"], "flatten web";
                flatten_into_live: Runs, ["template vda.qcow2 base.qcow2", "write"],
                    "flatten web --disk vda --into-base base.qcow2";
        }
    };
}
pub(crate) use operations;

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) domain: Domain,
    pub(crate) before: &'static [&'static str],
    pub(crate) words: &'static str,
}

impl Operation {
    pub(crate) fn words(&self) -> Vec<&'static str> {
        self.words.split(' ').collect()
    }

    /// A domain on this host for which all that comes before was done.
    pub(crate) fn prepared(&self, host: Host) -> Web {
        let mut web = Web::on(host, STRETCH);
        let write = |web: &mut Web, byte| match self.domain {
            Domain::Off => web.write_offline(byte),
            Domain::Runs => web.write(byte),
        };
        if self.domain == Domain::Runs {
            web.host.start();
        }
        write(&mut web, 1);
        for step in self.before {
            match step.split(' ').collect::<Vec<_>>()[..] {
                ["write"] => {
                    let next = web.now + 1;
                    write(&mut web, next);
                }
                ["template", image, base] => {
                    if self.domain == Domain::Runs {
                        web.host.stop(&["--powerdown", "0"]);
                    }
                    let image = web.host.scratch.path(image);
                    std::fs::rename(&image, web.host.scratch.path(base)).unwrap();
                    let image = image.to_str().unwrap();
                    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, image]);
                    if self.domain == Domain::Runs {
                        web.host.start();
                    }
                }
                ["move", from, to] => {
                    std::fs::rename(web.host.scratch.path(from), web.host.scratch.path(to)).unwrap();
                }
                ["exchange", one, other] => {
                    let [one, other, aside] = [one, other, "aside"].map(|name| web.host.scratch.path(name));
                    std::fs::rename(&one, &aside).unwrap();
                    std::fs::rename(&other, &one).unwrap();
                    std::fs::rename(&aside, &other).unwrap();
                }
                ref words => run(&mut web, words),
            }
        }
        web
    }
}

/// What is to be found, before an operation or after it.
pub(crate) struct Found {
    pub(crate) held: BTreeMap<String, u8>,
    pub(crate) now: u8,
    pub(crate) files: BTreeSet<PathBuf>,
}

impl Found {
    pub(crate) fn of(web: &Web) -> Self {
        Self { held: web.held.clone(), now: web.now, files: files(web) }
    }
}

/// What lies on the disk, but what tells of a process, and but temporary files of records and descriptions: they are never read.
pub(crate) fn files(web: &Web) -> BTreeSet<PathBuf> {
    let mut files = web.host.files();
    files.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        !name.starts_with(".xlsnap-new-") && !name.ends_with(".run")
    });
    files
}

/// Does an operation, and says what is to be found after it.
pub(crate) fn run(web: &mut Web, words: &[&str]) {
    patiently(&web.host, words).ok();
    expect(web, words);
}

/// Runs a command, again where an image is locked. Seen once in some hundred runs, on a busy machine: that it is still, just after the program
/// that wrote it has ended.
pub(crate) fn patiently(host: &Host, words: &[&str]) -> Ran {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let ran = host.run(words);
        if !ran.err.contains("another process has its image") || Instant::now() >= deadline {
            return ran;
        }
    }
}

/// Says what is to be found after an operation.
pub(crate) fn expect(web: &mut Web, words: &[&str]) {
    match words {
        ["create", _, name, ..] => drop(web.held.insert((*name).to_owned(), web.now)),
        ["revert", _, name] => web.now = web.held[*name],
        ["delete", _, name] => drop(web.held.remove(*name)),
        _ => {}
    }
}
