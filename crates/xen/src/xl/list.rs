//! What `xl list` says of a domain's state.

use xlsnap_types::model::StateFlags;

use crate::Domid;

/// The state of `domid` in what `xl list` printed; `None` when it is not in it, or the line is not understood.
///
/// A name may hold spaces and is not aligned when it is long, so a line is read from its end: time, state, processors, memory,
/// domid.
pub(super) fn state(printed: &str, domid: Domid) -> Option<StateFlags> {
    printed.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().rev();
        let (_time, letters, _processors, _memory) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        (Domid::parse(fields.next()?)? == domid).then(|| flags(letters))?
    })
}

/// The letters of a state: `r b p s`, why it has shut down (`s` when it is suspended, `c` after a crash), and `d`, each at its
/// place or `-`.
fn flags(letters: &str) -> Option<StateFlags> {
    let [running, blocked, paused, shutdown, reason, dying] = *letters.as_bytes() else { return None };
    let set = |letter: u8, expected: u8| match letter {
        b'-' => Some(false),
        _ if letter == expected => Some(true),
        _ => None,
    };
    if reason != b'-' && !reason.is_ascii_alphabetic() {
        return None;
    }
    Some(StateFlags {
        running: set(running, b'r')?,
        blocked: set(blocked, b'b')?,
        paused: set(paused, b'p')?,
        shutdown: set(shutdown, b's')?,
        dying: set(dying, b'd')?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from xl 4.17, but for the last two.
    const PRINTED: &str = "\
Name                                        ID   Mem VCPUs\tState\tTime(s)
Domain-0                                     0  1536     2     r-----     100.9
pv1                                          1   160     1     -b----      16.2
hvm1                                        13   256     0     ---s--       8.2
pv1                                          5   160     1     --p---       0.0
pv1                                          6   160     1     ---ss-       0.0
(null)                                       7     0     1     --psc d       0.0
my own domain 9 9 r----- 3                   9   160     1     -----d      16.2
";

    #[test]
    fn states_are_read_from_the_end_of_the_line() {
        let none = StateFlags::default();
        for (domid, expected) in [
            (0, Some(StateFlags { running: true, ..none })),
            (1, Some(StateFlags { blocked: true, ..none })),
            (13, Some(StateFlags { shutdown: true, ..none })),
            (5, Some(StateFlags { paused: true, ..none })),
            (6, Some(StateFlags { shutdown: true, ..none })),
            (7, None),
            (9, Some(StateFlags { dying: true, ..none })),
            (2, None),
        ] {
            assert_eq!(state(PRINTED, Domid::new(domid).unwrap()), expected, "{domid}");
        }
    }

    #[test]
    fn a_line_that_is_not_understood_is_no_state() {
        for line in ["", "x", "pv1 1 160 1 -x---- 1.0", "pv1 01 160 1 ------ 1.0", "pv1 -1 160 1 ------ 1.0"]
        {
            assert_eq!(state(line, Domid::new(1).unwrap()), None, "{line}");
        }
    }
}
