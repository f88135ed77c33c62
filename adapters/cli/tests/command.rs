//! The `reattach` command as a process, between real pipes and real sockets.

mod process;

use std::collections::BTreeMap;
use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use reattach_cli::proxy::Cut;
use reattach_cli::proxy::FaultProxy;

use self::process::PATIENCE;
use self::process::Running;
use self::process::run;
use self::process::text;
use self::process::until;

#[test]
fn lines_go_out_and_come_back_and_stdout_carries_nothing_else() {
    let (_server, address) = Running::serve(&["--echo", "--listen", "127.0.0.1:0"]);
    let url = format!("ws://{address}/");
    let done = run(&["connect", &url, "--linger", "0.3"], "one\ntwo \"quoted\"\n\n{\"not\":\"json here\"}\n");
    assert_eq!(text(&done.stdout), "one\ntwo \"quoted\"\n\n{\"not\":\"json here\"}\n");
    assert!(text(&done.stderr).ends_with("4 delivered, 0 not delivered, 0 unknown\n"), "{}", text(&done.stderr));
    assert_eq!(done.status.code(), Some(0));
    let done = run(&["connect", &url, "--linger", "0.3", "--json", "--quiet"], "[1, 2]\n\"x\"\n");
    assert_eq!((text(&done.stdout).as_str(), text(&done.stderr).as_str()), ("[1, 2]\n\"x\"\n", ""));
}

// S003-27
#[test]
fn what_cannot_be_done_is_said_with_a_hint_and_a_code() {
    for (args, stdin, says, code) in [
        (&["connect", "http://127.0.0.1/"][..], "", "ws://", 2),
        (&["connect", "ws://127.0.0.1:9/", "--attempts", "0"], "x\n", "no connection could be made", 1),
        (&["connect", "ws://127.0.0.1:9/", "-H", "nonsense"], "", "Name: value", 2),
        (&["connect", "ws://127.0.0.1:9/", "--json"], "{\n", "line 1 of stdin cannot be sent", 1),
        (&["serve", "--listen", "999.0.0.1:0"], "", "--listen", 1),
        (&["connect", "ws://127.0.0.1:99999/"], "", "port", 2),
        (&["connect", "ws://127.0.0.1:9/", "--linger", "nan"], "", "--linger", 2),
        (&["connect"], "", "Usage", 2),
        (&["demo", "--cuts", "many"], "", "invalid value", 2),
        (&["connect", "wss://127.0.0.1:9/", "--ca", "/nowhere"], "", "--ca /nowhere", 2),
        (&["serve", "--tls-cert", "/nowhere", "--tls-key", "/nowhere"], "", "/nowhere", 1),
        (&["serve", "--tls-cert", "/nowhere"], "", "--tls-key", 2),
        (&["serve", "--health", "health"], "", "begins with \"/\"", 2),
        (&["connect", "ws://127.0.0.1:9/", "--proxy", "ftp://127.0.0.1"], "", "--proxy", 2),
        (&["connect", "ws://a.test/", "--attempts", "0", "--proxy", "socks5://127.0.0.1:9"], "", "no connection", 1),
    ] {
        let done = run(args, stdin);
        assert_eq!(done.status.code(), Some(code), "{args:?}: {}", text(&done.stderr));
        assert!(text(&done.stderr).contains(says), "{args:?}: {}", text(&done.stderr));
        assert_eq!(text(&done.stdout), "", "{args:?}");
    }
}

/// Asks a server for a page as a health check does, and returns the whole answer.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers and hangs up");
    answer
}

// S002-50
#[test]
fn a_server_says_how_it_is_where_it_was_told_to_and_an_agent_too() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let (_server, server) = Running::serve(&["--listen", "127.0.0.1:0", "--health", "/health"]);
    let (_client, _stdin) = Running::start(&["connect", &format!("ws://{server}/")]);
    until(|| get(server, "/health").contains(r#""clients":{"attached":1,"inGrace":0}"#));
    assert!(get(server, "/").starts_with("HTTP/1.1 426 "));
    for runtime in ["tokio", "smol"] {
        let args = ["agent", "--listen", "127.0.0.1:0", "--dir", dir, "--runtime", runtime, "--health", "/up"];
        let (_agent, agent) = Running::listen(&args);
        let answer = get(agent, "/up");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{runtime}: {answer}");
        let (_, json) = answer.split_once("\r\n\r\n").unwrap();
        let health: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!((&health["draining"], &health["pending"]["questions"]), (&false.into(), &0.into()), "{runtime}");
        assert!(get(agent, "/health").starts_with("HTTP/1.1 426 "));
    }
    let (_silent, silent) = Running::serve(&["--listen", "127.0.0.1:0"]);
    assert!(get(silent, "/health").starts_with("HTTP/1.1 426 "), "nobody is told who was not meant to be");
}

// S002-75
#[test]
fn what_is_logged_is_chosen_by_its_part() {
    let (server, address) = Running::serve(&["--listen", "127.0.0.1:0", "--echo", "--log", "reattach::server=debug"]);
    let url = format!("ws://{address}/");
    let logged = run(&["--log", "reattach::link=debug", "connect", &url, "--linger", "0.3", "--quiet"], "hunter2\n");
    let silent = run(&["connect", &url, "--linger", "0.3", "--quiet"], "hunter2\n");
    let other = ["connect", &url, "--linger", "0.3", "--quiet", "--log", "reattach::permission=debug"];
    let other = run(&other, "hunter2\n");
    assert!(text(&logged.stderr).contains("reattach::link: event=Attached"), "{}", text(&logged.stderr));
    assert_eq!(text(&silent.stderr), "");
    assert_eq!(text(&other.stderr), "");
    server.stderr.wait_for(3, "Registered");
    for (who, log) in [("client", text(&logged.stderr)), ("server", server.stderr.text())] {
        assert!(!log.contains("hunter2"), "{who}: {log}");
        let lines = log.lines().filter(|line| line.contains("DEBUG"));
        let target = if who == "client" { "reattach::link:" } else { "reattach::server:" };
        lines.for_each(|line| assert!(line.contains(target), "{who}: {line}"));
    }
    let done = run(&["serve", "--log", "reattach::link=loud"], "");
    assert_eq!((done.status.code(), text(&done.stdout)), (Some(2), String::new()));
}

#[test]
fn lines_go_over_tls_to_a_server_whose_issuer_is_trusted_and_to_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certified = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (ours, other) = (certified(), certified());
    let (ca, cert) = (file("other.pem", other.cert.pem()), file("cert.pem", ours.cert.pem()));
    let key = file("key.pem", ours.signing_key.serialize_pem());
    let args = ["--echo", "--listen", "127.0.0.1:0", "--tls-cert", &cert, "--tls-key", &key];
    let (_server, address) = Running::serve(&args);
    let url = format!("wss://localhost:{}/", address.port());

    let trusted = run(&["connect", &url, "--ca", &cert, "--linger", "0.3"], "hello\n");
    let refused = run(&["connect", &url, "--ca", &ca], "hello\n");

    assert_eq!((trusted.status.code(), text(&trusted.stdout)), (Some(0), "hello\n".to_owned()));
    assert_eq!(refused.status.code(), Some(1));
    for says in ["the server's certificate is not acceptable", "--ca"] {
        assert!(text(&refused.stderr).contains(says), "{}", text(&refused.stderr));
    }
}

// A proxy that is killed and restarted in mid-stream: nothing lost.
#[test]
fn a_stream_of_lines_survives_a_proxy_that_is_killed_and_restarted() {
    const LINES: usize = 3_000;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_server, upstream) = Running::serve(&["--echo", "--listen", "127.0.0.1:0"]);
    let delay = Duration::from_millis(2);
    let mut proxy = Some(runtime.block_on(FaultProxy::start(upstream, delay)).unwrap());
    let address = proxy.as_ref().unwrap().address();
    let (mut client, mut stdin) = Running::start(&["connect", &format!("ws://{address}/"), "--linger", "0.3"]);
    for number in 0..LINES {
        if number % 1_000 == 500 {
            // Not before something is on its way.
            until(|| client.stdout.len() + 200 > number);
            drop(proxy.take());
            let again = runtime.block_on(async {
                loop {
                    if let Ok(proxy) = FaultProxy::start_on(address, upstream, delay).await {
                        return proxy;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
            proxy = Some(again);
        }
        writeln!(stdin, "line {number}").unwrap();
    }
    drop(stdin);
    assert_eq!(client.ends(), 0, "{:?}", client.stderr.all());
    let expected: Vec<_> = (0..LINES).map(|number| format!("line {number}")).collect();
    assert_eq!(client.stdout.all(), expected);
    let stderr = client.stderr.all();
    assert!(stderr.iter().any(|line| line.starts_with("detached; retry")), "{stderr:?}");
    assert_eq!(stderr.last().unwrap(), &format!("{LINES} delivered, 0 not delivered, 0 unknown"));
    drop(proxy);
}

// A server that is killed and restarted: every outcome honest.
#[test]
fn every_outcome_is_honest_when_the_server_is_killed_and_restarted() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut taken = BTreeMap::<String, u32>::new();
    // Without --echo the server prints what it has taken: the receiver's own record.
    let (mut server, upstream) = Running::serve(&["--listen", "127.0.0.1:0"]);
    let proxy = runtime.block_on(FaultProxy::start(upstream, Duration::from_millis(2))).unwrap();
    let (mut client, mut stdin) =
        Running::start(&["connect", &format!("ws://{}/", proxy.address()), "--linger", "0.2"]);
    let mut sent = 0;
    for _life in 0..3 {
        for _ in 0..400 {
            writeln!(stdin, "line {sent}").unwrap();
            sent += 1;
        }
        until(|| server.stdout.len() > 100);
        // The link goes first, with whatever is on it. What the server has by then it prints; then it dies.
        proxy.set_upstream(None);
        proxy.cut(Cut::Reset);
        std::thread::sleep(Duration::from_millis(300));
        server.kill();
        std::thread::sleep(Duration::from_millis(50));
        server.stdout.all().into_iter().skip(1).for_each(|line| *taken.entry(line).or_default() += 1);
        let next = Running::serve(&["--listen", "127.0.0.1:0"]);
        server = next.0;
        proxy.set_upstream(Some(next.1));
    }
    drop(stdin);
    let code = client.ends();
    server.stdout.all().into_iter().skip(1).for_each(|line| *taken.entry(line).or_default() += 1);

    let stderr = client.stderr.all();
    let claimed = |number: u32| stderr.iter().find(|line| line.starts_with(&format!("line {}: ", number + 1)));
    let mut unknown = 0;
    for number in 0..sent {
        let times = taken.get(&format!("line {number}")).copied().unwrap_or(0);
        assert!(times <= 1, "line {number} was taken {times} times");
        match claimed(number) {
            None => assert_eq!(times, 1, "line {number} was claimed delivered"),
            Some(claim) if claim.contains(": unknown: ") => unknown += 1,
            Some(claim) => {
                assert!(claim.contains(": not delivered: "), "{claim}");
                assert_eq!(times, 0, "{claim}");
            }
        }
    }
    assert!(unknown > 0, "a server that dies with messages on their way leaves some unknown");
    assert_eq!(code, 3, "{stderr:?}");
}

#[cfg(unix)]
#[test]
fn a_server_that_a_supervisor_stops_says_goodbye_and_ends_well() {
    let (mut server, address) = Running::serve(&["--echo", "--listen", "127.0.0.1:0"]);
    let (client, mut stdin) = Running::start(&["connect", &format!("ws://{address}/")]);
    writeln!(stdin, "x").unwrap();
    until(|| client.stdout.len() == 1);
    let told = Command::new("kill").args(["-TERM", &server.child.id().to_string()]).status().unwrap();
    assert!(told.success());
    assert_eq!(server.ends(), 0);
    until(|| client.stderr.all().iter().any(|line| line.starts_with("detached; retry 1")));
}

// The link is down when stdin ends: what is still to come is waited for.
#[test]
fn answers_are_waited_for_until_the_link_is_up_again() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (_server, upstream) = Running::serve(&["--echo", "--listen", "127.0.0.1:0"]);
    let proxy = runtime.block_on(FaultProxy::start(upstream, Duration::from_millis(1))).unwrap();
    proxy.set_upstream(None);
    let (mut client, mut stdin) =
        Running::start(&["connect", &format!("ws://{}/", proxy.address()), "--linger", "0.2"]);
    (1..=5).for_each(|number| writeln!(stdin, "{number}").unwrap());
    drop(stdin);
    std::thread::sleep(Duration::from_millis(1_500));
    proxy.set_upstream(Some(upstream));
    assert_eq!(client.ends(), 0, "{:?}", client.stderr.all());
    assert_eq!(client.stdout.all(), ["1", "2", "3", "4", "5"]);
}

#[test]
fn a_line_that_cannot_be_sent_does_not_take_the_others_with_it() {
    let (_server, address) = Running::serve(&["--echo", "--listen", "127.0.0.1:0"]);
    let url = format!("ws://{address}/");
    for (args, bad) in [(&[][..], &b"\xff\n"[..]), (&["--json"], b"{\n"), (&[], &[b'x'; 5 * 1024 * 1024])] {
        let (mut client, mut stdin) = Running::start(&[&["connect", &url, "--linger", "0.2"], args].concat());
        (1..=50).for_each(|number| writeln!(stdin, "{number}").unwrap());
        // It may stop reading before all of it is written.
        _ = stdin.write_all(bad);
        drop(stdin);
        assert_eq!(client.ends(), 1);
        let stderr = client.stderr.all();
        assert!(stderr.contains(&"50 delivered, 0 not delivered, 0 unknown".to_owned()), "{stderr:?}");
        assert!(stderr.iter().any(|line| line.starts_with("error: line 51 of stdin cannot be sent")), "{stderr:?}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_it_although_stdin_stays_open() {
    let (mut client, stdin) = Running::start(&["connect", "ws://127.0.0.1:9/"]);
    until(|| client.stderr.len() > 0);
    let told = Command::new("kill").args(["-INT", &client.child.id().to_string()]).status().unwrap();
    assert!(told.success());
    assert_eq!(client.ends(), 130);
    drop(stdin);
    let (mut client, stdin) = Running::start(&["connect", "ws://127.0.0.1:9/", "--attempts", "0"]);
    assert_eq!(client.ends(), 1);
    drop(stdin);
}

#[test]
fn whoever_has_read_enough_ends_it() {
    let (_server, address) = Running::serve(&["--echo", "--listen", "127.0.0.1:0"]);
    let mut client = Command::new(env!("CARGO_BIN_EXE_reattach"))
        .args(["connect", &format!("ws://{address}/"), "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command starts");
    let mut stdin = client.stdin.take().unwrap();
    let mut first = String::new();
    writeln!(stdin, "first").unwrap();
    let mut stdout = BufReader::new(client.stdout.take().unwrap());
    stdout.read_line(&mut first).unwrap();
    assert_eq!(first, "first\n");
    drop(stdout);
    let start = Instant::now();
    while writeln!(stdin, "more").is_ok() && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    client.wait().unwrap();
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
}

#[test]
fn a_short_demonstration_keeps_its_promises_on_tokio() {
    keeps_its_promises_on("tokio");
}

#[test]
fn a_short_demonstration_keeps_its_promises_on_smol() {
    keeps_its_promises_on("smol");
}

fn keeps_its_promises_on(runtime: &str) {
    let done = run(&["demo", "--messages", "1500", "--cuts", "7", "--json", "--runtime", runtime], "");
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).expect("one JSON object on stdout");
    let ours = &report["phase1"]["reattach"];
    for way in ["up", "down"] {
        assert!(ours[way]["sent"].as_u64() >= Some(1_500));
        assert_eq!(ours[way]["sent"], ours[way]["delivered"]);
    }
    assert_eq!(ours["cuts"], 7);
    let lost = |way: &str| report["phase1"]["plain"][way]["lost"].as_u64().expect("a count");
    assert!(lost("up") + lost("down") > 0, "the plain column shows what the layer is for");
    let phase3 = &report["phase3"];
    let all = |key: &str| phase3["all"][key].as_u64().expect("a count");
    assert_eq!(phase3["cuts"], 15);
    assert!(all("sent") >= 2_000);
    assert_eq!(all("delivered") + all("rejected") + all("not_delivered") + all("unknown"), all("sent"));
    for key in ["rejected_outright", "rejected_exhausted", "not_delivered", "unknown", "deferrals_told", "delayed_told"]
    {
        assert!(all(key) > 0, "{key} is among what the phase is for");
    }
    for key in ["false_claims", "unclaimed", "out_of_order", "handed_twice", "otherwise_broken"] {
        assert_eq!(all(key), 0, "{key}");
    }
    assert_eq!(report["broken"], serde_json::json!([]));
}

#[test]
fn a_state_of_a_chat_that_cannot_be_kept_is_told_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("none/state");
    let done = run(&["chat", "ws://127.0.0.1:1/", "--state", state.to_str().unwrap()], "help\n");
    let says = text(&done.stderr);
    assert_eq!(done.status.code(), Some(2), "{says}");
    assert!(says.starts_with(&format!("error: --state {}: ", state.display())), "{says}");
    assert!(says.contains("folder"), "{says}");
}

#[cfg(unix)]
#[test]
fn a_file_that_others_may_read_and_that_is_left_from_before_does_not_get_the_key_of_a_chat() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let (state, beside) = (folder.path().join("state"), folder.path().join("state.new"));
    fs::write(&beside, "").unwrap();
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o644)).unwrap();
    // It comes nowhere, so that it keeps no more than who it is.
    let done = run(&["chat", "ws://127.0.0.1:1/", "--attempts", "0", "--state", state.to_str().unwrap()], "");
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o600);
}
