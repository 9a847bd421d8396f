//! The files of disks' chains.

use std::borrow::Cow;
use std::io::{self, Write};

use xlsnap::{ChainFile, ChainProblem, Node};

use super::forest::drawings;
use super::table::write_table;
use super::text::{bytes, visible};

/// Draws which file stands on which, what each takes on its disk, and what it holds.
pub(crate) fn write_chains(out: &mut dyn Write, files: &[&ChainFile]) -> io::Result<()> {
    // The last of its siblings: what comes next at its depth or above is above.
    let is_last = |at: usize| {
        let next = files[at + 1..].iter().find(|next| next.depth <= files[at].depth);
        next.is_none_or(|next| next.depth < files[at].depth)
    };
    let nodes: Vec<Node> = files
        .iter()
        .enumerate()
        .map(|(row, file)| Node { row, depth: file.depth, last: is_last(row), here: file.top })
        .collect();
    let drawn = drawings(&nodes);
    let rows = files.iter().zip(&drawn).enumerate().map(|(at, (file, drawing))| {
        let is_first = at == 0 || files[at - 1].disk != file.disk;
        [
            if is_first { visible(file.disk.as_str()) } else { Cow::Borrowed("") },
            Cow::Owned(bytes(file.bytes)),
            Cow::Owned(format!("{drawing}{}", visible(&file.file))),
            Cow::Owned(holds(file)),
        ]
    });
    write_table(out, ["DISK", "ON DISK", "FILE", "HOLDS"], rows)
}

fn holds(file: &ChainFile) -> String {
    let mut said = Vec::new();
    if file.top {
        said.push("what the disk writes".to_owned());
    }
    if !file.states.is_empty() {
        let states: Vec<Cow<'_, str>> = file.states.iter().map(|name| visible(name.as_str())).collect();
        said.push(format!("the state of {}", states.join(", ")));
    }
    if !file.inside.is_empty() {
        let inside: Vec<Cow<'_, str>> = file.inside.iter().map(|name| visible(name)).collect();
        said.push(format!("inside: {}", inside.join(", ")));
    }
    said.extend(file.problem.map(|problem| {
        match problem {
            ChainProblem::Missing => "it is not there: see check",
            ChainProblem::Written => "it was written to: see check",
            ChainProblem::Replaced => "it is another file now: see check",
            ChainProblem::Unrecorded => "no record names it: see check",
            _ => "see check",
        }
        .to_owned()
    }));
    said.join("; ")
}
