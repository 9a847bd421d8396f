//! What is sent to QEMU's monitor and what is run, as the code under test logs it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, Once};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Event, Metadata, Subscriber};
use xlsnap_orchestrator::Command;

/// Commands that only look, and those that give QEMU an end of a socket or an open file, and take it back. Besides, what QEMU refuses has
/// had no effect.
const LOOKS: [&str; 7] =
    ["add-fd", "getfd", "qmp_capabilities", "qom-get", "qom-list", "remove-fd", "x-debug-query-block-graph"];

/// A line of the log.
#[derive(Debug, Clone)]
enum Heard {
    /// A message to QEMU, or from it.
    Sent(Value),
    Answered(Value),
    /// The command line of a qemu-img.
    Ran(String),
    /// The command line of a process of the domain.
    Started(Vec<String>),
}

/// Hears what is logged on the thread that opened it, until it is dropped.
#[derive(Debug)]
pub(super) struct Tap(Arc<Mutex<State>>);

thread_local! {
    /// The tap of this thread.
    static OPEN: RefCell<Option<Arc<Mutex<State>>>> = const { RefCell::new(None) };
}

/// The one subscriber of all threads. A default of each thread would not do: which events are wanted is remembered for all, and
/// by the word of whichever thread comes first, if none but one was registered.
struct Threads;

#[derive(Debug, Default)]
struct State {
    heard: Vec<Heard>,
    /// The file of each node that was opened so far.
    nodes: BTreeMap<String, String>,
}

impl Drop for Tap {
    fn drop(&mut self) {
        OPEN.with_borrow_mut(|open| *open = None);
    }
}

impl Tap {
    pub(super) fn open() -> Self {
        static SUBSCRIBED: Once = Once::new();
        SUBSCRIBED.call_once(|| {
            tracing::subscriber::set_global_default(Threads).unwrap();
            // What another thread logged first in between is remembered as unwanted, until one more is registered.
            drop(Dispatch::new(NoSubscriber::default()));
        });
        let state = Arc::default();
        OPEN.with_borrow_mut(|open| *open = Some(Arc::clone(&state)));
        Self(state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What had an effect since this was asked last, in the words of a dry run.
    pub(super) fn take(&self) -> Vec<Command> {
        let mut state = self.state();
        let heard = std::mem::take(&mut state.heard);
        let id = |message: &Value| message["id"].as_str().unwrap_or_default().to_owned();
        let refused: BTreeSet<String> = heard
            .iter()
            .filter_map(|line| match line {
                Heard::Answered(message) if message.get("error").is_some() => Some(id(message)),
                _ => None,
            })
            .collect();
        let mut commands: Vec<Command> = Vec::new();
        for line in heard {
            match line {
                Heard::Sent(message) => {
                    let name = message["execute"].as_str().unwrap();
                    // Refused or not, an export activates its node.
                    let activates = name == "block-export-add" || name == "block-export-del";
                    let looks = name.starts_with("query-") || LOOKS.contains(&name);
                    if looks || (refused.contains(&id(&message)) && !activates) {
                        continue;
                    }
                    let command = match activates {
                        true => Command::new("QMP block-export-add, each node"),
                        false => of_qmp(name, &message["arguments"], &mut state.nodes),
                    };
                    if !activates || commands.last() != Some(&command) {
                        commands.push(command);
                    }
                }
                Heard::Answered(_) => {}
                Heard::Ran(line) => commands.extend(of_qemu_img(&line)),
                Heard::Started(line) => {
                    state.nodes = nodes_of(&line);
                    let given = |option: &str| line.iter().any(|word| word == option);
                    let mut command = line[0].clone();
                    for (option, words) in [("-S", " -S"), ("-incoming", " -incoming defer")] {
                        command.push_str(if given(option) { words } else { "" });
                    }
                    commands.push(Command::new(command));
                }
            }
        }
        commands
    }
}

fn hear(line: Heard) {
    OPEN.with_borrow(|open| {
        if let Some(state) = open {
            state.lock().unwrap().heard.push(line);
        }
    });
}

/// The nodes that a command line opens.
fn nodes_of(line: &[String]) -> BTreeMap<String, String> {
    let nodes = line.iter().filter_map(|word| serde_json::from_str::<Value>(word).ok());
    nodes.filter_map(|node| named(&node)).collect()
}

fn named(node: &Value) -> Option<(String, String)> {
    Some((node["node-name"].as_str()?.to_owned(), node["file"]["filename"].as_str()?.to_owned()))
}

fn of_qmp(name: &str, arguments: &Value, nodes: &mut BTreeMap<String, String>) -> Command {
    let file = |node: &Value| nodes.get(node.as_str().unwrap()).cloned().unwrap();
    let list = |nodes: &Value| nodes.as_array().unwrap().iter().map(&file).collect::<Vec<_>>();
    let command = format!("QMP {name}");
    match name {
        "transaction" => {
            let actions = arguments["actions"].as_array().unwrap();
            let files = actions.iter().map(|action| {
                let data = &action["data"];
                file(if action["type"] == "blockdev-snapshot" { &data["overlay"] } else { &data["device"] })
            });
            let files: Vec<String> = files.collect();
            let mut types: Vec<&str> =
                actions.iter().map(|action| action["type"].as_str().unwrap()).collect();
            types.dedup();
            Command::on_all(format!("{command}: {}", types.join(", ")), files)
        }
        "snapshot-save" | "snapshot-load" => Command::on_all(command, list(&arguments["devices"])),
        "blockdev-snapshot-delete-internal-sync" => Command::on(command, file(&arguments["device"])),
        "block-dirty-bitmap-remove" => Command::on(command, file(&arguments["node"])),
        "blockdev-add" => {
            // A stand-in has no file.
            let Some((node, file)) = named(arguments) else { return Command::new(command) };
            nodes.insert(node, file.clone());
            Command::on(command, file)
        }
        _ => Command::new(command),
    }
}

/// A run of qemu-img; `None` for one that only looks.
fn of_qemu_img(line: &str) -> Option<Command> {
    let words: Vec<&str> = line.split(' ').collect();
    let given = |option: &str| words.contains(&option);
    // Options, or JSON for an image on a base: the name of the file comes last.
    let file = || {
        let name =
            ["file.filename=", "\"filename\":\""].iter().find_map(|key| Some(line.rsplit_once(key)?.1));
        let name = name.unwrap_or_else(|| panic!("{line} names no file"));
        name.split([' ', ',', '\'', '"']).next().unwrap().to_owned()
    };
    match words[1] {
        "info" => None,
        "check" if !given("-r") => None,
        "check" => Some(Command::on("qemu-img check -r", file())),
        "create" => Some(Command::on("qemu-img create", words[words.len() - 2].trim_matches('\''))),
        // The top and its base as JSON: the top is at the front.
        "commit" => Some(Command::on("qemu-img commit", top(line))),
        "rebase" if !given("-u") => Some(Command::on("qemu-img rebase", top(line))),
        "rebase" => Some(Command::on("qemu-img rebase -u", file())),
        _ => Some(Command::on(words[..3].join(" "), file())),
    }
}

/// The file of the image that a commit merges down: the one that names no other below it before itself.
fn top(line: &str) -> String {
    let options = line.split_once("json:").unwrap_or_else(|| panic!("{line} names no image")).1;
    let options = options.trim_matches(['\'', '"']);
    let options: Value = serde_json::from_str(options).unwrap_or_else(|e| panic!("{line}: {e}"));
    options["file"]["filename"].as_str().unwrap().to_owned()
}

/// The fields of an event that matter.
#[derive(Default)]
struct Fields {
    message: String,
    command: Option<String>,
    line: Option<String>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            "command" => self.command = Some(text),
            "line" => self.line = Some(text),
            _ => {}
        }
    }
}

impl Subscriber for Threads {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("xlsnap_")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if OPEN.with_borrow(Option::is_none) {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let target = event.metadata().target();
        if target.starts_with("xlsnap_qmp_transport::session") {
            if let Some(message) = fields.message.strip_prefix("-> ") {
                hear(Heard::Sent(serde_json::from_str(message).unwrap()));
            } else if let Some(message) = fields.message.strip_prefix("<- ") {
                hear(Heard::Answered(serde_json::from_str(message).unwrap()));
            }
        } else if target.starts_with("xlsnap_qemu_img") {
            hear(Heard::Ran(fields.command.unwrap()));
        } else if let (true, Some(line)) = (fields.message == "started", fields.line) {
            // As `Debug` has a list of words: JSON, but for what needs no other escapes here.
            hear(Heard::Started(serde_json::from_str(&line).unwrap()));
        }
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
