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
    let files = |words: &[&str]| {
        let all = ["create", "web"].iter().chain(words).copied().collect::<Vec<_>>();
        let Command::Create(create) = parse(&all)?.command else { unreachable!("create was parsed") };
        let externals = create.external.into_iter().flat_map(|Externals(all)| all);
        let files = externals.map(|of| format!("{}={}", of.disk, of.file.unwrap_or_default()));
        Ok::<_, clap::Error>(files.collect::<Vec<_>>())
    };
    let file = |word: &str| files(&["--external", word]);
    assert_eq!(file("vda").unwrap(), ["vda="]);
    assert_eq!(file("vda=/a=b").unwrap(), ["vda=/a=b"]);
    assert_eq!(file("vda,vdb=/a,,b,vdc").unwrap(), ["vda=", "vdb=/a,b", "vdc="]);
    assert_eq!(files(&["--external", "vda,vdb", "--external", "vdc"]).unwrap(), ["vda=", "vdb=", "vdc="]);
    for word in ["vda=", "=/a", "v/da", "", "vda,", ",vda", "vda=,vdb"] {
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

/// The words of one line of a shell, as far as documents go: quotes, and nothing after a pipe, a redirection or a comment.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, '|' | '<' | '>' | '#' | '&') => break,
            (None, ' ') => words.push(String::new()),
            (_, c) => words.last_mut().expect("there is always one").push(c),
        }
    }
    words.retain(|word| !word.is_empty() && word != "2");
    words
}

/// Every command line of the documents is one; those too that the test of the documents cannot run, on Xen say.
#[test]
fn documented_lines_parse() {
    let top = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let mut count = 0;
    for document in
        ["README.md", "docs/cookbook.md", "docs/errors.md", "docs/json.md", "crates/cli/README.md"]
    {
        let text = std::fs::read_to_string(format!("{top}/{document}")).unwrap().replace("\\\n", " ");
        for line in text.lines() {
            let line = line.trim_start().trim_start_matches("$ ");
            if !line.starts_with("xlsnap ") {
                continue;
            }
            let parsed = Cli::try_parse_from(words(line));
            assert!(parsed.is_ok(), "{document}: {line}\n{}", parsed.unwrap_err());
            count += 1;
        }
    }
    assert!(count > 40, "only {count} lines were found");
}

/// Every command that can be given, as its words, with its definition. Those that only hold others are not among them.
fn commands(of: &clap::Command, words: &str, found: &mut Vec<(String, clap::Command)>) {
    for command in of.get_subcommands() {
        let words = format!("{words} {}", command.get_name());
        if command.has_subcommands() {
            commands(command, &words, found);
        } else {
            found.push((words, command.clone()));
        }
    }
}

/// A domain is reverted while it runs, and the help says what becomes of its guest.
#[test]
fn the_help_of_revert_does_not_ask_for_a_domain_that_is_off() {
    let mut cli = Cli::command();
    let revert = cli.find_subcommand_mut("revert").unwrap();
    let help = revert.clone().term_width(usize::MAX).render_long_help().to_string();
    assert!(help.contains("the guest of a domain that runs is reset"), "{help}");
    for phrase in ["must be off", "has to be off", "be stopped first"] {
        assert!(!help.contains(phrase), "{help}");
    }
}

/// The table of docs/commands.md has every command, with the sentence of its help, and no sentence that the help does not have.
#[test]
fn the_table_of_commands_says_what_the_help_says() {
    let text =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/commands.md")).unwrap();
    // The line, and what it does; clap takes the full stop from a sentence.
    let rows: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|row| {
            Some((row.split_once('`')?.0, row.rsplit('|').nth(1)?.trim().trim_end_matches('.')))
        })
        .collect();
    let mut all = Vec::new();
    commands(&Cli::command(), "xlsnap", &mut all);
    for (words, command) in &all {
        let about = command.get_about().expect("each command says what it does").to_string();
        let help = command.clone().term_width(usize::MAX).render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_own = |line: &str| {
            line.strip_prefix(words.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let own: Vec<_> = rows.iter().filter(|(line, _)| is_own(line)).collect();
        for (line, sentence) in &own {
            assert!(help.contains(sentence), "{line}: its help does not say {sentence:?}:\n{help}");
        }
        let is_told = own.iter().any(|(_, sentence)| about.starts_with(sentence));
        assert!(is_told, "docs/commands.md: no row of `{words}` says {about:?}");
    }
    assert!(all.len() > 15, "only {} commands were found", all.len());
}
