//! What stands in the logs, and what never does. Alone in its process: the logs of other tests would be in its way.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io;
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::time::Duration;

use reattach_smol::testing::Simulation;
use reattach_tokio::ClientConfig;
use reattach_tokio::Credentials;
use reattach_tokio::CredentialsProvider;
use reattach_tokio::ServerConfig;
use reattach_tokio::connection_key;
use reattach_tokio::core::id::Name;
use reattach_tokio::core::wire::CloseCode;
use reattach_tokio::core::wire::Payload;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Where the logs of this process go.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// The logs, of which all that is said from now on is kept.
fn logs() -> &'static Log {
    static LOGS: LazyLock<Log> = LazyLock::new(|| {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().with_max_level(LevelFilter::TRACE).with_ansi(false);
        subscriber.with_writer(log.clone()).init();
        log
    });
    &LOGS
}

// S004-054
#[tokio::test]
async fn logs_name_connections_and_hold_no_key_no_credentials_and_no_payload() {
    let log = logs();
    let config = ServerConfig::new().with_authentication(|hello| async move {
        assert!(hello.token.is_some());
        Some(Name::new("alice").unwrap())
    });
    let server = reattach_tokio::bind("127.0.0.1:0", config).await.unwrap();
    let url = format!("ws://{}/?password=hunter2", server.local_addr().unwrap());
    let key = connection_key();
    let credentials = || async { Ok(Credentials::token("hunter2").unwrap()) };
    let config = ClientConfig::new().with_key(key).with_header("Cookie", "hunter2").unwrap();
    let config = config.with_credentials(CredentialsProvider::new(credentials));
    let client = reattach_tokio::connect(&url, config).await.unwrap();
    let connection = server.accept().await.unwrap();

    let receipt = client.send(Payload::new("hunter2").unwrap()).await.unwrap();
    assert!(connection.recv().await.is_some());
    assert!(receipt.await.is_delivered());
    connection.detach(CloseCode::INTERNAL).unwrap();
    _ = connection.send(Payload::new("hunter2").unwrap()).await.unwrap();
    client.reconnect().unwrap();
    assert!(client.recv().await.is_some());
    client.close(Duration::from_secs(5)).await;
    connection.ended().await;

    let (log, cid) = (log.text(), client.connection_id());
    for said in [format!("client{{cid={cid}}}"), format!("connection{{cid={cid}}}"), "Detached".to_owned()] {
        assert!(log.contains(&said), "{said} is not in {log}");
    }
    for secret in ["hunter2".to_owned(), key.reveal()] {
        assert!(!log.contains(&secret), "{secret} is in {log}");
    }
}

// S003-54
#[test]
fn each_way_in_which_a_connection_fails_is_logged_with_its_name() {
    let log = logs();
    let cid = Simulation::new(1).run(async |net| {
        let server = net.bind("server.test:80", ServerConfig::new()).await.unwrap();
        let client = net.connect("ws://server.test/", ClientConfig::new()).await.unwrap();
        let minute = Duration::from_secs(60);
        net.cut();
        net.sleep(minute).await;
        net.stall();
        net.sleep(minute).await;
        net.heal();
        net.sleep(minute).await;
        net.refuse(true);
        net.cut();
        net.sleep(5 * minute).await;
        drop(server);
        client.connection_id()
    });
    let log = log.text();
    // Whoever looks for a failure does not have everything logged.
    let lines = log.lines().filter(|line| !line.contains(" TRACE "));
    let of_client: Vec<_> = lines.filter(|line| line.contains(&format!("client{{cid={cid}}}"))).collect();
    for kind in ["Closed(CloseCode(1006", "Stalled", "ConnectTimeout", "NotOpened(Unreachable)", "Exhausted"] {
        assert!(of_client.iter().any(|line| line.contains(kind)), "{kind} is not in {of_client:#?}");
    }
}
