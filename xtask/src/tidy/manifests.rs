//! What the manifests say, and rules for that.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::tree::Tree;
use crate::Failure;
use crate::command::{cargo, output};

/// A package of the workspace.
#[derive(Debug)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    /// The last part of its directory.
    pub(super) directory: String,
    pub(super) published: bool,
    manifest: Value,
}

/// The workspace, and which crate depends on which.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) packages: Vec<Package>,
    /// By package name, what its code (not its tests or its build) depends on, by name.
    pub(super) edges: BTreeMap<String, BTreeSet<String>>,
    /// The same of its tests.
    pub(super) test_edges: BTreeMap<String, BTreeSet<String>>,
}

impl Metadata {
    pub(super) fn read() -> Result<Self, Failure> {
        let text = output(cargo("metadata --quiet --format-version 1 --locked"))?;
        let value: Value =
            serde_json::from_slice(&text).map_err(|e| Failure(format!("cargo metadata is not JSON: {e}")))?;
        Ok(Self::parse(&value))
    }

    /// Cargo's own format: what is missing from it reads as nothing.
    fn parse(value: &Value) -> Self {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let members: BTreeSet<String> = list(&value["workspace_members"]).iter().map(text).collect();
        let names: BTreeMap<String, String> = list(&value["packages"])
            .iter()
            .map(|package| (text(&package["id"]), text(&package["name"])))
            .collect();
        let packages = list(&value["packages"])
            .into_iter()
            .filter(|package| members.contains(&text(&package["id"])))
            .map(|package| {
                let path = text(&package["manifest_path"]);
                let directory = Path::new(&path).parent().and_then(Path::file_name);
                Package {
                    name: text(&package["name"]),
                    version: text(&package["version"]),
                    directory: directory.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
                    // Cargo gives the registries that are allowed: null is any, an empty list none.
                    published: package["publish"].is_null(),
                    manifest: package,
                }
            })
            .collect();
        let (mut edges, mut test_edges) = (BTreeMap::new(), BTreeMap::new());
        for node in list(&value["resolve"]["nodes"]) {
            let to = |kind: Value| -> BTreeSet<String> {
                list(&node["deps"])
                    .iter()
                    .filter(|dep| list(&dep["dep_kinds"]).iter().any(|given| given["kind"] == kind))
                    .filter_map(|dep| names.get(&text(&dep["pkg"])).cloned())
                    .collect()
            };
            // Two versions of one package count as one.
            let name = names.get(&text(&node["id"])).cloned().unwrap_or_default();
            edges.entry(name.clone()).or_insert_with(BTreeSet::new).extend(to(Value::Null));
            test_edges.entry(name).or_insert_with(BTreeSet::new).extend(to(Value::from("dev")));
        }
        Self { packages, edges, test_edges }
    }
}

/// Everything that ends up in the code of `package` when it is built alone, through whatever, by name.
pub(super) fn closure(package: &str) -> Result<BTreeSet<String>, Failure> {
    // Not from the metadata: there each package has the features that the whole workspace asks of it.
    let text =
        output(cargo(&format!("tree --quiet --locked --package {package} --edges normal --prefix none")))?;
    let names = String::from_utf8_lossy(&text);
    Ok(names.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

/// What a published crate's manifest must say, and that both lock files agree.
pub(super) fn findings(tree: &Tree, metadata: &Metadata) -> Vec<String> {
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let says = |key: &str| match &package.manifest[key] {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(list) => !list.is_empty(),
            _ => true,
        };
        let keys: &[&str] = if package.published {
            &["description", "license", "repository", "readme", "keywords", "categories", "rust_version"]
        } else {
            &["description", "license"]
        };
        let missing = keys.iter().filter(|key| !says(key)).copied();
        findings.extend(missing.map(|key| format!("{}: its Cargo.toml has no {key}", package.name)));
        if package.manifest["keywords"].as_array().is_some_and(|words| words.len() > 5) {
            findings.push(format!("{}: more than 5 keywords, which a registry refuses", package.name));
        }
        if package.manifest["license"] != "MIT OR Apache-2.0" {
            findings.push(format!("{}: its licence is not MIT OR Apache-2.0", package.name));
        }
    }
    findings.extend(differing_locks(tree));
    findings
}

/// The fuzz targets are built from the versions that are shipped.
fn differing_locks(tree: &Tree) -> Option<String> {
    if output(cargo("metadata --quiet --format-version 1 --locked --manifest-path fuzz/Cargo.toml")).is_err()
    {
        return Some(
            "fuzz/Cargo.lock: does not have all that fuzz/Cargo.toml asks for; run `cargo xtask lock`".into(),
        );
    }
    let (ours, fuzz) = (tree.file("Cargo.lock")?, tree.file("fuzz/Cargo.lock")?);
    let (ours, fuzz) = (locked(&ours.text), locked(&fuzz.text));
    let names: BTreeSet<_> = ours.iter().map(|(name, _)| name).collect();
    let only_fuzz: Vec<_> =
        fuzz.iter().filter(|entry| names.contains(&entry.0) && !ours.contains(*entry)).collect();
    let (name, version) = only_fuzz.first()?;
    Some(format!("fuzz/Cargo.lock: has {name} {version}, and Cargo.lock has not; run `cargo xtask lock`"))
}

/// The name and version of every package in a lock file.
fn locked(text: &str) -> BTreeSet<(&str, &str)> {
    text.split("[[package]]\n").filter_map(name_and_version).collect()
}

fn name_and_version(entry: &str) -> Option<(&str, &str)> {
    let (name, rest) = entry.strip_prefix("name = \"")?.split_once("\"\nversion = \"")?;
    Some((name, rest.split_once('"')?.0))
}
