//! A client and a server, and a network that delivers at once what a test lets it.

use reattach_core::client;
use reattach_core::client::Client;
use reattach_core::client::Secrets;
use reattach_core::client::Status;
use reattach_core::connection::Incoming;
use reattach_core::id::TransportId;
use reattach_core::server;
use reattach_core::server::Server;
use reattach_core::time::Instant;

use crate::alone::mint;
use crate::world::secrets;

/// The time, which stands still.
pub const NOW: Instant = Instant::from_secs(1);

/// The two machines.
#[derive(Debug)]
pub struct Pair {
    /// The client, whose secrets are those of number 1 without a spare key.
    pub client: Client,
    /// The server.
    pub server: Server,
    /// How many transports the server has had. The newest has this number, on both sides.
    pub transports: u64,
}

impl Pair {
    /// A client that may try so often once its transport is lost, and a server. No transport is open.
    pub fn new(attempts: Option<u32>) -> Self {
        let mut config = client::Config::default();
        config.reconnect.attempts = attempts;
        let client = Client::new(config, Secrets { spare: None, ..secrets(1) }, 0, NOW);
        let mut pair = Self { client, server: Server::new(server::Config::default(), NOW), transports: 0 };
        pair.up();
        pair
    }

    /// What the client writes.
    pub fn up(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.client.poll_output())
            .filter_map(|output| if let client::Output::Write { text, .. } = output { Some(text) } else { None })
            .collect()
    }

    /// What the server writes on the newest transport.
    pub fn down(&mut self) -> Vec<String> {
        let newest = TransportId(self.transports);
        std::iter::from_fn(|| self.server.poll_output())
            .filter_map(|output| {
                if let server::Output::Write { transport, text } = output { Some((transport, text)) } else { None }
            })
            .filter(|(transport, _)| *transport == newest)
            .map(|(_, text)| text)
            .collect()
    }

    /// A text comes to the client.
    pub fn client_hears(&mut self, text: &str) {
        let transport = TransportId(self.transports);
        self.client.handle_input(client::Input::Received { transport, incoming: Incoming::Text(text) }, NOW);
    }

    /// A text comes to the server.
    pub fn server_hears(&mut self, text: &str) {
        let transport = TransportId(self.transports);
        self.server.handle_input(server::Input::Received { transport, incoming: Incoming::Text(text) }, NOW);
    }

    /// The server's next transport is there.
    pub fn accept(&mut self) {
        self.transports += 1;
        let transport = TransportId(self.transports);
        let mint = mint(self.transports);
        self.server.handle_input(server::Input::Accepted { transport, address: None, mint }, NOW);
    }

    /// The client's next transport opens and is attached. What the server writes besides arrives too.
    pub fn attach(&mut self) {
        self.accept();
        let transport = TransportId(self.transports);
        self.client.handle_input(client::Input::Opened { transport, token: None }, NOW);
        let hello = self.up().pop().expect("a client says hello");
        self.server_hears(&hello);
        self.down().iter().for_each(|text| self.client_hears(text));
        assert_eq!(self.client.status(), Status::Attached);
    }
}
