//! The session alone: deadlines, hazards, limits.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use xlsnap_qmp_transport::session::{CallId, Config, DropReason, Output, Session};
use xlsnap_qmp_transport::{Effect, Error, Kind};

const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "p"}, "capabilities": ["oob", "new"]}}"#;
const NONCE: u64 = 0xabc;

/// A session at a time that only moves when told.
struct Lab {
    session: Session,
    now: Instant,
}

impl Lab {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new("vm.qmp", NONCE);
        config.greeting_timeout = Duration::from_secs(5);
        change(&mut config);
        let now = Instant::now();
        Self { session: Session::new(config, now), now }
    }

    fn ready() -> Self {
        let mut lab = Self::new();
        lab.hear(GREETING);
        lab.sent();
        lab.hear(&own(0, r#""return": {}"#));
        lab.said();
        lab
    }

    fn hear(&mut self, text: &str) {
        self.session.handle_input(self.now, text.as_bytes());
    }

    fn send(&mut self, command: &str) -> CallId {
        self.session.send(command, &Map::new(), None).unwrap()
    }

    /// All messages that it gives out.
    fn sent(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.session.poll_transmit())
            .map(|message| serde_json::from_slice(&message).unwrap())
            .collect()
    }

    fn said(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.session.poll_output()).collect()
    }

    /// The one thing that it said.
    fn one(&mut self) -> Output {
        let mut said = self.said();
        assert_eq!(said.len(), 1, "{said:?}");
        said.remove(0)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
    }
}

/// A message with the id of this session's `n`-th call.
fn own(n: u64, members: &str) -> String {
    format!("{{{members}, \"id\": \"{NONCE:016x}.{n}\"}}\r\n")
}

fn closed(output: Output) -> (Error, Vec<(CallId, Error)>) {
    match output {
        Output::Closed { cause, lost } => {
            (cause, lost.into_iter().map(|lost| (lost.id, lost.error)).collect())
        }
        other => panic!("not closed: {other:?}"),
    }
}

fn failed(output: Output) -> (CallId, Error) {
    match output {
        Output::Reply { id, result: Err(error) } => (id, error),
        other => panic!("not a failed call: {other:?}"),
    }
}

fn dropped(output: Output) -> DropReason {
    match output {
        Output::Dropped { why, .. } => why,
        other => panic!("not dropped: {other:?}"),
    }
}

#[test]
fn negotiates_then_sends_what_waited() {
    let mut lab = Lab::new();
    let early = lab.send("query-status");
    assert_eq!(lab.sent(), Vec::<Value>::new(), "nothing goes before the greeting");
    lab.hear(GREETING);
    let Output::Greeting(greeting) = lab.one() else { panic!() };
    assert_eq!((greeting.version, greeting.package.as_str()), ((10, 0, 2), "p"));
    assert_eq!(greeting.capabilities, ["oob", "new"]);
    assert_eq!(lab.sent(), [json!({"execute": "qmp_capabilities", "id": "0000000000000abc.0"})]);
    lab.hear(&own(0, r#""return": {}"#));
    assert!(matches!(lab.one(), Output::Negotiated));
    assert_eq!(lab.sent(), [json!({"execute": "query-status", "id": "0000000000000abc.1"})]);
    lab.hear(&own(1, r#""return": {"running": true, "new-member": [1]}"#));
    let Output::Reply { id, result } = lab.one() else { panic!() };
    assert_eq!((id, result.unwrap()), (early, json!({"running": true, "new-member": [1]})));
}

#[test]
fn a_stale_reply_before_our_capabilities_is_dropped() {
    let mut lab = Lab::new();
    lab.hear(GREETING);
    lab.sent();
    lab.said();
    // Of a former session: of ours with another nonce, of others with any id, with none.
    for stale in [
        r#"{"return": {}, "id": "00000000000000ff.0"}"#,
        r#"{"return": {}, "id": 1}"#,
        r#"{"return": {}, "id": {"a": [1]}}"#,
        r#"{"return": {}}"#,
        r#"{"error": {"class": "GenericError", "desc": "x"}}"#,
    ] {
        lab.hear(stale);
        assert_eq!(dropped(lab.one()), DropReason::Stale, "{stale}");
    }
    lab.hear(&own(0, r#""return": {}"#));
    assert!(matches!(lab.one(), Output::Negotiated));
}

#[test]
fn replies_out_of_order_reach_their_calls_and_others_none() {
    let mut lab = Lab::ready();
    let ids = [lab.send("a"), lab.send("b"), lab.send("c")];
    lab.sent();
    lab.hear(&own(2, r#""return": 2"#));
    lab.hear(&own(2, r#""return": 2"#));
    lab.hear(&own(9, r#""return": 9"#));
    lab.hear(&own(0, r#""return": {}"#));
    lab.hear("{\"return\": 1, \"id\": \"0000000000000abc.+1\"}{\"return\": 1, \"id\": \"abc.1\"}");
    lab.hear(&own(1, r#""error": {"class": "New", "desc": "no"}"#));
    let mut said = lab.said().into_iter();
    assert!(matches!(said.next(), Some(Output::Reply { id, result: Ok(_) }) if id == ids[1]));
    let reasons: Vec<_> = said.by_ref().take(5).map(dropped).collect();
    use DropReason::{Stale, UnknownCall};
    assert_eq!(reasons, [UnknownCall, UnknownCall, UnknownCall, Stale, Stale]);
    let (id, error) = failed(said.next().unwrap());
    assert_eq!((id, error.kind(), error.effect()), (ids[0], Kind::Rejected, Effect::None));
    assert_eq!((error.class(), error.to_string().as_str()), (Some("New"), "a: no"));
    assert_eq!(lab.session.unanswered(), 1);
}

#[test]
fn a_reply_to_a_command_that_was_not_sent_is_dropped() {
    let mut lab = Lab::ready();
    let id = lab.send("a");
    lab.hear(&own(1, r#""return": {}"#));
    assert_eq!(dropped(lab.one()), DropReason::UnknownCall);
    assert_eq!(lab.sent().len(), 1);
    lab.hear(&own(1, r#""return": {}"#));
    assert!(matches!(lab.one(), Output::Reply { id: answered, result: Ok(_) } if answered == id));
}

#[test]
fn an_error_without_id_goes_to_the_oldest_call() {
    let parse_error = r#"{"error": {"class": "GenericError", "desc": "JSON parse error"}}"#;
    let mut lab = Lab::ready();
    lab.hear(parse_error);
    assert_eq!(dropped(lab.one()), DropReason::NoId, "no request has that id");

    let (oldest, next) = (lab.send("a"), lab.send("b"));
    lab.sent();
    lab.hear(parse_error);
    let (id, error) = failed(lab.one());
    assert_eq!((id, error.effect()), (oldest, Effect::Unknown), "with two it may be the other");
    lab.hear(parse_error);
    let (id, error) = failed(lab.one());
    assert_eq!((id, error.kind(), error.effect()), (next, Kind::Rejected, Effect::None));
    lab.hear(r#"{"return": {}}"#);
    assert_eq!(dropped(lab.one()), DropReason::NoId);
}

#[test]
fn a_lost_connection_leaves_the_effect_of_what_was_sent_unknown() {
    let mut lab = Lab::ready();
    let sent = lab.send("transaction");
    lab.sent();
    let queued = lab.send("stop");
    lab.session.handle_close(None);
    let (cause, lost) = closed(lab.one());
    assert_eq!(cause.kind(), Kind::Disconnected);
    let effects: Vec<_> = lost.iter().map(|(id, error)| (*id, error.kind(), error.effect())).collect();
    assert_eq!(
        effects,
        [(sent, Kind::Disconnected, Effect::Unknown), (queued, Kind::Disconnected, Effect::None)]
    );
    assert_eq!(
        lost[0].1.to_string(),
        "transaction: vm.qmp closed the connection; whether it was executed is not known"
    );
    let error = lab.session.send("cont", &Map::new(), None).unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::Disconnected, Effect::None));
    lab.hear(&own(1, r#""return": {}"#));
    lab.session.handle_close(None);
    lab.pass(Duration::from_secs(1000));
    assert!(lab.said().is_empty() && lab.sent().is_empty(), "after the end there is nothing");
}

#[test]
fn an_overdue_call_times_out_and_its_late_reply_is_dropped() {
    let mut lab = Lab::ready();
    let deadline = lab.now + Duration::from_secs(10);
    let sent = lab.session.send("transaction", &Map::new(), Some(deadline)).unwrap();
    lab.sent();
    let queued = lab.session.send("stop", &Map::new(), Some(deadline)).unwrap();
    assert_eq!(lab.session.poll_timeout(), Some(deadline));
    lab.pass(Duration::from_millis(9_999));
    assert!(lab.said().is_empty());
    lab.pass(Duration::from_millis(1));
    let said = lab.said();
    let outcomes: Vec<_> =
        said.into_iter().map(failed).map(|(id, error)| (id, error.kind(), error.effect())).collect();
    assert_eq!(outcomes, [(sent, Kind::TimedOut, Effect::Unknown), (queued, Kind::TimedOut, Effect::None)]);
    assert!(lab.sent().is_empty(), "what timed out in the queue is not sent");
    assert_eq!(lab.session.poll_timeout(), None);
    assert_eq!(lab.session.unanswered(), 1, "QEMU still owes a reply");
    lab.hear(&own(1, r#""return": {}"#));
    assert_eq!(dropped(lab.one()), DropReason::Abandoned);
    assert_eq!(lab.session.unanswered(), 0);
}

#[test]
fn an_abandoned_call_ends_without_a_reply() {
    let mut lab = Lab::ready();
    let sent = lab.send("a");
    lab.sent();
    let queued = lab.send("b");
    lab.session.abandon(sent);
    lab.session.abandon(queued);
    lab.session.abandon(sent);
    assert!(lab.sent().is_empty());
    lab.hear(&own(1, r#""return": {}"#));
    assert_eq!(dropped(lab.one()), DropReason::Abandoned);
    lab.session.handle_close(None);
    assert!(closed(lab.one()).1.is_empty());
}

#[test]
fn no_greeting_is_busy() {
    let mut lab = Lab::new();
    let call = lab.send("a");
    assert_eq!(lab.session.poll_timeout(), Some(lab.now + Duration::from_secs(5)));
    lab.pass(Duration::from_secs(5));
    let (cause, lost) = closed(lab.one());
    assert_eq!((cause.kind(), cause.effect()), (Kind::Busy, Effect::None));
    assert!(cause.to_string().contains("vm.qmp") && cause.to_string().contains("another client"), "{cause}");
    assert_eq!((lost[0].0, lost[0].1.effect()), (call, Effect::None));
}

#[test]
fn a_foreign_peer_is_a_protocol_error() {
    let at_once = [
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\x16\x03\x01",
        "[]",
        "{\"QMP\": {}}",
        "{\"QMP\": 7}",
        "{\"hello\": 1}",
        "{\"event\": \"STOP\"}",
        "{} ",
        "{]",
        "{\"a\": tru}",
        "{\"a\": 1,}",
        "{\"a\": \"\n\"}",
        "{\"QMP\": {\"version\": {\"qemu\": {\"major\": -1, \"minor\": 0, \"micro\": 0}}}}",
    ];
    for text in at_once {
        let mut lab = Lab::new();
        lab.hear(text);
        let (cause, _) = closed(lab.one());
        assert_eq!((cause.kind(), cause.effect()), (Kind::Protocol, Effect::None), "{text:?}: {cause}");
        assert!(cause.to_string().starts_with("vm.qmp "), "{cause}");
        assert!(!cause.to_string().contains(char::is_control), "{cause:?}");
    }
    for slow in ["{\"QMP\": ", "{\"return\": {}}"] {
        let mut lab = Lab::new();
        lab.hear(slow);
        lab.said();
        lab.pass(Duration::from_secs(5));
        assert_eq!(closed(lab.one()).0.kind(), Kind::Protocol, "{slow}");
    }
}

#[test]
fn a_peer_that_leaves_before_it_is_ready() {
    for (heard, says) in [
        ("", "without a greeting"),
        ("{\"QM", "in the middle of a message"),
        (GREETING, "before it answered qmp_capabilities"),
    ] {
        let mut lab = Lab::new();
        lab.hear(heard);
        lab.said();
        lab.session.handle_close(None);
        let (cause, _) = closed(lab.one());
        assert_eq!((cause.kind(), cause.effect()), (Kind::Disconnected, Effect::None));
        assert!(cause.to_string().ends_with(says), "{cause}");
    }
}

#[test]
fn capabilities_may_be_late_or_refused() {
    let mut lab = Lab::new();
    lab.pass(Duration::from_secs(3));
    lab.hear(GREETING);
    lab.said();
    lab.pass(Duration::from_secs(4));
    assert!(lab.said().is_empty(), "each has the whole time");
    lab.pass(Duration::from_secs(1));
    let (cause, _) = closed(lab.one());
    assert_eq!((cause.kind(), cause.effect()), (Kind::TimedOut, Effect::None));

    let mut lab = Lab::new();
    lab.hear(GREETING);
    lab.sent();
    lab.said();
    lab.hear(&own(0, r#""error": {"class": "GenericError", "desc": "no"}"#));
    assert_eq!(closed(lab.one()).0.to_string(), "vm.qmp refused qmp_capabilities: no");
}

#[test]
fn a_message_over_the_limit_ends_the_session() {
    let limit = 1000;
    let filler = |length: usize| format!("{{\"event\": \"{}\"}}", "x".repeat(length - 13));
    for step in [1, 7, 999, 1000, 4096] {
        let mut lab = Lab::with(|config| config.max_message = limit);
        lab.hear(GREETING);
        lab.sent();
        lab.hear(&own(0, r#""return": {}"#));
        lab.said();
        let fits = filler(limit);
        assert_eq!(fits.len(), limit);
        for piece in fits.as_bytes().chunks(step) {
            lab.session.handle_input(lab.now, piece);
        }
        assert!(matches!(lab.one(), Output::Event(_)), "step {step}");
        let call = lab.send("a");
        lab.sent();
        for piece in filler(limit + 1).as_bytes().chunks(step) {
            lab.session.handle_input(lab.now, piece);
        }
        let (cause, lost) = closed(lab.one());
        assert_eq!(cause.kind(), Kind::TooLarge);
        assert_eq!((lost[0].0, lost[0].1.effect()), (call, Effect::Unknown));
    }
}

#[test]
fn a_command_over_the_limit_is_not_sent() {
    let mut lab = Lab::ready();
    let arguments = Map::from_iter([("x".to_owned(), Value::from("y".repeat(16 << 20)))]);
    let error = lab.session.send("a", &arguments, None).unwrap_err();
    assert_eq!((error.kind(), error.effect()), (Kind::TooLarge, Effect::None));
    lab.send("b");
    assert_eq!(lab.sent().len(), 1);
}

#[test]
fn depth_is_limited() {
    let nested = |depth: usize| {
        format!(
            "{{\"event\": \"E\", \"data\": {{\"a\": {}{}}}}}",
            "[".repeat(depth - 2),
            "]".repeat(depth - 2)
        )
    };
    let mut lab = Lab::ready();
    lab.hear(&nested(127));
    assert!(matches!(lab.one(), Output::Event(_)));
    lab.hear(&nested(128));
    assert_eq!(closed(lab.one()).0.kind(), Kind::Protocol);
}

#[test]
fn events_have_their_data_and_time() {
    let mut lab = Lab::ready();
    lab.hear(concat!(
        "{\"timestamp\": {\"seconds\": 1795407429, \"microseconds\": 5723}, \"event\": \"RESUME\"}\n",
        "{\"timestamp\": {\"seconds\": -1, \"microseconds\": -1}, \"event\": \"NEW\", \"data\": {\"a\": \"}\\\"{\"}}\r\n",
        "{\"event\": \"NO_TIME\",\n  \"data\": null}",
    ));
    let events: Vec<_> = lab
        .said()
        .into_iter()
        .map(|output| match output {
            Output::Event(event) => (event.name, Value::from(event.data), event.timestamp_us),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        events,
        [
            ("RESUME".to_owned(), json!({}), Some(1_795_407_429_005_723)),
            ("NEW".to_owned(), json!({"a": "}\"{"}), None),
            ("NO_TIME".to_owned(), json!({}), None),
        ]
    );
}

#[test]
fn what_qmp_does_not_have_is_dropped_once_it_is_qmp() {
    let mut lab = Lab::ready();
    for text in [GREETING, "{}", "{\"event\": 7}", "{\"news\": 1}"] {
        lab.hear(text);
        assert_eq!(dropped(lab.one()), DropReason::Unrecognised, "{text}");
    }
    lab.hear("garbage");
    assert_eq!(closed(lab.one()).0.kind(), Kind::Protocol);
}

#[test]
fn an_error_of_an_odd_shape_is_still_a_refusal_on_one_line() {
    let mut lab = Lab::ready();
    lab.send("a");
    lab.send("b");
    lab.sent();
    lab.hear(&own(1, r#""error": [7], "return": {}"#));
    assert_eq!(failed(lab.one()).1.to_string(), "a: [7]");
    lab.hear(&own(2, r#""error": {"class": "X\n", "desc": "one\ntwo\u001b[2J"}"#));
    let (_, error) = failed(lab.one());
    assert_eq!((error.class(), error.to_string().as_str()), (Some("X\\n"), "b: one\\ntwo\\u{1b}[2J"));
}
