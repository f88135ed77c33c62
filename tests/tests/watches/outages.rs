//! Watched sessions and questions across outages and restarts.

use reattach_smol::ConnectionState;
use reattach_smol::core::hub::Ended;
use reattach_smol::core::hub::WatcherEvent;
use reattach_smol::core::permission::Removed;
use reattach_smol::core::permission::Verdict;
use reattach_smol::core::rpc::Call;
use reattach_smol::core::rpc::Failure;
use reattach_smol::core::session::WatchFrom;
use reattach_smol::core::wire::Payload;
use reattach_smol::testing::Direction;
use reattach_smol::testing::Simulation;

use crate::fixture::ALLOW;
use crate::fixture::client;
use crate::fixture::dialog;
use crate::fixture::event;
use crate::fixture::first;
use crate::fixture::id;
use crate::fixture::number;
use crate::fixture::question;
use crate::fixture::removed;
use crate::fixture::secs;
use crate::fixture::serve_session;
use crate::fixture::watch_of;

#[test]
fn who_watches_with_a_client_that_has_stopped_trying_watches_when_that_goes_on() {
    Simulation::new(1).run(async |net| {
        let (_server, _hub, session) = serve_session(&net).await;
        let client = client(&net).await;
        net.refuse(true);
        net.cut();
        net.sleep(secs(200)).await;
        assert!(matches!(client.state(), ConnectionState::Failed(_)));
        let mut watch = client.watch_session(id("s"), WatchFrom::Start).unwrap();
        assert_eq!(net.timeout(secs(100), watch.next()).await, None, "the client may go on");
        net.refuse(false);
        client.reconnect().unwrap();
        session.publish(&number(1)).unwrap();
        assert_eq!(event(&mut watch).await, 1);
    });
}

#[test]
fn an_answer_that_overtakes_the_watch_after_a_new_epoch_is_sent_again() {
    Simulation::new(2).run(async |net| {
        let (_server, _hub, session) = serve_session(&net).await;
        let client = client(&net).await;
        let mut watch = watch_of(&client, WatchFrom::Now).await;
        let asked = session.ask_within(question("p"), secs(3_000)).unwrap();
        let shown = dialog(&mut watch).await;
        client.suspend().unwrap();
        let away = async { while watch.next().await.is_some() {} };
        assert!(net.timeout(secs(700), away).await.is_none(), "the watch goes on");
        watch.answer(&shown, ALLOW).unwrap();
        client.reconnect().unwrap();
        assert_eq!(removed(&mut watch).await, Removed::Confirmed(ALLOW));
        assert!(matches!(asked.await, Verdict::Allow { .. }));
    });
}

#[test]
fn an_answer_with_another_input_is_not_the_one_that_was_taken() {
    Simulation::new(3).run(async |net| {
        let (_server, _hub, session) = serve_session(&net).await;
        let client = client(&net).await;
        let mut watch = watch_of(&client, WatchFrom::Now).await;
        let asked = session.ask(question("p")).unwrap();
        dialog(&mut watch).await;
        let answer = |input: &str| {
            let params = format!(r#"{{"requestId":"p","decision":"allow","updatedInput":{input}}}"#);
            let params = Payload::from_json(&params).unwrap();
            client.call(Call::new("permission/answer").unwrap().with_params(params).unwrap()).unwrap()
        };
        assert_eq!(answer("[1]").await.unwrap().as_str(), r#"{"duplicate":false}"#);
        assert_eq!(answer("[1]").await.unwrap().as_str(), r#"{"duplicate":true}"#);
        let error = answer("[2]").await.unwrap_err();
        assert!(matches!(error.failure, Failure::Refused(error) if error.code == -32_021), "another answer came first");
        assert!(matches!(asked.await, Verdict::Allow { input, .. } if input.as_str() == "[1]"));
    });
}

#[test]
fn a_snapshot_comes_before_what_follows_it_wherever_the_socket_is_cut() {
    for bytes in 0..150 {
        Simulation::new(4).run(async |net| {
            let (_server, _hub, session) = serve_session(&net).await;
            let client = client(&net).await;
            session.publish(&number(1)).unwrap();
            session.set_snapshot(number(100)).unwrap();
            net.sleep(secs(1)).await;
            let mut watch = client.watch_session(id("s"), WatchFrom::Start).unwrap();
            net.cut_after(Direction::ToClient, bytes * 4);
            let snapshot = first(&mut watch, |event| {
                assert_ne!(*event, WatcherEvent::UpToDate, "it is up to date without the snapshot");
                if let WatcherEvent::Snapshot(snapshot) = event { Some(snapshot.clone()) } else { None }
            });
            assert_eq!(snapshot.await, number(100));
            session.publish(&number(2)).unwrap();
            assert_eq!(event(&mut watch).await, 2);
        });
    }
}

#[test]
fn when_a_watch_ends_its_dialogs_go_whatever_becomes_of_an_answer() {
    Simulation::new(5).run(async |net| {
        let (_server, _hub, session) = serve_session(&net).await;
        let client = client(&net).await;
        let mut watch = watch_of(&client, WatchFrom::Now).await;
        let _asked = session.ask_within(question("p"), secs(3_000)).unwrap();
        let shown = dialog(&mut watch).await;
        net.stall_one_way(Direction::ToServer);
        watch.answer(&shown, ALLOW).unwrap();
        net.sleep(secs(1)).await;
        net.refuse(true);
        net.cut();
        net.sleep(secs(200)).await;
        session.remove().unwrap();
        net.heal();
        client.reconnect().unwrap();
        assert_eq!(removed(&mut watch).await, Removed::Forgotten);
        assert_eq!(watch.next().await, Some(WatcherEvent::Ended(Ended::UnknownSession)));
        assert!(watch.dialogs().dialogs().is_empty());
    });
}
