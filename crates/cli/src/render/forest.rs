//! Which snapshot was made on top of which, drawn in front of the names.

use xlsnap::Node;

/// The drawing in front of each node, in the order of `nodes`.
///
/// A snapshot in one column with the one above it was made on top of it. Only a fork moves to the right: a thousand
/// snapshots in one line stay one column.
pub(crate) fn drawings(nodes: &[Node]) -> Vec<String> {
    let mut drawings = Vec::with_capacity(nodes.len());
    // For each depth that is open now: what stands in front of that node's own children.
    let mut open: Vec<String> = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        open.truncate(node.depth);
        let above = open.last().cloned().unwrap_or_default();
        let follows_parent = i > 0 && nodes[i - 1].depth + 1 == node.depth;
        let (drawing, below) = if node.depth == 0 || (node.last && follows_parent) {
            (above.clone(), above)
        } else if node.last {
            (format!("{above}└─ "), format!("{above}   "))
        } else {
            (format!("{above}├─ "), format!("{above}│  "))
        };
        drawings.push(drawing);
        open.push(below);
    }
    drawings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(nodes: &[(usize, bool)]) -> Vec<String> {
        let node = |(row, &(depth, last))| Node { row, depth, last, here: false };
        drawings(&nodes.iter().enumerate().map(node).collect::<Vec<_>>())
    }

    #[test]
    fn a_line_stays_in_one_column() {
        assert_eq!(draw(&[(0, true), (1, true), (2, true)]), ["", "", ""]);
    }

    #[test]
    fn a_fork_moves_to_the_right() {
        // a; b on a; c on b; d on a.
        assert_eq!(draw(&[(0, true), (1, false), (2, true), (1, true)]), ["", "├─ ", "│  ", "└─ "]);
    }

    #[test]
    fn roots_stand_side_by_side() {
        assert_eq!(draw(&[(0, false), (1, true), (0, true)]), ["", "", ""]);
    }
}
