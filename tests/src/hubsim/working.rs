//! Requests: who makes them, and who serves them.

use std::pin::Pin;
use std::pin::pin;
use std::time::Duration;

use futures_util::future::Either;
use futures_util::future::select;
use reattach_driver::Client;
use reattach_driver::Connection;
use reattach_driver::IncomingCall;
use reattach_driver::Request;
use reattach_driver::Response;
use reattach_driver::core::rpc::Call;
use reattach_driver::core::rpc::ErrorObject;
use reattach_driver::core::rpc::RpcMisuse;
use reattach_driver::core::wire::Payload;
use reattach_driver::testing::Net;

use super::calling::Given;
use super::ledger::Known;
use super::ledger::Ledger;
use super::ledger::check;
use super::schedule::Ask;
use super::schedule::Work;
use super::slot::Slot;

/// One end of a connection, for requests.
#[derive(Clone)]
pub(super) enum End {
    /// The client's.
    Client(Client),
    /// The server's.
    Server(Connection),
}

/// Who makes or serves requests: everything they need.
#[derive(Clone)]
pub(super) struct Worker {
    pub(super) net: Net,
    pub(super) ledger: Ledger,
    pub(super) end: End,
    /// The program that this is.
    pub(super) program: usize,
    /// The client's program, whichever end this is.
    pub(super) client: usize,
}

/// A request that was made: taken away, it is withdrawn.
#[derive(Clone)]
pub(super) struct Made {
    pub(super) number: u64,
    pub(super) response: Slot<Response>,
}

/// What a request may take where nothing else is said.
pub(super) const TIMEOUT: Duration = Duration::from_secs(30);

/// The code with which requests are refused.
const REFUSAL: i64 = 7;

fn call(number: u64, ask: Ask) -> Call {
    let params = Payload::new(&[number]).expect("a number is JSON");
    let mut call = Call::new("work").and_then(|call| call.with_params(params)).expect("it is a call");
    (call.timeout, call.idle) = (ask.timeout, ask.idle);
    call
}

impl Worker {
    fn begin(&self, ask: Ask) -> u64 {
        let mut known = self.ledger.lock();
        let now = (known.now, known.clocks.at(self.program));
        known.requests.begin(ask, (self.program, self.client), ask.timeout.unwrap_or(TIMEOUT), now)
    }

    /// Has a task hear what becomes of a request.
    fn heard(&self, made: Made) -> Made {
        let (own, ledger) = (made.clone(), self.ledger.clone());
        self.net.spawn(async move { own.hear(&ledger).await });
        made
    }

    fn begun(&self, number: u64, response: Response) -> Made {
        Made { number, response: Slot::new(response) }
    }

    fn refused(&self, numbers: &[u64], misuse: RpcMisuse) {
        self.ledger.note(&format!("requests {numbers:?} are not begun: {misuse}"), |known| {
            known.coverage.reach("request is not begun");
            numbers.iter().for_each(|number| known.requests.forget(*number));
            let is_known = matches!(misuse, RpcMisuse::TooManyPending { .. } | RpcMisuse::QueueFull | RpcMisuse::Ended);
            check(is_known, "J1", || format!("requests {numbers:?} are refused: {misuse}"))
        });
    }

    /// Makes a request.
    pub(super) fn call(&self, ask: Ask) -> Option<Made> {
        self.call_unheard(ask).map(|made| self.heard(made))
    }

    fn call_unheard(&self, ask: Ask) -> Option<Made> {
        let number = self.begin(ask);
        self.ledger.lock().tell(&format!("program {} makes request {number}: {ask:?}", self.program));
        let made = match &self.end {
            End::Client(client) => client.call(call(number, ask)),
            End::Server(connection) => connection.call(call(number, ask)),
        };
        match made {
            Ok(response) => Some(self.begun(number, response)),
            Err(misuse) => {
                self.refused(&[number], misuse);
                None
            }
        }
    }

    /// Makes several, and a notification, in one message.
    pub(super) fn call_batch(&self, asks: &[Ask]) -> Vec<Made> {
        let numbers: Vec<u64> = asks.iter().map(|ask| self.begin(*ask)).collect();
        self.ledger.lock().tell(&format!("program {} makes requests {numbers:?} at once: {asks:?}", self.program));
        let mut calls: Vec<_> = numbers.iter().zip(asks).map(|(number, ask)| (call(*number, *ask), true)).collect();
        let note = Payload::new(&[numbers[0]]).expect("a number is JSON");
        calls.push((Call::new("note").and_then(|call| call.with_params(note)).expect("it is a call"), false));
        let made = match &self.end {
            End::Client(client) => client.call_batch(calls),
            End::Server(connection) => connection.call_batch(calls),
        };
        match made {
            Ok(responses) => {
                let made = numbers.into_iter().zip(responses);
                made.map(|(number, response)| self.heard(self.begun(number, response))).collect()
            }
            Err(misuse) => {
                self.refused(&numbers, misuse);
                Vec::new()
            }
        }
    }

    /// Serves what comes, until the connection ends. `first` takes what is not for the application.
    pub(super) async fn serve(&self, first: impl Fn(IncomingCall) -> Option<IncomingCall>) {
        let requests = match &self.end {
            End::Client(client) => client.requests(),
            End::Server(connection) => connection.requests(),
        };
        while let Some(call) = requests.next().await {
            match first(call) {
                Some(IncomingCall::Request(request)) => {
                    let worker = self.clone();
                    self.net.spawn(async move { worker.work(request).await });
                }
                Some(IncomingCall::Notification(notification)) => {
                    let number = notification.params::<(u64,)>().map_or(0, |(number,)| number);
                    self.ledger.note(&format!("program {} is notified of {number}", self.program), |known| {
                        let is_new = known.requests.notified.insert(number);
                        check(is_new, "S1", || format!("notification {number} comes twice"))
                    });
                }
                Some(_) | None => {}
            }
        }
    }

    /// What is to be done about a request that has come.
    fn begin_work(&self, number: u64) -> Option<Ask> {
        let mut known = self.ledger.lock();
        known.tell(&format!("program {} serves request {number}", self.program));
        match known.requests.serve(number) {
            Ok(ask) => {
                *known.serving.entry(self.program).or_default() += 1;
                Some(ask)
            }
            Err(broken) => {
                known.judge(Err(broken));
                None
            }
        }
    }

    fn end_work(&self, number: u64, given: Option<&Given>) {
        let mut known = self.ledger.lock();
        *known.serving.entry(self.program).or_default() -= 1;
        match given {
            Some(given) => {
                known.tell(&format!("request {number} gets {given:?}"));
                known.requests.give(number, given.clone());
            }
            None => {
                known.tell(&format!("nobody waits for request {number} any more"));
                known.coverage.reach("request is abandoned");
            }
        }
    }

    /// Serves one request.
    async fn work(&self, request: Request) {
        let Ok((number,)) = request.params::<(u64,)>() else { return };
        let Some(ask) = self.begin_work(number) else { return };
        let abandoned = request.abandoned();
        let given = {
            let doing = pin!(self.answer(&request, number, ask.work));
            match select(doing, pin!(abandoned)).await {
                Either::Left((given, _)) => Some(given),
                Either::Right(((), _)) => None,
            }
        };
        self.end_work(number, given.as_ref());
        let Some(given) = given else { return };
        let responded = match given {
            Given::Result(result) => request.respond_with(Ok(result)),
            Given::Refusal(code) => request.respond_with(Err(ErrorObject::new(code, "no"))),
            Given::Nothing => {
                drop(request);
                Ok(())
            }
        };
        if let Err(misuse) = responded {
            self.ledger.note(&format!("request {number} cannot be answered: {misuse}"), |_| {
                let is_known = matches!(misuse, RpcMisuse::NotWaiting | RpcMisuse::Ended);
                check(is_known, "S4", || format!("request {number} cannot be answered: {misuse}"))
            });
        }
    }

    async fn answer(&self, request: &Request, number: u64, work: Work) -> Given {
        let result = |with: u64| Given::Result(Payload::new(&[number, with]).expect("numbers are JSON"));
        match work {
            Work::Answer => result(0),
            Work::Late(after) => {
                self.net.sleep(after).await;
                result(1)
            }
            Work::Progress(steps, pause) => {
                for step in 1..=steps {
                    // Nobody may wait any more.
                    _ = request.progress(&Payload::new(&[number, step]).expect("numbers are JSON"));
                    self.net.sleep(pause).await;
                }
                result(steps)
            }
            Work::Refuse => Given::Refusal(REFUSAL),
            Work::GiveUp => Given::Nothing,
            Work::Never => std::future::pending().await,
            Work::AskBack => {
                let ask = Ask { work: Work::Answer, timeout: Some(Duration::from_secs(10)), idle: None };
                let Some(back) = self.call_unheard(ask) else { return Given::Refusal(REFUSAL) };
                // Where nobody waits for this any more, what was asked for it is withdrawn.
                let _withdraws = Withdraws(&self.ledger, &back);
                if back.hear(&self.ledger).await { result(2) } else { Given::Refusal(REFUSAL) }
            }
        }
    }
}

/// Withdraws a request when it is dropped.
struct Withdraws<'a>(&'a Ledger, &'a Made);

impl Drop for Withdraws<'_> {
    fn drop(&mut self) {
        self.1.withdraw(self.0);
    }
}

impl Made {
    /// Nobody wants to know any more.
    pub(super) fn withdraw(&self, ledger: &Ledger) {
        if let Some(response) = self.response.take() {
            ledger.note(&format!("request {} is withdrawn", self.number), |known| {
                known.requests.forget(self.number);
                Ok(())
            });
            drop(response);
        }
    }

    /// Hears what becomes of it. Returns whether it has a result.
    async fn hear(&self, ledger: &Ledger) -> bool {
        let Self { number, response, .. } = self;
        while let Some(Some(value)) = response.wait(|response, cx| pin!(response.progress()).poll(cx)).await {
            ledger.note(&format!("request {number} is at {}", value.as_str()), |known| {
                match value.parse::<(u64, u64)>() {
                    Ok((of, step)) if of == *number => known.requests.progress(*number, step),
                    Ok(_) | Err(_) => check(false, "S5", || format!("request {number} is at {value:?}")),
                }
            });
        }
        let Some(end) = response.wait(|response, cx| Pin::new(response).poll(cx)).await else { return false };
        let (is_result, end) = (end.is_ok(), end.map_err(|error| error.failure));
        ledger.note(&format!("request {number} ends: {end:?}"), |known| {
            let Known { requests, now, clocks, coverage, .. } = known;
            requests.end(*number, end, *now, clocks, coverage)
        });
        is_result
    }
}
