use clap::{CommandFactory, Parser};

use super::*;

fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(["xlsnap"].iter().chain(words))
}

#[test]
fn the_definitions_hold_together() {
    Cli::command().debug_assert();
}

#[test]
fn waits_are_seconds() {
    for (text, millis) in [("0", 0), ("0.5", 500), ("60", 60_000)] {
        assert_eq!(parse(&["list", "--wait", text]).unwrap().global.wait.as_millis(), millis);
    }
    for text in ["-1", "nan", "inf", "1e99", "soon", ""] {
        assert!(parse(&["list", &format!("--wait={text}")]).is_err(), "{text}");
    }
}

#[test]
fn an_external_disk_may_name_its_file() {
    let file = |word: &str| match parse(&["create", "web", "--external", word])?.command {
        Command::Create(create) => Ok::<_, clap::Error>(create.external[0].file.clone()),
        _ => unreachable!("create was parsed"),
    };
    assert_eq!(file("vda").unwrap(), None);
    assert_eq!(file("vda=/a=b").unwrap().as_deref(), Some("/a=b"));
    for word in ["vda=", "=/a", "v/da", ""] {
        assert!(file(word).is_err(), "{word}");
    }
}

#[test]
fn a_label_has_a_key() {
    for word in ["=x", "x", &format!("k={}", "v".repeat(2000))] {
        assert!(parse(&["create", "web", "--label", word]).is_err(), "{word}");
    }
    assert!(parse(&["create", "web", "--label", "k="]).is_ok());
}

#[test]
fn a_socket_needs_a_domain() {
    assert!(parse(&["list", "--qmp", "/run/x"]).is_err());
    assert!(parse(&["list", "web", "--qmp", "/run/x"]).is_ok());
    assert!(parse(&["snapshot-create", "-n", "s", "web", "--qmp", "/run/x"]).is_ok());
}
