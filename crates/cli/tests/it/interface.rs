//! What every command has in common.

use serde_json::Value;

use crate::host::Host;

#[test]
fn failures_are_json_for_programs() {
    let (host, _) = Host::with_two_disks();
    let failure = |code: i32, words: &[&str]| -> Value {
        let ran = host.refuses(code, words);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        serde_json::from_str(&ran.err).unwrap()
    };
    let missing = failure(3, &["create", "db", "--json"]);
    assert_eq!(missing["schema"], "xlsnap.error/1");
    assert_eq!(missing["exit"], 3);
    assert_eq!(missing["kind"], "not-found");
    assert_eq!(missing["effect"], "none");
    assert!(missing["advice"].is_string());
    // Mistakes in the command line too.
    assert_eq!(failure(2, &["--json", "create"])["kind"], "usage");
    assert_eq!(failure(2, &["frobnicate", "--json"])["exit"], 2);
}

#[test]
fn help_and_version_are_answers() {
    let host = Host::new();
    for words in [["--help"].as_slice(), &["help", "create"], &["--version"], &["create", "-h"]] {
        let ran = host.run(words);
        assert!(!ran.ok().out.is_empty() && ran.err.is_empty(), "{words:?}");
    }
    // The help of a command is one, whichever way it is asked for.
    for (asked, same) in [
        (["help", "create"].as_slice(), ["create", "--help"].as_slice()),
        (&["help", "domain", "start"], &["domain", "start", "--help"]),
        (&["domain", "help", "start"], &["domain", "start", "--help"]),
        (&["help", "help"], &["help", "--help"]),
        (&["domain", "help"], &["domain", "--help"]),
        (&["help"], &["--help"]),
    ] {
        assert_eq!(host.run(asked).ok().out, host.run(same).ok().out, "{asked:?}");
    }
    host.refuses(2, ["help", "frobnicate"]).tells("xlsnap frobnicate");
    host.refuses(2, ["domain", "help", "frobnicate"]).tells("try: xlsnap help domain");
    let version = host.run(["--version"]);
    assert_eq!(version.out, format!("xlsnap {}\n", env!("CARGO_PKG_VERSION")));
    host.refuses(2, [""; 0]);
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let host = Host::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = host.run(["completions", shell]);
        assert!(ran.ok().out.contains("snapshot-revert"), "{shell}");
    }
    let page = host.run(["man"]);
    assert!(page.ok().out.contains(".TH xlsnap") && page.out.contains("recover"), "{}", page.out);
    let pages = host.scratch.path("man");
    std::fs::create_dir(&pages).unwrap();
    host.run(["man", "--out", pages.to_str().unwrap()]).ok();
    assert_eq!(std::fs::read_to_string(pages.join("xlsnap.1")).unwrap(), page.out);
    host.refuses(1, ["man", "--out", "/nowhere/at/all"]);
}

#[test]
fn the_log_is_silent_until_it_is_asked_for() {
    let (host, _) = Host::with_two_disks();
    assert_eq!(host.run(["create", "web", "s1"]).ok().err, "");
    let ran = host.run(["create", "web", "s2", "--log-json", "-vv"]);
    for line in ran.ok().err.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert!(entry["level"].is_string(), "{line}");
    }
    assert!(!ran.err.is_empty());
}

#[test]
fn the_time_of_an_expiry_is_recorded() {
    let (host, _) = Host::with_two_disks();
    let made = host.json(&["create", "web", "s1", "--expires", "2030-01-01T00:00:00Z"]);
    assert_eq!(made["snapshot"]["expires"], 1_893_456_000);
    host.refuses(2, ["create", "web", "s2", "--expires", "soon"]).tells("soon");
}

#[test]
fn a_lost_answer_does_not_deny_what_was_done() {
    let (host, _) = Host::with_two_disks();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for (words, lost) in
        [(["create", "web", "one"], 0), (["show", "web", "one"], 1), (["delete", "web", "one"], 0)]
    {
        let output = host.command(words).stdout(full()).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(lost), "{told}");
        assert!(told.contains("cannot write the answer"), "{told}");
        assert_eq!(told.contains("now: it was done"), lost == 0, "{told}");
    }
    assert!(host.names("web").is_empty());
}
