//! The session under any input, against a small model. The same checks are fuzzed.

use proptest::prelude::*;
use xlsnap_testkit::wire::check;

/// Pieces of QMP and of what is nearly QMP.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let pieces: &[&str] = &[
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\\",
        ":",
        ",",
        "\r\n",
        " ",
        "null",
        "1e999",
        "\"id\"",
        "\"return\"",
        "{\"return\": {}, \"id\": \"0000000000000007.1\"}",
        "{\"error\": {\"class\": \"C\", \"desc\": \"\\ud800\"}, \"id\": \"0000000000000007.2\"}",
        "{\"event\": \"STOP\", \"data\": {\"a\": \"}\"}}",
        "{\"return\": [[[[{\"a\": {}}]]]]}",
        xlsnap_testkit::wire::GREETING,
    ];
    prop_oneof![
        4 => prop::sample::select(pieces).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes(first in any::<u8>(), fragments in prop::collection::vec(fragment(), 0..12)) {
        let mut data = vec![first];
        data.extend(fragments.into_iter().flatten());
        check::any_bytes(&data);
    }

    #[test]
    fn any_operations(data in prop::collection::vec(any::<u8>(), 0..200)) {
        check::any_operations(&data);
    }
}
