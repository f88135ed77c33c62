//! Requirements that show over the driver: many clients, and what a session sees of an expiry.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future;
use reattach_smol::ClientConfig;
use reattach_smol::Hub;
use reattach_smol::Router;
use reattach_smol::ServerConfig;
use reattach_smol::core::hub::Config;
use reattach_smol::core::hub::Event;
use reattach_smol::core::id::Name;
use reattach_smol::core::id::Principal;
use reattach_smol::core::id::SessionId;
use reattach_smol::core::session;
use reattach_smol::core::session::Detached;
use reattach_smol::core::session::WatchFrom;
use reattach_smol::testing::Simulation;

const URL: &str = "ws://server.test/";
const SECOND: Duration = Duration::from_secs(1);

// S004-055
#[test]
fn a_session_is_detached_once_its_owner_has_been_away_for_the_whole_ttl() {
    Simulation::new(1).run(async |net| {
        let entering = |_| async { Name::new("ada").ok() };
        let config = ServerConfig::new().with_authentication(entering);
        let server = net.bind("server.test:80", config).await.unwrap();
        let hub = Hub::new(&server, Config::default());
        let (accepting, serving, tasks) = (server.clone(), hub.clone(), net.clone());
        net.spawn(async move {
            while let Some(connection) = accepting.accept().await {
                let hub = serving.clone();
                tasks.spawn(async move { hub.serve(&connection, &Router::new()).await });
            }
        });
        let id = SessionId::new("s").unwrap();
        let session = hub.create(id.clone(), Principal::Named(Name::new("ada").unwrap())).unwrap();
        let client = net.connect(URL, ClientConfig::new()).await.unwrap();
        let watch = client.watch_session(id, WatchFrom::Now).unwrap();
        watch.own().await.unwrap();
        let mut events = hub.events();
        net.refuse(true);
        net.cut();
        net.sleep(59 * SECOND).await;
        assert_eq!(session.owner(), Some(client.connection_id()), "it may still come back");
        net.sleep(2 * SECOND).await;
        let why = loop {
            if let Event::Session(session::Event::Detached { why, .. }) = events.next().await.unwrap() {
                break why;
            }
        };
        assert_eq!((why, session.owner(), session.observers()), (Detached::OwnerGone, None, 0));
    });
}

// S002-68
#[test]
fn two_hundred_clients_ask_a_hundred_times_each_and_every_answer_is_the_right_one() {
    Simulation::new(1).run(async |net| {
        let server = net.bind("server.test:80", ServerConfig::new()).await.unwrap();
        let done = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&done);
        let router = Router::new().on_request("double", move |(number,): (u64,)| {
            counting.fetch_add(1, Ordering::Relaxed);
            async move { Ok(2 * number) }
        });
        let (accepting, tasks, router) = (server.clone(), net.clone(), Arc::new(router));
        net.spawn(async move {
            while let Some(connection) = accepting.accept().await {
                let router = Arc::clone(&router);
                tasks.spawn(async move { connection.serve(&router).await });
            }
        });
        let one = |number: u64| {
            let net = net.clone();
            async move {
                let client = net.connect(URL, ClientConfig::new()).await.unwrap();
                let asked = (0..100).map(|ask| (number * 100 + ask,)).collect::<Vec<_>>();
                let answers = asked.iter().map(|asked| client.request::<_, u64>("double", asked));
                future::try_join_all(answers).await.unwrap()
            }
        };
        let answers = future::join_all((0..200).map(one)).await.concat();
        assert_eq!(answers, (0..20_000).map(|number| 2 * number).collect::<Vec<_>>());
        assert_eq!(done.load(Ordering::Relaxed), 20_000);
    });
}
