//! A guest with a gibibyte of memory in use: how long it takes to save, and to restore.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use super::all::Bench;
use super::machine::{Running, image, until};
use super::monitor::Monitor;
use super::paired::pairs;
use super::process::{Run, run, scratch};
use super::promise::{Line, Promise};
use super::sample::Sample;
use crate::Failure;

/// Below it is what the firmware has, and the guest's program.
const LOW_MIB: u32 = 32;

/// Where the guest writes [`DONE`] when its memory is full.
const DONE_AT: u32 = 2 << 20;

const DONE: u32 = 0x600d_600d;

/// `xlsnap create --memory`, stopped and at the switchover, beside `dd` of the same bytes to the same file system, made durable; and
/// `xlsnap revert` of the domain while it is off, beside `dd` that reads the file, and beside a QEMU that is started and told by hand to
/// read it. Before each reading the file leaves the page cache.
pub(super) fn used_memory(bench: &Bench) -> Result<Vec<Line>, Failure> {
    let scratch = scratch()?;
    let domain = Domain::start(bench, scratch.path(), if bench.smoke { 64 } else { 1024 })?;
    let mut lines = Vec::new();
    for mode in ["stop", "switchover"] {
        lines.extend(domain.saves(mode)?);
    }
    lines.extend(domain.restores()?);
    Ok(lines)
}

/// A domain that xlsnap starts; its process is ended when this is dropped.
struct Domain<'a> {
    bench: &'a Bench,
    scratch: &'a Path,
}

impl Drop for Domain<'_> {
    fn drop(&mut self) {
        // It may not have been started.
        let _ = self.stop();
    }
}

impl<'a> Domain<'a> {
    fn start(bench: &'a Bench, scratch: &'a Path, mebibytes: u32) -> Result<Self, Failure> {
        let unwritten = |e: std::io::Error| Failure(format!("{}: {e}", scratch.display()));
        let disk = scratch.join("vda");
        image(&disk)?;
        let kernel = scratch.join("kernel");
        fs::write(&kernel, program(mebibytes << 20)).map_err(unwritten)?;
        let domain = Self { bench, scratch };
        run(domain.xlsnap(["domain", "add", "vm", "--disk"]).arg(format!("vda={}", disk.display())))?;
        let description = scratch.join("root/domains/vm.toml");
        let start = format!(
            "\n[start]\naccel = \"tcg\"\nmemory = {}\nkernel = {:?}\narguments = [\"-qmp\", {:?}]\n",
            mebibytes + LOW_MIB,
            kernel.display().to_string(),
            format!("unix:{},server=on,wait=off", domain.socket().display()),
        );
        let described = fs::read_to_string(&description).map_err(unwritten)? + &start;
        fs::write(&description, described).map_err(unwritten)?;
        run(&mut domain.xlsnap(["domain", "start", "vm"]))?;
        let mut monitor = until(|| Monitor::connect(&domain.socket()))?;
        let look = json!({"command-line": format!("xp /1wx {DONE_AT:#x}")});
        until(|| {
            let found = monitor.execute("human-monitor-command", &look)?;
            let full = found.as_str().is_some_and(|found| found.contains(&format!("{DONE:#x}")));
            if full { Ok(()) } else { Err(Failure(format!("the guest has not filled its memory: {found}"))) }
        })?;
        Ok(domain)
    }

    fn xlsnap<const N: usize>(&self, arguments: [&str; N]) -> Command {
        self.bench.xlsnap(self.scratch, arguments)
    }

    fn stop(&self) -> Result<(), Failure> {
        run(&mut self.xlsnap(["domain", "stop", "vm", "--powerdown", "0"])).map(drop)
    }

    /// A monitor beside that of the command.
    fn socket(&self) -> PathBuf {
        self.scratch.join("bare")
    }

    fn saves(&self, mode: &str) -> Result<Vec<Line>, Failure> {
        let (save, copy, theirs) = (self.file("save"), self.file("copy"), self.file("theirs"));
        let pairs = pairs(
            self.bench.rounds,
            || {
                let mut create = self.xlsnap(["create", "vm", "s", "--memory"]);
                let measured = run(create.arg(&save).args(["--memory-mode", mode]))?;
                fs::copy(&save, &copy).map_err(|e| Failure(format!("{}: {e}", save.display())))?;
                run(&mut self.xlsnap(["delete", "vm", "s"]))?;
                Ok(measured)
            },
            || {
                let _ = fs::remove_file(&theirs);
                run(dd(&copy, &theirs).arg("conv=fsync"))
            },
        )?;
        let _ = (fs::remove_file(&copy), fs::remove_file(&theirs));
        Ok(vec![
            line(&format!("{mode}: xlsnap create --memory (ms)"), pairs.ours(Run::milliseconds)),
            line("dd of the same bytes, conv=fsync (ms)", pairs.theirs(Run::milliseconds)),
            Line::new("ratio", pairs.ratio(Run::milliseconds), Promise::AtMost(1.2)),
        ])
    }

    fn restores(&self) -> Result<Vec<Line>, Failure> {
        let save = self.file("save");
        run(self.xlsnap(["create", "vm", "s", "--memory"]).arg(&save))?;
        let pairs = pairs(
            self.bench.rounds,
            || {
                self.stop()?;
                out_of_cache(&save)?;
                run(&mut self.xlsnap(["revert", "vm", "s"]))
            },
            || {
                out_of_cache(&save)?;
                run(&mut dd(&save, Path::new("/dev/null")))
            },
        )?;
        // What it takes beside the memory, and what QEMU takes for that.
        let words = self.command_line()?;
        let (mut rest, mut alone) = (Vec::new(), Vec::new());
        for _ in 0..self.bench.rounds {
            self.stop()?;
            alone.push(self.alone(&words, &save)?.milliseconds());
            rest.push(run(&mut self.xlsnap(["revert", "vm", "s", "--without-memory"]))?.milliseconds());
        }
        Ok(vec![
            line("xlsnap revert, with the memory (ms)", pairs.ours(Run::milliseconds)),
            line("dd that reads the file (ms)", pairs.theirs(Run::milliseconds)),
            Line::new("ratio", pairs.ratio(Run::milliseconds), Promise::AtMost(1.2)),
            line("QEMU alone, by hand, not verified (ms)", Sample::new(alone)),
            line("xlsnap revert --without-memory (ms)", Sample::new(rest)),
        ])
    }

    /// How its process was started.
    fn command_line(&self) -> Result<Vec<OsString>, Failure> {
        let run = self.scratch.join("root/domains/vm.run");
        let unread = |e: &dyn std::fmt::Display| Failure(format!("{}: {e}", run.display()));
        let text = fs::read(&run).map_err(|e| unread(&e))?;
        let run: Value = serde_json::from_slice(&text).map_err(|e| unread(&e))?;
        let line = fs::read(format!("/proc/{}/cmdline", run["pid"])).map_err(|e| unread(&e))?;
        let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Ok(words.map(|word| OsString::from_vec(word.to_vec())).collect())
    }

    /// Starts the domain's QEMU by hand, and has it read the file.
    fn alone(&self, words: &[OsString], save: &Path) -> Result<Run, Failure> {
        out_of_cache(save)?;
        let (program, options) =
            words.split_first().ok_or_else(|| Failure("it has no command line".into()))?;
        let start = Instant::now();
        let qemu = Running::start(Command::new(program).args(options).args(["-S", "-incoming", "defer"]))?;
        let mut monitor = until(|| Monitor::connect(&self.socket()))?;
        monitor.execute("migrate-incoming", &json!({"uri": format!("file:{}", save.display())}))?;
        until(|| {
            let info = monitor.execute("query-migrate", &json!({}))?;
            let completed = info["status"] == "completed";
            if completed { Ok(()) } else { Err(Failure(format!("QEMU has not read the memory: {info}"))) }
        })?;
        let measured = Run::of_wall(start.elapsed());
        drop(qemu);
        Ok(measured)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }
}

fn line(what: &str, sample: Sample) -> Line {
    Line::new(what, sample, Promise::None)
}

fn dd(from: &Path, to: &Path) -> Command {
    let mut dd = Command::new("dd");
    dd.arg(format!("if={}", from.display())).arg(format!("of={}", to.display()));
    dd.args(["bs=1M", "status=none"]);
    dd
}

/// What is flushed leaves the page cache so.
fn out_of_cache(file: &Path) -> Result<(), Failure> {
    run(Command::new("dd").arg(format!("if={}", file.display())).args([
        "iflag=nocache",
        "count=0",
        "status=none",
    ]))
    .map(drop)
}

/// A program that fills the memory from [`LOW_MIB`] on with what does not compress, says so, and halts. It is no file for the
/// firmware's loader to read at each start, also of a QEMU that is to get another's memory.
///
/// A Multiboot image (Multiboot 0.6.96, 3.1), which QEMU's `-kernel` takes, and i386 code.
fn program(bytes: u32) -> Vec<u8> {
    const AT: u32 = 1 << 20;
    const MAGIC: u32 = 0x1bad_b002;
    /// The header says where the image is loaded to.
    const ADDRESSES: u32 = 1 << 16;
    const HEADER: u32 = 32;
    let mut program = Vec::new();
    let checksum = 0_u32.wrapping_sub(MAGIC).wrapping_sub(ADDRESSES);
    // The header's place, the image's, and its end, that of its zeroes (0: as the file is), and the first instruction.
    for word in [MAGIC, ADDRESSES, checksum, AT, AT, 0, 0, AT + HEADER] {
        program.extend(word.to_le_bytes());
    }
    let mut code = |instruction: &[u8], operands: &[u32]| {
        program.extend(instruction);
        program.extend(operands.iter().flat_map(|operand| operand.to_le_bytes()));
    };
    code(&[0xfa, 0xfc], &[]); // cli; cld
    code(&[0xbf], &[LOW_MIB << 20]); // mov edi, LOW
    code(&[0xb9], &[bytes / 4]); // mov ecx, the number of words
    code(&[0xb8], &[0x9e37_79b9]); // mov eax, seed
    code(&[0x69, 0xc0], &[1_664_525]); // next: imul eax, eax, 1664525
    code(&[0x05], &[1_013_904_223]); // add eax, 1013904223
    code(&[0xab, 0xe2, 0xf2], &[]); // stosd; loop next
    code(&[0xc7, 0x05], &[DONE_AT, DONE]); // mov dword [DONE_AT], DONE
    code(&[0xf4, 0xeb, 0xfd], &[]); // halt: hlt; jmp halt
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_one_that_multiboot_loaders_take() {
        let program = program(64 << 20);
        let word = |index: usize| u32::from_le_bytes(program[4 * index..][..4].try_into().unwrap());
        assert_eq!((0..3).fold(0, |sum: u32, index| sum.wrapping_add(word(index))), 0);
        let entry = (word(7) - word(4)) as usize;
        assert_eq!(program[entry], 0xfa);
        // The jump goes back to the multiplication.
        let back = program.windows(2).position(|code| code == [0xe2, 0xf2]).unwrap() + 2 - 14;
        assert_eq!(program[back..][..2], [0x69, 0xc0]);
    }
}
