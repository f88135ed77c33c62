//! Strangers: who knows a connection's name and not its key, who repeats what was said, who says nothing at all.

use std::time::Duration;

use reattach_core::id::TransportId;

use crate::oracle::Fault;

use super::schedule::Hostility;
use super::schedule::Way;
use super::wires::Item;
use super::wires::Wire;
use super::world::World;

impl World<'_> {
    pub(super) fn come_as_stranger(&mut self, seat: u8, hostility: Hostility) {
        let seats = self.seats.len();
        let victim = usize::from(seat) % seats;
        let Some(hello) = self.seats[victim].hellos.last().cloned() else { return };
        let text = match hostility {
            Hostility::Garbage => Item::Text(String::from("{\"t\":\"hello\",\"key\":1}")),
            Hostility::Binary => Item::Binary,
            Hostility::Forward(which) => Item::Text(String::from(FORWARD[usize::from(which) % FORWARD.len()])),
            Hostility::Keyless => Item::Text(with(&hello, "key", "000102030405060708090a0b0c0d0e0f")),
            Hostility::OtherAccount => {
                if !self.schedule.plan.server.authenticate {
                    return;
                }
                self.seats[victim].is_robbed = true;
                for (number, wire) in &self.wires {
                    if wire.seat.is_some_and(|seat| self.seats[seat].key == self.seats[victim].key) {
                        self.oracle.on_fault(*number, Fault::Credentials);
                    }
                }
                Item::Text(with(&with(&hello, "token", "account 99"), "instance", "00000000000000000000000000000099"))
            }
            Hostility::Ghost => {
                // Whoever could repeat a hello before it arrives would hold the wire itself.
                let (hellos, wire) = (&self.seats[victim].hellos, self.seats[victim].wire);
                let is_heard = wire.is_some_and(|wire| self.oracle.was_welcomed(wire));
                let newest = if is_heard { 0 } else { 1 };
                let old = newest + usize::from(seat / 2);
                let Some(hello) = hellos.len().checked_sub(1 + old).map(|index| hellos[index].clone()) else { return };
                Item::Text(hello)
            }
            Hostility::Blind => Item::Text(with(&hello, "instance", "00000000000000000000000000000098")),
            Hostility::Flood => {
                for _ in 0..4 {
                    self.open_as_stranger(false);
                }
                return;
            }
        };
        let has_key = matches!(hostility, Hostility::Ghost | Hostility::Blind | Hostility::OtherAccount);
        let number = self.open_as_stranger(has_key);
        if hostility == Hostility::OtherAccount {
            self.oracle.on_fault(number, Fault::Thief);
        }
        if let Item::Text(text) = &text {
            self.strangers.insert(number, text.clone());
        }
        self.put(number, Way::Up, text, Duration::ZERO);
    }

    fn open_as_stranger(&mut self, has_key: bool) -> u64 {
        self.opened += 1;
        let number = self.opened;
        self.tell(|_| format!("a stranger opens {number}"));
        self.wires.insert(number, Wire::new(None, TransportId(number), self.now));
        self.oracle.on_stranger(number, has_key);
        self.put(number, Way::Up, Item::Open, Duration::ZERO);
        number
    }

    /// A stranger is challenged. A thief answers like anybody; others guess.
    pub(super) fn answer_as_stranger(&mut self, number: u64, text: &str) {
        let Some(fence) = text.strip_prefix("{\"t\":\"challenge\",\"fence\":\"") else { return };
        let Some(mut hello) = self.strangers.remove(&number) else { return };
        let is_thief = hello.contains("account 99");
        let fence = if is_thief { fence.trim_end_matches("\"}") } else { "00112233445566778899aabbccddeeff" };
        hello.truncate(hello.len() - 1);
        hello.push_str(&format!(",\"fence\":\"{fence}\"}}"));
        self.put(number, Way::Up, Item::Text(hello), Duration::ZERO);
    }
}

/// What has no place before a hello.
const FORWARD: [&str; 6] = [
    "{\"t\":\"msg\",\"seq\":1,\"d\":[1,\"\"]}",
    "{\"t\":\"ack\",\"received\":1,\"settled\":1}",
    "{\"t\":\"void\",\"seq\":1}",
    "{\"t\":\"ping\",\"n\":1}",
    "{\"t\":\"pong\",\"n\":1,\"received\":1,\"settled\":1}",
    "{\"t\":\"bye\",\"code\":1000,\"end\":true}",
];

/// A hello with another value for a key that it has.
fn with(hello: &str, key: &str, value: &str) -> String {
    let mark = format!("\"{key}\":\"");
    let Some((before, rest)) = hello.split_once(&mark) else { return hello.to_owned() };
    let rest = rest.split_once('"').map_or("", |(_, rest)| rest);
    format!("{before}{mark}{value}\"{rest}")
}
