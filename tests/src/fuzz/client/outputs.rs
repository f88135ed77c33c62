//! What the client asks for: a transport at a time, and on it what has its place there.

use reattach_core::client::Output;
use reattach_core::client::Status;
use reattach_core::id::TransportId;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;

use crate::fuzz::shapes;

use super::Run;
use super::Wire;

impl Run<'_> {
    pub(super) fn on_output(&mut self, output: Output) {
        match output {
            Output::Open { transport } => {
                assert!(self.wire.is_none(), "one transport at a time");
                self.opened += 1;
                assert_eq!(transport, TransportId(self.opened), "a transport has a new number");
                let (is_open, produced, written, hello, pinged, bye) = (false, 0, 0, None, 0, None);
                self.wire = Some(Wire { transport, is_open, produced, written, hello, pinged, bye });
            }
            Output::Write { transport, text } => self.on_write(transport, &text),
            Output::Close { transport, code } => {
                let wire = self.wire.take().expect("only what lives is closed, once");
                assert_eq!(wire.transport, transport, "only what lives is closed");
                assert!(wire.bye.is_none_or(|announced| announced == code), "a close is the one that was announced");
                assert!(![CloseCode::ABNORMAL, CloseCode::NO_STATUS].contains(&code), "{code} is never sent");
            }
            Output::Event(event) => self.ledger.on_event(&event),
        }
    }

    fn on_write(&mut self, transport: TransportId, text: &str) {
        let is_attached = self.client.status() == Status::Attached;
        let has_ended = matches!(self.client.status(), Status::Closed(_));
        let wire = self.wire.as_mut().expect("nothing is written without a transport");
        assert!(wire.transport == transport && wire.is_open, "what is written names the live transport");
        wire.produced += text.len() as u64;
        for frame in shapes::frames_written(text) {
            assert_eq!(wire.bye, None, "a bye is the last word");
            match frame {
                Frame::Hello(hello) => {
                    assert!(!is_attached, "a hello comes first");
                    let before = wire.hello.replace(*hello);
                    let hello = wire.hello.as_ref().expect("it was just put there");
                    assert_eq!(before.is_some(), hello.fence.is_some(), "a second hello answers a challenge");
                    assert!(before.is_none_or(|before| before.attempt == hello.attempt), "and repeats its number");
                    assert_eq!(hello.attempt.get(), wire.transport.0, "every transport is another attempt");
                    assert!(hello.cid.is_owned_by(&hello.key));
                }
                Frame::Ping(ping) => {
                    wire.pinged += 1;
                    assert_eq!(ping.n.get(), wire.pinged, "pings are numbered from 1");
                }
                Frame::Bye(bye) => {
                    assert!(!is_attached && (!bye.end || has_ended), "a last word comes when it is over");
                    wire.bye = Some(bye.code);
                }
                Frame::Message(_) | Frame::Ephemeral(_) | Frame::Void(_) | Frame::Ack(_) | Frame::Pong(_) => {
                    assert!(is_attached && wire.hello.is_some(), "only an attached client writes {text}");
                }
                Frame::Challenge(_) | Frame::Welcome(_) | Frame::Unknown => panic!("no client writes {text}"),
            }
        }
    }
}
