//! The `reattach` command as processes that tests talk to through pipes.

#![allow(dead_code, reason = "each test uses some of it")]

use std::io::Read;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with the test, however that ends, and what it has written.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
    reading: Vec<JoinHandle<()>>,
}

/// What a process has written to a pipe.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn of(mut stream: impl Read + Send + 'static) -> (Self, JoinHandle<()>) {
        let lines = Self::default();
        let entering = lines.clone();
        let reading = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = stream.read(&mut buffer) {
                entering.0.lock().expect("nothing panics here").extend_from_slice(&buffer[..read]);
            }
        });
        (lines, reading)
    }

    /// All of it; a character that has not come as a whole yet is left out.
    pub(crate) fn text(&self) -> String {
        let bytes = self.0.lock().expect("nothing panics here");
        let whole = std::str::from_utf8(&bytes).map_or_else(|error| error.valid_up_to(), str::len);
        String::from_utf8_lossy(&bytes[..whole]).into_owned()
    }

    /// The lines that have come to their end.
    pub(crate) fn all(&self) -> Vec<String> {
        let text = self.text();
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        text[..whole].lines().map(str::to_owned).collect()
    }

    /// How many they are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().expect("nothing panics here").iter().filter(|byte| **byte == b'\n').count()
    }

    /// Waits until so many lines hold a text.
    pub(crate) fn wait_for(&self, count: usize, part: &str) {
        let start = Instant::now();
        while self.all().iter().filter(|line| line.contains(part)).count() < count {
            assert!(start.elapsed() < PATIENCE, "{count} times {part:?} is not in {:?}", self.text());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Running {
    pub(crate) fn start(args: &[&str]) -> (Self, ChildStdin) {
        let mut child = spawn(args);
        let (stdout, of_stdout) = Lines::of(child.stdout.take().expect("stdout is piped"));
        let (stderr, of_stderr) = Lines::of(child.stderr.take().expect("stderr is piped"));
        let stdin = child.stdin.take().expect("stdin is piped");
        (Self { child, stdout, stderr, reading: vec![of_stdout, of_stderr] }, stdin)
    }

    /// A server, once it listens, and its address.
    pub(crate) fn serve(args: &[&str]) -> (Self, SocketAddr) {
        Self::listen(&[&["serve"], args].concat())
    }

    /// The same, whatever kind of server it is.
    pub(crate) fn listen(args: &[&str]) -> (Self, SocketAddr) {
        let (server, _) = Self::start(args);
        until(|| server.stdout.len() > 0);
        let url = server.stdout.all()[0].clone();
        let (_, address) = url.trim_end_matches('/').split_once("://").expect("a URL on stdout");
        let address = address.parse().expect("an address on stdout");
        (server, address)
    }

    /// The code with which the process ends, and nothing of it left unread.
    pub(crate) fn ends(&mut self) -> i32 {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                // The threads that read its pipes come to their end right after it.
                self.reading.drain(..).for_each(|reading| reading.join().expect("a reader does not panic"));
                return status.code().expect("it was not killed");
            }
            assert!(start.elapsed() < PATIENCE, "it does not end; it said {:?}", self.stderr.all());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn kill(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "it comes within the test's patience");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The command, with pipes to talk to it through.
fn spawn(args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_reattach"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts")
}

pub(crate) fn run(args: &[&str], stdin: &str) -> Output {
    let mut child = spawn(args);
    child.stdin.take().expect("stdin is piped").write_all(stdin.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}
