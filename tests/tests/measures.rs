//! What a program measures of its connections, with the feature `metrics`.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::collections::BTreeMap;
use std::time::Duration;

use metrics_util::debugging::DebugValue;
use metrics_util::debugging::DebuggingRecorder;
use metrics_util::debugging::Snapshotter;
use reattach_smol::ClientConfig;
use reattach_smol::ServerConfig;
use reattach_smol::core::outcome::Outcome;
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
