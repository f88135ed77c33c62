//! Who has no business here: strangers at the door, and clients that ask for what makes no sense. Nothing may come of either.

use std::time::Duration;

use futures_util::AsyncReadExt;
use futures_util::AsyncWriteExt;
use reattach_driver::core::rpc;
use reattach_driver::core::rpc::Failure;
use reattach_driver::core::wire::Payload;
use reattach_driver::testing::Net;

use super::ledger::check;
use super::world::World;
use crate::frames::hello;
use crate::frames::hello_text;

/// Who stands at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// It does not speak HTTP.
    Noise,
    /// It asks for a WebSocket, and says nothing.
    Silent,
    /// A text that is no frame.
    Garbage,
    /// A binary message.
    Binary,
    /// A frame that has no place before a hello.
    TooSoon,
    /// A hello without credentials.
    Nobody,
    /// A message that says it is larger than anything.
    Huge,
}

impl Stranger {
    pub(super) const ALL: [Self; 7] =
        [Self::Noise, Self::Silent, Self::Garbage, Self::Binary, Self::TooSoon, Self::Nobody, Self::Huge];

    /// What it writes, after the handshake if it makes one.
    fn says(self) -> Vec<u8> {
        match self {
            Self::Noise => (0..=255).cycle().take(2_000).collect(),
            Self::Silent => Vec::new(),
            Self::Garbage => websocket(TEXT, b"{\"t\":[[[[[\\ud800"),
            Self::Binary => websocket(BINARY, &[0, 159, 146, 150]),
            Self::TooSoon => websocket(TEXT, br#"{"t":"msg","seq":1,"lane":"s0","d":["allow"]}"#),
            Self::Nobody => websocket(TEXT, hello_text(hello(9)).as_bytes()),
            Self::Huge => {
                let mut bytes = vec![0x80 | TEXT, 0x80 | 127];
                bytes.extend(u64::MAX.to_be_bytes());
                bytes
            }
        }
    }
}

const UPGRADE: &str = "GET / HTTP/1.1\r\nHost: server.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                       Sec-WebSocket-Protocol: reattach.v1\r\n\r\n";

/// Opcodes (RFC 6455, 5.2).
const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// A message of one WebSocket frame, with a mask that changes nothing.
fn websocket(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("what strangers say is short");
    let mut bytes = vec![0x80 | opcode, 0x80 | 126];
    bytes.extend(length.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

impl World {
    /// Somebody comes to the door, and stays until it is shut or that takes too long.
    pub(super) fn come(&self, stranger: Stranger, stays: Duration) {
        let net = self.net.clone();
        let own = net.clone();
        net.spawn(async move { own.timeout(stays, visit(&own, stranger)).await });
    }

    /// A client asks its hub for something that makes no sense.
    pub(super) fn ask_nonsense(&self, client: usize, session: usize, nth: usize) {
        let running = &self.clients[client];
        let (method, params) = NONSENSE[nth % NONSENSE.len()];
        let params = params.replace("SESSION", &format!("s{session}"));
        let params = Payload::from_json(&params).expect("it is JSON");
        let made = rpc::Call::new(method).and_then(|made| made.with_params(params.clone()));
        let Ok(response) = made.and_then(|made| running.client.call(made)) else { return };
        let (ledger, program) = (self.ledger.clone(), running.program);
        self.net.spawn(async move {
            let response = response.await;
            ledger.note(&format!("program {program} asks for {method} {}: {response:?}", params.as_str()), |known| {
                if matches!(&response, Err(error) if matches!(error.failure, Failure::Refused(_))) {
                    known.coverage.reach("nonsense refused");
                }
                check(response.is_err(), "S5", || format!("{method} {} is taken", params.as_str()))
            });
        });
    }
}

async fn visit(net: &Net, stranger: Stranger) {
    let runtime = net.at("street").runtime();
    let Ok(mut stream) = runtime.dial("server.test".to_owned(), 80).await else { return };
    let mut answer = vec![0; 1_024];
    if stranger != Stranger::Noise {
        // Whatever is answered, it goes on.
        _ = stream.write_all(UPGRADE.as_bytes()).await;
        _ = stream.read(&mut answer).await;
    }
    _ = stream.write_all(&stranger.says()).await;
    while stream.read(&mut answer).await.is_ok_and(|count| count > 0) {}
}

/// What makes no sense, and must come to nothing.
const NONSENSE: [(&str, &str); 14] = [
    ("session/watch", "{}"),
    ("session/watch", r#"{"session":"SESSION"}"#),
    ("session/watch", r#"{"session":"SESSION","from":{"epoch":"zz","offset":-1},"tag":"t"}"#),
    ("session/watch", r#"["SESSION"]"#),
    ("session/unwatch", r#"{"session":null}"#),
    ("session/own", r#"{"session":7}"#),
    ("session/own", r#"{"session":"no such session"}"#),
    ("session/release", r#"{"session":"SESSION","generation":18446744073709551616}"#),
    ("session/suspend", r#"{"session":"SESSION","generation":"1"}"#),
    ("permission/answer", r#"{"requestId":"q1"}"#),
    ("permission/answer", r#"{"requestId":"q1","decision":"Allow"}"#),
    ("permission/answer", r#"{"requestId":"q1","decision":["allow"]}"#),
    ("permission/look", r#"{"requestId":"q1","looking":1}"#),
    ("session/delete", r#"{"session":"SESSION"}"#),
];
