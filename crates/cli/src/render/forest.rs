//! Which snapshot was made on top of which, drawn in front of the names.

use xlsnap::Node;

/// The depth from which a line of only children stays in its column.
const DEEP: usize = 20;

/// The drawing in front of each node, in the order of `nodes`.
///
/// Each snapshot stands to the right of the one it was made on top of. Below [`DEEP`] only a fork moves further: ten
/// thousand snapshots in one line stay on the screen.
pub(crate) fn drawings(nodes: &[Node]) -> Vec<String> {
    let mut drawings = Vec::with_capacity(nodes.len());
    // For each depth that is open now: what stands in front of that node's own children.
    let mut open: Vec<String> = Vec::new();
    for (i, node) in nodes.iter().enumerate() {
        open.truncate(node.depth);
        let above = open.last().cloned().unwrap_or_default();
        let only_child = node.last && i > 0 && nodes[i - 1].depth + 1 == node.depth;
        let (drawing, below) = if node.depth == 0 || (only_child && node.depth > DEEP) {
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
    fn a_line_moves_to_the_right_until_it_is_deep() {
        assert_eq!(draw(&[(0, true), (1, true), (2, true)]), ["", "└─ ", "   └─ "]);
        let line: Vec<_> = (0..10_000).map(|depth| (depth, true)).collect();
        let drawn = draw(&line);
        assert_eq!(drawn[DEEP].chars().count(), 3 * DEEP);
        assert_eq!(drawn[9_999], drawn[DEEP + 1]);
    }

    #[test]
    fn a_fork_moves_to_the_right() {
        // a; b on a; c on b; d on a.
        assert_eq!(draw(&[(0, true), (1, false), (2, true), (1, true)]), ["", "├─ ", "│  └─ ", "└─ "]);
    }

    #[test]
    fn roots_stand_side_by_side() {
        assert_eq!(draw(&[(0, false), (1, true), (0, true)]), ["", "└─ ", ""]);
    }
}
