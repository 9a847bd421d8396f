//! The snapshots of a domain as a forest, by their parents.

use std::collections::HashMap;

use xlsnap_types::model::SnapshotName;

use crate::Row;

/// One snapshot's place in the forest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// The index of its row.
    pub row: usize,
    /// How many ancestors it has; 0 for a root.
    pub depth: usize,
    /// Whether no sibling follows it.
    pub last: bool,
    /// Whether it is the current snapshot: "you are here".
    pub here: bool,
}

/// Orders rows as a forest: each snapshot comes after its parent, siblings in the order of the rows. A snapshot whose
/// parent is not among the rows is a root, and so is the first row of a circle of parents, which only a damaged store has.
pub fn tree(rows: &[Row], current: Option<&SnapshotName>) -> Vec<Node> {
    let index: HashMap<&SnapshotName, usize> =
        rows.iter().enumerate().map(|(i, row)| (&row.name, i)).collect();
    let parents: Vec<Option<usize>> =
        rows.iter().map(|row| row.parent.as_ref().and_then(|name| index.get(name).copied())).collect();
    let mut children = vec![Vec::new(); rows.len()];
    let mut roots = Vec::new();
    for (row, parent) in parents.iter().enumerate() {
        match parent {
            Some(parent) => children[*parent].push(row),
            None => roots.push(row),
        }
    }
    let mut placed = vec![false; rows.len()];
    let mut nodes = Vec::with_capacity(rows.len());
    // Not by recursion: ten thousand snapshots in one line are as deep as they are many.
    let mut place = |top: &[usize], nodes: &mut Vec<Node>| {
        let mut waiting: Vec<(usize, usize, bool)> = siblings(top, 0).collect();
        while let Some((row, depth, last)) = waiting.pop() {
            if std::mem::replace(&mut placed[row], true) {
                continue;
            }
            nodes.push(Node { row, depth, last, here: current == Some(&rows[row].name) });
            waiting.extend(siblings(&children[row], depth + 1));
        }
        placed.iter().position(|placed| !placed)
    };
    let mut left = place(&roots, &mut nodes);
    while let Some(row) = left {
        left = place(&[row], &mut nodes);
    }
    nodes
}

/// The siblings, the first on top of the stack.
fn siblings(rows: &[usize], depth: usize) -> impl Iterator<Item = (usize, usize, bool)> {
    let end = rows.len().wrapping_sub(1);
    rows.iter().enumerate().rev().map(move |(i, row)| (*row, depth, i == end))
}
