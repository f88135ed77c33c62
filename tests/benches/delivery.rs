//! Messages from `send` until the sender knows that each was taken, through both machines; and the same messages over nothing
//! but a WebSocket. The machines hand each other texts, so what a message costs in all is the sum of both, and the layer makes
//! it as many times dearer as that sum is larger than the WebSocket alone. Both carry a batch at a time, as a busy connection
//! does: what is shown is the time of a batch, and how many messages that makes in a second.

use criterion::BenchmarkId;
use criterion::Criterion;
use criterion::Throughput;
use reattach_core::wire::Payload;

use crate::SIZES;
use crate::baseline::Sockets;
use crate::json;
use crate::pair::Pair;

/// How many messages share a flush.
const BATCH: usize = 32;

/// Delivers a batch at each size, with the machines and without.
pub(crate) fn bench(criterion: &mut Criterion) {
    for size in SIZES {
        let mut group = criterion.benchmark_group("delivery of 32");
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(BenchmarkId::new("send to settled", size), |bencher| {
            let mut pair = Pair::attached();
            let payload = Payload::from_json(&json(size)).expect("it is JSON");
            bencher.iter(|| assert_eq!(pair.deliver(&payload, BATCH), BATCH));
        });
        group.bench_function(BenchmarkId::new("raw WebSocket", size), |bencher| {
            let mut sockets = Sockets::new();
            let text = json(size).into();
            bencher.iter(|| assert_eq!(sockets.carry(&text, BATCH), BATCH));
        });
        group.finish();
    }
}
