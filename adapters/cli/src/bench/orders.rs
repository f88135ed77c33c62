//! The server as a process of its own, and what is said to it: orders on its stdin, answers on its stdout, a line each.

use std::io;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Child;
use std::process::ChildStdin;
use std::process::Command;
use std::process::Stdio;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

use crate::bench::Failed;
use crate::bench::Subject;
use crate::bench::case::Case;

/// What a server is asked. Each answer is a number, or nothing where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Order {
    /// The CPU time that the process has taken, in nanoseconds.
    Cpu,
    /// The memory that it holds, in bytes.
    Memory,
    /// How many connections have begun.
    Connections,
    /// Once the client is away: send it what it will have missed. How many messages that are.
    Miss,
    /// Once each of those has its outcome: how many were delivered.
    Outcomes,
}

/// A server process. It ends with this.
pub(crate) struct Process {
    child: Child,
    orders: ChildStdin,
    answers: mpsc::UnboundedReceiver<String>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Process {
    /// Starts this very program as a server for a case.
    pub(crate) async fn start(runtime: &str, subject: Subject, case: Case) -> Result<Self, Failed> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench-server", "--runtime", runtime, "--subject", subject.name(), "--case", &case.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (orders, stdout) = (child.stdin.take(), child.stdout.take());
        let orders = orders.ok_or_else(|| io::Error::other("the server's stdin is not a pipe"))?;
        let stdout = stdout.ok_or_else(|| io::Error::other("the server's stdout is not a pipe"))?;
        let mut answers = lines_of(stdout);
        let address = answer(&mut answers).await?;
        Ok(Self { child, orders, answers, address })
    }

    /// Asks the server, and waits for its answer.
    pub(crate) async fn ask(&mut self, order: Order) -> Result<Option<u64>, Failed> {
        let line = serde_json::to_string(&order).map_err(io::Error::from)?;
        writeln!(self.orders, "{line}").map_err(|_| Failed::Server)?;
        answer(&mut self.answers).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

async fn answer<T: DeserializeOwned>(answers: &mut mpsc::UnboundedReceiver<String>) -> Result<T, Failed> {
    let line = answers.recv().await.ok_or(Failed::Server)?;
    serde_json::from_str(&line).map_err(|_| Failed::Server)
}

/// The orders that come, until whoever gives them has gone.
pub(crate) fn orders() -> mpsc::UnboundedReceiver<String> {
    lines_of(io::stdin())
}

/// Says the address, or answers an order.
pub(crate) fn say(answer: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(answer)?)?;
    out.flush()
}

/// Lines as they come. A thread reads them, for not every runtime can wait for a pipe.
fn lines_of(stream: impl Read + Send + 'static) -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
