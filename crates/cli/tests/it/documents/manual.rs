//! The manual pages, held against the documents: their examples are lines that tests run, and what they name is there.

use std::collections::BTreeMap;
use std::fs;

use super::blocks::{What, parts};
use crate::host::Host;

const COOKBOOK: &str = include_str!("../../../../../docs/cookbook.md");
const COMMANDS: &str = include_str!("../../../../../docs/commands.md");
const FORMATS: &str = include_str!("../../../../../docs/formats.md");

/// Every page, by its name.
fn pages() -> BTreeMap<String, String> {
    let host = Host::new();
    let directory = host.scratch.path("man");
    fs::create_dir(&directory).unwrap();
    host.run(["man", "--out", directory.to_str().unwrap()]).ok();
    let page = |path: std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(path).unwrap())
    };
    fs::read_dir(directory).unwrap().map(|entry| page(entry.unwrap().path())).collect()
}

/// The lines of a page's section, as plain text.
fn section(page: &str, title: &str) -> Vec<String> {
    let quoted = format!("\n.SH \"{title}\"\n");
    let after = page.replace(&quoted, &format!("\n.SH {title}\n"));
    let after = after.split(&format!("\n.SH {title}\n")).nth(1).unwrap_or_default();
    let lines = after.split(".SH ").next().unwrap().lines().filter(|line| !line.starts_with(".T"));
    lines.map(plain).collect()
}

fn plain(line: &str) -> String {
    let marks = [
        ("\\fB", ""),
        ("\\fI", ""),
        ("\\fR", ""),
        ("\\-", "-"),
        ("\\*(Aq", "'"),
        ("\\(aq", "'"),
        ("\\\\", "\\"),
    ];
    marks.iter().fold(line.to_owned(), |line, (mark, text)| line.replace(mark, text))
}

/// The lines that tests run: those of the cookbook without what follows them, and those of the table of commands.
fn lines_that_are_run() -> Vec<String> {
    let mut lines: Vec<String> = COMMANDS
        .lines()
        .filter_map(|row| Some(row.strip_prefix("| `")?.split_once('`')?.0.to_owned()))
        .collect();
    for part in parts(COOKBOOK) {
        match part.what {
            What::Lines(text) => {
                let text = text.replace("\\\n", " ");
                lines.extend(text.lines().map(|line| line.split(" #").next().unwrap().trim().to_owned()));
            }
            What::Console(commands) => lines.extend(commands.into_iter().map(|command| command.text)),
            What::Start(_) | What::NotRun { .. } => {}
        }
    }
    lines
}

#[test]
fn the_examples_of_the_manual_are_lines_that_are_run() {
    let run = lines_that_are_run();
    let pages = pages();
    assert!(pages.len() > 20, "{:?}", pages.keys());
    for (name, page) in &pages {
        let words = name.replacen('-', " ", 1).replace("domain-", "domain ");
        let examples = section(page, "EXAMPLES");
        let examples: Vec<_> = examples.iter().filter(|line| line.starts_with("xlsnap ")).collect();
        assert!(!examples.is_empty(), "{name} has no example");
        for example in examples {
            assert!(example.starts_with(&words), "{name}: {example}");
            assert!(run.contains(example), "{name}: no test runs {example}");
        }
    }
}

#[test]
fn a_page_names_others_that_are_there_and_files_that_are_documented() {
    let pages = pages();
    for (name, page) in &pages {
        let others = section(page, "SEE ALSO").join(" ");
        assert!(!others.is_empty(), "{name} names no other page");
        for other in others.split(", ").map(|other| other.trim_end_matches("(1)")) {
            assert_ne!(other, name);
            assert!(
                pages.contains_key(other) || !other.starts_with("xlsnap"),
                "{name}: there is no page {other}"
            );
        }
        let files = section(page, "FILES");
        let without =
            ["xlsnap-completions", "xlsnap-domain-help", "xlsnap-help", "xlsnap-json", "xlsnap-man"];
        assert_eq!(files.is_empty(), without.contains(&name.as_str()), "{name}");
        for file in files.iter().skip(1).step_by(2) {
            assert!(FORMATS.contains(&format!("| `{file}` |")), "{name}: docs/formats.md has no {file}");
        }
        for title in ["EXIT STATUS", "ENVIRONMENT"] {
            assert!(!section(page, title).is_empty(), "{name}: {title}");
        }
    }
}
