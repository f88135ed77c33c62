//! Reading frames: strict where a value matters, indifferent where it does not, and with a complaint that names the key.

use harness::alone::LoneServer;
use harness::frames::hello;
use harness::frames::hello_text;
use harness::frames::seq;
use harness::frames::text;
use harness::frames::welcome;
use harness::world::key;
use proptest::collection::vec;
use proptest::prelude::Just;
use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prop_assert_eq;
use proptest::prop_oneof;
use proptest::proptest;
use reattach_core::id::IdError;
use reattach_core::server;
use reattach_core::wire::DecodeError;
use reattach_core::wire::Frame;
use reattach_core::wire::MAX_DEPTH;
use reattach_core::wire::Message;
use reattach_core::wire::Payload;
use reattach_core::wire::Problem;
use reattach_core::wire::UncheckedPayload;
use reattach_core::wire::decode;
use reattach_core::wire::decode_generally;
use reattach_core::wire::next_line;

// S001-12, S001-45
#[test]
fn null_is_the_same_as_absent_and_unknown_keys_are_ignored() {
    for (plain, other) in [
        (r#"{"t":"ping","n":1}"#, r#"{"t":"ping","n":1,"seen":null}"#),
        (r#"{"t":"ping","n":1}"#, r#"{"t":"ping","zzz":{"n":2},"n":1,"t2":"pong"}"#),
        (
            r#"{"t":"ack","received":1}"#,
            r#"{"t":"ack","received":1,"settled":null,"no":null,"except":null,"seen":null}"#,
        ),
        (
            r#"{"t":"bye","code":1000}"#,
            r#"{"t":"bye","code":1000,"end":null,"received":null,"handed":null,"reason":null}"#,
        ),
        (r#"{"t":"msg","seq":1,"d":1}"#, r#"{"t":"msg","seq":1,"id":null,"key":null,"kind":"x","d":1}"#),
        (r#"{"t":"msg","key":"k","d":1}"#, r#"{"t":"msg","seq":null,"key":"k","d":1}"#),
    ] {
        assert_eq!(decode(plain), decode(other), "{other}");
        assert!(decode(plain).is_ok(), "{plain}");
    }
}

#[test]
fn a_receipt_does_not_know_what_only_a_report_has() {
    let receipt = format!("\"receipt\":{{\"epoch\":\"{}\",\"received\":1", harness::alone::epoch(2));
    let mut welcome = text(&Frame::Welcome(Box::new(welcome(key(1).connection_id(), harness::alone::epoch(1)))));
    welcome.truncate(welcome.len() - 1);
    let [plain, other] = ["", ",\"no\":\"x\""].map(|no| format!("{welcome},{receipt}{no}}}}}"));
    assert_eq!(decode(&other), decode(&plain));
    assert!(decode(&plain).is_ok(), "{plain}");
}

// S002-29
#[test]
fn a_frame_of_an_unknown_type_is_no_error() {
    for unknown in ["voids", "_send_failed", "MSG", "msg ", "", "hello\\u0000"] {
        assert_eq!(decode(&format!("{{\"t\":\"{unknown}\",\"n\":\"x\"}}")), Ok(Frame::Unknown), "{unknown}");
    }
}

#[test]
fn the_order_of_keys_means_nothing() {
    let hello = hello_text(hello(1));
    let mut keys: Vec<_> = hello.trim_matches(['{', '}']).split(',').collect();
    for _ in 0..keys.len() {
        keys.rotate_left(1);
        assert_eq!(decode(&format!("{{{}}}", keys.join(","))), decode(&hello));
    }
    for message in
        [r#"{"d":[1],"seq":3,"t":"msg"}"#, r#"{"seq":3,"d":[1],"t":"msg"}"#, r#"{"t":"msg","d":[1],"seq":3}"#]
    {
        assert_eq!(decode(message), Ok(Frame::Message(Message::plain(seq(3), "[1]"))), "{message}");
    }
}

#[test]
fn white_space_and_escapes_mean_nothing() {
    let plain = decode(r#"{"t":"ping","n":7}"#);
    for other in
        [" { \"t\" : \"ping\" ,\t\"n\" : 7 } ", "{\"t\":\"ping\",\"n\":7}\r", r#"{"\u0074":"pi\u006eg","\u006E":7}"#]
    {
        assert_eq!(decode(other), plain, "{other}");
    }
}

#[test]
fn a_checked_payload_has_no_line_break() {
    let checked = UncheckedPayload::new("[1,\n2]").check().expect("it is JSON");
    assert!(!checked.as_str().contains(['\n', '\r']), "spliced into a frame it would end the frame");
    // And this one can come from a peer.
    let line = "{\"t\":\"msg\",\"seq\":1,\"d\":[1,\r2]}";
    let Ok(Frame::Message(message)) = decode(line) else { panic!() };
    let checked = UncheckedPayload::new(message.payload).check().expect("it is JSON");
    assert!(!checked.as_str().contains(['\n', '\r']));
}

#[test]
fn white_space_around_a_payload_is_no_part_of_it_whatever_the_order_of_the_keys() {
    let space = " ".repeat(100);
    for line in [
        format!("{{\"t\":\"msg\",\"seq\":1,\"d\":{space}1{space}}}"),
        format!("{{\"seq\":1,\"t\":\"msg\",\"d\":{space}1{space}}}"),
    ] {
        let read = decode(&line);
        assert_eq!(read, Ok(Frame::Message(Message::plain(seq(1), "1"))));
        // So it does not count against the limit of size either.
        let mut config = server::Config::default();
        config.connection.link.max_payload = 1;
        let mut lone = LoneServer::new(config);
        let transport = lone.greet(hello(1));
        lone.hear(transport, &line);
        assert!(lone.server.registry().is_reachable(&hello(1).cid), "the transport lives");
        let delivery = lone.server.take(&hello(1).cid, lone.now).expect("it came");
        assert_eq!(delivery.payload().as_str(), "1");
    }
    assert!(decode("{\"t\":\"msg\",\"seq\":1,\"d\": }").is_err(), "nothing is no payload");
    assert_eq!(
        Payload::from_json(&format!("{space}1{space}")).expect("it is JSON").len(),
        1,
        "who sends it counts as who gets it"
    );
}

// S001-32, S003-07
#[test]
fn what_is_not_one_object_is_refused_with_the_column() {
    for (line, column) in [
        ("", 0),
        ("nonsense", 0),
        ("[]", 0),
        ("42", 0),
        ("\"text\"", 0),
        ("null", 0),
        ("{", 0),
        (r#"{"t":"ping","n":1"#, 0),
        (r#"{"t":"ping","n":1}x"#, 19),
        (r#"{"t":"ping","n":1}{"t":"ping","n":2}"#, 19),
        (r#"{"t":"ping","n":}"#, 0),
        (r#"{"t":"ping" "n":1}"#, 0),
        (r#"{t:"ping"}"#, 0),
        ("{\"t\":\"a\u{1}b\"}", 0),
        ("\u{feff}{}", 0),
    ] {
        let Err(DecodeError::NotAnObject { column: found }) = decode(line) else {
            panic!("{line}: {:?}", decode(line))
        };
        assert!(column == 0 || found == column, "{line}: column {found}, not {column}");
    }
}

#[test]
fn a_key_that_must_be_there_is_named_when_it_is_missing() {
    let hello = hello_text(hello(1));
    let welcome = text(&Frame::Welcome(Box::new(welcome(key(1).connection_id(), harness::alone::epoch(1)))));
    let frames: [(&str, &[&str]); 6] = [
        (&hello, &["key", "cid", "instance", "attempt", "window", "windowBytes", "maxPayload"]),
        (&welcome, &["cid", "epoch", "resumed", "window", "windowBytes", "maxPayload", "detachTtl"]),
        (r#"{"t":"challenge","fence":"00000000000000000000000000000000"}"#, &["fence"]),
        (r#"{"t":"ping","n":1}"#, &["n"]),
        (r#"{"t":"pong","n":1}"#, &["n"]),
        (r#"{"t":"bye","code":1000}"#, &["code"]),
    ];
    for (frame, keys) in frames {
        for key in keys {
            let without = frame.replace(&format!("\"{key}\":"), "\"was\":");
            let Err(DecodeError::MissingKey { key: named, .. }) = decode(&without) else { panic!("{without}") };
            assert_eq!(named, *key);
        }
    }
    assert_eq!(decode("{}"), Err(DecodeError::MissingKey { frame: "frame", key: "t" }));
    assert_eq!(decode(r#"{"t":null}"#), Err(DecodeError::MissingKey { frame: "frame", key: "t" }));
    assert_eq!(decode(r#"{"t":"msg","seq":1}"#), Err(DecodeError::MissingKey { frame: "msg", key: "d" }));
    assert_eq!(decode(r#"{"t":"msg","d":1}"#), Err(DecodeError::MissingKey { frame: "msg", key: "seq" }));
}

#[test]
fn a_known_key_that_stands_twice_is_named() {
    for (frame, name, key) in [
        (r#"{"t":"ping","t":"ping","n":1}"#, "frame", "t"),
        (r#"{"t":"ping","n":1,"n":1}"#, "ping", "n"),
        (r#"{"t":"ping","n":1,"seen":1,"seen":null}"#, "ping", "seen"),
        (r#"{"t":"msg","seq":1,"seq":1,"d":1}"#, "msg", "seq"),
        (r#"{"seq":1,"d":1,"t":"msg","d":2}"#, "msg", "d"),
        (r#"{"t":"ack","received":1,"received":2}"#, "ack", "received"),
        (r#"{"t":"ack","received":2,"except":[{"seq":1,"seq":2,"is":"voided"}]}"#, "except", "seq"),
        (r#"{"t":"bye","code":1000,"code":1000}"#, "bye", "code"),
    ] {
        assert_eq!(decode(frame), Err(DecodeError::DuplicateKey { frame: name, key }), "{frame}");
    }
    assert!(decode(r#"{"t":"ping","n":1,"zzz":1,"zzz":2}"#).is_ok(), "an unknown one may");
}

// S002-15
#[test]
fn a_value_of_a_wrong_type_is_named_with_what_is_expected() {
    let whole = "a non-negative whole number";
    for (frame, key, expected) in [
        (r#"{"t":7}"#, "t", "a string"),
        (r#"{"t":"ping","n":"1"}"#, "n", whole),
        (r#"{"t":"ping","n":1.0}"#, "n", whole),
        (r#"{"t":"ping","n":1e3}"#, "n", whole),
        (r#"{"t":"ping","n":-1}"#, "n", whole),
        (r#"{"t":"ping","n":true}"#, "n", whole),
        (r#"{"t":"ping","n":[1]}"#, "n", whole),
        (r#"{"t":"ping","n":18446744073709551616}"#, "n", whole),
        (r#"{"t":"bye","code":1000,"end":1}"#, "end", "true or false"),
        (r#"{"t":"bye","code":1000,"end":"true"}"#, "end", "true or false"),
        (r#"{"t":"bye","code":1000,"reason":1}"#, "reason", "a string"),
        (r#"{"t":"msg","key":1,"d":1}"#, "key", "a string"),
        (r#"{"t":"msg","seq":1,"id":1,"d":1}"#, "id", "a string"),
        (r#"{"t":"ack","received":1,"except":{}}"#, "except", "an array"),
        (r#"{"t":"ack","received":1,"except":[{"seq":1,"is":"lost"}]}"#, "is", "a known disposition"),
        (r#"{"t":"ack","received":1,"except":[{"seq":1}]}"#, "is", "a known disposition"),
        (r#"{"t":"bye","code":1000,"received":1,"handed":1}"#, "handed", "an array"),
    ] {
        expect_bad(frame, key, Problem::Type { expected });
    }
}

#[test]
fn a_number_out_of_its_range_is_named() {
    let beyond = "9007199254740992";
    for (frame, key) in [
        (r#"{"t":"ping","n":0}"#.to_owned(), "n"),
        (format!(r#"{{"t":"ping","n":{beyond}}}"#), "n"),
        (format!(r#"{{"t":"ping","n":1,"seen":{beyond}}}"#), "seen"),
        (r#"{"t":"msg","seq":0,"d":1}"#.to_owned(), "seq"),
        (format!(r#"{{"t":"msg","seq":{beyond},"d":1}}"#), "seq"),
        (r#"{"t":"msg","seq":18446744073709551615,"d":1}"#.to_owned(), "seq"),
        (format!(r#"{{"t":"ack","received":{beyond}}}"#), "received"),
        (format!(r#"{{"t":"ack","no":{beyond}}}"#), "no"),
        (r#"{"t":"ack","received":1,"except":[{"seq":0,"is":"voided"}]}"#.to_owned(), "seq"),
        (r#"{"t":"ack","received":1,"except":[{"seq":1,"is":"deferred","times":0,"code":"c"}]}"#.to_owned(), "times"),
        (r#"{"t":"bye","code":999}"#.to_owned(), "code"),
        (r#"{"t":"bye","code":5000}"#.to_owned(), "code"),
        (r#"{"t":"bye","code":66536}"#.to_owned(), "code"),
        (r#"{"t":"bye","code":1000,"received":1,"handed":[0]}"#.to_owned(), "handed"),
        (r#"{"t":"bye","code":1000,"received":1,"handed":["1"]}"#.to_owned(), "handed"),
        (hello_text(hello(1)).replace("\"attempt\":1", "\"attempt\":0"), "attempt"),
        (hello_text(hello(1)).replace("\"window\":256", "\"window\":0"), "window"),
        (hello_text(hello(1)).replace("\"window\":256", "\"window\":16385"), "window"),
        (hello_text(hello(1)).replace("\"windowBytes\":2097152", "\"windowBytes\":0"), "windowBytes"),
        (hello_text(hello(1)).replace("\"maxPayload\":4194304", "\"maxPayload\":0"), "maxPayload"),
        (hello_text(hello(1)).replace("\"attempt\":1", "\"attempt\":1,\"base\":0"), "base"),
        (hello_text(hello(1)).replace("\"attempt\":1", "\"attempt\":1,\"token\":\"\""), "token"),
    ] {
        expect_bad(&frame, key, Problem::Range);
    }
}

// PROTOCOL.md, section 2: milliseconds are such a number.
#[test]
fn milliseconds_end_where_every_number_does() {
    let welcome = text(&Frame::Welcome(Box::new(welcome(key(1).connection_id(), harness::alone::epoch(1)))));
    let with = |millis: &str| welcome.replace("\"detachTtl\":60000", &format!("\"detachTtl\":{millis}"));
    assert!(decode(&with("9007199254740991")).is_ok());
    expect_bad(&with("9007199254740992"), "detachTtl", Problem::Range);
}

#[test]
fn a_text_above_its_length_is_named() {
    let long = |len: usize| "x".repeat(len);
    for (frame, key) in [
        (format!(r#"{{"t":"bye","code":1000,"reason":"{}"}}"#, long(257)), "reason"),
        (format!(r#"{{"t":"msg","key":"{}","d":1}}"#, long(129)), "key"),
        (r#"{"t":"msg","key":"","d":1}"#.to_owned(), "key"),
        (
            hello_text(hello(1)).replace("\"attempt\":1", &format!("\"attempt\":1,\"token\":\"{}\"", long(8_193))),
            "token",
        ),
        (format!(r#"{{"t":"bye","code":1000,"received":1,"handed":[{}1]}}"#, "1,".repeat(16_384)), "handed"),
    ] {
        expect_bad(&frame, key, Problem::TooLong);
    }
    assert!(decode(&format!(r#"{{"t":"bye","code":1000,"reason":"{}"}}"#, long(256))).is_ok());
    assert!(decode(&format!(r#"{{"t":"msg","key":"{}","d":1}}"#, long(128))).is_ok());
}

#[test]
fn keys_that_contradict_each_other_are_named() {
    for (frame, key) in [
        (r#"{"t":"ack","received":1,"settled":2}"#, "settled"),
        (r#"{"t":"ack","received":1,"except":[{"seq":2,"is":"voided"}]}"#, "except"),
        (r#"{"t":"ack","received":2,"except":[{"seq":2,"is":"voided"},{"seq":1,"is":"voided"}]}"#, "except"),
        (r#"{"t":"ack","received":2,"except":[{"seq":2,"is":"voided"},{"seq":2,"is":"voided"}]}"#, "except"),
        (r#"{"t":"bye","code":1000,"received":2,"handed":[2,1]}"#, "handed"),
        (r#"{"t":"bye","code":1000,"received":2,"handed":[1,1]}"#, "handed"),
        (r#"{"t":"msg","seq":1,"key":"k","d":1}"#, "key"),
    ] {
        expect_bad(frame, key, Problem::Contradiction);
    }
}

// S004-020
#[test]
fn a_malformed_id_is_named_with_what_is_wrong() {
    let hello = hello_text(hello(1));
    let (cid, key) = (hello_cid(), key(1).reveal());
    for (frame, name, error) in [
        (hello.replace(&cid, "cid-1"), "cid", IdError::Uuid),
        (hello.replace(&cid, &cid[4..]), "cid", IdError::Prefix),
        (hello.replacen(&key, "zz", 1), "key", IdError::Hex),
        (r#"{"t":"challenge","fence":"x"}"#.to_owned(), "fence", IdError::Hex),
        (r#"{"t":"msg","seq":1,"id":"x","d":1}"#.to_owned(), "id", IdError::Uuid),
    ] {
        expect_bad(&frame, name, Problem::Id(error));
    }
}

#[test]
fn a_complaint_never_quotes_what_the_peer_sent() {
    for secret in [
        hello_text(hello(1)).replace("\"attempt\":1", "\"attempt\":\"sesame\""),
        "{\"sesame\":".into(),
        "sesame".into(),
    ] {
        let error = decode(&secret).expect_err("it is malformed");
        assert!(!format!("{error} {error:?}").contains("sesame"));
        assert!(!format!("{error} {error:?}").contains(&key(1).reveal()));
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    for (levels, is_ok) in [(MAX_DEPTH, true), (MAX_DEPTH + 1, false), (100_000, false)] {
        let frame = format!(r#"{{"t":"zzz","x":{}}}"#, nested(levels));
        let expected = if is_ok { Ok(Frame::Unknown) } else { Err(DecodeError::TooDeep) };
        assert_eq!(decode(&frame), expected, "{levels}");
    }
    assert_eq!(decode(&"[".repeat(1_000_000)), Err(DecodeError::TooDeep));
    assert_eq!(decode(&"{\"a\":".repeat(1_000_000)), Err(DecodeError::TooDeep));
    let quoted = format!(r#"{{"t":"zzz","x":"{}"}}"#, "[".repeat(1_000));
    assert_eq!(decode(&quoted), Ok(Frame::Unknown));
}

#[test]
fn the_number_of_keys_is_bounded() {
    let keys = |count: usize| (0..count).map(|number| format!(",\"k{number}\":{number}")).collect::<String>();
    assert!(decode(&format!(r#"{{"t":"ping","n":1{}}}"#, keys(62))).is_ok());
    assert_eq!(decode(&format!(r#"{{"t":"ping","n":1{}}}"#, keys(63))), Err(DecodeError::TooManyKeys));
    assert_eq!(decode(&format!(r#"{{"t":"ping","n":1{}}}"#, keys(100_000))), Err(DecodeError::TooManyKeys));
}

#[test]
fn lines_are_taken_one_by_one_and_empty_ones_skipped() {
    let mut rest = "\n\n{\"t\":\"a\"}\n\n{\"t\":\"b\"}\r\n{\"t\":\"c\"}";
    let lines: Vec<_> = core::iter::from_fn(|| next_line(&mut rest)).collect();
    assert_eq!(lines, ["{\"t\":\"a\"}", "{\"t\":\"b\"}\r", "{\"t\":\"c\"}"]);
    assert!(lines.iter().all(|line| decode(line) == Ok(Frame::Unknown)));
    for mut nothing in ["", "\n", "\n\n\n"] {
        assert_eq!(next_line(&mut nothing), None);
    }
}

/// Both ways read the same from each text, and say of each whether it is a frame.
fn assert_both_ways(texts: &[(&str, bool)]) {
    for (text, is_frame) in texts {
        assert_eq!(decode(text).is_ok(), *is_frame, "{text}");
        assert_eq!(decode(text), decode_generally(text), "{text}");
    }
}

#[test]
fn a_message_whose_header_is_not_plain_takes_the_general_way() {
    assert_both_ways(&[
        (r#"{"t":"msg","seq":1,"d":1 }"#, true),
        (r#"{"t":"msg","seq":9007199254740991,"d":1}"#, true),
        (r#"{"t":"msg","seq":01,"d":1}"#, false),
        (r#"{"t":"msg","seq":,"d":1}"#, false),
        (r#"{"t":"msg","seq":1,"d":}"#, false),
        (r#"{"t":"msg","seq":1,"d":1"#, false),
        (r#"{"t":"msg","seq":1}"#, false),
        (r#"{"t":"msg","seq":99999999999999999,"d":1}"#, false),
        (r#"{"t":"msg","seq":1.5,"d":1}"#, false),
    ]);
}

// Section 7: two ways, one verdict.
#[test]
fn a_report_whose_header_is_not_plain_takes_the_general_way() {
    assert_both_ways(&[
        (r#"{"t":"ack","received":0,"settled":0}"#, true),
        (r#"{"t":"ack","received":2,"settled":1,"no":3,"seen":4}"#, true),
        (r#"{"t":"ack","received":2,"settled":1,"no":0,"seen":0}"#, true),
        (r#"{"t":"ack","received":2,"settled":1,"seen":4,"no":3}"#, true),
        (r#"{"t":"ack","received":2,"settled":1,"no":3,"except":[{"seq":1,"is":"pending"}]}"#, true),
        (r#"{"t":"ack","received":2,"settled":1} "#, true),
        (r#"{"t":"ack","received":2,"settled":1,"later":1}"#, true),
        (r#"{"t":"ack","received":9007199254740991,"settled":1}"#, true),
        (r#"{"t":"ack","received":9007199254740992,"settled":1}"#, false),
        (r#"{"t":"ack","received":1,"settled":2}"#, false),
        (r#"{"t":"ack","received":01,"settled":1}"#, false),
        (r#"{"t":"ack","received":1,"settled":00}"#, false),
        (r#"{"t":"ack","received":1,"settled":}"#, false),
        (r#"{"t":"ack","received":1,"settled":1,"no":}"#, false),
        (r#"{"t":"ack","received":1,"settled":1,"no":1,"no":1}"#, false),
        (r#"{"t":"ack","received":1,"settled":1"#, false),
        (r#"{"t":"ack","received":1,"settled":1}}"#, false),
    ]);
}

proptest! {
    // Section 7: two ways, one verdict.
    #[test]
    fn both_ways_read_the_same_from_any_message(number in 1..=reattach_core::id::Seq::MAX.get(), json in json_texts()) {
        if let Ok(payload) = Payload::from_json(&json) {
            let payload = payload.as_str();
            let frame = text(&Frame::Message(Message::plain(seq(number), payload)));
            let fast = decode(&frame);
            prop_assert_eq!(&fast, &decode_generally(&frame));
            prop_assert_eq!(fast, Ok(Frame::Message(Message::plain(seq(number), payload.trim()))));
        }
    }

    // S001-06
    #[test]
    fn no_text_panics(line in "\\PC{0,200}") {
        _ = decode(&line);
        _ = decode_generally(&line);
    }

    #[test]
    fn no_text_near_a_frame_panics(
        frame in prop_oneof![Just(hello_text(hello(1))), Just(r#"{"t":"ack","received":1,"except":[]}"#.to_owned())],
        edits in vec((any::<usize>(), "\\PC{0,3}"), 0..6),
    ) {
        let mut chars: Vec<String> = frame.chars().map(String::from).collect();
        for (at, edit) in edits {
            let at = at % chars.len();
            chars[at] = edit;
        }
        _ = decode(&chars.concat());
    }
}

/// JSON texts of every kind, with white space.
fn json_texts() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<i64>().prop_map(|value| value.to_string()),
        any::<f64>()
            .prop_filter("JSON has no infinity", |value| value.is_finite())
            .prop_map(|value| format!("{value:e}")),
        any::<String>().prop_map(|value| serde_json::to_string(&value).expect("a string is JSON")),
    ];
    leaf.prop_recursive(8, 64, 6, |inner| {
        let space = "[ \t]{0,2}";
        prop_oneof![
            (space, vec(inner.clone(), 0..6))
                .prop_map(|(space, items)| format!("[{space}{}{space}]", items.join(&format!(",{space}")))),
            vec((any::<String>(), inner), 0..6).prop_map(|pairs| {
                let pairs = pairs
                    .into_iter()
                    .map(|(key, value)| format!("{}: {value}", serde_json::to_string(&key).expect("a string is JSON")));
                format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
            }),
        ]
    })
}

fn expect_bad(frame: &str, key: &str, problem: Problem) {
    let Err(DecodeError::BadValue { frame: _, key: named, problem: found }) = decode(frame) else {
        panic!("{frame:.300}: {:?}", decode(frame));
    };
    assert_eq!((named, found), (key, problem), "{frame:.300}");
}

fn hello_cid() -> String {
    hello(1).cid.to_string()
}
