//! What the server asks for and tells.

use reattach_core::id::TransportId;
use reattach_core::server::Output;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Frame;

use crate::fuzz::shapes;

use super::Run;

impl Run<'_> {
    pub(super) fn on_output(&mut self, output: Output) {
        match output {
            Output::Write { transport, text } => self.on_write(transport, text),
            Output::Close { transport, code } => {
                assert!(self.wires.remove(&transport).is_some(), "only what lives is closed, once");
                assert!(![CloseCode::ABNORMAL, CloseCode::NO_STATUS].contains(&code), "{code} is never sent");
                self.asked.remove(&transport);
                self.ledger.on_close(transport, code);
            }
            Output::Authenticate { transport, cid, token } => {
                let hello = self.wires[&transport].hello.as_ref().expect("who is authenticated has said hello");
                assert!(self.config.authenticate && hello.cid == cid && hello.token == token);
                assert!(self.asked.insert(transport, token).is_none(), "a question is asked once");
            }
            Output::Peer { cid, event } => self.ledger.on_peer(cid, &event),
            Output::Registry(event) => self.ledger.on_registry(&event),
        }
    }

    fn on_write(&mut self, transport: TransportId, text: String) {
        let wire = self.wires.get_mut(&transport).expect("what is written names a live transport");
        wire.produced += text.len() as u64;
        for frame in shapes::frames_written(&text) {
            match frame {
                Frame::Challenge(challenge) => {
                    assert!(
                        wire.cid.is_none() && wire.fence.replace(challenge.fence).is_none(),
                        "one fence is asked for"
                    );
                }
                Frame::Welcome(welcome) => {
                    let hello = wire.hello.as_ref().expect("who is welcome has said hello");
                    assert!(wire.cid.replace(welcome.cid).is_none(), "one welcome");
                    self.ledger.on_welcome(hello, &welcome);
                    let peer = self.server.peer(&welcome.cid).expect("who is welcome has a peer");
                    let fits = hello.report.received <= peer.connection().link().outbox().flight().sent();
                    assert!(fits || peer.is_over() || !welcome.resumed, "the client is not ahead");
                    self.callers.on_welcome(hello, welcome.epoch);
                }
                Frame::Ping(ping) => {
                    wire.pinged += 1;
                    assert_eq!(ping.n.get(), wire.pinged, "pings are numbered from 1");
                }
                Frame::Bye(_) => {}
                Frame::Message(_) | Frame::Ephemeral(_) | Frame::Void(_) | Frame::Ack(_) | Frame::Pong(_) => {
                    assert!(wire.cid.is_some(), "only who is welcome is written to: {text}");
                }
                Frame::Hello(_) | Frame::Unknown => panic!("no server writes {text}"),
            }
        }
        self.ledger.on_write(transport, text);
    }
}
