//! The README's table of deviations is true, on both sides of it.

use std::collections::BTreeSet;

use serde_json::Value;
use xlsnap_types::libxl::{Mode, StructType, normalise};

use crate::vectors::{ROUNDTRIP, Roundtrip, lines};

const README: &str = include_str!("../../README.md");

/// A row: the deviation's mark, the text, what libxl reads, what we read.
fn rows() -> Vec<[&'static str; 4]> {
    let rows = README.lines().filter(|line| line.starts_with("| ") && line.contains("`{"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        [cells[1], cells[2], cells[3], cells[4]]
    })
    .collect()
}

/// The marks of the deviations.
pub(crate) fn marks() -> BTreeSet<&'static str> {
    rows().into_iter().map(|[mark, ..]| mark).collect()
}

fn compact(canonical: &str) -> String {
    serde_json::from_str::<Value>(canonical).expect("canonical JSON").to_string()
}

#[test]
fn each_row_of_the_table_is_true() {
    assert!(rows().len() >= 8, "the table was found");
    for [_, text, libxl, here] in rows() {
        let vector = lines::<Roundtrip>(ROUNDTRIP).find(|vector| vector.input.as_deref() == Some(text));
        let vector = vector.unwrap_or_else(|| panic!("{text} is no vector, so what libxl does is not known"));
        let of: StructType = vector.r#type.parse().unwrap();
        assert!(vector.yajl.ok, "{text}: libxl takes it");
        match vector.yajl.output {
            Some(output) => assert_eq!(compact(&output), libxl, "{text}: what libxl reads"),
            None => assert_eq!("not UTF-8", libxl, "{text}: what libxl reads"),
        }
        match normalise(text.as_bytes(), of, Mode::Libxl) {
            Ok(output) => assert_eq!(compact(&output), here, "{text}: what we read"),
            Err(_) => assert_eq!("error", here, "{text}: what we read"),
        }
    }
}
