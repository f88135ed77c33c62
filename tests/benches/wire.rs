//! Frames to text and back.

use std::hint::black_box;

use criterion::BenchmarkId;
use criterion::Criterion;
use criterion::Throughput;
use reattach_core::id::Seq;
use reattach_core::wire;
use reattach_core::wire::Frame;
use reattach_core::wire::Message;

use crate::SIZES;
use crate::json;

/// Encodes and decodes a message at each size.
pub(crate) fn bench(criterion: &mut Criterion) {
    let seq = Seq::new(123_456).expect("a number that can stand on the wire");
    for size in SIZES {
        let payload = json(size);
        let frame = Frame::Message(Message::plain(seq, &payload));
        let mut text = String::new();
        frame.encode(&mut text);

        let mut group = criterion.benchmark_group("wire");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("encode", size), |bencher| {
            let mut out = String::with_capacity(text.len());
            bencher.iter(|| {
                out.clear();
                black_box(&frame).encode(&mut out);
                black_box(out.len())
            });
        });
        group.bench_function(BenchmarkId::new("decode", size), |bencher| {
            bencher.iter(|| wire::decode(black_box(&text)).is_ok());
        });
        group.finish();
    }
}
