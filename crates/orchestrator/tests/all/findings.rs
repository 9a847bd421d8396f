//! docs/errors.md has each finding of a check, with its word.

use std::collections::BTreeSet;

use xlsnap_orchestrator::FindingCode;

const ERRORS: &str = include_str!("../../../../docs/errors.md");

/// The first cell of each row of the table of findings.
fn documented() -> Vec<&'static str> {
    let section = ERRORS.split("\n## ").find(|section| section.starts_with("Findings"));
    let rows = section.expect("the document has a section on findings").lines();
    rows.filter_map(|line| line.strip_prefix("| `")?.split_once("` |").map(|(code, _)| code)).collect()
}

#[test]
fn the_documented_findings_are_the_findings() {
    let documented = documented();
    let codes: Vec<&str> = FindingCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(documented, codes);
    assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len(), "two findings have one word");
}
