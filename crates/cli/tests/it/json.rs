//! `xlsnap json` on what the real libxl wrote and read.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;
use xlsnap_types::libxl::{Mode, StructType, normalise};

use crate::host::Host;

const VECTORS: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../types/tests/vectors/libxl-json-roundtrip.jsonl");

fn run(host: &Host, words: &[&str], input: &[u8]) -> (i32, Vec<u8>, String) {
    let mut command: Command = host.command(["json"].iter().chain(words));
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code().unwrap(), output.stdout, String::from_utf8(output.stderr).unwrap())
}

#[test]
fn every_vector_is_normalised_or_refused() {
    let host = Host::new();
    let mut like_libxl = 0;
    let vectors = std::fs::read_to_string(VECTORS).unwrap();
    for line in vectors.lines() {
        let vector: Value = serde_json::from_str(line).unwrap();
        // Bytes that are no text stand in base64; the types' own tests read those.
        let Some(input) = vector["input"].as_str() else { continue };
        let (kind, of) = match vector["type"].as_str().unwrap() {
            "domain_snapshot" => ("domain-snapshot", StructType::DomainSnapshot),
            _ => ("disk-snapshot", StructType::DiskSnapshot),
        };
        for (option, mode) in [(None, Mode::Strict), (Some("--libxl"), Mode::Libxl)] {
            let words: Vec<&str> = ["--type", kind].into_iter().chain(option).collect();
            let (code, out, err) = run(&host, &words, input.as_bytes());
            match normalise(input.as_bytes(), of, mode) {
                Ok(canonical) => {
                    assert_eq!((code, out.as_slice(), err.as_str()), (0, canonical.as_bytes(), ""), "{line}");
                    if vector["yajl"]["output"].as_str() == Some(&canonical) {
                        like_libxl += 1;
                    }
                }
                Err(error) => {
                    assert_eq!((code, out.as_slice()), (1, b"".as_slice()), "{line}");
                    assert!(err.contains(&error.line.to_string()), "{err} says where");
                }
            }
        }
    }
    assert!(like_libxl > 200, "only {like_libxl} answers are libxl's own");
}

#[test]
fn a_file_is_read_and_one_that_is_not_there_is_told() {
    let host = Host::new();
    let file = host.scratch.path("record");
    // libxl's userdata ends in a NUL.
    std::fs::write(&file, "{\"name\":\"s1\"}\0").unwrap();
    let ran = host.run(["json", file.to_str().unwrap()]);
    assert_eq!(ran.ok().out, "{\n    \"name\": \"s1\"\n}\n");
    host.refuses(3, ["json", "missing"]);
    host.refuses(2, ["json", "--type", "disk"]);
    std::fs::write(&file, "{\n \"name\": 3\n}").unwrap();
    host.refuses(1, ["json", file.to_str().unwrap()]).tells("name").tells("2");
}
