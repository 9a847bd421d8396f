use std::collections::BTreeMap;

use super::{Moved, beside, new_name};
use crate::FileMove;

fn moves(given: &[(&str, &str)]) -> Vec<FileMove> {
    given.iter().map(|(old, new)| FileMove { old: (*old).to_owned(), new: (*new).to_owned() }).collect()
}

#[test]
fn a_file_gets_the_name_that_is_meant_for_it() {
    let given = moves(&[("/a", "/z"), ("/a/b", "/y/"), ("/a/b/c.qcow2", "/x.qcow2"), ("/d/", "/w")]);
    for (file, name) in [
        ("/a/b/c.qcow2", Some(("/x.qcow2", true))),
        ("/a/b/d.qcow2", Some(("/y/d.qcow2", false))),
        ("/a/bc.qcow2", Some(("/z/bc.qcow2", false))),
        ("/d/e/f", Some(("/w/e/f", false))),
        ("/a/x/../b/c.qcow2", Some(("/x.qcow2", true))),
        ("/ab", None),
        ("/b/a", None),
    ] {
        let found = new_name(&given, file);
        assert_eq!(found.as_ref().map(|(name, is_itself)| (name.as_str(), *is_itself)), name, "{file}");
    }
}

#[test]
fn a_relative_name_leads_elsewhere_from_another_directory() {
    for (before, now, seen, there) in [
        ("/old/top", "/new/top", "/new/base", Some("/old/base")),
        ("/old/top", "/new/top", "/new/sub/base", Some("/old/sub/base")),
        ("/old/top", "/new/top", "/new/../base", Some("/old/../base")),
        ("/old/top", "/new/top", "/old/base", None),
        ("/top", "/new/top", "/new/base", Some("/base")),
    ] {
        assert_eq!(beside(before, now, seen).as_deref(), there, "{seen}");
    }
}

#[test]
fn a_name_with_a_way_up_is_the_same_as_without() {
    let moved = Moved(BTreeMap::from([("/a/base".to_owned(), "/b/base".to_owned())]));
    for (file, now) in
        [("/a/base", "/b/base"), ("/a/top/../base", "/b/base"), ("/a/./base", "/b/base"), ("/a/x", "/a/x")]
    {
        assert_eq!(moved.now(file), now);
    }
}
