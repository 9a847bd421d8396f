//! docs/json.md against what is really answered.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Map, Value};

use crate::host::Host;

/// The example of each schema in the document.
fn examples() -> BTreeMap<String, Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/json.md");
    let text = fs::read_to_string(path).unwrap();
    let blocks = text.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let examples = blocks.map(|block| {
        let example: Value = serde_json::from_str(block).unwrap_or_else(|e| panic!("{e}: {block}"));
        (example["schema"].as_str().unwrap().to_owned(), example)
    });
    examples.collect()
}

/// The example of one schema, with the examples of other schemas in the place of `{}`.
fn example(schema: &str) -> Value {
    let examples = examples();
    let mut example = examples[schema].clone();
    for (field, whole) in [("snapshot", "xlsnap.show/1"), ("domain", "xlsnap.domain-add/1")] {
        if example[field] == Value::Object(Map::new()) {
            example[field] = examples[whole][field].clone();
        }
    }
    if schema == "xlsnap.domains/1" {
        example["domains"] = Value::Array(vec![examples["xlsnap.domain-add/1"]["domain"].clone()]);
    }
    example
}

/// Checks that every field of `answer` is in `example`, and every field of the top.
fn compare(answer: &Value) {
    let schema = answer["schema"].as_str().unwrap();
    let example = example(schema);
    within(schema, answer, &example);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(answer), keys(&example), "{schema}");
}

fn within(at: &str, answer: &Value, example: &Value) {
    match (answer, example) {
        (Value::Object(answer), Value::Object(example)) => {
            for (key, value) in answer {
                let at = format!("{at}.{key}");
                // What may be done, and what that is told by, is one of two shapes, and labels are a user's words.
                if [".revert", ".delete", ".basis", ".labels"].iter().any(|end| at.ends_with(end)) {
                    continue;
                }
                within(&at, value, example.get(key).unwrap_or_else(|| panic!("{at} is not documented")));
            }
        }
        (Value::Array(answers), Value::Array(examples)) => {
            for answer in answers {
                within(at, answer, examples.first().unwrap_or_else(|| panic!("{at} has no example")));
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        (answer, example) => assert_eq!(
            std::mem::discriminant(answer),
            std::mem::discriminant(example),
            "{at} is of another type than documented: {answer}"
        ),
    }
}

/// Stands for what `--relocate` gets.
const MOVED: &str = "OLD=NEW";

/// Renames the image of the first disk, unless that is done; gives its names.
fn move_image(host: &Host) -> String {
    let shown = host.json(&["domain", "show", "web"]);
    let old = shown["domain"]["disks"][0]["image"].as_str().unwrap();
    let new = host.scratch.path("moved.qcow2");
    if !new.exists() {
        fs::rename(old, &new).unwrap();
    }
    format!("{old}={}", new.display())
}

#[test]
fn every_answer_is_as_documented() {
    let host = Host::new();
    let images = [("a", 1), ("b", 2)].map(|(name, byte)| host.scratch.qcow2_with(name, 4 << 20, byte));
    let [a, b] = images.each_ref().map(|image| image.display().to_string());
    let add =
        host.json(&["domain", "add", "web", "--disk", &format!("vda={a}"), "--disk", &format!("vdb={b}")]);
    let mut answers = vec![add];
    let file = host.root().join("domains/web.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, format!("{text}\n[start]\naccel = \"tcg\"\nmemory = 64\n")).unwrap();
    for words in [
        ["create", "web", "s1", "--label", "by=me", "--expires", "7d", "--exclude", "vdb"].as_slice(),
        &["create", "web", "s2", "--external", "vdb"],
        &["create", "web", "s3", "--dry-run"],
        &["create", "web", "s3", "--external", "vdb", "--dry-run"],
        &["list"],
        &["show", "web", "s1"],
        &["show", "web", "s2"],
        &["revert", "web", "s1", "--dry-run"],
        &["revert", "web", "s1", "--safety", "lost"],
        &["delete", "web", "s1", "--dry-run"],
        &["delete", "web", "s1"],
        &["check", "web"],
        &["check", "web", "--repair", "--dry-run"],
        &["create", "web", "s4", "--exclude", "vdb"],
        &["delete", "web", "s4", "--metadata-only"],
        &["check", "web", "--adopt", "s4", "--dry-run"],
        &["check", "web", "--delete-orphan", "s4", "--dry-run"],
        &["check", "web", "--adopt", "s4"],
        &["delete", "web", "s4", "--metadata-only"],
        &["check", "web", "--delete-orphan", "s4"],
        &["create", "web", "x1", "--external", "vda", "--external", "vdb"],
        &["revert", "web", "x1", "--dry-run"],
        &["revert", "web", "x1"],
        &["delete", "web", "x1", "--no-merge", "--dry-run"],
        &["delete", "web", "x1", "--no-merge"],
        &["flatten", "web", "--dry-run"],
        &["flatten", "web", "--keep", "0"],
        &["check", "web", "--keep-base", "vda"],
        &["check", "web", "--keep-base", "vda", "--dry-run"],
        &["check", "web", "--relocate", MOVED, "--dry-run"],
        &["check", "web", "--relocate", MOVED],
        &["recover", "web"],
        &["recover", "web", "--dry-run"],
        &["domain", "list"],
        &["domain", "show", "web"],
        &["domain", "start", "web"],
        &["domain", "status", "web"],
        &["domain", "stop", "web", "--powerdown", "0"],
        &["domain", "remove", "web", "--force"],
        &["domain", "forget", "web", "--records-only"],
    ] {
        let moved = if words.contains(&MOVED) { move_image(&host) } else { String::new() };
        let words: Vec<&str> = words.iter().map(|word| if *word == MOVED { &moved } else { *word }).collect();
        answers.push(host.json(&words));
    }
    let failure = host.run(["show", "web", "s9", "--json"]);
    answers.push(serde_json::from_str(&failure.err).unwrap());
    let mut seen = BTreeSet::new();
    for answer in &answers {
        compare(answer);
        seen.insert(answer["schema"].as_str().unwrap().to_owned());
    }
    assert_eq!(seen, examples().into_keys().collect(), "each schema is documented, and seen here");
}
