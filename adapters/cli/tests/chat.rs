//! `reattach agent` and `reattach chat` as processes: people, an agent that works on real files, and a network that breaks.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod process;

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ChildStdin;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use reattach_cli::messages;
use reattach_cli::proxy::Cut;
use reattach_cli::proxy::FaultProxy;
use reattach_tokio::CallError;
use reattach_tokio::ClientConfig;
use reattach_tokio::core::id::Epoch;
use reattach_tokio::core::messages::EnvelopeId;
use reattach_tokio::core::rpc::Failure;
use tempfile::TempDir;

use self::process::PATIENCE;
use self::process::Running;
use self::process::run;
use self::process::text;
use self::process::until;

/// An agent, the folder that it works in, and its address.
struct Agent {
    process: Running,
    folder: TempDir,
    address: SocketAddr,
}

impl Agent {
    fn start(runtime: &str, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (process, address) = Self::listen("127.0.0.1:0", folder.path(), runtime, more);
        Self { process, folder, address }
    }

    fn listen(address: &str, folder: &Path, runtime: &str, more: &[&str]) -> (Running, SocketAddr) {
        let folder = folder.to_str().unwrap();
        Running::listen(&[&["agent", "--listen", address, "--dir", folder, "--runtime", runtime], more].concat())
    }

    fn url(&self) -> String {
        format!("ws://{}/", self.address)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    /// The connections that it has seen begin, in order.
    fn connections(&self) -> Vec<String> {
        let lines = self.process.stderr.all();
        lines.iter().filter_map(|line| line.strip_suffix(": new connection").map(str::to_owned)).collect()
    }
}

/// A person at a client.
struct Person {
    process: Running,
    stdin: ChildStdin,
}

impl Person {
    fn come(url: &str, runtime: &str, more: &[&str]) -> Self {
        let args = [&["chat", url, "--runtime", runtime, "--max-delay", "0.1"], more].concat();
        let (process, stdin) = Running::start(&args);
        Self { process, stdin }
    }

    /// Comes once there, so that what is said after that finds it listening.
    fn arrive(url: &str, runtime: &str, more: &[&str]) -> Self {
        let person = Self::come(url, runtime, more);
        person.sees(1, "attached");
        person
    }

    fn types(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").unwrap();
    }

    /// Waits until so many lines of stderr hold a text.
    fn sees(&self, count: usize, part: &str) {
        self.process.stderr.wait_for(count, part);
    }

    /// Waits until the conversation holds a text.
    fn reads(&self, part: &str) {
        let start = Instant::now();
        while !self.process.stdout.text().contains(part) {
            let (out, err) = (self.process.stdout.text(), self.process.stderr.text());
            assert!(start.elapsed() < PATIENCE, "{part:?} is not in {out:?}; stderr: {err}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Leaves. Returns the exit code and the conversation.
    fn leaves(mut self, command: &str) -> (i32, String) {
        // It may have left by itself.
        _ = writeln!(self.stdin, "{command}");
        (self.process.ends(), self.process.stdout.text())
    }

    /// Types nothing more, and stays for what is still to come. Returns the exit code and the conversation.
    fn listens_to_the_end(self) -> (i32, String) {
        let Self { mut process, stdin } = self;
        drop(stdin);
        let code = process.ends();
        // Shown where the test fails.
        println!("{}", process.stderr.text());
        (code, process.stdout.text())
    }
}

/// A text of so many lines in which no part is like another.
fn numbered(lines: usize) -> String {
    (0..lines).fold(String::new(), |mut text, line| {
        writeln!(text, "line {line}: {}", line * 7_919).unwrap();
        text
    })
}

/// Long texts are the same; where they are not, it says from where on.
fn assert_same(text: &str, expected: &str) {
    let lines = text.lines().zip(expected.lines()).enumerate();
    let other: Vec<_> = lines.filter(|(_, (line, expected))| line != expected).take(5).collect();
    assert!(text == expected, "from here on it is another: {other:?}; {} bytes of {}", text.len(), expected.len());
}

macro_rules! on_both_runtimes {
    ($($name:ident)+) => {
        mod on_tokio { $(#[test] fn $name() { super::$name("tokio"); })+ }
        mod on_smol { $(#[test] fn $name() { super::$name("smol"); })+ }
    };
}

on_both_runtimes! {
    what_is_asked_for_is_done_and_what_would_change_something_only_if_it_is_allowed
    of_two_people_the_first_who_answers_decides_and_the_other_is_told_who
    who_leaves_in_the_middle_of_an_answer_comes_back_to_the_rest_of_it
    twenty_cuts_cost_no_character_and_no_answer_is_taken_twice
    an_agent_that_dies_and_is_started_again_is_told_from_one_that_went_on
    who_comes_in_the_middle_of_an_answer_reads_all_of_it_and_who_comes_back_to_another_agent_is_told
}

fn what_is_asked_for_is_done_and_what_would_change_something_only_if_it_is_allowed(runtime: &str) {
    let agent = Agent::start(runtime, &["--pace-ms", "1"]);
    agent.write("a.txt", "one two\nthree\n");
    let mut person = Person::arrive(&agent.url(), runtime, &[]);
    for (line, answer) in [
        ("read a.txt", "one two\nthree\n"),
        ("count a.txt", "a.txt: 3 words, 2 lines, 14 bytes\n"),
        ("list", "\na.txt\n"),
        ("read ../a.txt", "! \"../a.txt\" is not in the agent's folder\n"),
        ("read none", "! none: "),
        ("dance", "! \"dance\" means nothing here; say `help`\n"),
    ] {
        person.types(line);
        person.reads(answer);
    }
    person.types("write b.txt as asked");
    person.sees(1, "may write_file do this? {\"path\":\"b.txt\",\"text\":\"as asked\"}");
    assert!(!agent.folder.path().join("b.txt").exists());
    person.types("/allow");
    person.reads("Wrote 8 bytes to b.txt");
    person.types("write b.txt not wanted");
    person.sees(2, "may write_file do this?");
    person.types("/dialogs");
    person.sees(3, "may write_file do this?");
    person.types("/deny");
    person.reads("has denied write_file");
    assert_eq!(agent.read("b.txt"), "as asked");
    person.types("append b.txt this");
    person.sees(1, "may append_file do this?");
    person.types("/edit {\"path\":\"b.txt\",\"text\":\", and that\"}");
    person.reads("otherwise than asked");
    assert_eq!(agent.read("b.txt"), "as asked, and that\n");
    person.types("/allow");
    person.sees(1, "no question is open");
    let (code, conversation) = person.listens_to_the_end();
    assert_eq!(code, 0);
    // Who comes later reads the same.
    let late = Person::come(&agent.url(), runtime, &[]);
    assert_eq!(late.listens_to_the_end(), (0, conversation));
}

fn of_two_people_the_first_who_answers_decides_and_the_other_is_told_who(runtime: &str) {
    let agent = Agent::start(runtime, &["--pace-ms", "1"]);
    let mut first = Person::arrive(&agent.url(), runtime, &[]);
    until(|| agent.connections().len() == 1);
    let mut second = Person::arrive(&agent.url(), runtime, &[]);
    until(|| agent.connections().len() == 2);
    first.types("write a.txt text");
    second.sees(1, "may write_file");
    second.types("/allow");
    second.sees(1, "allowed by you");
    first.sees(1, &format!("allowed by {}", agent.connections()[1]));
    first.reads("Wrote 4 bytes");
    // Both at once: one wins, and both say the same of it.
    for round in 2..12 {
        first.types("append b.txt once");
        first.sees(round, "may ");
        second.sees(round, "may ");
        first.types("/allow");
        second.types("/deny");
        first.sees(round, "ed by ");
        second.sees(round, "ed by ");
    }
    let won = |person: &Person| {
        let lines = person.process.stderr.all();
        let outcomes = lines.iter().filter(|line| line.contains("ed by ")).skip(1);
        outcomes.map(|line| (line.contains(": allowed by "), line.contains(" by you"))).collect::<Vec<_>>()
    };
    let (of_first, of_second) = (won(&first), won(&second));
    for (one, other) in of_first.iter().zip(&of_second) {
        assert_eq!((one.0, one.1), (other.0, !other.1), "{of_first:?} {of_second:?}");
        assert_eq!(one.0, one.1, "the first allows, and the second denies");
    }
    let allowed = of_first.iter().filter(|(is_allowed, _)| *is_allowed).count();
    assert_eq!(first.listens_to_the_end().0, 0);
    let (code, conversation) = second.listens_to_the_end();
    assert_eq!(code, 0);
    assert_eq!(conversation.matches("Wrote 5 bytes to b.txt").count(), allowed);
    let written = fs::read_to_string(agent.folder.path().join("b.txt")).unwrap_or_default();
    assert_eq!(written, "once\n".repeat(allowed));
}

fn who_leaves_in_the_middle_of_an_answer_comes_back_to_the_rest_of_it(runtime: &str) {
    let agent = Agent::start(runtime, &["--pace-ms", "4"]);
    // Long enough that it still goes on when somebody comes back for the third time, however busy the machine.
    let content = numbered(1_000);
    agent.write("long.txt", &content);
    let state = agent.folder.path().join("state");
    let with_state = ["--state", state.to_str().unwrap()];
    let mut conversation = String::new();
    let mut person = Person::arrive(&agent.url(), runtime, &with_state);
    person.types("read long.txt");
    for _ in 0..3 {
        person.reads("\nline ");
        // What is said meanwhile is read behind the answer, although its place is before where it was left.
        person.types("count long.txt");
        until(|| person.process.stderr.text().contains(": delivered"));
        let (code, read) = person.leaves("/detach");
        assert_eq!(code, 0);
        assert!(!read.is_empty() && !read.contains("> count"));
        conversation.push_str(&read);
        person = Person::arrive(&agent.url(), runtime, &with_state);
        person.sees(1, "going on where this client stopped");
    }
    let (code, read) = person.listens_to_the_end();
    conversation.push_str(&read);
    let size = content.len();
    let counted = format!("long.txt: 3000 words, 1000 lines, {size} bytes\n").repeat(3);
    assert_same(&conversation, &format!("> read long.txt\n{content}{}{counted}", "> count long.txt\n".repeat(3)));
    assert_eq!(code, 0);
    // It was one connection all the time.
    let mut connections = agent.connections();
    connections.dedup();
    assert_eq!(connections.len(), 1, "{connections:?}");
    let done = run(&["chat", &agent.url(), "--session", "other", "--state", state.to_str().unwrap()], "");
    assert_eq!(done.status.code(), Some(2), "{}", text(&done.stderr));
}

fn twenty_cuts_cost_no_character_and_no_answer_is_taken_twice(runtime: &str) {
    let agent = Agent::start(runtime, &["--pace-ms", "8"]);
    let content = numbered(500);
    agent.write("long.txt", &content);
    let network = tokio::runtime::Runtime::new().unwrap();
    let proxy = network.block_on(FaultProxy::start(agent.address, Duration::from_millis(2))).unwrap();
    let established = proxy.established();
    let mut person = Person::arrive(&format!("ws://{}/", proxy.address()), runtime, &[]);
    person.types("read long.txt");
    let cuts = [Cut::Fin, Cut::Reset, Cut::Torn];
    for cut in 0..10 {
        person.reads(&format!("line {}: ", cut * 30));
        person.sees(cut + 1, "attached");
        proxy.cut(cuts[cut % 3]);
    }
    person.reads("line 499: ");
    person.types("append log.txt once");
    person.sees(1, "may append_file");
    for cut in 10..20 {
        person.sees(cut + 1, "attached");
        if cut == 19 {
            person.types("/allow");
        }
        proxy.cut(cuts[cut % 3]);
    }
    person.reads("Wrote 5 bytes");
    person.sees(1, "allowed by you");
    assert!(*established.borrow() > 20, "{}", *established.borrow());
    assert_eq!(person.process.stderr.text().matches("may append_file").count(), 1, "it is shown once");
    let (code, conversation) = person.listens_to_the_end();
    let cid = &agent.connections()[0];
    let expected = format!(
        "> read long.txt\n{content}> append log.txt once\nMay I add to log.txt? \
         Wrote 5 bytes to log.txt: {cid} has allowed it.\n"
    );
    assert_same(&conversation, &expected);
    assert_eq!((code, agent.read("log.txt").as_str()), (0, "once\n"));
    assert_eq!(agent.connections().len(), 1);
}

fn an_agent_that_dies_and_is_started_again_is_told_from_one_that_went_on(runtime: &str) {
    let mut agent = Agent::start(runtime, &["--pace-ms", "8"]);
    agent.write("long.txt", &numbered(500));
    let mut person = Person::arrive(&agent.url(), runtime, &[]);
    person.types("read long.txt");
    person.reads("line 20: ");
    agent.process.kill();
    person.sees(1, "detached; retry");
    person.types("count long.txt");
    person.sees(1, "Not connected. Message will be sent when reconnected.");
    let address = agent.address.to_string();
    (agent.process, _) = Agent::listen(&address, agent.folder.path(), runtime, &["--pace-ms", "1"]);
    person.sees(1, "the session began anew");
    person.sees(1, "the rest of this answer is lost");
    person.sees(1, "nobody can tell whether it was done");
    person.reads("> count long.txt\nlong.txt: 1500 words");
    let (code, conversation) = person.leaves("/quit");
    assert_eq!(conversation.matches("line 20: ").count(), 1);
    assert_eq!(code, 3, "an answer is lost");
    // One that stays away is given up on.
    let person = Person::arrive(&agent.url(), runtime, &["--attempts", "2"]);
    agent.process.kill();
    person.sees(1, "error: no connection: ");
    assert_eq!(person.leaves("").0, 1);
}

fn who_comes_in_the_middle_of_an_answer_reads_all_of_it_and_who_comes_back_to_another_agent_is_told(runtime: &str) {
    let mut agent = Agent::start(runtime, &["--pace-ms", "4"]);
    let content = numbered(500);
    agent.write("long.txt", &content);
    let state = agent.folder.path().join("state");
    let with_state = ["--state", state.to_str().unwrap()];
    let mut first = Person::arrive(&agent.url(), runtime, &with_state);
    first.types("read long.txt");
    first.reads("line 200: ");
    // By now there is more than one snapshot, each in the middle of the answer.
    let late = Person::come(&agent.url(), runtime, &[]);
    late.reads("line 250: ");
    let (code, read) = first.leaves("/detach");
    assert_eq!(code, 0);
    let (code, conversation) = late.listens_to_the_end();
    assert_same(&conversation, &format!("> read long.txt\n{content}"));
    assert_eq!(code, 0);
    assert!(conversation.starts_with(&read));
    let mut first = Person::arrive(&agent.url(), runtime, &with_state);
    first.reads(content.strip_prefix(read.strip_prefix("> read long.txt\n").unwrap()).unwrap());
    // The next one is never heard to its end.
    first.types("read long.txt");
    first.reads("line 499: 3951581\n> read long.txt\nline 0: ");
    assert_eq!(first.leaves("/detach").0, 0);
    agent.process.kill();
    let address = agent.address.to_string();
    (agent.process, _) = Agent::listen(&address, agent.folder.path(), runtime, &["--pace-ms", "1"]);
    let mut back = Person::come(&agent.url(), runtime, &with_state);
    back.sees(1, "the session began anew");
    back.sees(1, "the rest of this answer is lost");
    back.sees(1, "nobody can tell whether it was done");
    back.types("count long.txt");
    back.reads("> count long.txt\nlong.txt: 1500 words");
    assert_eq!(back.leaves("/quit").0, 3, "an answer is lost");
}

#[test]
fn the_same_message_is_taken_once_and_one_for_an_earlier_life_not_at_all() {
    let agent = Agent::start("tokio", &["--pace-ms", "0"]);
    let network = tokio::runtime::Runtime::new().unwrap();
    network.block_on(async {
        let client = reattach_tokio::connect(&agent.url(), ClientConfig::new()).await.unwrap();
        let send = |message: &str, epoch: Option<Epoch>| {
            let (client, message) = (client.clone(), message.to_owned());
            let send = messages::Send { message, message_id: EnvelopeId::new("m").unwrap(), epoch };
            async move { client.request::<_, messages::Sent>(messages::SEND, &send).await }
        };
        let earlier = send("help", Some(Epoch::from_bytes([7; 16]))).await.unwrap_err();
        let CallError::Failed(error) = earlier else { panic!("{earlier:?}") };
        assert!(matches!(error.failure, Failure::Refused(error) if error.code == messages::ANOTHER_LIFE));
        for _ in 0..3 {
            assert_eq!(send("help", None).await.unwrap(), messages::Sent { accepted: true });
        }
        let empty = messages::Send { message: " ".to_owned(), message_id: EnvelopeId::new("n").unwrap(), epoch: None };
        assert!(client.request::<_, messages::Sent>(messages::SEND, &empty).await.is_err());
    });
    let (code, conversation) = Person::come(&agent.url(), "tokio", &[]).listens_to_the_end();
    assert_eq!((code, conversation.matches("> help").count()), (0, 1));
}

#[test]
fn what_finds_no_room_and_what_nobody_allows_in_time_is_said() {
    let agent = Agent::start("tokio", &["--pace-ms", "1", "--queue", "1", "--permission-timeout", "2"]);
    let mut person = Person::arrive(&agent.url(), "tokio", &[]);
    person.types("write a.txt text");
    person.sees(1, "may write_file");
    person.types("list");
    person.sees(2, ": delivered");
    person.types("help");
    person.sees(1, "not delivered: 1 messages wait, which is as many as may");
    person.sees(1, "nobody answered in time, so it was denied");
    person.reads("! nobody has allowed write_file in time\n> list\nnothing\n");
    person.types("/retry 0003");
    person.reads("> help\nread FILE");
    assert_eq!(person.listens_to_the_end().0, 3);
}

#[test]
fn an_answer_that_is_not_kept_any_more_is_given_up_at_once_and_not_waited_for_again() {
    let agent = Agent::start("tokio", &["--pace-ms", "0", "--queue", "100"]);
    let state = agent.folder.path().join("state");
    let with_state = ["--state", state.to_str().unwrap(), "--patience", "3600"];
    let mut person = Person::arrive(&agent.url(), "tokio", &with_state);
    person.types("write a.txt text");
    person.sees(1, "may write_file");
    assert_eq!(person.leaves("/detach").0, 0);
    let mut other = Person::arrive(&agent.url(), "tokio", &[]);
    other.sees(1, "may write_file");
    other.types("/deny");
    let long = "x".repeat(90_000);
    for _ in 0..60 {
        other.types(&long);
    }
    assert_eq!(other.listens_to_the_end().0, 0);
    let back = Person::arrive(&agent.url(), "tokio", &with_state);
    back.sees(1, "0001: its answer is not kept any more");
    assert_eq!(back.listens_to_the_end().0, 3);
    let again = Person::arrive(&agent.url(), "tokio", &with_state);
    assert_eq!(again.listens_to_the_end().0, 0);
}

#[test]
fn what_came_before_a_line_that_is_no_text_is_sent_and_answered() {
    let agent = Agent::start("tokio", &["--pace-ms", "1"]);
    agent.write("a.txt", "one two\n");
    let mut person = Person::come(&agent.url(), "tokio", &[]);
    person.stdin.write_all(b"count a.txt\n\xff\nhelp\n").unwrap();
    let stderr = person.process.stderr.clone();
    let (code, conversation) = person.listens_to_the_end();
    assert_eq!((code, conversation.as_str()), (1, "> count a.txt\na.txt: 2 words, 1 lines, 8 bytes\n"));
    let says = stderr.text();
    assert!(says.contains("1 delivered, 0 not delivered") && says.contains("error: stdin: invalid utf-8"), "{says}");
    assert!(says.contains("hint: one line of text is one message"), "{says}");
}

#[test]
fn a_long_message_that_was_not_delivered_is_named_by_how_it_begins() {
    let agent = Agent::start("tokio", &["--pace-ms", "1"]);
    let done = run(&["chat", &agent.url()], &format!("{}\n", "é".repeat(100_000)));
    let says = text(&done.stderr);
    assert_eq!(done.status.code(), Some(3), "{says}");
    let line = says.lines().find(|line| line.contains("not delivered: a message has")).unwrap();
    assert!(line.contains(": éééé") && line.len() < 1_000, "{line}");
    // Where it is left there is nothing to type any more.
    let done = run(&["chat", &agent.url(), "--session", "none"], "help\n");
    let says = text(&done.stderr);
    assert!(says.contains("closed the connection first: help\n") && !says.contains("/retry"), "{says}");
}

#[test]
fn all_that_was_kept_is_sent_however_much_it_is() {
    let agent = Agent::start("tokio", &["--pace-ms", "0", "--queue", "1000"]);
    let state = agent.folder.path().join("state");
    let with_state = ["--state", state.to_str().unwrap()];
    assert_eq!(Person::arrive(&agent.url(), "tokio", &with_state).leaves("/detach").0, 0);
    let kept = fs::read_to_string(&state).unwrap();
    let typed = (0..400).map(|typed| {
        format!("{{\"messageId\":\"29393f2d-760c-8c5a-a43e-{typed:012x}\",\"message\":\"help {typed}\",\"sent\":null}}")
    });
    let typed = typed.collect::<Vec<_>>().join(",");
    let more = kept.replacen("\"unsettled\":[]", &format!("\"unsettled\":[{typed}]"), 1);
    assert_ne!(kept, more);
    fs::write(&state, more).unwrap();
    let (code, conversation) = Person::come(&agent.url(), "tokio", &with_state).listens_to_the_end();
    assert_eq!((code, conversation.matches("> help ").count()), (0, 400));
}

#[test]
fn a_name_that_several_messages_have_sends_none_of_them_again() {
    let agent = Agent::start("tokio", &["--pace-ms", "1", "--queue", "1"]);
    let mut person = Person::arrive(&agent.url(), "tokio", &[]);
    person.types("write a.txt text");
    person.sees(1, "may write_file");
    person.types("list");
    person.sees(2, ": delivered");
    for _ in 3..=0x13 {
        person.types("help");
    }
    person.sees(17, "as many as may");
    person.types("/deny");
    person.reads("> list\nnothing\n");
    person.types("/retry 3");
    person.sees(1, "which? 0003, 0013");
    person.types("/retry 13");
    person.sees(1, "0013: delivered");
    assert_eq!(person.listens_to_the_end().0, 3);
}

#[test]
fn of_two_clients_with_one_state_the_first_stops() {
    let agent = Agent::start("tokio", &["--pace-ms", "1"]);
    let state = agent.folder.path().join("state");
    let with_state = ["--state", state.to_str().unwrap()];
    let mut first = Person::arrive(&agent.url(), "tokio", &with_state);
    first.types("count state");
    first.reads(" bytes\n");
    let second = Person::arrive(&agent.url(), "tokio", &with_state);
    first.sees(1, "error: another instance took the connection over");
    assert_eq!(first.leaves("").0, 1);
    assert_eq!(second.listens_to_the_end(), (0, String::new()));
}

#[test]
fn a_file_that_no_chat_of_this_version_has_kept_is_refused_and_left_as_it_is() {
    let agent = Agent::start("tokio", &["--pace-ms", "1"]);
    let state = agent.folder.path().join("state");
    let with_state = ["--state", state.to_str().unwrap()];
    let mut person = Person::arrive(&agent.url(), "tokio", &with_state);
    // What it says to that is the end of its answer.
    person.types("dance");
    person.reads("say `help`\n");
    assert_eq!(person.leaves("/detach").0, 0);
    let kept = fs::read_to_string(&state).unwrap();
    let (before, after) = kept.split_once("\"offset\":").unwrap();
    let elsewhere = format!("{before}\"offset\":-{after}");
    // What an earlier version has kept of what it had seen.
    let earlier = kept.replacen("\"shown\":", "\"earlier\":", 1);
    let no_envelope = kept.replacen("\"queue\":[]", "\"queue\":[{\"type\":\"chat_stream\"}]", 1);
    assert_ne!(kept, no_envelope);
    for nonsense in ["", "{}", &kept[..kept.len() - 1], &elsewhere, &earlier, &no_envelope] {
        fs::write(&state, nonsense).unwrap();
        let done = run(&["chat", &agent.url(), "--state", state.to_str().unwrap()], "");
        assert_eq!(done.status.code(), Some(2), "{nonsense}");
        let says = text(&done.stderr);
        assert!(says.contains("it does not hold what a chat keeps") && says.contains("hint: --state names"), "{says}");
        assert_eq!(fs::read_to_string(&state).unwrap(), nonsense);
    }
}

#[test]
fn who_may_not_come_in_is_told_so() {
    let agent = Agent::start("tokio", &["--token", "right"]);
    for (token, code, says) in [("right", 0, "0 unknown"), ("wrong", 1, "hint: --token")] {
        let done = run(&["chat", &agent.url(), "--token", token, "--max-delay", "0.1"], "");
        assert_eq!(done.status.code(), Some(code), "{}", text(&done.stderr));
        assert!(text(&done.stderr).contains(says), "{}", text(&done.stderr));
    }
    let done = run(&["chat", &agent.url(), "--token", "right", "--session", "none"], "");
    assert_eq!(done.status.code(), Some(1), "{}", text(&done.stderr));
    assert!(text(&done.stderr).contains("the server knows no such session"), "{}", text(&done.stderr));
    let exposed = run(&["agent", "--listen", "0.0.0.0:0"], "");
    assert_eq!(exposed.status.code(), Some(2), "{}", text(&exposed.stderr));
    let nowhere = run(&["agent", "--listen", "127.0.0.1:0", "--dir", "/nowhere"], "");
    assert_eq!(nowhere.status.code(), Some(1), "{}", text(&nowhere.stderr));
}

#[cfg(unix)]
#[test]
fn an_agent_that_is_stopped_ends_its_answer_and_a_person_who_is_interrupted_can_come_back() {
    let mut agent = Agent::start("tokio", &["--pace-ms", "8"]);
    agent.write("long.txt", &numbered(500));
    let state = agent.folder.path().join("state");
    let with_state = ["--state", state.to_str().unwrap()];
    let mut person = Person::arrive(&agent.url(), "tokio", &with_state);
    person.types("read long.txt");
    person.reads("line 5: ");
    let signal = |process: &Running, signal: &str| {
        let told = Command::new("kill").args([signal, &process.child.id().to_string()]).status().unwrap();
        assert!(told.success());
    };
    signal(&person.process, "-INT");
    assert_eq!(person.process.ends(), 130);
    let mut person = Person::arrive(&agent.url(), "tokio", &with_state);
    // Well behind where the first one can have come on a busy machine: a line may begin on either side of the interrupt.
    person.reads("line 200: ");
    person.types("help");
    person.sees(1, ": delivered");
    signal(&agent.process, "-TERM");
    person.reads("! the agent was stopped before it was done\n> help\n! the agent was stopped before it was done\n");
    assert_eq!(agent.process.ends(), 0);
    person.sees(1, "detached");
    assert_eq!(person.leaves("/quit").0, 0);
}
