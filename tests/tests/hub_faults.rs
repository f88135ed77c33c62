//! A hub and its watchers under everything that can go wrong between them, at random: each event is seen once or its loss is told,
//! each question is decided once, and in the end everybody sees the same.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use harness::hub::World;
use harness::hub::session;
use harness::permissions::ALLOW;
use harness::permissions::id;
use harness::sessions::connection;
use reattach_core::hub::Config;
use reattach_core::hub::Ended;
use reattach_core::hub::Watcher;
use reattach_core::hub::WatcherEvent;
use reattach_core::messages::Choice;
use reattach_core::messages::PermissionId;
use reattach_core::permission::DialogsConfig;
use reattach_core::permission::Removed;
use reattach_core::permission::Verdict;
use reattach_core::rng::Rng;
use reattach_core::rpc::Failure;
use reattach_core::session::Cursor;
use reattach_core::session::Offset;
use reattach_core::session::WatchFrom;
use reattach_core::wire::Payload;

const CLIENTS: usize = 3;
/// Who may see nothing.
const STRANGER: usize = CLIENTS;

/// What has to hold, as somebody sees it who sees everything.
#[derive(Default)]
struct Oracle {
    /// The numbers of the application's events of each life of the log.
    events: BTreeMap<String, BTreeSet<u64>>,
    /// How far each client has seen which life, as far as it was told.
    seen: Vec<Option<Cursor>>,
    has_ended: Vec<bool>,
    is_up_to_date: Vec<bool>,
    status: Vec<Option<(u64, u64)>>,
    asked: BTreeSet<PermissionId>,
    decided: BTreeSet<PermissionId>,
    allowed: BTreeSet<PermissionId>,
}

struct Run {
    seed: u64,
    rng: Rng,
    world: World,
    oracle: Oracle,
    questions: u32,
    is_over: bool,
    reached: BTreeSet<&'static str>,
}

// S004-046, S004-048, S002-21, S7, L1, B2, N20
#[test]
fn everybody_sees_each_event_once_or_its_loss_and_each_question_is_decided_once_whatever_happens() {
    let number = |name| std::env::var(name).ok().map(|number| number.parse::<u64>().expect("a number"));
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SEEDS").unwrap_or(400),
    };
    let is_whole = seeds.end - seeds.start >= 400;
    let mut reached = BTreeSet::new();
    for seed in seeds {
        let _named = Named(seed);
        let mut run = Run::new(seed);
        for _ in 0..300 {
            run.step();
            run.check();
        }
        run.end();
        reached.extend(run.reached);
    }
    // V1
    for kind in KINDS.iter().filter(|_| is_whole) {
        assert!(reached.contains(kind), "{kind} is never reached");
    }
}

/// What has to happen in some run.
const KINDS: &[&str] = &[
    "event",
    "missed",
    "snapshot",
    "up to date",
    "over",
    "unknown session",
    "refused",
    "confirmed",
    "decided",
    "timed out",
    "cancelled",
    "forgotten",
    "allowed",
    "denied",
    "processing",
];

/// Says how to run it again, should it fail.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("replay: SEED={} cargo test -p reattach-tests --test hub_faults", self.0);
        }
    }
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut config = Config::default();
        config.sessions.log.count = [4, 12, 1_000][rng.below(3) as usize];
        config.sessions.log.age = Duration::from_secs([60, 3_600][rng.below(2) as usize]);
        let mut world = World::new(config);
        world.room = [1, 3, usize::MAX][rng.below(3) as usize];
        let mut run = Self {
            seed,
            rng,
            world,
            oracle: Oracle::default(),
            questions: 0,
            is_over: false,
            reached: BTreeSet::new(),
        };
        for client in 0..CLIENTS {
            run.world.watch("ada", if client == 2 { WatchFrom::Now } else { WatchFrom::Start });
        }
        run.world.watch("mallory", WatchFrom::Start);
        run.oracle.seen = vec![None; CLIENTS + 1];
        run.oracle.has_ended = vec![false; CLIENTS + 1];
        run.oracle.is_up_to_date = vec![false; CLIENTS + 1];
        run.oracle.status = vec![None; CLIENTS + 1];
        run
    }

    fn chance(&mut self, often: u64) -> bool {
        self.rng.below(often) == 0
    }

    fn step(&mut self) {
        let client = self.rng.below(CLIENTS as u64 + 1) as usize;
        match self.rng.below(32) {
            0..=3 => self.publish(),
            4 => self.ask(),
            5..=6 => self.answer(client),
            7 => {
                let open = self.open();
                if let Some(id) = self.pick(&open) {
                    _ = self.world.hub.cancel(&id, self.world.now);
                    self.world.drain();
                }
            }
            8 => self.world.detach(client),
            9 => self.world.attach(client),
            10 if self.chance(2) => {
                let mut rng = Rng::new(self.rng.next_u64());
                let came = rng.below(4) as usize;
                self.world.end_epoch(client, || rng.below(2) == 0, came);
            }
            11..=13 => _ = self.world.serve(client),
            14..=15 => _ = self.world.respond(client),
            16 => {
                // One that came later is first.
                let responses = &mut self.world.watching[client].responses;
                if let Some(last) = responses.pop_back() {
                    responses.push_front(last);
                }
            }
            17..=19 => _ = self.world.pull(client),
            20..=21 => _ = self.world.deliver(client),
            22 => {
                let millis = [10, 1_000, 6_000, 40_000][self.rng.below(4) as usize];
                self.world.pass(Duration::from_millis(millis));
            }
            23 => self.look(client),
            24..=30 => self.rare(client),
            _ => self.world.settle(),
        }
    }

    fn rare(&mut self, client: usize) {
        match self.rng.below(8) {
            0 if self.chance(20) => {
                self.world.lose_state();
                self.oracle.asked.clear();
                self.oracle.decided.clear();
                self.world.decided.clear();
                if !self.is_over && !self.chance(3) {
                    self.world.begin_session();
                } else {
                    self.is_over = true;
                }
            }
            1 if self.chance(60) && !self.is_over => {
                self.is_over = true;
                self.world.hub.remove(&session(), self.world.now).expect("it is there");
                self.world.drain();
            }
            2 => {
                if let Some((_, response)) = self.world.watching[client].responses.front_mut() {
                    *response = Err(Failure::NotDelivered(reattach_core::outcome::NotDelivered::Expired));
                }
            }
            // What was pulled cannot be sent.
            3 if self.world.pull(client) => {
                let watching = &mut self.world.watching[client];
                watching.lane.pop_back();
                self.world.hub.handle_unsent(watching.connection, &session());
            }
            4 if !self.is_over => {
                let end = self.world.hub.sessions().log(&session()).expect("it is there").end();
                let snapshot = Payload::new(&(end.epoch.to_string(), end.offset.get())).expect("a snapshot");
                self.world.hub.set_snapshot(&session(), snapshot).expect("it is there");
            }
            5 => self.malformed(client),
            6 if !self.oracle.has_ended[client] => {
                // The client begins anew from where it was; what is on its way was for another.
                let watching = &mut self.world.watching[client];
                let from = watching.watcher.position();
                let (connection, nonce) = (watching.connection, self.rng.next_u64().to_le_bytes());
                let nonce = std::array::from_fn(|index| nonce[index % 8]);
                watching.told.clear();
                watching.watcher =
                    Watcher::new(session(), from, DialogsConfig::default(), connection, &nonce, self.world.now);
                watching.watcher.handle_attached(watching.is_attached, self.world.now);
                watching.requests.clear();
                watching.responses.clear();
                (self.oracle.is_up_to_date[client], self.oracle.status[client]) = (false, None);
                self.world.drain();
            }
            _ => {}
        }
    }

    fn publish(&mut self) {
        let Some(log) = self.world.hub.sessions().log(&session()) else { return };
        let next = log.end().offset.next().get();
        let offset = self.world.publish(next);
        assert_eq!(offset.get(), next);
        let epoch = self.world.hub.sessions().log(&session()).expect("it is there").end().epoch;
        self.oracle.events.entry(epoch.to_string()).or_default().insert(next);
    }

    fn ask(&mut self) {
        if self.is_over {
            return;
        }
        self.questions += 1;
        let name = format!("p{}", self.questions);
        self.world.ask_within(&name, Some(Duration::from_secs([5, 50, 300, 2_000][self.rng.below(4) as usize])));
        self.oracle.asked.insert(id(&name));
    }

    fn open(&self) -> Vec<PermissionId> {
        self.world.hub.broker().open(&session(), self.world.now).map(|request| request.id).collect()
    }

    fn pick(&mut self, ids: &[PermissionId]) -> Option<PermissionId> {
        let index = self.rng.below(ids.len().max(1) as u64) as usize;
        ids.get(index).cloned()
    }

    fn answer(&mut self, client: usize) {
        let dialogs = self.world.dialogs(client);
        let ids: Vec<_> = dialogs.iter().map(|name| id(name)).collect();
        let Some(id) = self.pick(&ids) else { return };
        let choice = match self.rng.below(3) {
            0 => Choice::Deny,
            1 => ALLOW,
            _ => Choice::Allow { updated_input: Some(Payload::new(&self.rng.below(2)).expect("a number")) },
        };
        let is_allow = choice.is_allow();
        if self.world.watching[client].watcher.answer(&id, choice, self.world.now).is_ok() && is_allow {
            self.oracle.allowed.insert(id);
        }
        self.world.drain();
    }

    fn look(&mut self, client: usize) {
        let dialogs = self.world.dialogs(client);
        let ids: Vec<_> = dialogs.iter().map(|name| id(name)).collect();
        let Some(id) = self.pick(&ids) else { return };
        let is_looking = self.chance(2);
        self.world.watching[client].watcher.look(&id, is_looking);
        self.world.drain();
    }

    /// Nothing of this allows anything.
    fn malformed(&mut self, client: usize) {
        let Some(id) = self.pick(&self.open()) else { return };
        let decision = ["\"Allow\"", "true", "\"yes\"", "null", "[\"allow\"]", "{}"][self.rng.below(6) as usize];
        let params = format!("{{\"requestId\":\"{id}\",\"decision\":{decision}}}");
        assert!(self.world.request(client, "permission/answer", &params).is_err());
        let params = format!("{{\"requestId\":\"{id}\",\"decision\":\"allow\"}}");
        let forbidden = self.world.request(STRANGER, "permission/answer", &params);
        assert!(forbidden.is_err(), "{forbidden:?}");
        let watch = self.world.request(STRANGER, "session/watch", "{\"session\":\"s\",\"tag\":\"t\"}");
        assert!(watch.is_err(), "{watch:?}");
    }

    /// What was told since the last step is as it has to be.
    fn check(&mut self) {
        for (id, verdict) in std::mem::take(&mut self.world.decided) {
            assert!(self.oracle.asked.contains(&id), "nobody asked {id}");
            assert!(self.oracle.decided.insert(id.clone()), "{id} was decided twice");
            self.reached.insert(if matches!(verdict, Verdict::Allow { .. }) { "allowed" } else { "denied" });
            if let Verdict::Allow { by, .. } = verdict {
                assert!(self.oracle.allowed.contains(&id), "nobody allowed {id}");
                assert!((1..=3).any(|ada| connection(ada) == by), "a stranger allowed {id}");
            }
        }
        for client in 0..=CLIENTS {
            for event in self.world.told(client) {
                self.check_event(client, event);
            }
            let dialogs = self.world.watching[client].watcher.dialogs().dialogs().len();
            assert!(dialogs <= self.oracle.asked.len() + 200);
        }
        assert!(self.world.watching[STRANGER].watcher.dialogs().dialogs().is_empty());
    }

    fn check_event(&mut self, client: usize, event: WatcherEvent) {
        assert!(!self.oracle.has_ended[client], "client {client} is told {event:?} after the end");
        self.reached.insert(match &event {
            WatcherEvent::Event(..) => "event",
            WatcherEvent::Missed { .. } => "missed",
            WatcherEvent::Snapshot(_) => "snapshot",
            WatcherEvent::UpToDate => "up to date",
            WatcherEvent::Ended(Ended::Over) => "over",
            WatcherEvent::Ended(Ended::UnknownSession) => "unknown session",
            WatcherEvent::Ended(Ended::Refused(_)) if client == STRANGER => "refused",
            WatcherEvent::Ended(ended) => panic!("client {client}: {ended:?}"),
            WatcherEvent::DialogRemoved { why: Removed::Confirmed(_), .. } => "confirmed",
            WatcherEvent::DialogRemoved { why: Removed::Decided { .. }, .. } => "decided",
            WatcherEvent::DialogRemoved { why: Removed::TimedOut, .. } => "timed out",
            WatcherEvent::DialogRemoved { why: Removed::Cancelled, .. } => "cancelled",
            WatcherEvent::DialogRemoved { why: Removed::Forgotten, .. } => "forgotten",
            WatcherEvent::DialogRemoved { why, .. } => panic!("client {client}: {why:?}"),
            WatcherEvent::QueueStatus { processing: 1.., .. } => "processing",
            WatcherEvent::QueueStatus { .. } | WatcherEvent::Dialog(_) | _ => "other",
        });
        let seen = &mut self.oracle.seen[client];
        match event {
            WatcherEvent::Event(offset, payload) => {
                assert_eq!(payload.as_str(), offset.get().to_string());
                let position = self.world.watching[client].watcher.position();
                let WatchFrom::After(cursor) = position else { panic!("it is at {position:?}") };
                let from = seen.filter(|seen| seen.epoch == cursor.epoch);
                let events = &self.oracle.events[&cursor.epoch.to_string()];
                assert!(events.contains(&offset.get()));
                let before = match from {
                    Some(seen) => Some(seen.offset.get()),
                    // It began in this life of the log, or was told that it missed what was before.
                    None if client == 2 => None,
                    None => Some(0),
                };
                if let Some(before) = before {
                    assert!(before < offset.get(), "client {client} saw {before}, then {offset}");
                    let missed = events.range(before + 1..offset.get()).next();
                    assert_eq!(missed, None, "client {client} saw {before}, then {offset}");
                }
                *seen = Some(Cursor { offset, ..cursor });
            }
            WatcherEvent::Missed { up_to } => {
                let is_further = seen.is_none_or(|seen| seen.epoch != up_to.epoch || seen.offset < up_to.offset);
                let is_nothing = up_to.offset == Offset::ZERO || *seen == Some(up_to);
                assert!(is_further || is_nothing, "client {client} saw {seen:?} and missed up to {up_to:?}");
                *seen = Some(up_to);
            }
            WatcherEvent::Snapshot(snapshot) => {
                let (epoch, offset): (String, u64) = serde_json::from_str(snapshot.as_str()).expect("as it was set");
                let before = seen.filter(|seen| seen.epoch.to_string() == epoch).map_or(0, |seen| seen.offset.get());
                assert!(before <= offset, "client {client} saw {before}, then what was up to {offset}");
                let epoch = epoch.parse().expect("an epoch");
                *seen = Some(Cursor { epoch, offset: Offset::new(offset).expect("an offset") });
            }
            WatcherEvent::UpToDate => self.oracle.is_up_to_date[client] = true,
            WatcherEvent::QueueStatus { pending, processing } => {
                self.oracle.status[client] = Some((pending, processing));
            }
            WatcherEvent::Ended(_) => self.oracle.has_ended[client] = true,
            WatcherEvent::Dialog(_) | WatcherEvent::DialogRemoved { .. } | _ => {}
        }
    }

    /// Nothing fails any more.
    fn end(&mut self) {
        for client in 0..=CLIENTS {
            self.world.attach(client);
        }
        self.world.room = usize::MAX;
        for _ in 0..100 {
            self.world.settle();
            self.check();
            self.world.pass(Duration::from_secs(1));
        }
        self.world.settle();
        self.check();
        let open: BTreeSet<_> = self.open().iter().map(ToString::to_string).collect();
        assert!(self.oracle.has_ended[STRANGER]);
        for client in 0..CLIENTS {
            assert_eq!(self.oracle.has_ended[client], self.is_over, "client {client}, seed {}", self.seed);
            let dialogs: BTreeSet<_> = self.world.dialogs(client).into_iter().collect();
            assert_eq!(dialogs, open, "client {client} sees what is open");
            if self.is_over {
                continue;
            }
            assert!(self.oracle.is_up_to_date[client], "client {client} is up to date");
            let status = self.world.hub.broker().status(&session());
            assert_eq!(self.oracle.status[client], Some(status), "client {client} knows how many are open");
            let end = self.world.hub.sessions().log(&session()).expect("it is there").end();
            let events = self.oracle.events.get(&end.epoch.to_string());
            let seen = self.oracle.seen[client].filter(|seen| seen.epoch == end.epoch);
            let last = events.and_then(|events| events.last()).copied().unwrap_or_default();
            // Who watches from some time on may have come after it.
            let has_all = seen.is_some_and(|seen| seen.offset.get() >= last) || last == 0;
            assert!(has_all || client == 2, "client {client} saw {seen:?}, and {last} is the last");
        }
        // Everything is decided, and nothing is left of anything.
        for _ in 0..5 {
            self.world.pass(Duration::from_secs(2_000));
            self.world.settle();
            self.check();
        }
        let undecided: Vec<_> = self.oracle.asked.difference(&self.oracle.decided).collect();
        assert!(undecided.is_empty(), "{undecided:?} are decided by nobody");
        assert_eq!(self.world.hub.poll_timeout(), None, "nothing is waited for");
        for client in 0..=CLIENTS {
            let watching = &self.world.watching[client];
            assert_eq!((watching.watcher.poll_timeout(), watching.watcher.dialogs().dialogs().len()), (None, 0));
            self.world.hub.handle_gone(connection(client as u8 + 1), self.world.now);
        }
        assert_eq!(self.world.hub.sessions().observers(&session()), 0);
        assert_eq!(self.world.hub.broker().status(&session()), (0, 0));
    }
}
