//! Two programs with one identity, such as a tab and its copy: both go on, apart, and neither loses or doubles what it watches.

use reattach_smol::Client;
use reattach_smol::ClientConfig;
use reattach_smol::ConnectionState;
use reattach_smol::core::id::ConnectionKey;
use reattach_smol::core::permission::Removed;
use reattach_smol::core::permission::Verdict;
use reattach_smol::core::session::WatchFrom;
use reattach_smol::testing::Net;
use reattach_smol::testing::Simulation;

use crate::fixture::ALLOW;
use crate::fixture::URL;
use crate::fixture::dialog;
use crate::fixture::event;
use crate::fixture::number;
use crate::fixture::question;
use crate::fixture::removed;
use crate::fixture::secs;
use crate::fixture::serve_session;
use crate::fixture::watch_of;

async fn with_key(net: &Net, key: u8) -> Client {
    let key = ConnectionKey::from_bytes([key; 16]);
    net.connect(URL, ClientConfig::new().with_key(key)).await.unwrap()
}

// S004-137: the one that was there moves to another name.
#[test]
fn a_watch_goes_on_under_the_new_name_of_a_client_whose_copy_took_its_connection_over() {
    Simulation::new(1).run(async |net| {
        let (_server, _hub, session) = serve_session(&net).await;
        let client = with_key(&net, 1).await;
        let mut watch = watch_of(&client, WatchFrom::Now).await;
        session.publish(&number(1)).unwrap();
        assert_eq!(event(&mut watch).await, 1);
        let name = client.connection_id();

        let copy = with_key(&net, 1).await;
        let mut watch_of_copy = watch_of(&copy, WatchFrom::Now).await;
        session.publish(&number(2)).unwrap();
        net.sleep(secs(5)).await;
        session.publish(&number(3)).unwrap();

        assert_eq!((client.state(), copy.state()), (ConnectionState::Attached, ConnectionState::Attached));
        assert!(copy.connection_id() == name && client.connection_id() != name);
        for watch in [&mut watch, &mut watch_of_copy] {
            assert_eq!((event(watch).await, event(watch).await), (2, 3));
        }
        assert_eq!(session.observers(), 2);
        let asked = session.ask(question("p")).unwrap();
        let shown = dialog(&mut watch).await;
        watch.answer(&shown, ALLOW).unwrap();
        assert_eq!(removed(&mut watch).await, Removed::Confirmed(ALLOW));
        assert!(matches!(asked.await, Verdict::Allow { by, .. } if by == client.connection_id()));
        let decided = removed(&mut watch_of_copy).await;
        assert_eq!(decided, Removed::Decided { is_allowed: true, by: Some(client.connection_id().to_string()) });
    });
}

// An answer that was on its way under the old name is not lost, and is taken once.
#[test]
fn an_answer_that_was_not_written_when_a_copy_took_over_is_given_under_the_new_name() {
    Simulation::new(2).run(async |net| {
        let (_server, _hub, session) = serve_session(&net).await;
        let home = net.at("home");
        let client = with_key(&home, 1).await;
        let mut watch = watch_of(&client, WatchFrom::Now).await;
        let asked = session.ask_within(question("p"), secs(600)).unwrap();
        let shown = dialog(&mut watch).await;
        home.refuse(true);
        home.cut();
        net.sleep(secs(1)).await;
        watch.answer(&shown, ALLOW).unwrap();
        let _copy = with_key(&net, 1).await;

        home.heal();

        assert_eq!(removed(&mut watch).await, Removed::Confirmed(ALLOW));
        assert!(matches!(asked.await, Verdict::Allow { by, .. } if by == client.connection_id()));
    });
}
