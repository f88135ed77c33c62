//! What is logged of failures. Alone in its process: the logs of other tests would be in its way.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use reattach_smol::ClientConfig;
use reattach_smol::ServerConfig;
use reattach_smol::testing::Simulation;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

const URL: &str = "ws://server.test/";
const SECOND: Duration = Duration::from_secs(1);

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

// S003-54
#[test]
fn each_way_in_which_a_connection_fails_is_logged_with_its_name() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(LevelFilter::DEBUG).with_ansi(false);
    subscriber.with_writer(log.clone()).init();
    let cid = Simulation::new(1).run(async |net| {
        let server = net.bind("server.test:80", ServerConfig::new()).await.unwrap();
        let client = net.connect(URL, ClientConfig::new()).await.unwrap();
        net.cut();
        net.sleep(60 * SECOND).await;
        net.stall();
        net.sleep(60 * SECOND).await;
        net.heal();
        net.sleep(60 * SECOND).await;
        net.refuse(true);
        net.cut();
        net.sleep(300 * SECOND).await;
        drop(server);
        client.connection_id()
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let of_client: Vec<_> = log.lines().filter(|line| line.contains(&format!("client{{cid={cid}}}"))).collect();
    for kind in ["Closed(CloseCode(1006", "Stalled", "ConnectTimeout", "NotOpened(Unreachable)", "Exhausted"] {
        assert!(of_client.iter().any(|line| line.contains(kind)), "{kind} is not in {of_client:#?}");
    }
}
