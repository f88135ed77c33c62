//! How many a server lets in: transports in all and from one address, connections in all and of one principal.

use std::net::IpAddr;
use std::time::Duration;

use harness::alone::LoneServer;
use harness::frames::attempt;
use harness::frames::hello;
use harness::frames::hello_text;
use harness::frames::numbered_hello;
use harness::frames::token;
use harness::world::World;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client::Status;
use reattach_core::id::TransportId;
use reattach_core::server::Config;
use reattach_core::server::Output;
use reattach_core::server::Refusal;
use reattach_core::server::RegistryEvent;
use reattach_core::wire::CloseCode;
use reattach_core::wire::Hello;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_address_may_have_so_many_transports_and_one_more_when_one_goes() {
    let mut config = Config::default();
    config.max_per_address = 3;
    let mut lone = LoneServer::new(config);
    let first = from(&mut lone, "10.0.0.1").expect("let in");
    assert!(from(&mut lone, "10.0.0.1").is_ok());
    assert!(from(&mut lone, "::ffff:10.0.0.1").is_ok(), "the same address in another spelling");
    assert_eq!(from(&mut lone, "10.0.0.1"), Err(Refusal::TooMany { of: "from this address" }));
    assert!(from(&mut lone, "10.0.0.2").is_ok());
    assert!(lone.accept(None).1.is_empty(), "where the address is unknown only the cap on all counts");
    lone.closed(first);
    assert!(from(&mut lone, "10.0.0.1").is_ok());
    assert!(from(&mut lone, "10.0.0.1").is_err());
}

#[test]
fn an_ipv6_network_counts_as_one_address() {
    let mut config = Config::default();
    config.max_per_address = 2;
    let mut lone = LoneServer::new(config);
    assert!(from(&mut lone, "2001:db8::1").is_ok());
    assert!(from(&mut lone, "2001:db8::ffff:1").is_ok());
    assert!(from(&mut lone, "2001:db8::2").is_err());
    assert!(from(&mut lone, "2001:db8:0:1::2").is_ok());
}

#[test]
fn one_address_cannot_fill_the_server_with_connections_that_it_leaves() {
    let mut config = Config::default();
    config.max_connections = 100;
    config.max_per_address = 2;
    let mut lone = LoneServer::new(config);
    for number in 0..100_u64 {
        let h = numbered_hello(number);
        let (t, _) = lone.accept(Some("10.0.0.66".parse().expect("an address")));
        lone.hear(t, &hello_text(h));
        lone.closed(t);
    }
    let (t, _) = lone.accept(Some("10.9.9.9".parse().expect("an address")));
    let out = lone.hear(t, &hello_text(hello(1)));
    assert!(
        out.iter().any(|o| matches!(o, Output::Write { text, .. } if text.contains("welcome"))),
        "another address is refused"
    );
}

#[test]
fn a_server_takes_so_many_transports_in_all() {
    let mut config = Config::default();
    config.max_connections = 3;
    let mut lone = LoneServer::new(config);
    let transports: Vec<_> = (0..3).map(|_| lone.accept(None).0).collect();
    assert_eq!(from(&mut lone, "10.0.0.1"), Err(Refusal::TooMany { of: "in all" }));
    // Those that say nothing make room by themselves.
    lone.wait(10 * SECOND);
    assert_eq!(lone.server.registry().transports(), 0);
    assert!(from(&mut lone, "10.0.0.1").is_ok());
    assert!(transports.len() == 3);
}

#[test]
fn a_transport_above_a_cap_is_closed_without_a_word() {
    let mut config = Config::default();
    config.max_connections = 0;
    let mut lone = LoneServer::new(config);
    let (transport, outputs) = lone.accept(None);
    let refusal = Refusal::TooMany { of: "in all" };
    let expected = [
        Output::Close { transport, code: CloseCode::TOO_MANY },
        Output::Registry(RegistryEvent::Refused { transport, refusal }),
    ];
    assert_eq!(outputs, expected);
    assert_eq!(lone.hear(transport, &hello_text(hello(1))), []);
}

#[test]
fn detached_connections_count_until_they_expire() {
    let mut config = Config::default();
    config.max_connections = 2;
    let mut lone = LoneServer::new(config);
    for number in 1..=2 {
        let transport = lone.greet(hello(number));
        lone.closed(transport);
    }
    let (transport, _) = lone.accept(None);
    let outputs = lone.hear(transport, &hello_text(hello(3)));
    let refusal = Refusal::TooMany { of: "in all" };
    assert!(outputs.contains(&Output::Registry(RegistryEvent::Refused { transport, refusal })));
    let known = lone.greet(Hello { attempt: attempt(2), ..hello(1) });
    assert!(lone.server.registry().is_reachable(&hello(1).cid), "a known one may always come back");
    lone.closed(known);
    lone.wait(61 * SECOND);
    lone.greet(hello(3));
    assert!(lone.server.registry().is_reachable(&hello(3).cid));
}

#[test]
fn a_principal_may_have_so_many_connections_whatever_the_keys() {
    let mut config = Config::default();
    config.authenticate = true;
    config.max_per_principal = 3;
    let mut world = World::with_server(config);
    world.accounts = [("a", "alice"), ("b", "bob")].map(|(token, name)| (token.into(), name.into())).into();
    for number in 1..=5 {
        let index = world.add_client(steady(), secrets(number));
        world.clients[index].token = Some(token(if number == 5 { "b" } else { "a" }));
    }
    world.run_for(SECOND / 2);
    let attached: Vec<_> = world.clients.iter().map(|side| side.client.status() == Status::Attached).collect();
    assert_eq!(attached, [true, true, true, false, true]);
    let refused: Vec<_> = world.refusals().into_iter().map(|(_, refusal)| refusal).collect();
    assert_eq!(refused, [Refusal::TooMany { of: "of this principal" }]);
    let now = world.now;
    world.clients[0].client.disconnect(now);
    world.run_for(60 * SECOND);
    assert_eq!(world.clients[3].client.status(), Status::Attached, "room was made, and the client came back late");
}

// S001-21: the close codes are the protocol's own.
#[test]
fn a_connection_that_cannot_be_registered_is_refused_closed_and_heard_no_more() {
    let mut config = Config::default();
    config.authenticate = true;
    config.max_per_principal = 1;
    let mut lone = LoneServer::new(config);
    lone.admit(hello(1), "ada", None);
    let (transport, outputs) = lone.admit(hello(2), "ada", None);
    assert!(outputs.iter().any(|output| matches!(output, Output::Registry(RegistryEvent::Refused { .. }))));
    assert!(
        outputs.iter().any(|output| matches!(output, Output::Close { transport: closed, .. } if *closed == transport))
    );
    assert_eq!(lone.server.registry().connections(), 1);
    assert_eq!(lone.hear(transport, r#"{"t":"msg","seq":1,"d":1}"#), []);
    assert_eq!(lone.hear(transport, &hello_text(hello(3))), []);
}

#[test]
fn counts_return_to_nothing_after_much_coming_and_going() {
    let mut config = Config::default();
    config.max_per_address = 2;
    let mut lone = LoneServer::new(config);
    for round in 0..200 {
        let address = Some("10.0.0.1".parse().expect("an address"));
        let (transport, _) = lone.accept(address);
        match round % 4 {
            0 => _ = lone.hear(transport, "nonsense"),
            1 => _ = lone.closed(transport),
            2 => _ = lone.wait(10 * SECOND),
            _ => {
                lone.hear(transport, &hello_text(Hello { attempt: attempt(round), ..hello(1) }));
                lone.closed(transport);
            }
        }
    }
    lone.wait(61 * SECOND);
    assert_eq!((lone.server.registry().connections(), lone.server.registry().transports()), (0, 0));
    for _ in 0..2 {
        assert!(from(&mut lone, "10.0.0.1").is_ok());
    }
}

/// A transport comes from an address.
fn from(lone: &mut LoneServer, address: &str) -> Result<TransportId, Refusal> {
    let address: IpAddr = address.parse().expect("an address");
    let (transport, outputs) = lone.accept(Some(address));
    let refused = |output: &Output| match output {
        Output::Registry(RegistryEvent::Refused { refusal, .. }) => Some(*refusal),
        Output::Registry(_)
        | Output::Write { .. }
        | Output::Close { .. }
        | Output::Authenticate { .. }
        | Output::Peer { .. } => None,
    };
    outputs.iter().find_map(refused).map_or(Ok(transport), Err)
}
