//! Rules for documents: their links lead somewhere, and they speak of what is there.

use std::path::Path;

use super::manifests::Metadata;
use super::tree::{File, Tree};

/// The directories at the top whose files documents name.
const TOP: [&str; 5] = ["ci", "crates", "docs", "fuzz", "xtask"];

/// The findings in all documents.
pub(super) fn findings(tree: &Tree, metadata: &Metadata) -> Vec<String> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|file| file.is("md")) {
        findings.extend(broken_links(file, |path| tree.has(path)));
        findings.extend(missing_paths(file, |path| tree.has(path)));
        findings.extend(doubled_rows(file));
    }
    findings.extend(crates_are_named(tree, metadata));
    findings.extend(readmes(tree, metadata));
    findings.extend(changelog(tree, metadata));
    findings
}

/// Relative links that lead to nothing in the tree. Links into the network are not followed.
fn broken_links(file: &File, is_there: impl Fn(&Path) -> bool) -> Vec<String> {
    let directory = Path::new(&file.path).parent().expect("a file is in a directory");
    let mut findings = Vec::new();
    let mut in_code = false;
    for (number, line) in file.text.lines().enumerate() {
        in_code ^= line.trim_start().starts_with("```");
        if in_code {
            continue;
        }
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', ' ', '#']).next().unwrap_or_default();
            // Rust paths are rustdoc's to check, where a README is a crate's documentation.
            let elsewhere = target.is_empty() || target.contains(':');
            if !elsewhere && !is_there(&directory.join(target)) {
                findings.push(format!("{}:{}: the link to {target} leads nowhere", file.path, number + 1));
            }
        }
    }
    findings
}

/// Paths in backquotes, from the top of the tree, that lead to nothing in it.
fn missing_paths(file: &File, is_there: impl Fn(&Path) -> bool) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        for span in line.split('`').skip(1).step_by(2) {
            let from_the_top =
                TOP.iter().any(|top| span.strip_prefix(top).is_some_and(|rest| rest.starts_with('/')));
            if from_the_top && !span.contains(['<', '*', ' ']) && !is_there(Path::new(span)) {
                findings.push(format!("{}:{}: there is no {span}", file.path, number + 1));
            }
        }
    }
    findings
}

/// Rows of one table that are about the same thing: they link to the same target, or begin with the same cell. (The README of a
/// crate may order a table by its first column.)
fn doubled_rows(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    let mut table: Vec<(usize, &str)> = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        if !line.starts_with('|') {
            table.clear();
            continue;
        }
        let mut keys: Vec<&str> =
            line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0)).collect();
        if !file.path.starts_with("crates/") {
            keys.push(line.split('|').nth(1).unwrap_or_default().trim());
        }
        for key in keys {
            match table.iter().find(|(row, known)| *known == key && *row != number) {
                Some((row, _)) => findings.push(format!(
                    "{}:{}: the row on {key} is doubled: line {} has it too",
                    file.path,
                    number + 1,
                    row + 1
                )),
                None => table.push((number, key)),
            }
        }
    }
    findings
}

/// ARCHITECTURE.md has a heading with each crate's directory, the README the name of each crate that is published.
fn crates_are_named(tree: &Tree, metadata: &Metadata) -> Vec<String> {
    let text = |path| tree.file(path).map_or("", |file| file.text.as_str());
    let (readme, architecture) = (text("README.md"), text("ARCHITECTURE.md"));
    let headings: Vec<&str> = architecture
        .lines()
        .filter_map(|line| line.strip_prefix("### "))
        .flat_map(|line| line.split([',', ' ']))
        .collect();
    let mut findings = Vec::new();
    for package in &metadata.packages {
        if !headings.contains(&package.directory.as_str()) {
            findings.push(format!("ARCHITECTURE.md: has no heading for {}", package.directory));
        }
        if package.published && !readme.contains(&format!("`{}`", package.name)) {
            findings.push(format!("README.md: does not name `{}`", package.name));
        }
    }
    findings
}

/// Each published crate says in its README what it cannot do, and shows an example.
fn readmes(tree: &Tree, metadata: &Metadata) -> Vec<String> {
    let mut findings = Vec::new();
    for package in metadata.packages.iter().filter(|package| package.published) {
        let path = format!("crates/{}/README.md", package.directory);
        let text = tree.file(&path).map_or("", |file| file.text.as_str());
        if !text.lines().any(|line| line.starts_with("## Limit")) {
            findings.push(format!("{path}: has no section on its limits"));
        }
        if !text.contains("```") {
            findings.push(format!("{path}: has no example"));
        }
    }
    findings
}

/// What this version brings is in the changelog.
fn changelog(tree: &Tree, metadata: &Metadata) -> Option<String> {
    let text = &tree.file("CHANGELOG.md")?.text;
    let section = text.split("\n## ").nth(1).unwrap_or_default();
    let title = section.lines().next().unwrap_or_default();
    let is_ours =
        title == "Unreleased" || metadata.packages.iter().any(|package| title.starts_with(&package.version));
    let has_entries = section.lines().any(|line| line.starts_with("- "));
    (!is_ours || !has_entries).then(|| {
        "CHANGELOG.md: its first section is neither `Unreleased` nor this version's, or has no entry".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_looked_up_from_their_file() {
        let text = "[a](b.md#c) [d](https://e) [f](../g/) [h](#i)\n```\nx[0](y)\n```\n[j](k.md)";
        let file = File { path: "docs/l.md".into(), text: text.into() };
        let there = [Path::new("docs/b.md"), Path::new("docs/../g/")];
        let found = broken_links(&file, |path| there.contains(&path));
        assert_eq!(found, ["docs/l.md:5: the link to k.md leads nowhere"]);
    }

    #[test]
    fn paths_in_backquotes_are_looked_up_from_the_top() {
        let text = "`crates/a.rs` and `crates/b.rs`\n`docs/<name>.md`, `cratesx/c`, crates/d, `/docs/e`";
        let file = File { path: "crates/f/README.md".into(), text: text.into() };
        let found = missing_paths(&file, |path| path == Path::new("crates/a.rs"));
        assert_eq!(found, ["crates/f/README.md:1: there is no crates/b.rs"]);
    }

    #[test]
    fn rows_on_the_same_thing_are_doubled() {
        let text = "| a | [x](x.md) |\n|---|---|\n| b | [y](y.md), [y](y.md) |\n| c | [x](x.md) |\n| b | d |\n\n| b | e |\n";
        let file = File { path: "README.md".into(), text: text.into() };
        assert_eq!(
            doubled_rows(&file),
            [
                "README.md:4: the row on x.md is doubled: line 1 has it too",
                "README.md:5: the row on b is doubled: line 3 has it too"
            ]
        );
    }
}
