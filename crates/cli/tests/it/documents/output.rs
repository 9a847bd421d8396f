//! What a document shows and what a program prints, compared: all but what is another each time.

/// Checks that `printed` is what `shown` shows.
pub(super) fn same(shown: &str, printed: &str) -> bool {
    let lines = |text: &str| text.lines().map(constant).collect::<Vec<_>>();
    lines(shown) == lines(printed)
}

/// A line without what varies: a time, an id, a number and its unit stand as a token, and columns may be wider.
fn constant(line: &str) -> String {
    let indent = line.len() - line.trim_start().len();
    let mut constant = line[..indent].to_owned();
    let mut number = false;
    for word in line.split_whitespace() {
        let token = token(word);
        let is_unit =
            number && ["B", "KiB", "MiB", "GiB", "ms", "s"].contains(&word.trim_matches([',', ')', '.']));
        number = token.contains('#');
        if constant.len() > indent {
            constant.push(' ');
        }
        if is_unit {
            constant.push_str("UNIT");
            constant.push_str(word.trim_start_matches(|c: char| c.is_ascii_alphabetic()));
        } else {
            constant.push_str(&token);
        }
    }
    constant
}

/// A word, or `#` if it is a number, a version or a time, between whatever punctuation; uuids in it are `UUID`.
fn token(word: &str) -> String {
    let is_edge = |c: char| "(),;:.\"'".contains(c);
    let core = word.trim_matches(is_edge);
    let is_number = core.starts_with(|c: char| c.is_ascii_digit())
        && core.chars().all(|c| c.is_ascii_digit() || ".:-".contains(c));
    if is_number {
        return word.replacen(core, "#", 1);
    }
    let mut rest = word;
    let mut token = String::new();
    while let Some(c) = rest.chars().next() {
        match rest.get(..36).filter(|text| is_uuid(text)) {
            Some(_) => {
                token.push_str("UUID");
                rest = &rest[36..];
            }
            None => {
                token.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    token
}

fn is_uuid(text: &str) -> bool {
    text.chars().enumerate().all(|(at, c)| match at {
        8 | 13 | 18 | 23 => c == '-',
        _ => c.is_ascii_hexdigit(),
    })
}

#[test]
fn what_varies_is_no_difference() {
    for (shown, printed) in [
        ("  took:     2.1 ms", "  took:     13.4 ms"),
        ("made: 2026-05-04 10:20:30", "made:  2027-01-31 23:59:59"),
        ("vda  20.0 GiB  1", "vda  512 B    2"),
        (
            "  memory: /a/1d8d7c4e-0b1f-4b0e-9a39-9c5d0f6b0d2e/s.save (1.2 MiB, stopped)",
            "  memory: /a/00000000-0b1f-4b0e-9a39-9c5d0f6b0d2e/s.save (31 B, stopped)",
        ),
    ] {
        assert!(same(shown, printed), "{:?}", [constant(shown), constant(printed)]);
    }
    for (shown, printed) in [
        ("1 snapshot", "1 snapshots"),
        ("  a", "a"),
        ("a s1", "a s2"),
        ("a", "a\nb"),
        ("web.s1-1", "web.s1-2"),
    ] {
        assert!(!same(shown, printed), "{shown} / {printed}");
    }
}
