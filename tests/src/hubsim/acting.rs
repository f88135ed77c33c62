//! What each act does.

use std::sync::PoisonError;
use std::time::Duration;

use reattach_driver::ConnectionState;
use reattach_driver::core::hub::Call;
use reattach_driver::core::hub::read_generation;
use reattach_driver::core::messages::PermissionId;
use reattach_driver::core::messages::PermissionRequest;
use reattach_driver::core::messages::PermissionResponse;
use reattach_driver::core::permission::PermissionMisuse;
use reattach_driver::core::rpc;
use reattach_driver::core::rpc::Failure;
use reattach_driver::core::session::Generation;
use reattach_driver::core::session::SessionMisuse;
use reattach_driver::core::session::WatchFrom;
use reattach_driver::core::wire::Payload;

use super::asking::Asked;
use super::ledger::Known;
use super::ledger::Place;
use super::ledger::check;
use super::people::Watching;
use super::people::Whose;
use super::people::choice;
use super::schedule::Act;
use super::schedule::Chosen;
use super::schedule::From;
use super::slot::Slot;
use super::watching::Seen;
use super::world::QUESTION;
use super::world::World;
use super::world::session_id;

/// A fault that takes longer may cost a connection its epoch, or a request its time.
const LONG: Duration = Duration::from_secs(4);

impl World {
    pub(super) async fn act(&mut self, act: &Act) {
        self.known().coverage.reach(act.word());
        match act {
            Act::Watch { client, session, from } => self.watch(*client, *session, *from),
            Act::Unwatch { client, session } => self.unwatch(*client, *session),
            Act::Call { client, to_server, ask } => {
                let made = self.worker(*client, *to_server).and_then(|worker| worker.call(*ask));
                self.made.extend(made);
            }
            Act::Batch { client, to_server, asks } => {
                let made = self.worker(*client, *to_server).map(|worker| worker.call_batch(asks));
                self.made.extend(made.into_iter().flatten());
            }
            Act::Withdraw { nth } => {
                if let Some(made) = self.made.iter().rev().nth(*nth) {
                    made.withdraw(&self.ledger);
                }
            }
            Act::Abort { client } => self.abort(*client),
            Act::Answer { client, session, nth, chosen } => {
                if let Some(watching) = self.clients[*client].watching.get(session)
                    && let Some(id) = watching.dialogs().get(*nth)
                {
                    watching.answer(id, *chosen);
                }
            }
            Act::RawAnswer { client, nth, chosen, then } => {
                [Some(*chosen), *then].into_iter().flatten().for_each(|chosen| self.raw_answer(*client, *nth, chosen));
            }
            Act::Look { client, session, is_looking } => {
                if let Some(watching) = self.clients[*client].watching.get(session)
                    && let Some(id) = watching.dialogs().first()
                {
                    watching.watch.with(|watch| watch.look(id, *is_looking));
                }
            }
            Act::Own { client, session } => self.own(*client, *session),
            Act::Release { client, session } => self.let_go(*client, *session, false),
            Act::Sleep { client, session } => self.let_go(*client, *session, true),
            Act::Resume { client, session, takes, succeeds } => self.resume(*client, *session, *takes, *succeeds),
            Act::Publish { session, count, padding } => self.publish(*session, *count, *padding),
            Act::Snapshot { session } => self.snapshot(*session),
            Act::Question { session, timeout } => self.ask(*session, *timeout),
            Act::TakeBack { nth } => self.take_back(*nth),
            Act::Remove { session } => self.remove(*session),
            Act::Create { session } => self.create(*session),
            Act::Cut { client } => {
                self.clients[*client].net.cut();
                self.on_cut(*client);
            }
            Act::CutAfter { client, direction, bytes } => {
                self.clients[*client].net.cut_after(*direction, *bytes);
                self.on_cut(*client);
            }
            Act::Stall { client, directions, lasts } => {
                for direction in directions {
                    self.clients[*client].net.stall_one_way(*direction);
                }
                self.heal_after(*client, *lasts);
            }
            Act::Refuse { client, lasts } => {
                self.clients[*client].net.refuse(true);
                self.clients[*client].net.cut();
                self.heal_after(*client, *lasts);
                // Each try that fails has a longer pause behind it.
                self.on_outage(*client);
            }
            Act::Delay { client, most } => {
                self.clients[*client].net.set_delay(Duration::from_millis(1)..=*most);
                self.on_outage(*client);
            }
            Act::Suspend { client, lasts } => {
                // One that has ended, or stopped trying, cannot.
                _ = self.clients[*client].client.suspend();
                let (client, net) = (self.clients[*client].client.clone(), self.net.clone());
                let lasts = *lasts;
                net.clone().spawn(async move {
                    net.sleep(lasts).await;
                    _ = client.reconnect();
                });
                self.on_outages();
            }
            Act::Reconnect { client } => {
                _ = self.clients[*client].client.reconnect();
                self.on_cut(*client);
            }
            Act::Replace { client, same_key } => self.replace(*client, *same_key).await,
            Act::Restart { pause } => self.restart(*pause).await,
            Act::Twin { client } => self.twin(*client),
            Act::Leap { client, by } => self.leap(*client, *by),
            Act::Piece { client, most } => self.clients[*client].net.set_piece(*most),
            Act::Come { stranger, stays } => self.come(*stranger, *stays),
            Act::Nonsense { client, session, nth } => self.ask_nonsense(*client, *session, *nth),
        }
    }

    pub(super) fn on_outage(&self, client: usize) {
        let program = self.clients[client].program;
        self.known().requests.outages.insert(program);
    }

    fn on_outages(&self) {
        (0..self.clients.len()).for_each(|client| self.on_outage(client));
    }

    /// One cut alone costs nothing that was asked for.
    fn on_cut(&mut self, client: usize) {
        self.clients[client].cuts += 1;
        if self.clients[client].cuts > 1 {
            self.on_outage(client);
        }
    }

    /// A clock leaps ahead: a client's, or the server's. Timers that it has passed go off at once.
    fn leap(&self, client: Option<usize>, by: Duration) {
        let place = match client {
            Some(client) => {
                self.clients[client].net.leap(by);
                self.on_outage(client);
                Place::Client(client)
            }
            None => {
                self.server.net.leap(by);
                self.on_outages();
                Place::Server
            }
        };
        self.known().leap(place, by);
    }

    fn heal_after(&self, client: usize, lasts: Duration) {
        if lasts > LONG {
            self.on_outage(client);
        }
        let (place, net) = (self.clients[client].net.clone(), self.net.clone());
        net.clone().spawn(async move {
            net.sleep(lasts).await;
            place.heal();
        });
    }

    fn watch(&mut self, client: usize, session: usize, from: From) {
        self.unwatch(client, session);
        let running = &mut self.clients[client];
        let now = self.net.elapsed();
        let new = || Seen::new(session, running.principal, from, now);
        let (begins, seen) = match (from, running.stopped.remove(&session)) {
            (From::Start, _) => (WatchFrom::Start, new()),
            (From::Now, _) | (From::Position, None) => (WatchFrom::Now, new()),
            (From::Position, Some((position, seen))) => (position, seen.again()),
        };
        let Ok(watch) = running.client.watch_session(session_id(session), begins) else {
            return self.known().judge(check(false, "S4", || format!("the lane of session {session} is not free")));
        };
        let whose = Whose {
            client: running.client.clone(),
            program: running.program,
            session,
            principal: running.principal,
            is_theirs: self.plan.sessions[session] == running.principal,
            begun: now,
        };
        self.ledger.lock().tell(&format!("program {} watches session {session} from {begins:?}", running.program));
        let watching = Watching::begin(&self.net, &self.ledger, (&self.plan, self.seed), whose, watch, seen);
        running.watching.insert(session, watching);
    }

    pub(super) fn unwatch(&mut self, client: usize, session: usize) {
        let running = &mut self.clients[client];
        let Some(watching) = running.watching.remove(&session) else { return };
        if let Some(watch) = watching.watch.take() {
            // What a client that has stopped trying would say is not said later: the server goes on.
            running.is_unsaid |= running.client.state() != ConnectionState::Attached;
            self.ledger.lock().tell(&format!("program {} watches session {session} no more", running.program));
            running.stopped.insert(session, (watch.position(), watching.seen().clone()));
        }
    }

    fn abort(&self, client: usize) {
        let running = &self.clients[client];
        let mut known = self.known();
        known.tell(&format!("program {} aborts its requests", running.program));
        for requested in known.requests.all.values_mut() {
            requested.is_aborted |= requested.program == running.program;
        }
        drop(known);
        running.client.abort_requests();
    }

    /// Answers without a dialog, as a client of another make might: its own questions, old ones, and somebody else's.
    fn raw_answer(&self, client: usize, nth: usize, chosen: Chosen) {
        let running = &self.clients[client];
        let known = self.known();
        let number = known.questions.all.len().saturating_sub(nth);
        drop(known);
        let (text, choice) = (format!("q{number}"), choice(chosen));
        let Ok(request_id) = PermissionId::new(&text) else { return };
        let call = Call::Answer(PermissionResponse { request_id, choice: choice.clone() });
        let made = rpc::Call::new(call.method()).and_then(|made| made.with_params(call.params()));
        let Ok(response) = made.and_then(|made| running.client.call(made)) else { return };
        let (by, program, principal) = (running.client.connection_id(), running.program, running.principal);
        let ledger = self.ledger.clone();
        ledger.note(&format!("program {program} says to {text}: {choice:?}"), |known| {
            known.questions.answered(&text, program, by, &choice, true);
            Ok(())
        });
        self.net.spawn(async move {
            let answer = response.await;
            ledger.note(&format!("program {program} said so to {text}: {answer:?}"), |known| {
                let word = match &answer {
                    Ok(result) if result.as_str().contains("true") => "raw answer taken again",
                    Ok(_) => "raw answer taken",
                    Err(error) => {
                        let Failure::Refused(error) = &error.failure else { return Ok(()) };
                        match error.code {
                            -32_011 => "raw answer Forbidden",
                            -32_020 => "raw answer UnknownRequest",
                            -32_021 => "raw answer AlreadyResolved",
                            -32_022 => "raw answer Expired",
                            -32_023 => "raw answer Cancelled",
                            _ => "raw answer refused",
                        }
                    }
                };
                known.coverage.reach(word);
                let Some(asked) = known.questions.all.get(&text) else {
                    return check(answer.is_err(), "S7", || format!("an answer to {text} was taken"));
                };
                let of = known.sessions.life(asked.life).principal;
                check(answer.is_err() || of == principal, "X1", || format!("{text} is somebody else's to answer"))?;
                // The hub may have lost its state since.
                let is_so = asked.is_void || asked.is_decided_as(by, &choice);
                check(answer.is_err() || is_so, "S7", || {
                    format!("{text} is not decided as it was answered: {choice:?}")
                })
            });
        });
    }

    fn own(&self, client: usize, session: usize) {
        let running = &self.clients[client];
        let call = Call::Own { session: session_id(session) };
        let made = rpc::Call::new(call.method()).and_then(|made| made.with_params(call.params()));
        let Ok(response) = made.and_then(|made| running.client.call(made)) else { return };
        let (ledger, generations) = (self.ledger.clone(), running.generations.clone());
        let (by, program) = (running.client.connection_id(), running.program);
        let is_theirs = self.plan.sessions[session] == running.principal;
        let asked_in = ledger.lock().sessions.current(session);
        if let Some(life) = asked_in {
            ledger.lock().owners.ask(life, by);
        }
        self.net.spawn(async move {
            let response = response.await;
            if let Some(life) = asked_in {
                let may_be = match &response {
                    Ok(_) => true,
                    Err(error) => !matches!(error.failure, Failure::Refused(_) | Failure::NotDelivered(_)),
                };
                ledger.lock().owners.answered(life, by, may_be);
            }
            let Ok(result) = response else { return };
            let generation = read_generation(&result);
            ledger.note(&format!("program {program} owns session {session}: {generation:?}"), |known| {
                let Ok(generation) = generation else { return check(false, "S5", || "no generation".to_owned()) };
                check(is_theirs, "X1", || format!("session {session} is owned by somebody else"))?;
                generations.lock().unwrap_or_else(PoisonError::into_inner).insert(session, generation);
                let Some(life) = known.sessions.current(session) else { return Ok(()) };
                if Some(life) == asked_in { known.owners.told(life, by, generation.get()) } else { Ok(()) }
            });
        });
    }

    fn let_go(&self, client: usize, session: usize, sleeps: bool) {
        let running = &self.clients[client];
        let generation = running.generations.lock().unwrap_or_else(PoisonError::into_inner).get(&session).copied();
        // One that is not the owner's has no effect.
        let (generation, id) = (generation.unwrap_or(Generation::new(1)), session_id(session));
        let call =
            if sleeps { Call::Suspend { session: id, generation } } else { Call::Release { session: id, generation } };
        let mut known = self.known();
        let now = known.clocks.at(self.server.program);
        known.tell(&format!("program {} lets go of session {session} as {generation:?}: {sleeps}", running.program));
        match sleeps {
            true => known.owners.sleep(session, generation.get(), now),
            false => known.owners.release(session, generation.get()),
        }
        drop(known);
        let made = rpc::Call::new(call.method()).and_then(|made| made.with_params(call.params()));
        if let Ok(response) = made.and_then(|made| running.client.call(made)) {
            self.net.spawn(async move { drop(response.await) });
        }
    }

    /// The application has a session taken up for a client, which takes a while.
    fn resume(&self, client: usize, session: usize, takes: Duration, succeeds: bool) {
        let running = &self.clients[client];
        let Some(serving) = self.server.sessions.get(&session).cloned() else { return };
        let mut known = self.known();
        let Some(life) = known.sessions.current(session) else { return };
        known.tell(&format!("session {session} is taken up for program {}: {succeeds}", running.program));
        drop(known);
        let by = running.client.connection_id();
        let resume = match serving.begin_resume(by) {
            Ok(resume) => resume,
            Err(misuse) => {
                let is_theirs = self.plan.sessions[session] == running.principal;
                let is_known =
                    misuse == SessionMisuse::UnknownConnection || misuse == SessionMisuse::Forbidden && !is_theirs;
                let known = || format!("session {session} cannot be taken up: {misuse}");
                return self.known().judge(check(is_known, "J1", known));
            }
        };
        self.known().owners.resume(life, true);
        let (net, ledger) = (self.net.clone(), self.ledger.clone());
        net.clone().spawn(async move {
            net.sleep(takes).await;
            ledger.note(&format!("session {session} was taken up: {succeeds}"), |known| {
                if succeeds {
                    known.owners.keep(life, by);
                }
                known.owners.resume(life, false);
                Ok(())
            });
            if succeeds {
                // The connection may be gone.
                _ = serving.finish_resume(resume);
            } else {
                serving.fail_resume(resume);
            }
        });
    }

    pub(super) fn publish(&self, session: usize, count: usize, padding: usize) {
        let Some(serving) = self.server.sessions.get(&session) else { return };
        for _ in 0..count {
            let mut known = self.known();
            let Some(life) = known.sessions.current(session) else { return };
            let (number, now) = (known.sessions.count(life), known.now);
            drop(known);
            let event = Payload::new(&(life, number, "x".repeat(padding))).expect("it is JSON");
            let published = serving.publish(&event);
            known = self.known();
            known.tell(&format!("session {session} publishes {number} of life {life}: {published:?}"));
            let checked = match published {
                Ok(offset) => known.sessions.publish(life, offset.get(), now),
                Err(misuse) => check(false, "J1", || format!("session {session} cannot publish: {misuse}")),
            };
            known.judge(checked);
        }
    }

    fn snapshot(&self, session: usize) {
        let Some(serving) = self.server.sessions.get(&session) else { return };
        let mut known = self.known();
        let Some(life) = known.sessions.current(session) else { return };
        let up_to = known.sessions.snapshot(life);
        known.tell(&format!("session {session} has a snapshot up to {up_to}"));
        drop(known);
        let made = serving.set_snapshot(Payload::new(&(life, up_to)).expect("it is JSON"));
        self.known().judge(check(made.is_ok(), "J1", || format!("session {session} takes no snapshot: {made:?}")));
    }

    pub(super) fn ask(&mut self, session: usize, timeout: Option<Duration>) {
        let Some(serving) = self.server.sessions.get(&session) else { return };
        let known = self.known();
        let Some(life) = known.sessions.current(session) else { return };
        let number = known.questions.all.len() + 1;
        let (id, input) = (format!("q{number}"), Payload::new(&[number]).expect("a number is JSON"));
        let request = PermissionRequest {
            id: PermissionId::new(&id).expect("the name is short"),
            tool_name: "write_file".to_owned(),
            input: input.clone(),
            context: Payload::new(&()).expect("nothing is JSON"),
            timestamp: String::new(),
            remaining: None,
        };
        let (now, at) = (known.now, known.clocks.at(self.server.program));
        let open = known.questions.open(life).len();
        drop(known);
        let asked = serving.ask_within(request, timeout);
        let mut known = self.known();
        known.tell(&format!("session {session} asks {id} for {timeout:?}: {:?}", asked.as_ref().err()));
        let mut of_id = Asked::new(life, input, (now, at), timeout.unwrap_or(QUESTION), self.server.program);
        match asked {
            Ok(question) => {
                known.questions.all.insert(id.clone(), of_id);
                drop(known);
                let slot = Slot::new(question);
                self.asked.push((id.clone(), slot.clone()));
                let ledger = self.ledger.clone();
                self.net.spawn(async move {
                    let verdict = slot.wait(|question, cx| std::pin::Pin::new(question).poll(cx)).await;
                    let Some(verdict) = verdict else { return };
                    ledger.note(&format!("{id} is told: {verdict:?}"), |known| {
                        let Known { questions, now, clocks, .. } = known;
                        questions.told(&id, &verdict, *now, clocks)
                    });
                });
            }
            Err(misuse) => {
                of_id.is_void = true;
                known.questions.all.insert(id, of_id);
                let is_full = matches!(misuse, PermissionMisuse::TooMany { limit } if open >= limit);
                known.judge(check(is_full, "J1", || format!("nothing can be asked in session {session}: {misuse}")));
            }
        }
    }

    fn take_back(&self, nth: usize) {
        let Some((id, question)) = self.asked.iter().rev().nth(nth) else { return };
        let Some(question) = question.take() else { return };
        let mut known = self.known();
        if let Some(asked) = known.questions.all.get_mut(id).filter(|asked| asked.verdict.is_none()) {
            asked.taken_back = true;
            known.tell(&format!("{id} is taken back"));
        }
        drop(known);
        drop(question);
    }

    pub(super) fn remove(&mut self, session: usize) {
        let Some(serving) = self.server.sessions.remove(&session) else { return };
        let mut known = self.known();
        let now = known.now;
        if let Some(life) = known.sessions.current(session) {
            known.sessions.end(life, now);
        }
        known.tell(&format!("session {session} ends"));
        drop(known);
        let removed = serving.remove();
        self.known().judge(check(removed.is_ok(), "J1", || format!("session {session} cannot end: {removed:?}")));
    }
}
