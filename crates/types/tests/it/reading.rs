//! Reading by example: what each mode says to a text.

use xlsnap_types::libxl::{JsonErrorKind, Mode, StructType, normalise, without_terminator};

/// What a mode makes of a text: the canonical form without blanks and line ends, or the error.
fn outcome(of: StructType, text: &[u8], mode: Mode) -> String {
    match normalise(text, of, mode) {
        Ok(json) => json.lines().map(str::trim).collect(),
        Err(error) => error.to_string(),
    }
}

#[track_caller]
fn check_as(of: StructType, text: &str, strict: &str, libxl: &str) {
    assert_eq!(outcome(of, text.as_bytes(), Mode::Strict), strict, "strict: {text}");
    assert_eq!(outcome(of, text.as_bytes(), Mode::Libxl), libxl, "libxl: {text}");
}

#[track_caller]
fn check(text: &str, strict: &str, libxl: &str) {
    check_as(StructType::DomainSnapshot, text, strict, libxl);
}

#[track_caller]
fn check_both(text: &str, both: &str) {
    check(text, both, both);
}

#[test]
fn a_fault_is_named_by_line_column_and_key() {
    check_both(
        "{\n  \"name\": \"ü\", \"disks\": [\n    {},\n    {\"é\": 1, \"format\": \"vmdk\"}]}",
        "line 4, column 24: disks[1].format: \"vmdk\" is not a disk format; \
         known are unknown, qcow, qcow2, vhd, raw, empty and qed",
    );
    check(
        "{\"disks\": [{\"name\": 5}]}",
        "line 1, column 21: disks[0].name: expected a string or null, found a number",
        "{\"disks\": [{}]}",
    );
    check_both("{\"a b\": {\"c\": tru}}", "line 1, column 18: \"a b\": expected true, found '}'");
}

#[test]
fn what_is_not_json_is_refused() {
    check_both("", "line 1, column 1: expected a value, found the end of the text");
    check_both("{}x", "line 1, column 3: expected the end of the text, found 'x'");
    check_both("{}\0", "line 1, column 3: expected the end of the text, found the control character U+0000");
    check_both("\u{feff}{}", "line 1, column 1: expected a value, found a byte order mark");
    check_both(
        "{\"name\":\"a",
        "line 1, column 11: name: expected the end of the string, found the end of the text",
    );
    check_both(
        "{\"name\":\"a\nb\"}",
        "line 1, column 11: name: expected a character of a string, or its escape, found the control character U+000A",
    );
    check_both(
        "{\"name\":\"\\x\"}",
        "line 1, column 11: name: expected one of \" \\ / b f n r t u after a backslash, found 'x'",
    );
    check_both("{\"name\":\"\\u12\"}", "line 1, column 14: name: expected a hexadecimal digit, found '\"'");
    check_both("{\"a\":1,}", "line 1, column 8: expected a key in double quotes, found '}'");
    check_both("{\"a\":[1,]}", "line 1, column 9: a: expected a value, found ']'");
    check_both("{\"a\":[1}}", "line 1, column 8: a: expected ',' or ']', found '}'");
    check_both("{\"a\" 1}", "line 1, column 6: expected ':', found '1'");
    check_both("{\"creation_time\":01}", "line 1, column 19: expected ',' or '}', found '1'");
    check_both("{\"creation_time\":1.}", "line 1, column 20: creation_time: expected a digit, found '}'");
    let not_utf8 = outcome(StructType::DomainSnapshot, b"{\n\"\xff\":1}", Mode::Libxl);
    assert_eq!(not_utf8, "line 2, column 2: the text is not UTF-8 here");
}

#[test]
fn a_time_is_exact_or_an_error() {
    let whole = |text: &str| {
        check_both(&format!("{{\"creation_time\":{text}}}"), &format!("{{\"creation_time\": {text}}}"))
    };
    whole("1");
    whole("9223372036854775807");
    whole("9223372036854775808");
    whole("18446744073709551615");
    let refused = |text: &str, why: &str| {
        check_both(
            &format!("{{\"creation_time\":{text}}}"),
            &format!("line 1, column 18: creation_time: {text} {why}"),
        );
    };
    refused(
        "18446744073709551616",
        "is more than 18446744073709551615, the last second that the format can hold",
    );
    refused("-1", "is negative; a time is whole seconds since 1970");
    refused("-1.5e400", "is negative; a time is whole seconds since 1970");
    refused("1.0", "is not written as a whole number; a time is whole seconds since 1970");
    refused("1e400", "is not written as a whole number; a time is whole seconds since 1970");
    refused("0.001", "is not written as a whole number; a time is whole seconds since 1970");
    check_both("{\"creation_time\":0}", "{}");
    for zero in ["0.0", "0e5", "0E-5"] {
        let why = format!(
            "line 1, column 18: creation_time: {zero} is not written as a whole number; a time is whole seconds since 1970"
        );
        check(&format!("{{\"creation_time\":{zero}}}"), &why, "{}");
    }
    check(
        "{\"creation_time\":-0}",
        "line 1, column 18: creation_time: -0 is negative; a time is whole seconds since 1970",
        "{}",
    );
}

#[test]
fn a_key_that_stands_twice_must_not_hide_a_value() {
    let twice = "line 1, column 13: name: the key stands twice in this object";
    check(
        "{\"name\":\"a\",\"name\":\"b\"}",
        twice,
        "line 1, column 20: name: the key stands twice in this object, with different values",
    );
    check("{\"name\":\"a\",\"name\":\"\\u0061\"}", twice, "{\"name\": \"a\"}");
    check("{\"name\":\"a\",\"n\\u0061me\":\"a\"}", twice, "{\"name\": \"a\"}");
    check("{\"z\":1,\"z\":2}", "line 1, column 8: z: the key stands twice in this object", "{}");
    check("{\"z\":{\"name\":1},\"name\":\"a\"}", "{\"name\": \"a\"}", "{\"name\": \"a\"}");
    check(
        "{\"creation_time\":1,\"creation_time\":-2}",
        "line 1, column 20: creation_time: the key stands twice in this object",
        "line 1, column 36: creation_time: -2 is negative; a time is whole seconds since 1970",
    );
}

#[test]
fn escapes_that_no_c_string_can_hold() {
    check_both(
        "{\"name\":\"a\\u0000b\"}",
        "line 1, column 9: name: contains \\u0000, where a C string would be cut",
    );
    check_both(
        "{\"name\\u0000b\":\"a\"}",
        "line 1, column 2: name: contains \\u0000, where a C string would be cut",
    );
    check_both("{\"z\\u0000\":\"\\u0000\",\"\":1}", "{}");
    let half = |text: &str, column: usize| {
        let why = format!(
            "line 1, column {column}: name: a \\u escape is half of a surrogate pair without the other half"
        );
        check_both(&format!("{{\"name\":\"{text}\"}}"), &why);
    };
    half("\\ud83d", 10);
    half("ab\\ude00", 12);
    half("\\n\\ud83d\\u0041", 12);
    half("\\ud83d\\ud83d", 10);
    check_both("{\"x\":\"\\ud83d\",\"\\ude00\":1}", "{}");
    check_both("{\"name\":\"\\ud83d\\uDE00\\/\\u001f\"}", "{\"name\": \"😀/\\u001F\"}");
}

#[test]
fn other_shapes_are_an_error_or_the_defaults() {
    check("[{\"name\":\"a\"}]", "line 1, column 1: expected an object, found an array", "{}");
    check("{\"disks\":{}}", "line 1, column 10: disks: expected an array, found an object", "{}");
    check(
        "{\"disks\":[null]}",
        "line 1, column 11: disks[0]: expected an object, found null",
        "{\"disks\": [{}]}",
    );
    check("{\"running\":null}", "line 1, column 12: running: expected true or false, found null", "{}");
    check(
        "{\"creation_time\":\"1\"}",
        "line 1, column 18: creation_time: expected a number, found a string",
        "{}",
    );
    // libxl writes null for a format without a name, and reads null as a NULL string.
    check_as(StructType::DiskSnapshot, "{\"format\":null,\"name\":null}", "{}", "{}");
    check_as(
        StructType::DiskSnapshot,
        "{\"format\":\"QCow2\"}",
        "{\"format\": \"qcow2\"}",
        "{\"format\": \"qcow2\"}",
    );
}

#[test]
fn nesting_of_any_depth_needs_no_stack() {
    let depth = 1_000_000;
    let text = format!("{{\"x\":{}{}, \"name\":\"a\"}}", "[".repeat(depth), "]".repeat(depth));
    check_both(&text, "{\"name\": \"a\"}");
    let open = format!("{{\"disks\":[{}", "{\"a\":".repeat(depth));
    let error = normalise(open.as_bytes(), StructType::DomainSnapshot, Mode::Libxl).unwrap_err();
    assert_eq!(error.kind(), JsonErrorKind::NotJson);
}

#[test]
fn a_message_quotes_no_more_than_a_little_of_the_text() {
    let long = "x".repeat(100_000);
    for text in [
        format!("{{\"{long}\":!}}"),
        format!("{{\"disks\":[{{\"format\":\"{long}\"}}]}}"),
        format!("{{\"creation_time\":-{}}}", "1".repeat(100_000)),
    ] {
        assert!(outcome(StructType::DomainSnapshot, text.as_bytes(), Mode::Libxl).len() < 300);
    }
}

#[test]
fn one_nul_at_the_end_of_a_file_is_taken_off() {
    assert_eq!(without_terminator(b"{}\n\0"), b"{}\n");
    assert_eq!(without_terminator(b"{}\0\0"), b"{}\0");
    assert_eq!(without_terminator(b""), b"");
}
