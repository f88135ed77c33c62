//! The bare core on plain threads: a client machine and a server machine in one program, with blocking WebSockets between them
//! and no async runtime.
//!
//! Each machine has a thread of its own, and that thread has one queue, into which goes all that can happen: bytes, accepted
//! streams, commands. So the law of the machines is one loop, and its three things to wait for are one `recv_timeout`.
//!
//! The client sends numbers and the server answers each. Twice the server shuts the TCP stream down in the middle of that,
//! when its application has a number and the client has not been told. Exit code 1 where anything was lost, doubled, out of
//! order, or not told to be delivered.

mod transport;

use std::collections::BTreeSet;
use std::error::Error;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Secrets;
use reattach_core::client::Status;
use reattach_core::connection::Incoming;
use reattach_core::id::ConnectionKey;
use reattach_core::id::Epoch;
use reattach_core::id::Fence;
use reattach_core::id::InstanceId;
use reattach_core::id::MessageId;
use reattach_core::id::TransportId;
use reattach_core::outcome::Outcome;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::server::Mint;
use reattach_core::server::PeerEvent;
use reattach_core::server::RegistryEvent;
use reattach_core::server::Server;
use reattach_core::time::Instant;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Payload;
use tungstenite::Message;
use tungstenite::protocol::Role;

use self::transport::SILENCE;
use self::transport::Transports;

const MESSAGES: u32 = 50;
/// How long the client's user thinks before the next message.
const PACE: Duration = Duration::from_millis(10);
/// The numbers at which the server shuts the stream down.
const CUTS: [u32; 2] = [15, 35];
/// How long each machine may take to come to its end, once everything is sent.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much may wait for a machine. Behind that the sockets wait, and so does the peer.
const QUEUE: usize = 64;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (finish, finished) = mpsc::channel();
    let (server, server_inbox) = mpsc::sync_channel(QUEUE);
    let (client, client_inbox) = mpsc::sync_channel(QUEUE);
    let (server_finish, server_transports) = (finish.clone(), Transports::new(&server));
    thread::spawn(move || server_finish.send(("server", run_server(server_transports, &server_inbox))));
    let client_transports = Transports::new(&client);
    thread::spawn(move || finish.send(("client", run_client(address, client_transports, &client_inbox))));
    thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            _ = server.send(News::Accepted(stream));
        }
    });

    for number in 1..=MESSAGES {
        client.send(News::Send(number))?;
        thread::sleep(PACE);
    }
    let logs = [finished.recv_timeout(PATIENCE)?, finished.recv_timeout(PATIENCE)?];
    for (side, Log { taken, outcomes, .. }) in &logs {
        let delivered = outcomes.iter().filter(|(_, outcome)| outcome.is_delivered()).count();
        println!("The {side} took {taken:?}. Of its own messages {delivered} were delivered.");
    }
    let is_right = logs.iter().all(|(_, log)| log.is_right());
    println!("{}", if is_right { "All of it once, in order, and delivered." } else { "This is WRONG." });
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All that a machine's thread can be told.
enum News {
    Accepted(TcpStream),
    Opened(TransportId),
    NotOpened(TransportId, OpenError),
    /// So many more bytes came, and so many more of the texts have left.
    Moved(TransportId, u64, u64),
    Received(TransportId, Message),
    Closed(TransportId, CloseCode),
    /// The application's command.
    Send(u32),
}

/// The first of bytes, command, deadline.
fn wait(inbox: &Receiver<News>, wake_at: Option<Instant>) -> Option<News> {
    match wake_at {
        Some(at) => inbox.recv_timeout(at - now()).ok(),
        None => inbox.recv().ok(),
    }
}

/// Drives the client: drain every output, wait, mutate, and again.
fn run_client(address: SocketAddr, mut transports: Transports, inbox: &Receiver<News>) -> Log {
    let mut config = client::Config::default();
    // For the sake of whoever watches. Real servers are grateful for the default.
    config.reconnect.backoff.base = Duration::from_millis(200);
    let (key, instance) = (ConnectionKey::from_bytes(random()), InstanceId::from_bytes(random()));
    let secrets = Secrets { key, spare: None, instance };
    let mut client = Client::new(config, secrets, u64::from_le_bytes(random()), now());
    let mut log = Log::default();
    loop {
        while let Some(output) = client.poll_output() {
            match output {
                client::Output::Open { transport } => {
                    transports.start(transport, Role::Client, move || TcpStream::connect_timeout(&address, SILENCE));
                }
                client::Output::Write { transport, text } => transports.write(transport, text),
                client::Output::Close { transport, code } => transports.close(transport, code),
                client::Output::Event(event) => match event.outcome() {
                    Some((id, outcome)) => log.outcomes.push((id, outcome.clone())),
                    None => println!("client: {event:?}"),
                },
            }
        }
        if matches!(client.status(), Status::Closed(_) | Status::Failed(_)) {
            return log;
        }
        let news = wait(inbox, client.poll_timeout());
        let now = now();
        match news {
            Some(News::Opened(transport)) => {
                client.handle_input(client::Input::Opened { transport, token: None }, now);
            }
            Some(News::NotOpened(transport, error)) => {
                client.handle_input(client::Input::OpenFailed { transport, error }, now);
            }
            Some(News::Moved(transport, read, written)) => {
                let written = transports.on_written(transport, written);
                client.handle_input(client::Input::Progress { transport, read, written }, now);
            }
            Some(News::Received(transport, message)) => {
                let incoming = incoming(&message);
                client.handle_input(client::Input::Received { transport, incoming }, now);
            }
            Some(News::Closed(transport, code)) => {
                transports.forget(transport);
                client.handle_input(client::Input::Closed { transport, code }, now);
            }
            Some(News::Send(number)) => {
                let sent = client.send(payload(number).into(), now);
                log.sent.push(sent.expect("the outbox has room for all of them"));
            }
            Some(News::Accepted(_)) | None => {}
        }
        // Also while there is always something else to do. Too early does no harm.
        client.handle_timeout(now);
        while let Some(delivery) = client.take(now) {
            log.taken.push(delivery.payload().parse().expect("the server sends numbers"));
            if log.taken.last() == Some(&MESSAGES) {
                client.close(PATIENCE, now);
            }
        }
    }
}

/// Drives the server by the same law.
fn run_server(mut transports: Transports, inbox: &Receiver<News>) -> Log {
    let mut server = Server::new(server::Config::default(), now());
    let mut log = Log::default();
    let mut accepted = 0;
    let mut newest = None;
    let mut connections = BTreeSet::new();
    let mut is_over = false;
    loop {
        while let Some(output) = server.poll_output() {
            match output {
                server::Output::Write { transport, text } => transports.write(transport, text),
                server::Output::Close { transport, code } => transports.close(transport, code),
                server::Output::Peer { event: PeerEvent::Closed { .. }, .. } => is_over = true,
                server::Output::Peer { event, .. } => match event.outcome() {
                    Some((id, outcome)) => log.outcomes.push((id, outcome.clone())),
                    None => println!("server: {event:?}"),
                },
                server::Output::Registry(RegistryEvent::Registered { cid, .. }) => _ = connections.insert(cid),
                server::Output::Registry(event) => println!("server: {event:?}"),
                server::Output::Authenticate { .. } => unreachable!("the configuration asks for no authentication"),
            }
        }
        if is_over {
            return log;
        }
        let news = wait(inbox, server.poll_timeout());
        let now = now();
        match news {
            Some(News::Accepted(stream)) => {
                accepted += 1;
                let transport = TransportId(accepted);
                let address = stream.peer_addr().ok().map(|address| address.ip());
                let mint = Mint { epoch: Epoch::from_bytes(random()), fence: Fence::from_bytes(random()) };
                server.handle_input(server::Input::Accepted { transport, address, mint }, now);
                newest = stream.try_clone().ok();
                transports.start(transport, Role::Server, move || Ok(stream));
            }
            Some(News::Moved(transport, read, written)) => {
                let written = transports.on_written(transport, written);
                server.handle_input(server::Input::Progress { transport, read, written }, now);
            }
            Some(News::Received(transport, message)) => {
                let incoming = incoming(&message);
                server.handle_input(server::Input::Received { transport, incoming }, now);
            }
            Some(News::NotOpened(transport, _)) => {
                transports.forget(transport);
                server.handle_input(server::Input::Closed { transport, code: CloseCode::ABNORMAL }, now);
            }
            Some(News::Closed(transport, code)) => {
                transports.forget(transport);
                server.handle_input(server::Input::Closed { transport, code }, now);
            }
            Some(News::Opened(_) | News::Send(_)) | None => {}
        }
        server.handle_timeout(now);
        for cid in &connections {
            while let Some(delivery) = server.take(cid, now) {
                let number = delivery.payload().parse().expect("the client sends numbers");
                log.taken.push(number);
                let sent = server.send(cid, payload(number).into(), now);
                log.sent.push(sent.expect("the outbox has room for all of them"));
                if let Some(stream) = newest.as_ref().filter(|_| CUTS.contains(&number)) {
                    println!("server: has taken {number}, and shuts the stream down before it can say so");
                    _ = stream.shutdown(Shutdown::Both);
                }
            }
        }
    }
}

/// What an application did and was told.
#[derive(Default)]
struct Log {
    taken: Vec<u32>,
    sent: Vec<MessageId>,
    outcomes: Vec<(MessageId, Outcome)>,
}

impl Log {
    fn is_right(&self) -> bool {
        let is_delivered = |id: &MessageId| self.outcomes.contains(&(*id, Outcome::Delivered));
        self.taken.iter().copied().eq(1..=MESSAGES)
            && self.sent.len() == self.taken.len()
            && self.outcomes.len() == self.sent.len()
            && self.sent.iter().all(is_delivered)
    }
}

fn incoming(message: &Message) -> Incoming<'_> {
    if let Message::Text(text) = message { Incoming::Text(text.as_str()) } else { Incoming::Binary }
}

fn payload(number: u32) -> Payload {
    Payload::new(&number).expect("a number is JSON")
}

/// A program on machines that sleep takes a clock that counts the sleep.
fn now() -> Instant {
    static ORIGIN: LazyLock<std::time::Instant> = LazyLock::new(std::time::Instant::now);
    Instant::ZERO + ORIGIN.elapsed()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system's CSPRNG works");
    bytes
}
