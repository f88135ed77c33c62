//! Frames as text: each one round-trips, is written compactly in one form, and leaves out what is absent.

use std::time::Duration;

use harness::alone::epoch;
use harness::frames::attempt;
use harness::frames::hello;
use harness::frames::ping_no;
use harness::frames::report;
use harness::frames::report_no;
use harness::frames::seq;
use harness::frames::text;
use harness::frames::token;
use harness::frames::welcome;
use harness::world::key;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::Just;
use proptest::prelude::Strategy;
use proptest::prelude::any;
use proptest::prop_assert_eq;
use proptest::prop_oneof;
use proptest::proptest;
use reattach_core::id::ConnectionKey;
use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::id::PingNo;
use reattach_core::id::ReportNo;
use reattach_core::id::Seq;
use reattach_core::wire::Ack;
use reattach_core::wire::Bye;
use reattach_core::wire::Challenge;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Disposition;
use reattach_core::wire::Ephemeral;
use reattach_core::wire::Exception;
use reattach_core::wire::Frame;
use reattach_core::wire::Hello;
use reattach_core::wire::Limits;
use reattach_core::wire::MAX_REASON;
use reattach_core::wire::MAX_WINDOW;
use reattach_core::wire::Message;
use reattach_core::wire::Ping;
use reattach_core::wire::Pong;
use reattach_core::wire::Receipt;
use reattach_core::wire::Report;
use reattach_core::wire::Welcome;
use reattach_core::wire::decode;
use reattach_core::wire::decode_generally;

const KEY: &str = "01010101010101010101010101010101";
const CID: &str = "cid-cc8cd41c-ef90-8c4d-a160-69122c4b8993";
const LIMITS: &str = r#""window":256,"windowBytes":2097152,"maxPayload":4194304"#;

// S001-11, S001-12, S001-13: typed by hand, so that a change of the form does not go unnoticed.
#[test]
fn each_frame_has_one_form() {
    let id = message_id(7);
    let all = every_disposition();
    let except = concat!(
        r#","except":[{"seq":1,"is":"pending"},{"seq":2,"is":"deferred","times":3,"retryAfter":3000,"code":"busy"},"#,
        r#"{"seq":3,"is":"rejected","code":"no","reason":"words"},{"seq":4,"is":"rejected","code":"no"},"#,
        r#"{"seq":5,"is":"voided"},{"seq":6,"is":"abandoned"}]"#
    );
    let forms = [
        (
            Frame::Hello(Box::new(hello(1))),
            format!(r#"{{"t":"hello","key":"{KEY}","cid":"{CID}","instance":"{KEY}","attempt":1,{LIMITS}}}"#),
        ),
        (
            Frame::Hello(Box::new(full_hello())),
            format!(
                r#"{{"t":"hello","key":"{KEY}","cid":"{CID}","instance":"{KEY}","attempt":4,"epoch":"{}","sent":9,"base":8,"seen":2,"received":6,"settled":5,"no":7{except},{LIMITS},"token":"a \"b\"","fence":"{}"}}"#,
                "03".repeat(16),
                "ff".repeat(16)
            ),
        ),
        (
            Frame::Challenge(Challenge { fence: Fence::from_bytes([0xab; 16]) }),
            format!(r#"{{"t":"challenge","fence":"{}"}}"#, "ab".repeat(16)),
        ),
        (
            Frame::Welcome(Box::new(welcome(key(1).connection_id(), epoch(2)))),
            format!(
                r#"{{"t":"welcome","cid":"{CID}","epoch":"{}","resumed":false,"received":0,"settled":0,{LIMITS},"detachTtl":60000}}"#,
                "02".repeat(16)
            ),
        ),
        (
            Frame::Welcome(Box::new(full_welcome())),
            format!(
                r#"{{"t":"welcome","cid":"{CID}","epoch":"{}","resumed":true,"received":3,"settled":2,"seen":4,{LIMITS},"detachTtl":60000,"receipt":{{"epoch":"{}","received":6,"settled":5{except},"seen":1,"handed":[5,6],"final":true}}}}"#,
                "02".repeat(16),
                "09".repeat(16)
            ),
        ),
        (Frame::Message(Message::plain(seq(1), "[1, 2]")), r#"{"t":"msg","seq":1,"d":[1, 2]}"#.into()),
        (
            Frame::Message(Message { id: Some(id), ..Message::plain(seq(12), "null") }),
            r#"{"t":"msg","seq":12,"id":"00000000-0000-4000-8000-000000000007","d":null}"#.into(),
        ),
        (
            Frame::Ephemeral(Ephemeral { key: "a\"\\\n\u{1}".into(), payload: "true" }),
            r#"{"t":"msg","key":"a\"\\\n\u0001","d":true}"#.into(),
        ),
        (
            Frame::Ack(Ack { report: report(2, 1), seen: ReportNo::ZERO }),
            r#"{"t":"ack","received":2,"settled":1}"#.into(),
        ),
        (
            Frame::Ack(Ack { report: Report { no: report_no(6), except: all, ..report(6, 6) }, seen: report_no(3) }),
            format!(r#"{{"t":"ack","received":6,"settled":6,"no":6{except},"seen":3}}"#),
        ),
        (Frame::Ping(Ping { n: ping_no(1), seen: ReportNo::ZERO }), r#"{"t":"ping","n":1}"#.into()),
        (Frame::Ping(Ping { n: ping_no(2), seen: report_no(5) }), r#"{"t":"ping","n":2,"seen":5}"#.into()),
        (
            Frame::Pong(Pong { n: ping_no(2), report: report(1, 0) }),
            r#"{"t":"pong","n":2,"received":1,"settled":0}"#.into(),
        ),
        (
            Frame::Bye(Box::new(Bye::of_transport(CloseCode::RESTART, None, "soon".into()))),
            r#"{"t":"bye","code":1012,"reason":"soon"}"#.into(),
        ),
        (
            Frame::Bye(Box::new(Bye {
                handed: vec![seq(3)],
                ..Bye::last(CloseCode::ENDED, true, report(3, 2), Vec::new())
            })),
            r#"{"t":"bye","code":4410,"end":true,"received":3,"settled":2,"handed":[3],"final":true}"#.into(),
        ),
    ];
    for (frame, form) in forms {
        assert_eq!(text(&frame), form);
        assert_eq!(decode(&form), Ok(frame.clone()), "{form}");
        assert_eq!(decode_generally(&form), Ok(frame), "{form}");
        assert!(!form.contains('_'), "keys are in camelCase: {form}");
    }
}

#[test]
fn an_unknown_frame_is_written_as_one() {
    assert_eq!(decode(&text(&Frame::Unknown)), Ok(Frame::Unknown));
}

#[test]
fn words_are_cut_at_a_whole_character() {
    let long = format!("{}{}", "x".repeat(MAX_REASON - 1), "\u{e9}\u{e9}");
    let bye = Frame::Bye(Box::new(Bye::of_transport(CloseCode::NORMAL, None, long)));
    let Ok(Frame::Bye(read)) = decode(&text(&bye)).map_err(|error| panic!("{error}")) else { panic!("a bye") };
    assert_eq!(read.reason, "x".repeat(MAX_REASON - 1));
}

#[test]
fn every_form_is_one_line_without_space_between_tokens() {
    for frame in [Frame::Hello(Box::new(full_hello())), Frame::Welcome(Box::new(full_welcome()))] {
        let form = text(&frame);
        assert!(!form.contains('\n') && !form.contains(", ") && !form.contains(": "), "{form}");
    }
}

// A number of any size up to the largest is written in full.
#[test]
fn numbers_round_trip_up_to_the_largest() {
    for number in [1, 9, 10, 99, 100, 65_535, 4_294_967_296, Seq::MAX.get() - 1, Seq::MAX.get()] {
        let message = Frame::Message(Message::plain(seq(number), "0"));
        assert_eq!(decode(&text(&message)), Ok(message.clone()), "{number}");
        let ack = Frame::Ack(Ack { report: report(number, number), seen: ReportNo::ZERO });
        assert_eq!(decode(&text(&ack)), Ok(ack.clone()), "{number}");
    }
}

// Section 7: what a machine announces must be readable by its peer, whatever it was configured with.
#[test]
fn a_ttl_of_any_length_can_be_read() {
    for ttl in [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(1 << 40), Duration::MAX] {
        let welcome = Welcome { detach_ttl: ttl, ..welcome(key(1).connection_id(), epoch(2)) };
        let form = text(&Frame::Welcome(Box::new(welcome)));
        assert!(decode(&form).is_ok(), "{form}");
    }
}

proptest! {
    #[test]
    fn any_hello_round_trips(hello in hellos()) {
        let frame = Frame::Hello(Box::new(hello));
        let form = text(&frame);
        prop_assert_eq!(decode(&form), Ok(frame));
    }

    #[test]
    fn any_welcome_round_trips(welcome in welcomes()) {
        let frame = Frame::Welcome(Box::new(welcome));
        let form = text(&frame);
        prop_assert_eq!(decode(&form), Ok(frame));
    }

    #[test]
    fn any_small_frame_round_trips(
        report in reports(),
        seen in numbers(),
        n in 1..=Seq::MAX.get(),
        code in prop_oneof![1000_u16..=1003, 1007_u16..=1014, 3000_u16..=4999],
        end in any::<bool>(),
        reason in "\\PC{0,60}",
    ) {
        let seen = ReportNo::new(seen).expect("in range");
        let n = PingNo::new(n).expect("in range");
        let has_report = end.then(|| report.clone());
        let handed = if end { report.except.iter().map(|exception| exception.seq).collect() } else { Vec::new() };
        let retry_after = end.then_some(Duration::from_millis(n.get() >> 10));
        let bye = Bye {
            code: CloseCode::new(code),
            end,
            report: has_report,
            handed,
            is_final: end,
            reason,
            retry_after,
            suspend: !end,
        };
        for frame in [
            Frame::Ack(Ack { report: report.clone(), seen }),
            Frame::Ping(Ping { n, seen }),
            Frame::Pong(Pong { n, report }),
            Frame::Bye(Box::new(bye)),
        ] {
            let form = text(&frame);
            prop_assert_eq!(decode(&form), Ok(frame));
        }
    }

    #[test]
    fn any_ephemeral_key_round_trips(key in "\\PC{1,30}") {
        let frame = Frame::Ephemeral(Ephemeral { key: key.into(), payload: "{}" });
        let form = text(&frame);
        prop_assert_eq!(decode(&form), Ok(frame));
    }
}

fn numbers() -> impl Strategy<Value = u64> + Clone {
    prop_oneof![0_u64..10, 0..=Seq::MAX.get(), Just(Seq::MAX.get())]
}

fn codes() -> impl Strategy<Value = reattach_core::id::Code> {
    "[a-zA-Z0-9_.:/-]{1,64}".prop_map(|text| text.parse().expect("a code"))
}

fn dispositions() -> impl Strategy<Value = Disposition> {
    prop_oneof![
        Just(Disposition::Pending),
        Just(Disposition::Voided),
        Just(Disposition::Abandoned),
        (1..=u32::MAX, 0_u64..1 << 50, codes()).prop_map(|(times, millis, code)| {
            Disposition::Deferred { times, retry_after: Duration::from_millis(millis), code }
        }),
        (codes(), "\\PC{0,40}").prop_map(|(code, reason)| Disposition::Rejected { code, reason }),
    ]
}

fn reports() -> impl Strategy<Value = Report> {
    (numbers(), numbers(), numbers(), vec((1..=Seq::MAX.get(), dispositions()), 0..6)).prop_map(
        |(a, b, no, mut listed)| {
            let (received, settled) = (a.max(b), a.min(b));
            listed.retain(|(at, _)| *at <= received);
            listed.sort_by_key(|(at, _)| *at);
            listed.dedup_by_key(|(at, _)| *at);
            let except = listed.into_iter().map(|(at, disposition)| Exception { seq: seq(at), disposition }).collect();
            Report { received: seq(received), settled: seq(settled), no: report_no(no), except }
        },
    )
}

fn limits() -> impl Strategy<Value = Limits> {
    (1..=MAX_WINDOW, 1..=Seq::MAX.get(), 1..=Seq::MAX.get()).prop_map(|(window, window_bytes, max_payload)| Limits {
        window,
        window_bytes,
        max_payload,
    })
}

fn hellos() -> impl Strategy<Value = Hello> {
    let nonces = any::<([u8; 16], [u8; 16], Option<[u8; 16]>, Option<[u8; 16]>)>();
    let tokens = option::of("\\PC{1,40}");
    (nonces, 1..=Seq::MAX.get(), numbers(), 1..=Seq::MAX.get(), numbers(), reports(), limits(), tokens).prop_map(
        |((bytes, instance, epoch, fence), number, sent, base, seen, report, limits, credentials)| {
            let key = ConnectionKey::from_bytes(bytes);
            let has_epoch = epoch.is_some();
            // Without an epoch there is nothing to say of one.
            let (sent, base) = if has_epoch { (sent, base) } else { (0, 1) };
            Hello {
                key,
                cid: key.connection_id(),
                instance: InstanceId::from_bytes(instance),
                attempt: attempt(number),
                epoch: epoch.map(Epoch::from_bytes),
                sent: seq(sent),
                base: seq(base),
                seen: if has_epoch { report_no(seen) } else { ReportNo::ZERO },
                report: if has_epoch { report } else { Report::default() },
                limits,
                token: credentials.as_deref().map(token),
                fence: fence.map(Fence::from_bytes),
            }
        },
    )
}

fn welcomes() -> impl Strategy<Value = Welcome> {
    let receipts =
        (any::<[u8; 16]>(), reports(), numbers(), any::<bool>()).prop_map(|(epoch, report, seen, is_final)| {
            let handed = report.except.iter().map(|exception| exception.seq).collect();
            let Report { received, settled, no: _, except } = report;
            let (epoch, seen) = (Epoch::from_bytes(epoch), report_no(seen));
            Receipt { epoch, received, settled, except, seen, handed, is_final }
        });
    let nonces = any::<([u8; 16], [u8; 16])>();
    (nonces, any::<bool>(), reports(), numbers(), limits(), 0_u64..1 << 53, option::of(receipts)).prop_map(
        |((key, epoch), resumed, report, seen, limits, ttl, receipt)| Welcome {
            cid: ConnectionKey::from_bytes(key).connection_id(),
            epoch: Epoch::from_bytes(epoch),
            resumed,
            report,
            seen: report_no(seen),
            limits,
            detach_ttl: Duration::from_millis(ttl),
            receipt: receipt.map(Box::new),
        },
    )
}

fn full_hello() -> Hello {
    Hello {
        attempt: attempt(4),
        epoch: Some(epoch(3)),
        sent: seq(9),
        base: seq(8),
        seen: report_no(2),
        report: Report { no: report_no(7), except: every_disposition(), ..report(6, 5) },
        token: Some(token("a \"b\"")),
        fence: Some(Fence::from_bytes([0xff; 16])),
        ..hello(1)
    }
}

fn full_welcome() -> Welcome {
    let receipt = Receipt {
        received: seq(6),
        settled: seq(5),
        except: every_disposition(),
        seen: report_no(1),
        handed: vec![seq(5), seq(6)],
        is_final: true,
        ..Receipt::not_final(epoch(9))
    };
    Welcome {
        resumed: true,
        report: report(3, 2),
        seen: report_no(4),
        receipt: Some(Box::new(receipt)),
        ..welcome(key(1).connection_id(), epoch(2))
    }
}

fn every_disposition() -> Vec<Exception> {
    let name = |text: &str| text.parse().expect("a short name");
    let retry_after = Duration::from_secs(3);
    let dispositions = [
        Disposition::Pending,
        Disposition::Deferred { times: 3, retry_after, code: name("busy") },
        Disposition::Rejected { code: name("no"), reason: "words".into() },
        Disposition::Rejected { code: name("no"), reason: String::new() },
        Disposition::Voided,
        Disposition::Abandoned,
    ];
    (1..).zip(dispositions).map(|(number, disposition)| Exception { seq: seq(number), disposition }).collect()
}

fn message_id(number: u8) -> MessageId {
    format!("00000000-0000-4000-8000-{number:012}").parse().expect("a UUID")
}
