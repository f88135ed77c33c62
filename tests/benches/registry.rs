//! Hellos at a registry that has a thousand connections already.

use criterion::BatchSize;
use criterion::Criterion;
use harness::frames;
use reattach_core::client::Secrets;
use reattach_core::connection::Incoming;
use reattach_core::id::TransportId;
use reattach_core::server;
use reattach_core::server::Answer;
use reattach_core::server::Command;
use reattach_core::server::Registry;
use reattach_core::server::RegistryInput;
use reattach_core::server::RegistryOutput;
use reattach_core::time::Instant;
use reattach_core::wire::Hello;

use crate::pair::Pair;
use crate::pair::mint;
use crate::pair::secrets;

const OTHERS: u64 = 1_000;
const NOW: Instant = Instant::from_secs(1_000);

/// Attaches a new connection, and attaches one again that was detached.
pub(crate) fn bench(criterion: &mut Criterion) {
    let mut registry = Registry::new(server::Config::default(), NOW);
    for number in 1..=OTHERS {
        attach(&mut registry, number, &hello(number));
    }
    let mut group = criterion.benchmark_group("registry");
    let newcomer = OTHERS + 1;
    let greeting = hello(newcomer);
    group.bench_function("attach", |bencher| {
        bencher.iter_batched_ref(
            || registry.clone(),
            |registry| attach(registry, newcomer, &greeting),
            BatchSize::LargeInput,
        );
    });
    // From the break to the welcome, through all three machines.
    group.bench_function("reattach, with client and peer", |bencher| {
        // The others' transports have other numbers than the client's: each of its tries takes the next one.
        let mut registry = Registry::new(server::Config::default(), NOW);
        for number in 1..=OTHERS {
            attach(&mut registry, u64::MAX - number, &hello(number));
        }
        let mut pair = Pair::attached_at(registry, NOW);
        bencher.iter(|| pair.reattach());
    });
    group.finish();
}

/// The first hello of a client, as it stands on the wire.
pub(crate) fn hello(number: u64) -> String {
    let Secrets { key, spare: _, instance } = secrets(number);
    frames::hello_text(Hello { key, cid: key.connection_id(), instance, ..frames::hello(1) })
}

/// Takes a hello in, and the answer of the peer that is made for it.
fn attach(registry: &mut Registry, number: u64, hello: &str) {
    let (transport, mint) = (TransportId(number), mint(number));
    registry.handle_input(RegistryInput::Accepted { transport, address: None, mint }, NOW);
    registry.handle_input(RegistryInput::Received { transport, incoming: Incoming::Text(hello) }, NOW);
    let mut attached = 0;
    while let Some(output) = registry.poll_output() {
        if let RegistryOutput::Command { peer, command: Command::Attach(attach) } = output {
            let answer = Answer::Attached { transport, epoch: attach.mint, is_named: false };
            registry.handle_input(RegistryInput::Answered { peer, answer }, NOW);
            attached += 1;
        }
    }
    assert_eq!(attached, 1, "the hello was accepted");
}
