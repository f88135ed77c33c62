//! Replays what the fuzzer has found, and a little more, through the bodies of the fuzz targets: every build keeps what a
//! night of fuzzing once reached, without the fuzzer.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::thread;

use harness::fuzz::TARGETS;
use harness::fuzz::Target;
use reattach_core::rng::Rng;

#[test]
fn every_committed_input_keeps_the_invariants() {
    for target in TARGETS {
        let corpus = corpus(&target);
        assert!(!corpus.is_empty(), "the corpus of {} is empty", target.name);
        for (path, input) in corpus {
            run(&target, &input, &path.display().to_string());
        }
    }
}

#[test]
fn random_inputs_keep_the_invariants() {
    for target in TARGETS {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let len = rng.below(400);
            let input: Vec<u8> = (0..len).map(|_| byte(&mut rng)).collect();
            run(&target, &input, &format!("seed {seed}"));
        }
    }
}

#[test]
fn mixtures_of_committed_inputs_keep_the_invariants() {
    for target in TARGETS {
        let corpus = corpus(&target);
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let mut any = || &corpus[usize::try_from(rng.below(corpus.len() as u64)).expect("an index")].1;
            let (head, tail) = (any(), any());
            let mut cut = |input: &[u8]| usize::try_from(rng.below(input.len() as u64 + 1)).expect("a place in it");
            let mut input = [&head[..cut(head)], &tail[cut(tail)..]].concat();
            if let Some(changed) = input.get_mut(cut(head)) {
                *changed = byte(&mut rng);
            }
            run(&target, &input, &format!("seed {seed}"));
        }
    }
}

fn run(target: &Target, input: &[u8], name: &str) {
    let _named = Named(format!("{}: {name}", target.name));
    (target.run)(input);
}

/// The committed inputs of a target, in the order of their names.
fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target.name);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("the directory can be read").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).expect("the file can be read"))).collect()
}

fn byte(rng: &mut Rng) -> u8 {
    rng.next_u64().to_be_bytes()[0]
}

/// Says which input it was, should its run panic.
struct Named(String);

impl Drop for Named {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("with {}", self.0);
        }
    }
}
