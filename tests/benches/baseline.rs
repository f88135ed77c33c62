//! The WebSocket below, in memory: what the cost of a delivery is to be compared with.

use std::cell::RefCell;
use std::io;
use std::io::Read;
use std::io::Write;
use std::rc::Rc;

use async_tungstenite::tungstenite::Message;
use async_tungstenite::tungstenite::Utf8Bytes;
use async_tungstenite::tungstenite::WebSocket;
use async_tungstenite::tungstenite::protocol::Role;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;

/// A client's and a server's WebSocket with nothing between them.
pub(crate) struct Sockets {
    client: WebSocket<Pipe>,
    server: WebSocket<Pipe>,
}

impl Sockets {
    pub(crate) fn new() -> Self {
        let pipe = Pipe::default();
        let config = WebSocketConfig::default().read_buffer_size(8 * 1024).write_buffer_size(64 * 1024);
        let of = |role| WebSocket::from_raw_socket(pipe.clone(), role, Some(config));
        Self { client: of(Role::Client), server: of(Role::Server) }
    }

    /// The client writes so many messages, flushes once, and the server reads them. Returns how many came.
    pub(crate) fn carry(&mut self, text: &Utf8Bytes, count: usize) -> usize {
        for _ in 0..count {
            self.client.write(Message::Text(text.clone())).expect("memory takes all");
        }
        self.client.flush().expect("memory takes all");
        let mut came = 0;
        while let Ok(Message::Text(_)) = self.server.read() {
            came += 1;
        }
        came
    }
}

/// Bytes on their way, one way.
#[derive(Clone, Default)]
struct Pipe(Rc<RefCell<Bytes>>);

#[derive(Default)]
struct Bytes {
    bytes: Vec<u8>,
    /// How many of them were read.
    read: usize,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let Bytes { bytes, read } = &mut *self.0.borrow_mut();
        let mut left = &bytes[*read..];
        if left.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = left.read(buf)?;
        *read += count;
        if *read == bytes.len() {
            bytes.clear();
            *read = 0;
        }
        Ok(count)
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().bytes.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
