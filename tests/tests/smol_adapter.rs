//! The suite of the adapters on smol, and a program in which there is nothing else.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

extern crate reattach_smol as reattach;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use reattach::Client;
use reattach::ClientConfig;
use reattach::Server;
use reattach::ServerConfig;
use reattach::core::outcome::Outcome;
use reattach::core::wire::Payload;
use smol::Async;
use smol::Executor;

mod adapter;

/// The runtime that the suite runs on.
fn runtime() -> Arc<dyn reattach::runtime::Runtime> {
    Arc::new(reattach::Smol::global())
}

#[test]
fn a_program_on_smol_alone_sends_and_is_answered() {
    smol::block_on(async {
        let server = reattach::bind("127.0.0.1:0", ServerConfig::new()).await.unwrap();
        let url = format!("ws://{}/", server.local_addr().unwrap());
        let client = reattach::connect(&url, ClientConfig::new()).await.unwrap();
        let connection = server.accept().await.unwrap();
        let receipt = client.send(Payload::new("question").unwrap()).await.unwrap();
        assert_eq!(connection.recv().await.unwrap().payload().parse::<String>().unwrap(), "question");
        assert_eq!(receipt.await, Outcome::Delivered);
        _ = connection.send(Payload::new("answer").unwrap()).await.unwrap();
        assert_eq!(client.recv().await.unwrap().payload().parse::<String>().unwrap(), "answer");
        client.close(Duration::from_secs(5)).await;
        server.shut_down();
        server.closed().await;
    });
}

#[test]
fn an_executor_that_goes_takes_its_connections_with_it() {
    let executor = Arc::new(Executor::new());
    let runtime = Arc::new(reattach::Smol::on(&executor));
    let (server, client, receipt) = smol::block_on(executor.run(async {
        let server =
            Server::bind(Arc::<reattach::Smol>::clone(&runtime), "127.0.0.1:0", ServerConfig::new()).await.unwrap();
        let url = format!("ws://{}/", server.local_addr().unwrap());
        let client = Client::connect(Arc::<reattach::Smol>::clone(&runtime), &url, ClientConfig::new()).await.unwrap();
        let receipt = client.send(Payload::new("question").unwrap()).await.unwrap();
        (server, client, receipt)
    }));

    drop(executor);

    smol::block_on(async {
        assert!(matches!(receipt.await, Outcome::Unknown { .. } | Outcome::NotDelivered { .. }));
        assert!(client.recv().await.is_none());
        client.closed().await;
        server.shut_down();
        server.closed().await;
    });
}

#[test]
fn a_stream_of_the_callers_own_is_served() {
    smol::block_on(async {
        let server = reattach::server(ServerConfig::new());
        let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
        let url = format!("ws://{}/", listener.get_ref().local_addr().unwrap());
        let serving = server.clone();
        let accepting = smol::spawn(async move {
            while let Ok((stream, remote)) = listener.accept().await {
                reattach::serve(&serving, stream, Some(remote));
            }
        });
        let client = reattach::connect(&url, ClientConfig::new()).await.unwrap();
        let connection = server.accept().await.unwrap();
        let receipt = client.send(Payload::new("question").unwrap()).await.unwrap();
        assert!(connection.recv().await.is_some());
        assert_eq!(receipt.await, Outcome::Delivered);
        accepting.cancel().await;
    });
}
