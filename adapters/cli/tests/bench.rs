//! `reattach bench` as a person runs it, in small. How fast anything is, is nobody's business here.

use std::process::Command;
use std::process::Output;

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_reattach")).arg("bench").args(args).output().expect("the command runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn every_case_is_measured_and_told_in_one_json_object() {
    let done = bench(&["--seconds", "0.05", "--runs", "1", "--connections", "20", "--json"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).expect("one JSON object on stdout");
    let cases = report["cases"].as_array().expect("a list");
    let names: Vec<_> = cases.iter().map(|case| case["name"].as_str().expect("a name")).collect();
    let expected = [
        "round-trip-64",
        "round-trip-1024",
        "round-trip-16384",
        "pipelined-64",
        "pipelined-1024",
        "pipelined-16384",
        "settled-64",
        "settled-1024",
        "settled-16384",
        "resume",
    ];
    assert_eq!(names, expected);
    for case in cases {
        for subject in ["raw", "reattach"] {
            assert!(case[subject]["messages"].as_u64() > Some(0), "{case}");
            assert!(case[subject]["wall_ns"].as_f64() > Some(0.0), "{case}");
        }
        assert!(case["wall_ratio"].as_f64() > Some(0.0), "{case}");
        if cfg!(unix) {
            assert!(case["cpu_ratio"].as_f64() > Some(0.0), "{case}");
            assert_eq!(case["cpu_ratio_of_rounds"][0], case["cpu_ratio"], "one round is its own median");
        }
    }
    assert_eq!((&report["runs"], &report["seconds"]), (&1.into(), &0.05.into()));
    assert_eq!(report["idle"]["connections"], 20);
    if cfg!(target_os = "linux") {
        assert!(report["core"].is_u64());
        assert!(report["idle"]["ratio"].is_f64());
    }
    assert!(text(&done.stderr).contains("bench: resume"), "progress goes to stderr");
}

#[test]
fn a_case_alone_is_shown_in_a_table() {
    let args =
        ["--runtime", "smol", "--seconds", "0.01", "--runs", "2", "--only", "round-trip-64", "--only", "settled"];
    let done = bench(&args);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let table = text(&done.stdout);
    assert!(table.contains(" on smol, "), "{table}");
    assert!(table.contains("\n  round trip, 64 B"), "{table}");
    assert_eq!(table.matches("one way, settled").count(), 3, "{table}");
    assert!(!table.contains("echo") && !table.contains("idle"), "{table}");
}

#[test]
fn what_cannot_be_measured_is_said_with_a_hint_and_a_code() {
    for (args, says) in [
        (&["--only", "nonsense"][..], "settled-64"),
        (&["--seconds", "nan"], "--seconds"),
        (&["--seconds=-1"], "--seconds"),
        (&["--runs", "0"], "invalid value"),
        (&["--connections", "0"], "invalid value"),
    ] {
        let done = bench(args);
        assert_eq!(done.status.code(), Some(2), "{args:?}: {}", text(&done.stderr));
        assert!(text(&done.stderr).contains(says), "{args:?}: {}", text(&done.stderr));
        assert_eq!(text(&done.stdout), "", "{args:?}");
    }
}
