//! What the registry asks for and tells, and what holds after every operation.

use std::time::Duration;

use reattach_core::id::TransportId;
use reattach_core::server::Answer;
use reattach_core::server::Command;
use reattach_core::server::RegistryEvent;
use reattach_core::server::RegistryOutput;
use reattach_core::wire::Frame;
use reattach_core::wire::Receipt;

use crate::fuzz::shapes;

use super::Run;
use super::ledger::Asked;
use super::ledger::Known;

impl Run<'_> {
    pub(super) fn on_output(&mut self, output: RegistryOutput) {
        match output {
            RegistryOutput::Write { transport, text } => self.on_write(transport, &text),
            RegistryOutput::Close { transport, .. } => {
                assert!(self.ledger.visitors.remove(&transport).is_some(), "only a visitor is closed, once");
            }
            RegistryOutput::Authenticate { transport, cid, token } => {
                let visitor = self.ledger.visitors.get_mut(&transport).expect("who is asked about is there");
                let hello = visitor.hello.as_ref().expect("and has said hello");
                assert!(self.ledger.config.authenticate && hello.cid == cid && hello.token == token);
                assert!(cid.is_owned_by(&hello.key), "nobody is asked about who has not the key");
                assert!(!visitor.is_asked && visitor.admission.is_none(), "a question is asked once");
                visitor.is_asked = true;
            }
            RegistryOutput::Create(origin) => {
                assert!(self.is_registered.take() == Some(origin.id.cid), "a peer is made for who was registered");
                self.ledger.on_create(&origin);
                self.peers.push(origin.id);
            }
            RegistryOutput::Command { peer, command } => match command {
                Command::Attach(attach) => self.ledger.on_attach(peer, &attach, self.now),
                Command::Expire | Command::Revoke => {
                    assert!(self.may_end, "nobody ends without a cause");
                    let known = self.ledger.connections.get_mut(&peer.cid).expect("who is to end is there");
                    let is_idle = known.asked == Asked::Nothing && known.carries.is_none();
                    assert!(
                        known.peer == peer && (command == Command::Revoke || is_idle),
                        "only who is detached expires"
                    );
                    known.asked = Asked::End;
                }
                Command::Fence => {
                    assert!(self.may_fence, "nobody is given up without a cause");
                    let known = &self.ledger.connections[&peer.cid];
                    assert_eq!(known.peer, peer);
                    let receipt = Receipt::not_final(known.epoch);
                    self.ledger.keep(peer.cid, receipt, self.now);
                }
            },
            RegistryOutput::Event(event) => self.on_event(event),
        }
    }

    fn on_event(&mut self, event: RegistryEvent) {
        match event {
            RegistryEvent::Registered { cid, .. } => {
                assert!(!self.ledger.connections.contains_key(&cid), "what is new was not there");
                self.is_registered = Some(cid);
            }
            RegistryEvent::Refused { transport, refusal } => self.refused.push((transport, refusal)),
            RegistryEvent::Removed { cid } => {
                assert!(self.ledger.connections.remove(&cid).is_some(), "what is removed was there");
            }
            RegistryEvent::Fenced { .. } => assert!(self.may_fence),
            RegistryEvent::Expired { .. } => assert!(self.may_end),
            RegistryEvent::TakenOver { .. } | _ => {}
        }
    }

    fn on_write(&mut self, transport: TransportId, text: &str) {
        let visitor = self.ledger.visitors.get_mut(&transport).expect("what is written names a visitor");
        visitor.produced += text.len();
        for frame in shapes::frames_written(text) {
            match frame {
                Frame::Challenge(challenge) => {
                    assert_eq!(challenge.fence, visitor.mint.fence, "the fence is the transport's own");
                    visitor.is_challenged = true;
                }
                Frame::Bye(bye) => assert!(bye.report.is_none() && !bye.end, "a stranger learns nothing"),
                Frame::Hello(_)
                | Frame::Welcome(_)
                | Frame::Message(_)
                | Frame::Ephemeral(_)
                | Frame::Void(_)
                | Frame::Ack(_)
                | Frame::Ping(_)
                | Frame::Pong(_)
                | Frame::Unknown => panic!("no registry writes {text}"),
            }
        }
    }

    /// What holds after every operation.
    pub(super) fn check(&self) {
        let (registry, ledger) = (&self.registry, &self.ledger);
        assert_eq!(registry.connections(), ledger.connections.len(), "it counts its connections");
        assert_eq!(registry.transports(), ledger.transports(), "it counts the transports that live");
        assert!(registry.receipts() <= ledger.receipts(), "what is kept was handed in");
        for (cid, known) in &ledger.connections {
            assert_eq!(registry.is_reachable(cid), known.carries.is_some(), "who has a transport can be reached");
        }
        ledger.check();
        let is_waiting = ledger.is_waiting() || registry.receipts() > 0;
        assert_eq!(
            registry.poll_timeout().is_some(),
            is_waiting,
            "nothing waits without a timer, nor a timer for nothing"
        );
        let longest = ledger.config.receipts.ttl.max(ledger.config.suspended_ttl) + Duration::from_secs(10);
        assert!(registry.poll_timeout().is_none_or(|at| at <= self.now + longest), "every wait ends");
    }

    /// Nobody says anything any more. Nothing is left over.
    pub(super) fn finish(mut self) {
        let carried = |known: &Known| Some((known.peer, known.carries?));
        let carried: Vec<_> = self.ledger.connections.values().filter_map(carried).collect();
        for (peer, transport) in carried {
            self.on_answer(peer, Answer::Detached { transport, is_suspended: false });
        }
        for _ in 0..200 {
            let Some(at) = self.registry.poll_timeout() else { break };
            self.wake_at(self.now.max(at));
            self.check();
        }
        let registry = &self.registry;
        assert_eq!((registry.connections(), registry.transports(), registry.receipts()), (0, 0, 0), "{registry:?}");
        assert!(self.ledger.connections.is_empty() && self.ledger.visitors.is_empty());
    }
}
