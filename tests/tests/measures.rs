//! What a program measures of its connections, with the feature `metrics`.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use metrics_util::debugging::DebugValue;
use metrics_util::debugging::DebuggingRecorder;
use metrics_util::debugging::Snapshotter;
use reattach_smol::ClientConfig;
use reattach_smol::Hub;
use reattach_smol::Router;
use reattach_smol::ServerConfig;
use reattach_smol::core::hub;
use reattach_smol::core::hub::WatcherEvent;
use reattach_smol::core::id::Name;
use reattach_smol::core::id::Principal;
use reattach_smol::core::id::SessionId;
use reattach_smol::core::messages::Choice;
use reattach_smol::core::messages::PermissionId;
use reattach_smol::core::messages::PermissionRequest;
use reattach_smol::core::outcome::Outcome;
use reattach_smol::core::permission::DenyReason;
use reattach_smol::core::permission::Verdict;
use reattach_smol::core::rpc::Call;
use reattach_smol::core::session::WatchFrom;
use reattach_smol::core::wire::Payload;
use reattach_smol::testing::Simulation;

const SECOND: Duration = Duration::from_secs(1);

// S001-47, S002-43
#[test]
fn a_connection_is_measured_on_both_sides_from_its_begin_to_its_end() {
    let recorder = DebuggingRecorder::new();
    let mut measures = Measures::of(&recorder);
    metrics::with_local_recorder(&recorder, || {
        Simulation::new(1).run(async |net| {
            let server = net.bind("server.test:80", ServerConfig::new()).await.unwrap();
            let client = net.connect("ws://server.test/", ClientConfig::new()).await.unwrap();
            let connection = server.accept().await.unwrap();
            let mut receipts = Vec::new();
            for value in 0..3 {
                receipts.push(client.send(Payload::new(&value).unwrap()).await.unwrap());
            }
            net.sleep(SECOND).await;
            measures.look();
            assert_eq!(measures.gauges["reattach_messages_unsettled client"], 3.0);
            assert_eq!(measures.gauges["reattach_messages_untaken server"], 3.0);
            assert_eq!(measures.gauges["reattach_connections_attached server"], 1.0);
            net.cut();
            net.sleep(10 * SECOND).await;
            for receipt in receipts {
                connection.recv().await.unwrap();
                assert_eq!(receipt.await, Outcome::Delivered);
            }
            client.disconnect();
            client.closed().await;
            connection.ended().await;
            server.shut_down();
            server.closed().await;
        });
    });
    measures.look();
    for (measure, expected) in [
        ("reattach_attaches_total client", 2),
        ("reattach_resumes_total client", 1),
        ("reattach_attaches_total server", 2),
        ("reattach_messages_written_total client", 3),
        ("reattach_messages_received_total server", 3),
        ("reattach_messages_handed_over_total server", 3),
        ("reattach_outcomes_total client delivered", 3),
        ("reattach_outcomes_total client unknown", 0),
        ("reattach_messages_received_total client", 0),
    ] {
        assert_eq!(measures.counters[measure], expected, "{measure}");
    }
    let left_behind: Vec<_> = measures.gauges.iter().filter(|(_, size)| **size != 0.0).collect();
    assert_eq!(left_behind, [], "everything is gone");
    let round_trips = &measures.histograms["reattach_round_trip_seconds client"];
    assert!(!round_trips.is_empty() && round_trips.iter().all(|seconds| (0.0..1.0).contains(seconds)));
}

// S002-33
#[test]
fn questions_and_answers_are_measured_where_they_are_asked_and_where_they_are_given() {
    let recorder = DebuggingRecorder::new();
    let mut measures = Measures::of(&recorder);
    metrics::with_local_recorder(&recorder, || {
        Simulation::new(2).run(async |net| {
            let config = ServerConfig::new().with_authentication(|_| async { Name::new("ada").ok() });
            let server = net.bind("server.test:80", config).await.unwrap();
            let hub = Hub::new(&server, hub::Config::default());
            let (accepting, serving, tasks) = (server.clone(), hub.clone(), net.clone());
            net.spawn(async move {
                while let Some(connection) = accepting.accept().await {
                    let hub = serving.clone();
                    tasks.spawn(async move { hub.serve(&connection, &Router::new()).await });
                }
            });
            let id = SessionId::new("s").unwrap();
            let session = hub.create(id.clone(), Principal::Named(Name::new("ada").unwrap())).unwrap();
            let client = net.connect("ws://server.test/", ClientConfig::new()).await.unwrap();
            let mut watch = client.watch_session(id, WatchFrom::Now).unwrap();
            while watch.next().await.unwrap() != WatcherEvent::UpToDate {}
            let allowed = session.ask(question("allowed")).unwrap();
            let late = session.ask_within(question("late"), 30 * SECOND).unwrap();
            let taken_back = session.ask(question("taken back")).unwrap();
            measures.look();
            assert_eq!(measures.gauges["reattach_questions_open server"], 3.0);
            assert_eq!(hub.open_questions(), 3);
            drop(taken_back);
            let allow = Choice::Allow { updated_input: None };
            let mut is_answered = false;
            let watching = async {
                while let Some(event) = watch.next().await {
                    if matches!(&event, WatcherEvent::Dialog(id) if id.as_str() == "allowed") && !is_answered {
                        // The answer, or what comes back for it, is on its way when the socket breaks.
                        watch.answer(&PermissionId::new("allowed").unwrap(), allow.clone()).unwrap();
                        net.cut();
                        is_answered = true;
                    }
                }
            };
            assert!(net.timeout(40 * SECOND, watching).await.is_none(), "the watch goes on");
            assert!(matches!(allowed.await, Verdict::Allow { .. }));
            assert_eq!(late.await, Verdict::Deny(DenyReason::TimedOut));
            // Beside the dialogs: the same answer again, one too late, one that makes no sense and one that nobody asked for.
            for params in [r#"{"requestId":"allowed","decision":"allow"}"#, r#"{"requestId":"late","decision":"deny"}"#]
            {
                let call = Call::new("permission/answer").unwrap();
                _ = client.call(call.with_params(Payload::from_json(params).unwrap()).unwrap()).unwrap().await;
            }
            for params in [r#"{"requestId":"late"}"#, r#"{"requestId":"never","decision":"deny"}"#] {
                let call = Call::new("permission/answer").unwrap();
                let answer = client.call(call.with_params(Payload::from_json(params).unwrap()).unwrap()).unwrap();
                answer.await.unwrap_err();
            }
            let stats = hub.question_stats();
            assert_eq!((stats.asked, stats.allowed, stats.timed_out, stats.cancelled), (3, 1, 1, 1));
            assert_eq!((stats.duplicates, stats.late, stats.malformed, stats.unknown), (1, 1, 1, 1));
            let dialogs = watch.dialogs().stats();
            assert_eq!((dialogs.shown, dialogs.sent, dialogs.confirmed, dialogs.failed), (3, 1, 1, 0));
            // A question that is open when its hub goes is not measured for ever.
            let _open = session.ask(question("open")).unwrap();
        });
    });
    measures.look();
    for (measure, expected) in [
        ("reattach_questions_asked_total server", 4),
        ("reattach_questions_decided_total server allowed", 1),
        ("reattach_questions_decided_total server denied", 0),
        ("reattach_questions_decided_total server timed_out", 1),
        ("reattach_answers_refused_total server duplicate", 1),
        ("reattach_answers_refused_total server late", 1),
        ("reattach_answers_refused_total server malformed", 1),
        ("reattach_answers_refused_total server unknown", 1),
        ("reattach_answers_refused_total server foreign", 0),
        ("reattach_dialogs_shown_total client", 3),
        ("reattach_answers_sent_total client", 1),
        ("reattach_answers_confirmed_total client", 1),
        ("reattach_answers_failed_total client", 0),
    ] {
        assert_eq!(measures.counters[measure], expected, "{measure}");
    }
    assert_eq!(measures.gauges["reattach_questions_open server"], 0.0);
}

#[test]
fn every_measure_is_in_the_table_of_the_documentation() {
    let text = include_str!("../../adapters/driver/src/lib.rs");
    let measures = include_str!("../../adapters/driver/src/meter.rs");
    let names: Vec<_> = measures.split('"').filter(|name| name.starts_with("reattach_")).collect();
    assert!(names.len() > 25, "{names:?}");
    for name in names {
        assert!(text.contains(&format!("`{name}`")), "{name} is not documented");
    }
}

fn question(name: &str) -> PermissionRequest {
    PermissionRequest {
        id: PermissionId::new(name).unwrap(),
        tool_name: "write_file".to_owned(),
        input: Payload::new(&1).unwrap(),
        context: Payload::new(&1).unwrap(),
        timestamp: String::new(),
        remaining: None,
    }
}

/// What was measured so far. A look at the recorder has it start over, so each is added to those before.
struct Measures {
    snapshotter: Snapshotter,
    counters: BTreeMap<String, u64>,
    gauges: BTreeMap<String, f64>,
    histograms: BTreeMap<String, Vec<f64>>,
}

impl Measures {
    fn of(recorder: &DebuggingRecorder) -> Self {
        let snapshotter = recorder.snapshotter();
        Self { snapshotter, counters: BTreeMap::new(), gauges: BTreeMap::new(), histograms: BTreeMap::new() }
    }

    /// Adds what was measured since. Each goes by its name and the values of its labels.
    fn look(&mut self) {
        for (key, _, _, value) in self.snapshotter.snapshot().into_vec() {
            let labels = key.key().labels().map(metrics::Label::value);
            let name = [key.key().name()].into_iter().chain(labels).collect::<Vec<_>>().join(" ");
            match value {
                DebugValue::Counter(count) => *self.counters.entry(name).or_default() += count,
                DebugValue::Gauge(size) => *self.gauges.entry(name).or_default() += size.0,
                DebugValue::Histogram(new) => {
                    self.histograms.entry(name).or_default().extend(new.into_iter().map(|value| value.0));
                }
            }
        }
    }
}
