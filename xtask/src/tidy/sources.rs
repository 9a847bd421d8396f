//! Rules for source files.

use super::tree::{File, Tree};

/// A file of more lines of code than this has two reasons to exist.
const LONGEST: usize = 800;

/// What must not be left in a source, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "is work left undone: do it, or write it where work is planned"),
    (concat!("FIX", "ME"), "is work left undone: do it, or write it where work is planned"),
    (concat!("#[ign", "ore]"), "says nothing: give the reason, #[ignore = \"why\"]"),
    (concat!("/ro", "ot/"), "is a path of one machine"),
    (concat!("/wo", "rk/"), "is a path of one machine"),
];

/// What messages count.
const COUNTED: &[&str] = &[
    "bitmaps",
    "clusters",
    "disks",
    "domains",
    "files",
    "findings",
    "images",
    "overlays",
    "records",
    "snapshots",
];

/// The findings in all source files, scripts and documents.
pub(super) fn findings(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for file in &tree.files {
        if file.is("rs") {
            findings.extend(too_long(file));
            findings.extend(counted(file));
            if file.path.starts_with("crates/") && matches!(file.name(), "lib.rs" | "mod.rs") {
                findings.extend(not_only_re_exports(file));
            }
        }
        // Seeds and recordings are what others wrote.
        if file.is("rs") || file.is("md") || file.is("toml") || file.path.starts_with("ci/") {
            findings.extend(forbidden(file));
        }
        if file.path.starts_with("ci/") || file.path.starts_with(".ci/") {
            findings.extend(
                places(file, |line| line.contains("://"))
                    .map(|at| format!("{at}: names a host; the mirrors are those that the machine uses")),
            );
        }
    }
    findings
}

/// `path:line` of each line that `is_bad`.
fn places(file: &File, is_bad: impl Fn(&str) -> bool) -> impl Iterator<Item = String> {
    file.text
        .lines()
        .enumerate()
        .filter(move |(_, line)| is_bad(line))
        .map(|(number, _)| format!("{}:{}", file.path, number + 1))
}

fn too_long(file: &File) -> Option<String> {
    let lines =
        file.text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count();
    (lines > LONGEST).then(|| {
        format!("{}: has {lines} lines of code, and {LONGEST} are the most; which of its reasons to exist is another module's?", file.path)
    })
}

fn forbidden(file: &File) -> Vec<String> {
    let found = |&(word, why): &(&str, &str)| {
        places(file, |line| line.contains(word)).map(|at| format!("{at}: {word} {why}")).collect::<Vec<_>>()
    };
    FORBIDDEN.iter().flat_map(found).collect()
}

/// Messages that would say `1 snapshots`: a number before a plural, where no limit says that there are several and nothing asks
/// whether it is one.
fn counted(file: &File) -> Vec<String> {
    let is_counted = |rest: &str| {
        let word = rest.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
        COUNTED.contains(&word) && !rest[word.len()..].starts_with('=')
    };
    let is_bad = |line: &str| {
        let comment = line.trim_start().starts_with("//");
        let is_sure = ["at most", "== 1"].iter().any(|words| line.contains(words));
        !comment && !is_sure && line.split("} ").skip(1).any(is_counted)
    };
    let is_product =
        file.path.starts_with("crates/") && file.path.contains("/src/") && !file.path.contains("/tests");
    let found = places(file, is_bad).map(|at| format!("{at}: a message says `1 ...s` here"));
    if is_product { found.collect() } else { Vec::new() }
}

/// `lib.rs` and `mod.rs` hold documentation, `mod` and `use`.
fn not_only_re_exports(file: &File) -> Option<String> {
    const ITEMS: &[&str] =
        &["mod ", "pub mod ", "pub(crate) mod ", "use ", "pub use ", "pub(crate) use ", "extern crate "];
    let code: Vec<&str> = file
        .text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//") && !line.starts_with('#'))
        .collect();
    let code = code.join(" ");
    let item = code
        .split(';')
        .map(str::trim)
        .find(|item| !item.is_empty() && !ITEMS.iter().any(|start| item.starts_with(start)))?;
    let start: String = item.chars().take(60).collect();
    Some(format!("{}: holds more than documentation, `mod` and `use`: {start}", file.path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File { path: "crates/x/src/lib.rs".into(), text: text.into() }
    }

    #[test]
    fn re_exports_are_told_from_code() {
        let good = "//! Docs; with a semicolon.\n#![doc = include_str!(\"../README.md\")]\nmod a;\n#[cfg(test)]\nmod tests;\n\
                    pub use a::{\n    B, // why\n    C,\n};\n";
        assert_eq!(not_only_re_exports(&file(good)), None);
        let bad = "mod a;\npub fn f() {}\n";
        assert!(not_only_re_exports(&file(bad)).unwrap().ends_with("pub fn f() {}"));
    }

    #[test]
    fn only_code_counts_as_length() {
        let comments = "// a\n\n".repeat(2 * LONGEST) + &"a();\n".repeat(LONGEST);
        assert_eq!(too_long(&file(&comments)), None);
        assert!(too_long(&file(&(comments + "a();\n"))).is_some());
    }

    #[test]
    fn a_number_before_a_plural_is_found() {
        let text = "f(\"has {count} snapshots\");\nf(\"{n} disks; at most 8\");\nf(\"{a} disks={n} {b} bytes\");\n// {n} files\n";
        assert_eq!(counted(&file(text)), ["crates/x/src/lib.rs:1: a message says `1 ...s` here"]);
    }

    #[test]
    fn forbidden_words_are_found_with_their_line() {
        let found = forbidden(&file(&format!("a\n// {}: b\n", FORBIDDEN[0].0)));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("crates/x/src/lib.rs:2: "), "{found:?}");
    }
}
