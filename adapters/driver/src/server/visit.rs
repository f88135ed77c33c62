//! The task that holds a stranger's socket, from the first byte to an accepted hello.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use async_tungstenite::tungstenite;
use async_tungstenite::tungstenite::protocol::WebSocketConfig;
use futures_util::future::Either;
use futures_util::future::select;
use reattach_core::connection::Incoming;
use reattach_core::id::Principal;
use reattach_core::id::TransportId;
use reattach_core::server;
use reattach_core::server::RegistryInput;
use reattach_core::wire;
use reattach_core::wire::CloseCode;

use crate::runtime::Io;
use crate::runtime::Task;
use crate::server::config::Admitted;
use crate::server::config::Hello;
use crate::server::config::ServerConfig;
use crate::server::desk::Admission;
use crate::server::desk::Desk;
use crate::server::desk::Mailbox;
use crate::server::desk::ToVisitor;
use crate::server::upgrade::Door;
use crate::server::upgrade::MAX_REQUEST;
use crate::server::upgrade::Upgrade;
use crate::server::upgrade::upgrade;
use crate::socket;
use crate::socket::Counted;
use crate::socket::Frame;
use crate::socket::Socket;
use crate::targets;

/// The most bytes that a client's half of a TLS handshake takes, with certificates of its own.
const MAX_TLS_HANDSHAKE: u64 = 32 * 1024;
/// The most that a stranger's socket is read before others have a turn.
const READS: usize = 64;

/// Sees a stream through to its connection, or to the door.
pub(super) async fn visit(
    desk: Arc<Desk>,
    config: Arc<ServerConfig>,
    admission: Admission,
    io: Box<dyn Io>,
    remote: Option<SocketAddr>,
) {
    let Admission { transport, mailbox, is_draining } = admission;
    // Whatever happens to this task, the registry must not count the stream for ever.
    let leaving = Leaving { desk: &desk, transport };
    let sizes = socket::sizes(&desk.core().connection);
    let upgrading = std::pin::pin!(open(&desk, &config, is_draining, io, remote, sizes));
    let turned_away = std::pin::pin!(std::future::poll_fn(|cx| match mailbox.take(Some(cx)) {
        Some(_) => Poll::Ready(()),
        None => Poll::Pending,
    }));
    let (socket, request) = match select(upgrading, turned_away).await {
        Either::Left((Ok(upgraded), _)) => upgraded,
        Either::Left((Err(error), _)) => {
            return tracing::debug!(target: targets::SOCKET, ?transport, %error, "no WebSocket");
        }
        // There is no WebSocket yet on which a word could be said.
        Either::Right(_) => return,
    };
    let mut visitor = Visitor {
        desk: &desk,
        config: &config,
        transport,
        mailbox: &mailbox,
        socket: Some(socket),
        request,
        authenticating: None,
    };
    std::future::poll_fn(|cx| visitor.poll(cx)).await;
    drop(leaving);
    // The registry may have let it in at the very moment that it left. Its connection then hears of a dead socket, and not
    // of nothing at all.
    while let Some(letter) = mailbox.take(None) {
        if let ToVisitor::HandOver { peer, command } = letter {
            peer.command(|peer, now| {
                peer.handle_command(command, now);
                peer.handle_input(server::PeerInput::Closed { transport, code: CloseCode::ABNORMAL }, now);
            });
        }
    }
}

/// Makes a WebSocket of a stream.
async fn open(
    desk: &Desk,
    config: &ServerConfig,
    is_draining: bool,
    io: Box<dyn Io>,
    remote: Option<SocketAddr>,
    sizes: WebSocketConfig,
) -> Result<(Socket, Upgrade), tungstenite::Error> {
    let (counted, counts) = Counted::new(io);
    let limit = MAX_REQUEST as u64 + wire::MAX_CONTROL_FRAME as u64;
    let io: Box<dyn Io> = match &config.tls {
        Some(tls) => {
            counts.limit_reads(limit + MAX_TLS_HANDSHAKE);
            tls.accept(Box::new(counted)).await?
        }
        None => {
            counts.limit_reads(limit);
            Box::new(counted)
        }
    };
    let door = Door { origins: config.origins(), desk, health: config.health(), is_draining };
    upgrade(io, counts, remote, door, sizes).await
}

struct Leaving<'a> {
    desk: &'a Arc<Desk>,
    transport: TransportId,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.desk.tell(RegistryInput::Closed { transport: self.transport });
        self.desk.forget(self.transport);
    }
}

struct Visitor<'a> {
    desk: &'a Arc<Desk>,
    config: &'a ServerConfig,
    transport: TransportId,
    mailbox: &'a Mailbox,
    /// Gone once it was handed over or closed.
    socket: Option<Socket>,
    request: Upgrade,
    authenticating: Option<Task<Option<Admitted>>>,
}

impl Visitor<'_> {
    /// Ready once the socket is in other hands.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for _ in 0..READS {
            while let Some(letter) = self.mailbox.take(Some(cx)) {
                self.obey(letter);
            }
            if let Some(answer) = self.poll_authentication(cx) {
                let input = RegistryInput::Authenticated { transport: self.transport, admission: answer };
                self.desk.tell(input);
                continue;
            }
            let Some(socket) = &mut self.socket else { return Poll::Ready(()) };
            if let Poll::Ready(Err(_)) = socket.poll_flush(cx) {
                return Poll::Ready(());
            }
            match socket.poll_read(cx) {
                Poll::Ready(Frame::Message(message)) => {
                    let incoming = Frame::incoming(&message).unwrap_or(Incoming::Binary);
                    self.desk.tell(RegistryInput::Received { transport: self.transport, incoming });
                }
                Poll::Ready(Frame::Closed { code, is_heard }) => {
                    if let Some(socket) = self.socket.take().filter(|_| is_heard) {
                        self.desk.closing.see_off(socket, code);
                    }
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn obey(&mut self, letter: ToVisitor) {
        match letter {
            ToVisitor::Write(text) => {
                if let Some(socket) = &mut self.socket {
                    // A socket that takes nothing more says so when it is read.
                    _ = socket.feed(text);
                }
            }
            ToVisitor::Close(code) => {
                if let Some(socket) = self.socket.take() {
                    self.desk.closing.see_off(socket, code);
                }
            }
            ToVisitor::Authenticate { cid, token } => {
                let hello = Hello { cid, token, upgrade: self.request.clone() };
                self.authenticating = Some(self.config.authenticate(hello));
            }
            ToVisitor::HandOver { peer, command } => {
                let Some(socket) = self.socket.take() else { return };
                let mut state = peer.lock();
                if !state.is_driven {
                    return self.desk.closing.see_off(socket, CloseCode::ENDED);
                }
                state.arrivals.reserve_exact(1);
                state.arrivals.push((self.transport, socket));
                state.machine.handle_command(command, peer.now());
                drop(state);
                peer.wake_driver();
            }
        }
    }

    fn poll_authentication(&mut self, cx: &mut Context<'_>) -> Option<Option<server::Admission>> {
        use std::future::Future as _;
        let task = self.authenticating.as_mut()?;
        match std::pin::Pin::new(task).poll(cx) {
            Poll::Ready(answer) => {
                self.authenticating = None;
                Some(answer.map(|Admitted { principal, expires_in }| server::Admission {
                    principal: Principal::Named(principal),
                    expires: expires_in.map(|expires_in| self.desk.runtime().now() + expires_in),
                }))
            }
            Poll::Pending => None,
        }
    }
}
