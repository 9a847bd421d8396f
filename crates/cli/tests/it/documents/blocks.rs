//! What stands in a Markdown document for a shell: its fenced blocks, and the comments that are for the test.

/// A part of a document, in its order, with the number of its first line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) line: usize,
    pub(super) what: What,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Lines of a shell: of a `sh` block, or of a comment `<!-- run: ... -->`, which prepares what a reader has already.
    Lines(String),
    /// A `console` block: commands, each with what it prints.
    Console(Vec<Command>),
    /// A `toml` block that begins with `[start]`: how the domain of the document is started.
    Start(String),
    /// A block that is not run, and the reason that its comment `<!-- not run: ... -->` gives.
    NotRun { reason: String, text: String },
}

/// A command of a `console` block.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) prints: String,
}

/// The parts of a document.
///
/// # Panics
/// When a comment for the test has no end or no block, or a block is in a language that says neither how to run it nor that it
/// is data.
pub(super) fn parts(document: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut reason: Option<String> = None;
    let mut lines = document.lines().enumerate().map(|(at, line)| (at + 1, line));
    while let Some((line, text)) = lines.next() {
        if let Some(begun) = text.strip_prefix("<!-- ") {
            let mut comment = begun.to_owned();
            while !comment.contains("-->") {
                let (_, next) = lines.next().unwrap_or_else(|| panic!("line {line}: the comment has no end"));
                comment.push('\n');
                comment.push_str(next);
            }
            let (comment, _) = comment.split_once("-->").expect("it was looked for");
            if let Some(run) = comment.strip_prefix("run:") {
                parts.push(Part { line, what: What::Lines(format!("{}\n", run.trim())) });
            } else if let Some(why) = comment.strip_prefix("not run:") {
                let why = why.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(!why.is_empty(), "line {line}: the reason is missing");
                assert!(reason.replace(why).is_none(), "line {line}: two reasons for one block");
            }
            continue;
        }
        let Some(language) = text.trim_start().strip_prefix("```") else {
            assert!(
                reason.is_none() || text.is_empty(),
                "line {line}: a reason, and no block that is not run"
            );
            continue;
        };
        let block: Vec<(usize, &str)> =
            lines.by_ref().take_while(|(_, text)| !text.starts_with("```")).collect();
        let text: String = block.iter().map(|(_, text)| format!("{text}\n")).collect();
        let what = match (reason.take(), language) {
            (Some(reason), _) => What::NotRun { reason, text },
            (None, "sh") => What::Lines(text),
            (None, "console") => What::Console(commands(&block)),
            (None, "toml") if text.starts_with("[start]") => What::Start(text),
            (None, "json" | "toml" | "cfg" | "text") => continue,
            (None, other) => panic!("line {line}: a block in {other:?} that no test runs"),
        };
        parts.push(Part { line, what });
    }
    assert!(reason.is_none(), "the last reason has no block");
    parts
}

/// The commands of a `console` block: `$ ` begins one, and `> ` goes on with it.
fn commands(block: &[(usize, &str)]) -> Vec<Command> {
    let mut commands: Vec<Command> = Vec::new();
    for &(line, text) in block {
        if let Some(command) = text.strip_prefix("$ ") {
            commands.push(Command { line, text: command.to_owned(), prints: String::new() });
            continue;
        }
        let last = commands.last_mut().unwrap_or_else(|| panic!("line {line}: output of no command"));
        match text.strip_prefix("> ") {
            Some(more) if last.prints.is_empty() => last.text.push_str(&format!("\n{more}")),
            _ => last.prints.push_str(&format!("{text}\n")),
        }
    }
    commands
}

#[test]
fn a_document_is_a_list_of_parts() {
    let document = "# T\n\n<!-- run: a\nb -->\n```sh\nc # d\n```\n<!-- of the author -->\n\n<!-- not run: it is\nlong -->\n\n```sh\ne\n```\n\
                    ```console\n$ f \\\n> g\n h\n$ i\n```\n```json\n{}\n```\n```toml\n[start]\nx = 1\n```\n";
    let part = |line, what| Part { line, what };
    let command =
        |line, text: &str, prints: &str| Command { line, text: text.to_owned(), prints: prints.to_owned() };
    assert_eq!(
        parts(document),
        [
            part(3, What::Lines("a\nb\n".to_owned())),
            part(5, What::Lines("c # d\n".to_owned())),
            part(13, What::NotRun { reason: "it is long".to_owned(), text: "e\n".to_owned() }),
            part(16, What::Console(vec![command(17, "f \\\ng", " h\n"), command(20, "i", "")])),
            part(25, What::Start("[start]\nx = 1\n".to_owned())),
        ]
    );
}
