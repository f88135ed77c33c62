//! The golden vectors hold.

use harness::alone::LoneClient;
use harness::alone::LoneServer;
use harness::frames::hello;
use harness::vectors::Machine;
use harness::vectors::replay;
use harness::world::steady;
use reattach_core::client;
use reattach_core::client::Event;
use reattach_core::server::Config;
use reattach_core::server::Output;
use reattach_core::server::PeerEvent;
use reattach_core::wire;
use reattach_core::wire::Frame;
use serde::Deserialize;

#[derive(Deserialize)]
struct Frames {
    frames: Vec<Named>,
    ignored: Vec<String>,
    refused: Vec<Refused>,
}

#[derive(Deserialize)]
struct Named {
    name: String,
    text: String,
    #[serde(default)]
    also: Vec<String>,
}

#[derive(Deserialize)]
struct Refused {
    text: String,
    error: String,
}

fn frames() -> Frames {
    serde_json::from_str(include_str!("../vectors/frames.json")).expect("frames.json")
}

// S001-11, S001-12, S001-15
#[test]
fn every_canonical_frame_is_read_and_written_as_it_stands() {
    for Named { name, text, also } in frames().frames {
        let frame = wire::decode(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(wire::decode_generally(&text).as_ref(), Ok(&frame), "{name}: by the general reader");
        let mut written = String::new();
        frame.encode(&mut written);
        assert_eq!(written, text, "{name}");
        assert!(!written.contains('_'), "{name}: keys are in camel case");
        for other in also {
            assert_eq!(wire::decode(&other).as_ref(), Ok(&frame), "{name}: {other}");
        }
    }
}

#[test]
fn every_frame_that_this_version_does_not_know_is_ignored() {
    for text in frames().ignored {
        assert_eq!(wire::decode(&text), Ok(Frame::Unknown), "{text}");
    }
}

// S002-15
#[test]
fn every_text_that_is_no_frame_is_refused_for_its_reason() {
    for Refused { text, error } in frames().refused {
        let refused = wire::decode(&text).expect_err(&text);
        assert_eq!(refused.to_string(), error, "{text}");
    }
}

// S001-34
#[test]
fn a_client_and_a_server_refuse_the_same_texts_for_the_same_reasons() {
    let mut refused = 0;
    for Refused { text, .. } in frames().refused {
        if text.contains('\n') || text.trim().is_empty() {
            continue;
        }
        refused += 1;
        let error = wire::decode(&text).unwrap_err();
        let mut client = LoneClient::attached(steady());
        assert_eq!(client.hear(&text), [client::Output::Event(Event::FrameSkipped { error })], "{text}");
        let mut server = LoneServer::new(Config::default());
        let transport = server.greet(hello(1));
        let (cid, event) = (hello(1).cid, PeerEvent::FrameSkipped { error });
        assert_eq!(server.hear(transport, &text), [Output::Peer { cid, event }], "{text}");
    }
    assert!(refused > 20, "only {refused}");
}

#[test]
fn the_client_does_what_its_transcripts_say() {
    replay("client.json", Machine::Client);
}

#[test]
fn the_server_does_what_its_transcripts_say() {
    replay("server.json", Machine::Server);
}
