//! The one value that a user interface shows as it stands.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::time::Duration;

use harness::alone::LoneClient;
use harness::world::Road;
use harness::world::World;
use harness::world::patient;
use harness::world::secrets;
use harness::world::steady;
use reattach_core::client::Advice;
use reattach_core::client::Closed;
use reattach_core::client::Light;
use reattach_core::client::OnSuperseded;
use reattach_core::client::Status;
use reattach_core::client::View;
use reattach_core::reconnect::OpenError;
use reattach_core::server;
use reattach_core::wire::CloseCode;

const SECOND: Duration = Duration::from_secs(1);

// S003-22
#[test]
fn a_client_that_connects_for_the_first_time_is_yellow_and_counts_no_retry() {
    let lone = LoneClient::new(steady());
    let view = lone.client.view();
    assert_eq!((view.light, view.advice), (Light::Yellow, Advice::Wait));
    assert_eq!((view.retry, view.retry_at, view.latency), (None, None, None));
    assert_eq!((view.pending, view.delayed, view.failed), (0, 0, 0));
}

// S003-22
#[test]
fn a_client_that_is_attached_is_green_and_shows_its_latency() {
    let mut world = World::attached();
    let view = view(&mut world);
    assert_eq!((view.light, view.advice), (Light::Green, Advice::Nothing));
    assert_eq!(view.status, Status::Attached);
    assert_eq!(view.latency, Some(SECOND / 50));
    assert_eq!((view.retry, view.retry_at), (None, None));
}

// S001-25, S004-091: whoever forgets a state or an event is told by the compiler.
#[test]
fn where_a_client_stands_is_a_word_and_not_a_number() {
    let word = |light| match light {
        Light::Green => "green",
        Light::Yellow => "yellow",
        Light::Red => "red",
        Light::Grey => "grey",
    };
    let mut lone = LoneClient::new(steady());
    assert_eq!(
        (lone.client.status(), word(lone.client.view().light)),
        (Status::Connecting { retry: 0, limit: Some(5) }, "yellow")
    );
    lone.opened();
    lone.welcomed();
    assert_eq!((lone.client.status(), word(lone.client.view().light)), (Status::Attached, "green"));
}

// S003-50, N19 step 1
#[test]
fn a_client_that_reconnects_is_yellow_with_the_number_of_the_retry_and_the_time_of_the_next() {
    let mut lone = LoneClient::new(steady());
    for (retry, delay) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16)] {
        lone.open_fails(OpenError::Unreachable);
        let view = lone.client.view();
        assert_eq!((view.light, view.advice), (Light::Yellow, Advice::Wait));
        assert_eq!(view.retry, Some((retry, Some(5))));
        assert_eq!(view.retry_at, Some(lone.now + delay * SECOND));
        lone.wait(delay * SECOND);
        let view = lone.client.view();
        assert_eq!((view.retry, view.retry_at), (Some((retry, Some(5))), None), "while it tries");
        assert_eq!(view.light, Light::Yellow);
    }
    lone.open_fails(OpenError::Unreachable);
    let view = lone.client.view();
    assert_eq!((view.light, view.advice, view.retry), (Light::Grey, Advice::Reconnect, None));
}

#[test]
fn without_a_limit_the_retry_is_shown_without_one() {
    let mut lone = LoneClient::new(patient());
    lone.open_fails(OpenError::Unreachable);
    assert_eq!(lone.client.view().retry, Some((1, None)));
}

#[test]
fn a_latency_is_not_shown_while_nothing_is_connected() {
    let mut world = World::attached();
    world.road = Road::Silent;
    world.cut(0);
    let view = view(&mut world);
    assert_eq!((view.light, view.latency), (Light::Yellow, None));
    assert_eq!(view.retry, Some((1, Some(5))));
}

// S003-22
#[test]
fn a_client_that_sleeps_is_red_and_wants_to_be_woken() {
    let mut world = World::attached();
    let now = world.now;
    world.client().client.suspend(now).unwrap();
    let view = view(&mut world);
    assert_eq!((view.light, view.advice, view.retry), (Light::Red, Advice::Reconnect, None));
}

#[test]
fn a_client_that_was_superseded_is_red_and_says_to_go_on_elsewhere() {
    let mut config = steady();
    config.on_superseded = OnSuperseded::Stop;
    let mut world = World::attached_with(server::Config::default(), config);
    let mut twin = secrets(1);
    twin.instance = secrets(2).instance;
    world.add_client(steady(), twin);
    world.run_for(5 * SECOND);
    let view = view(&mut world);
    assert_eq!(view.status, Status::Superseded);
    assert_eq!((view.light, view.advice), (Light::Red, Advice::GoOnElsewhere));
}

#[test]
fn a_client_whose_credentials_are_refused_is_grey_and_says_to_sign_in() {
    let mut lone = LoneClient::attached(steady());
    lone.closed(CloseCode::UNAUTHENTICATED);
    assert_eq!(lone.client.view().light, Light::Yellow);
    lone.wait(SECOND);
    lone.open_fails(OpenError::Refused { status: 401, retry_after: None });
    let view = lone.client.view();
    assert_eq!((view.light, view.advice), (Light::Grey, Advice::SignIn));
}

// S003-22
#[test]
fn a_client_that_is_over_is_grey_and_says_to_start_over() {
    let mut world = World::attached();
    let now = world.now;
    world.client().client.disconnect(now);
    let view = view(&mut world);
    assert_eq!(view.status, Status::Closed(Closed::Flushed));
    assert_eq!((view.light, view.advice), (Light::Grey, Advice::StartOver));
}

#[test]
fn what_is_pending_delayed_and_failed_is_counted() {
    let mut world = World::attached();
    world.is_reading = false;
    for text in ["a", "b", "c"] {
        world.send_up(text);
    }
    let before = view(&mut world);
    assert_eq!((before.pending, before.delayed, before.failed), (3, 0, 0));
    world.run_for(SECOND);
    assert_eq!(view(&mut world).pending, 3, "written ones are pending too");
    world.run_for(10 * SECOND);
    assert_eq!(view(&mut world).delayed, 3);
    let now = world.now;
    let id = world.send_up("cancelled");
    world.client().client.cancel(&id, now).unwrap();
    world.run_for(SECOND);
    let after = view(&mut world);
    assert_eq!((after.pending, after.delayed, after.failed), (3, 3, 1));
    world.is_reading = true;
    world.run_for(SECOND);
    let done = view(&mut world);
    assert_eq!((done.pending, done.delayed, done.failed), (0, 0, 1));
}

fn view(world: &mut World) -> View {
    world.client().client.view()
}
