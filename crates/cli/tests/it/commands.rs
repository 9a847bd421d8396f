//! docs/commands.md and the program say the same: every line of its table is run, on a domain that is off and on one that runs.

use std::fs;
use std::path::Path;

use xlsnap_testkit::real::wait_until;

use crate::host::Ran;
use crate::life::Startable;

const COMMANDS: &str = include_str!("../../../../docs/commands.md");
const ERRORS: &str = include_str!("../../../../docs/errors.md");

/// A row of the table, its cells without their decoration.
struct Row {
    words: Vec<&'static str>,
    /// The words of the exit codes, of a domain that is off and of one that runs.
    ends: [&'static str; 2],
}

fn rows() -> Vec<Row> {
    let row = |line: &'static str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let words = cells[1].trim_matches('`').strip_prefix("xlsnap ").expect("a row begins with its line");
        Row { words: words.split(' ').collect(), ends: [cells[2], cells[3]] }
    };
    let rows: Vec<Row> = COMMANDS.lines().filter(|line| line.starts_with("| `")).map(row).collect();
    assert!(rows.len() > 20, "only {} rows were found", rows.len());
    rows
}

/// The exit code of a word, as docs/errors.md has it.
fn code(word: &str) -> i32 {
    let row = ERRORS.lines().find(|line| line.contains(&format!("| `{word}` |")));
    let row = row.unwrap_or_else(|| panic!("docs/errors.md has no exit code {word}"));
    row.split('|').nth(1).unwrap().trim().parse().unwrap()
}

fn power(host: &Startable) -> String {
    host.json(&["domain", "status", "web"])["state"].as_str().unwrap().to_owned()
}

/// The domain as the column says: what the line before did to it is made good.
fn bring(host: &Startable, state: &str) {
    if power(host) != state {
        host.stop(&["--powerdown", "0"]);
        if state == "running" {
            host.start();
        }
    }
}

fn run(host: &Startable, words: &[&str], state: &str) -> Ran {
    if words.starts_with(&["domain", "run"]) && state == "off" {
        // It ends with the QEMU.
        return std::thread::scope(|scope| {
            let running = scope.spawn(|| host.run(words));
            wait_until("the domain runs", || (power(host) == "running").then_some(()));
            host.stop(&["--powerdown", "0"]);
            running.join().unwrap()
        });
    }
    host.run(words)
}

/// The record of snapshot `s1`, for `xlsnap json` to read.
fn copy_record(host: &Startable, to: &Path) {
    let records = fs::read_dir(host.records("web")).unwrap().map(|entry| entry.unwrap().path());
    let record =
        records.filter(|path| path.extension().is_some_and(|end| end == "libxl-json")).min().unwrap();
    fs::copy(record, to).unwrap();
}

fn every_line_ends_as_documented(column: usize, state: &str) {
    let host = Startable::new("accel = \"tcg\"\nmemory = 64\n");
    host.scratch.qcow2_with("db.qcow2", 4 << 20, 3);
    let record = host.scratch.path("record");
    for Row { words, ends } in rows() {
        bring(&host, state);
        if words[0] == "json" {
            copy_record(&host, &record);
        }
        let ran = run(&host, &words, state);
        assert_eq!(ran.code, code(ends[column]), "xlsnap {} ({state}): {ran:?}", words.join(" "));
    }
}

#[test]
fn every_line_ends_as_documented_on_a_domain_that_is_off() {
    every_line_ends_as_documented(0, "off");
}

#[test]
fn every_line_ends_as_documented_on_a_domain_that_runs() {
    every_line_ends_as_documented(1, "running");
}
