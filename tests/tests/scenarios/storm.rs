//! All of it at once: whatever happens to the links, what is seen, asked, answered and requested has one end each.

use std::cell::Cell;
use std::time::Duration;

use harness::ensemble::Ensemble;
use harness::ensemble::play;
use harness::ensemble::question;
use harness::ensemble::request;
use harness::ensemble::session;
use harness::frames::token;
use harness::net::Way;
use harness::rpc::call;
use harness::world::Road;
use harness::world::patient;
use harness::world::secrets;
use reattach_core::client::Status;
use reattach_core::connection::Currency;
use reattach_core::id::InstanceId;
use reattach_core::messages::Choice;
use reattach_core::reconnect::OpenError;
use reattach_core::rng::Rng;
use reattach_core::rpc::RequestId;
use reattach_core::server;

const MILLI: Duration = Duration::from_millis(1);
const CLIENTS: usize = 2;

// I1 to I10
#[test]
fn whatever_happens_to_the_links_everything_above_them_has_one_end() {
    let (resumed, fresh) = (Cell::new(0), Cell::new(0));
    for seed in 0..6 {
        play(|| {
            let it = storm(seed);
            for has_resumed in it.world.attaches(0) {
                let count = if has_resumed { &resumed } else { &fresh };
                count.set(count.get() + 1);
            }
            it
        });
    }
    assert!(resumed.get() > 50 && fresh.get() > 12, "{} resumed, {} anew", resumed.get(), fresh.get());
}

/// Two clients of one principal watch one session. For a while everything happens in random order, then nothing does any more.
fn storm(seed: u64) -> Ensemble {
    let mut rng = Rng::new(seed);
    let mut config = server::Config::default();
    config.authenticate = true;
    let mut it = Ensemble::with_server(config);
    it.world.accounts.insert("a".into(), "alice".into());
    for number in 1..=CLIENTS {
        let index = it.add_client(patient(), secrets(u8::try_from(number).expect("a few")));
        it.world.clients[index].token = Some(token("a"));
    }
    it.run_for(100 * MILLI);
    let s1 = it.create_session("s1", 0);
    (0..CLIENTS).for_each(|client| it.watch(client, &s1));
    it.run_for(100 * MILLI);
    it.begin();
    let (mut events, mut asked, mut sent, mut lives) = (0, 0, 0, 100);
    let mut requests: Vec<(usize, RequestId)> = Vec::new();
    for _ in 0..200 {
        let client = usize::try_from(rng.below(2)).expect("small");
        let way = if rng.below(2) == 0 { Way::Up } else { Way::Down };
        match rng.below(68) / 4 {
            0..=2 => {
                events += 1;
                it.append(&s1, &events.to_string());
            }
            3 => {
                asked += 1;
                it.ask(&s1, request(&asked.to_string()));
            }
            4 | 5 => answer_any(&mut it, client, &mut rng),
            6 => {
                sent += 1;
                it.send_up(client, "s1", &format!("m{sent}"));
            }
            7 => requests.push((client, it.request(client, call("do")))),
            8 | 9 => respond_any(&mut it, client),
            10 => {
                if it.world.live_wire(client).is_some() {
                    let keep = usize::try_from(rng.below(3)).expect("small");
                    it.world.cut_keeping(client, keep);
                    it.settle();
                }
            }
            11 => {
                if let Some(wire) = it.world.live_wire(client) {
                    it.world.net.stall(wire, way);
                }
            }
            12 => it.world.net.unstall_all(),
            13 => {
                let is_open = it.world.road == Road::Open;
                it.world.road = if is_open { Road::Failing(OpenError::Unreachable) } else { Road::Open };
            }
            14 => it.reconnect(client),
            15 if rng.below(4) == 0 => {
                // Longer than the server keeps who is away.
                it.world.road = Road::Failing(OpenError::Unreachable);
                it.world.net.unstall_all();
                if it.world.live_wire(client).is_some() {
                    it.world.cut(client);
                }
                it.run_for(Duration::from_secs(70));
                it.world.road = Road::Open;
            }
            16 => {
                lives += 1;
                restart(&mut it, lives);
            }
            _ => it.world.clients[client].is_reading = !it.world.clients[client].is_reading,
        }
        it.run_for(rng.between(Duration::ZERO, 800 * MILLI));
    }
    heal(&mut it);
    let expected: Vec<_> = (1..=events).map(|event| event.to_string()).collect();
    for client in 0..CLIENTS {
        assert_eq!(it.users[client].seen_in(&s1), expected, "seed {seed}: client {client} sees each event once");
        assert_eq!(it.users[client].dialogs().len(), 0, "seed {seed}: client {client} has dialogs left");
    }
    for name in 1..=asked {
        assert_eq!(it.verdicts(&name.to_string()).len(), 1, "seed {seed}: {}", question(&name.to_string()));
    }
    for (client, id) in requests {
        assert!(it.users[client].result(id).is_some(), "seed {seed}: {id} of client {client} has no end");
    }
    assert_eq!(it.house.hub.sessions().observers(&session("s1")), CLIENTS);
    it
}

/// The server's program stops and goes on from its last state.
fn restart(it: &mut Ensemble, life: u8) {
    let instance = InstanceId::from_bytes([life; 16]);
    let server = it.world.server.clone().restored(instance, Currency::Current, it.world.now);
    let cids: Vec<_> = it.world.server.connections().copied().collect();
    let now = it.world.now;
    cids.into_iter().for_each(|cid| it.house.hub.handle_detached(cid, now));
    it.world.net.unstall_all();
    it.world.replace_server(server);
    it.settle();
}

/// Somebody answers the first question that can be answered.
fn answer_any(it: &mut Ensemble, client: usize, rng: &mut Rng) {
    let dialogs = it.users[client].dialogs();
    let pending = dialogs.into_iter().find(|(_, dialog)| !dialog.status.is_in_flight());
    let Some(name) = pending.map(|(id, _)| id.to_string()) else { return };
    let choice = if rng.below(2) == 0 { Choice::Deny } else { Choice::Allow { updated_input: None } };
    it.answer(client, &name, choice);
}

/// The server's application answers the first request of a client that it has.
fn respond_any(it: &mut Ensemble, client: usize) {
    let (cid, now) = (it.world.clients[client].client.connection_id(), it.world.now);
    let Some(desk) = it.house.desks.get_mut(&cid).filter(|desk| !desk.calls.is_empty()) else { return };
    let call = desk.calls.remove(0);
    // Nobody may wait any more.
    _ = it.house.respond(cid, call.id.expect("it is a request"), Ok(harness::rpc::json("1")), now);
    it.settle();
}

/// Faults stop, and what is still to come comes.
fn heal(it: &mut Ensemble) {
    it.world.net.unstall_all();
    it.world.road = Road::Open;
    for client in 0..CLIENTS {
        it.world.clients[client].is_reading = true;
        if it.world.clients[client].client.status() != Status::Attached {
            it.reconnect(client);
        }
    }
    // Longer than a question or a request may wait.
    it.run_for(Duration::from_secs(400));
}
