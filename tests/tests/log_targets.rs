//! What is logged of each part, and that one part can be looked at alone.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use reattach_smol::ClientConfig;
use reattach_smol::Hub;
use reattach_smol::Router;
use reattach_smol::ServerConfig;
use reattach_smol::core::hub::Config;
use reattach_smol::core::hub::WatcherEvent;
use reattach_smol::core::id::Name;
use reattach_smol::core::id::Principal;
use reattach_smol::core::id::SessionId;
use reattach_smol::core::messages::Choice;
use reattach_smol::core::messages::PermissionId;
use reattach_smol::core::messages::PermissionRequest;
use reattach_smol::core::session::WatchFrom;
use reattach_smol::core::wire::Payload;
use reattach_smol::targets;
use reattach_smol::testing::Net;
use reattach_smol::testing::Simulation;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

const URL: &str = "ws://server.test/";
const SECOND: Duration = Duration::from_secs(1);
/// What stands in everything that is said, asked and answered.
const SECRET: &str = "hunter2";

static ALONE: Mutex<()> = Mutex::new(());

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

/// What the same story logs under a filter, line by line.
fn logged(filter: &str) -> Vec<String> {
    let log = Log::default();
    let lines = tracing_subscriber::fmt::layer().with_writer(log.clone()).with_ansi(false);
    let subscriber = tracing_subscriber::registry().with(filter.parse::<Targets>().unwrap()).with(lines);
    // What is worth logging is found out for all threads at once.
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let during = subscriber.set_default();
    Simulation::new(1).run(story);
    drop(during);
    drop(alone);
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(!text.contains(SECRET), "{filter}: {text}");
    text.lines().map(str::to_owned).collect()
}

fn secret() -> Payload {
    Payload::new(SECRET).unwrap()
}

fn question(name: &str) -> PermissionRequest {
    PermissionRequest {
        id: PermissionId::new(name).unwrap(),
        tool_name: SECRET.to_owned(),
        input: secret(),
        context: secret(),
        timestamp: String::new(),
        remaining: None,
    }
}

/// A session that is watched over a cut, with questions that are answered and that time out; a stranger who is no client; and a
/// notification that makes no sense.
async fn story(net: Net) {
    let config = ServerConfig::new().with_authentication(|_| async { Name::new("ada").ok() });
    let server = net.bind("server.test:80", config).await.unwrap();
    let hub = Hub::new(&server, Config::default());
    let (accepting, serving, tasks) = (server.clone(), hub.clone(), net.clone());
    net.spawn(async move {
        // Whoever reads the text that comes instead quotes it.
        let router = Router::new().on_notification("say", |_: (u64,)| async {});
        while let Some(connection) = accepting.accept().await {
            let (hub, router) = (serving.clone(), router.clone());
            tasks.spawn(async move { hub.serve(&connection, &router).await });
        }
    });
    let (stranger, remote) = (futures_util::io::Cursor::new(b"GET / HTTP/1.0\r\n\r\n".to_vec()), None);
    server.serve(stranger, remote);
    let id = SessionId::new("s").unwrap();
    let session = hub.create(id.clone(), Principal::Named(Name::new("ada").unwrap())).unwrap();
    let client = net.connect(URL, ClientConfig::new()).await.unwrap();
    let mut watch = client.watch_session(id, WatchFrom::Now).unwrap();
    while watch.next().await.unwrap() != WatcherEvent::UpToDate {}
    session.publish(&secret()).unwrap();
    client.notify("say", &[SECRET]).unwrap();
    let asked = session.ask(question("answered")).unwrap();
    let late = session.ask_within(question("late"), 30 * SECOND).unwrap();
    net.cut();
    let mut is_answered = false;
    let watching = async {
        while let Some(event) = watch.next().await {
            if matches!(&event, WatcherEvent::Dialog(id) if id.as_str() == "answered") && !is_answered {
                let edited = Choice::Allow { updated_input: Some(secret()) };
                watch.answer(&PermissionId::new("answered").unwrap(), edited).unwrap();
                is_answered = true;
            }
        }
    };
    assert!(net.timeout(60 * SECOND, watching).await.is_none(), "the watch goes on");
    assert!(is_answered);
    _ = (asked.await, late.await);
    session.remove().unwrap();
    while watch.next().await.is_some() {}
    drop((client, watch));
    net.sleep(120 * SECOND).await;
}

/// The target of a line, whatever spans it is in.
fn target(line: &str) -> &str {
    let start = line.find("reattach::").unwrap_or_else(|| panic!("{line:?} has no target"));
    let rest = &line[start..];
    let end = rest.match_indices(": ").next().map_or(rest.len(), |(at, _)| at);
    &rest[..end]
}

// S002-75
#[test]
fn each_part_logs_under_its_own_target_and_can_be_looked_at_alone() {
    let all: BTreeSet<_> = logged("debug").iter().map(|line| target(line).to_owned()).collect();
    assert_eq!(all, targets::ALL.map(str::to_owned).into_iter().collect(), "these and no others");
    for of_part in targets::ALL {
        let lines = logged(&format!("{of_part}=debug"));
        assert!(!lines.is_empty(), "{of_part} says nothing");
        lines.iter().for_each(|line| assert_eq!(target(line), of_part, "{line}"));
        let others = targets::ALL.iter().filter(|other| **other != of_part);
        let without: Vec<_> = others.map(|other| format!("{other}=debug")).collect();
        let lines = logged(&without.join(","));
        lines.iter().for_each(|line| assert_ne!(target(line), of_part, "{line}"));
    }
    // What makes no sense is a warning, and of the rest nothing.
    let lines = logged("reattach=info");
    assert!(lines.iter().all(|line| line.contains(" WARN ") && target(line) == targets::REQUEST), "{lines:#?}");
}

// S002-75
#[test]
fn what_becomes_of_a_question_can_be_read_from_one_part_on_both_sides() {
    let lines = logged("reattach::permission=debug");
    for said in [
        r#"asked session="s" request="answered""#,
        r#"dialog cid="#,
        r#"called cid="#,
        r#"served cid="#,
        r#"method="permission/answer" request="answered" decision="allow""#,
        r#"decided request="answered" verdict="allowed" by=cid-"#,
        r#"decided request="late" verdict="timed out""#,
        r#"request="answered" why="confirmed" decision="allow""#,
        r#"request="late" why="timed out""#,
    ] {
        assert!(lines.iter().any(|line| line.contains(said)), "{said} is not in {lines:#?}");
    }
    assert_eq!(lines.iter().filter(|line| line.contains(" decided request=")).count(), 2, "each is decided once");
}

#[test]
fn the_table_of_targets_has_every_one() {
    let text = include_str!("../../adapters/driver/src/targets.rs");
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | `")?.split('`').next());
    assert_eq!(rows.collect::<Vec<_>>(), targets::ALL);
}
