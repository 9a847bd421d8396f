use proptest::prelude::*;
use xlsnap_types::model::{SnapshotName, StateFlags};

use super::{Row, sort};

fn row(name: &str, creation_time: u64, parent: Option<&str>) -> Row {
    let named = |name: &str| SnapshotName::new(name).unwrap();
    Row {
        name: named(name),
        creation_time,
        parent: parent.map(named),
        state: StateFlags::default(),
        consistency: None,
        internal: 1,
        external: 0,
        memory: false,
    }
}

fn sorted(mut rows: Vec<Row>) -> Vec<String> {
    sort(&mut rows);
    rows.iter().map(|row| row.name.to_string()).collect()
}

#[test]
fn a_child_of_the_same_second_stands_below_its_parent() {
    let rows = vec![
        row("one", 5, None),
        row("two", 5, Some("one")),
        row("three", 5, Some("two")),
        row("also", 5, Some("one")),
        row("before", 4, None),
        row("lost", 5, Some("before")),
    ];
    assert_eq!(sorted(rows), ["before", "lost", "one", "also", "two", "three"]);
}

#[test]
fn a_circle_of_parents_loses_none() {
    let mut names = sorted(vec![
        row("a", 1, Some("b")),
        row("b", 1, Some("c")),
        row("c", 1, Some("a")),
        row("d", 1, Some("d")),
    ]);
    names.sort();
    assert_eq!(names, ["a", "b", "c", "d"]);
}

proptest! {
    #[test]
    fn the_order_is_by_time_then_ancestry(made in prop::collection::vec((0..3_u64, any::<prop::sample::Index>(), any::<u8>()), 1..20)) {
        // Each has an earlier one for its parent, or itself for none; the first part of a name is as good as random.
        let names: Vec<String> = made.iter().enumerate().map(|(i, (_, _, salt))| format!("{salt}-{i}")).collect();
        let mut rows: Vec<Row> = made
            .iter()
            .enumerate()
            .map(|(i, (time, parent, _))| {
                let parent = parent.index(i + 1);
                row(&names[i], *time, (parent != i).then(|| names[parent].as_str()))
            })
            .collect();
        sort(&mut rows);
        prop_assert_eq!(rows.len(), made.len());
        prop_assert!(rows.is_sorted_by_key(|row| row.creation_time));
        for (i, row) in rows.iter().enumerate() {
            let above = rows[i..].iter().find(|other| Some(&other.name) == row.parent.as_ref());
            prop_assert!(above.is_none_or(|parent| parent.creation_time > row.creation_time));
        }
    }
}
