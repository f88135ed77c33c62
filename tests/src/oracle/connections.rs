//! Which epochs began and ended, which client knows of which, and who expired.

mod holders;
mod prints;
mod receipts;
mod tries;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use reattach_core::id::ConnectionId;
use reattach_core::id::Principal;
use reattach_core::time::Instant;

use self::receipts::Receipts;
use super::Broken;
use super::Checked;
use super::Party;
use super::Restart;
use super::Rules;
use super::check;
use super::messages::Place;

/// One life of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Client {
    /// Its names, the present one last.
    cids: Vec<ConnectionId>,
    /// The epoch that it knows of.
    epoch: Option<u64>,
    /// Whether it goes on from an older state.
    is_copy: bool,
    is_gone: bool,
    is_over: bool,
    is_closing: bool,
    /// Whether it stopped trying, or stopped for another instance.
    is_stopped: bool,
    /// How often its program was restarted: each time it is another instance.
    restarts: u32,
    /// How often something happened that may have swallowed what was on its way.
    strikes: u32,
    /// How many tries in a row have failed.
    failures: u32,
    /// How many wires have ended since one was certainly good for more than a welcome.
    ends: u32,
    is_attached: bool,
    /// How many epochs it was told to begin.
    epochs: u32,
    /// Whether the server's side has ended in an epoch that it may never have heard of: the last word may reach it alone.
    is_dismissed: bool,
}

impl Client {
    fn cid(&self) -> ConnectionId {
        *self.cids.last().expect("a client has a name")
    }
}

/// One connection, as the server keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Entry {
    is_registered: bool,
    principal: Option<Principal>,
    /// How many instances there ever were.
    lives: u32,
    epoch: u64,
    /// The last epoch in which the server's side has ended.
    over: u64,
    /// Changes whenever the receiver forgets names.
    memory: u64,
    /// How often it was registered; more than once is not told apart.
    registrations: u8,
    attached: Option<u64>,
    was_attached: bool,
    /// The last epoch in which the server has certainly heard from the client: it keeps no receipt of any other.
    joined: Option<u64>,
    /// Whether the state is an older one that has not begun another epoch.
    is_stale: bool,
    detached_at: Option<Instant>,
    is_suspended: bool,
    was_taken_over: bool,
    /// The instance that holds it, and those that held it before and were evicted.
    holder: Option<(usize, u32)>,
    evicted: BTreeSet<(usize, u32)>,
    /// Whether it belongs to somebody who has stolen its key.
    is_stolen: bool,
    is_end_wanted: bool,
    is_expired: bool,
    is_closing: bool,
}

/// All clients and connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Connections {
    clients: BTreeMap<usize, Client>,
    entries: BTreeMap<ConnectionId, Entry>,
    /// Numbers epochs and memories.
    numbers: u64,
    is_server_old: bool,
    receipts: Receipts,
}

impl Connections {
    pub(super) fn on_client(&mut self, client: usize, cid: ConnectionId) {
        self.begin(client, cid, false);
    }

    /// A client goes on from what another one was then.
    pub(super) fn on_client_copy(&mut self, client: usize, cid: ConnectionId, of: usize, then: &Self) {
        self.begin(client, cid, true);
        let (it, before) = (self.client(client), &then.clients[&of]);
        (it.is_over, it.is_closing, it.is_stopped) = (before.is_over, before.is_closing, before.is_stopped);
        it.failures = before.failures;
    }

    fn begin(&mut self, client: usize, cid: ConnectionId, is_copy: bool) {
        self.entries.entry(cid).or_default().lives += 1;
        let it = Client {
            cids: vec![cid],
            epoch: None,
            is_copy,
            is_gone: false,
            is_over: false,
            is_closing: false,
            is_stopped: false,
            restarts: 0,
            strikes: 0,
            failures: 0,
            ends: 0,
            is_attached: false,
            epochs: 0,
            is_dismissed: false,
        };
        self.clients.insert(client, it);
    }

    pub(super) fn on_client_restarted(&mut self, client: usize) {
        let cid = self.cid_of(client);
        self.entries.entry(cid).or_default().lives += 1;
        let client = self.client(client);
        client.restarts += 1;
        client.is_attached = false;
    }

    pub(super) fn on_client_gone(&mut self, client: usize) {
        self.client(client).is_gone = true;
    }

    pub(super) fn on_server_restarted(&mut self, how: Restart, copy: Option<&Self>, now: Instant) {
        self.is_server_old |= how == Restart::Stale;
        if how != Restart::Current {
            self.receipts.on_lost();
        }
        let mut numbers = self.numbers;
        for (cid, entry) in &mut self.entries {
            let then = copy.and_then(|copy| copy.entries.get(cid)).filter(|then| then.is_registered);
            let (is_registered, is_old) = match how {
                Restart::Current => (entry.is_registered, false),
                Restart::Stale => (then.is_some(), true),
                Restart::Lost => (false, true),
            };
            if is_old {
                numbers += 1;
                entry.memory = numbers;
                entry.is_closing = then.is_some_and(|then| then.is_closing);
                entry.is_end_wanted |= entry.is_closing;
                entry.was_attached = then.is_some_and(|then| then.was_attached);
                entry.is_stolen = then.is_some_and(|then| then.is_stolen);
                (entry.holder, entry.evicted, entry.joined) = (None, BTreeSet::new(), None);
            }
            entry.is_registered = is_registered;
            entry.is_stale = is_registered && (entry.is_stale || is_old);
            entry.attached = None;
            entry.is_suspended = false;
            entry.is_expired = false;
            entry.detached_at = is_registered.then_some(now);
        }
        self.numbers = numbers;
    }

    pub(super) fn known(&self) -> Vec<ConnectionId> {
        self.entries.keys().copied().collect()
    }

    pub(super) fn cid_of(&self, client: usize) -> ConnectionId {
        self.clients[&client].cid()
    }

    /// Every name that a client has gone by.
    pub(super) fn cids_of(&self, client: usize) -> &[ConnectionId] {
        &self.clients[&client].cids
    }

    /// The clients that go by a name now.
    pub(super) fn clients_of(&self, cid: ConnectionId) -> Vec<usize> {
        let goes_by = |client: &Client| client.cid() == cid && !client.is_gone;
        self.clients.iter().filter(|(_, client)| goes_by(client)).map(|(number, _)| *number).collect()
    }

    pub(super) fn restarts(&self, client: usize) -> u32 {
        self.clients[&client].restarts
    }

    pub(super) fn epoch_of_client(&self, client: usize) -> Option<u64> {
        self.clients[&client].epoch
    }

    /// Whether a party is in an epoch that can end: none has begun before its first attach, and nothing was written.
    pub(super) fn had_epoch(&self, party: Party) -> bool {
        match party {
            Party::Client(client) => self.clients[&client].epoch.is_some() || self.clients[&client].is_copy,
            Party::Server(cid) => self.entries.get(&cid).is_some_and(|entry| entry.was_attached),
        }
    }

    pub(super) const fn is_server_old(&self) -> bool {
        self.is_server_old
    }

    pub(super) fn is_copy(&self, client: usize) -> bool {
        self.clients[&client].is_copy
    }

    pub(super) fn was_taken_over(&self, cid: ConnectionId) -> bool {
        self.entries.get(&cid).is_some_and(|entry| entry.was_taken_over)
    }

    /// How many instances there ever were of a name.
    pub(super) fn lives(&self, cid: ConnectionId) -> u32 {
        self.entries.get(&cid).map_or(0, |entry| entry.lives)
    }

    pub(super) fn is_registered(&self, cid: &ConnectionId) -> bool {
        self.entries.get(cid).is_some_and(|entry| entry.is_registered)
    }

    pub(super) fn count(&self) -> usize {
        self.entries.values().filter(|entry| entry.is_registered).count()
    }

    /// How many belong to a principal.
    pub(super) fn count_of(&self, principal: &Principal) -> usize {
        let is_its = |entry: &&Entry| entry.is_registered && entry.principal.as_ref() == Some(principal);
        self.entries.values().filter(is_its).count()
    }

    pub(super) fn wire_of(&self, cid: &ConnectionId) -> Option<u64> {
        self.entries.get(cid)?.attached
    }

    pub(super) fn on_strike(&mut self, client: usize) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.strikes += 1;
        }
    }

    /// How often something happened that may have swallowed what a party had written.
    pub(super) fn strikes(&self, party: Party) -> u32 {
        match party {
            Party::Client(client) => self.clients[&client].strikes,
            Party::Server(cid) => {
                let of_cid = self.clients.values().filter(|client| client.cids.contains(&cid));
                of_cid.map(|client| client.strikes).sum()
            }
        }
    }

    /// Whether what one party sends can reach the other.
    pub(super) fn can_reach(&self, from: Party, to: Party) -> bool {
        match (from, to) {
            (Party::Client(client), Party::Server(cid)) | (Party::Server(cid), Party::Client(client)) => {
                // A copy of a client's state holds what was sent by its earlier life, under the same name.
                let of_cid = |client: &Client| client.cids.contains(&cid);
                let is_copied = self.clients.values().any(|other| other.is_copy && of_cid(other));
                self.clients.get(&client).is_some_and(of_cid) || is_copied
            }
            (Party::Client(_), Party::Client(_)) | (Party::Server(_), Party::Server(_)) => false,
        }
    }

    /// Whether another life goes on from an older state of a client, and may send again what that one has sent.
    pub(super) fn is_copied(&self, party: Party) -> bool {
        let Party::Client(client) = party else { return false };
        let of_its_names = |other: &Client| other.cids.iter().any(|cid| self.clients[&client].cids.contains(cid));
        self.clients.values().any(|other| other.is_copy && of_its_names(other))
    }

    /// Where a receiver stands.
    pub(super) fn place_of(&self, party: Party, is_left: bool) -> Place {
        let (epoch, memory, has_earlier) = match party {
            Party::Client(client) => (self.clients[&client].epoch.unwrap_or(0), client as u64, false),
            Party::Server(cid) => {
                let place = |entry: &Entry| (entry.epoch, entry.memory, entry.registrations > 1);
                self.entries.get(&cid).map_or((0, 0, false), place)
            }
        };
        Place { epoch: (!is_left).then_some(epoch), memory, has_earlier }
    }

    /// Whether a party has certainly ended.
    pub(super) fn has_ended(&self, party: Party) -> bool {
        match party {
            Party::Client(client) => self.clients[&client].is_over || self.clients[&client].is_closing,
            Party::Server(cid) => self.entries.get(&cid).is_some_and(|entry| entry.is_closing),
        }
    }

    /// Whether a client's machine has nothing more to do, or waits for its application.
    pub(super) fn has_stopped(&self, party: Party) -> bool {
        matches!(party, Party::Client(client) if self.clients[&client].is_over || self.clients[&client].is_stopped)
    }

    /// Whether a party may say that it has.
    pub(super) fn may_have_ended(&self, party: Party) -> bool {
        match party {
            Party::Client(client) => self.has_ended(party) || self.clients[&client].is_stopped,
            Party::Server(cid) => self.has_ended(party) || !self.is_registered(&cid),
        }
    }

    /// Whether the application at the other end wants the connection to end, or has ended it.
    pub(super) fn is_other_leaving(&self, party: Party) -> bool {
        match party {
            Party::Client(client) => {
                let entry = self.entries.get(&self.cid_of(client));
                self.has_other_ended(client) || entry.is_some_and(|entry| entry.is_closing)
            }
            Party::Server(cid) => {
                let leaves = |client: &Client| client.is_closing || client.is_over;
                self.clients.values().any(|client| client.cids.contains(&cid) && leaves(client))
            }
        }
    }

    pub(super) fn on_closing(&mut self, party: Party) {
        match party {
            Party::Client(client) => self.client(client).is_closing = true,
            Party::Server(cid) => self.entry(cid).is_closing = true,
        }
    }

    pub(super) fn on_over(&mut self, client: usize) {
        let client = self.client(client);
        (client.is_over, client.is_attached) = (true, false);
    }

    /// Whether a party has been told that it is attached, and not that it is not any more.
    pub(super) fn is_attached(&self, party: Party) -> bool {
        match party {
            Party::Client(client) => self.clients[&client].is_attached,
            Party::Server(cid) => self.wire_of(&cid).is_some(),
        }
    }

    /// The server's side of a connection has ended.
    pub(super) fn on_ended(&mut self, cid: ConnectionId) {
        let entry = self.entry(cid);
        entry.over = entry.epoch;
        for client in self.clients.values_mut().filter(|client| client.cid() == cid && client.epoch.is_none()) {
            client.is_dismissed = true;
        }
    }

    /// Whether the epoch that a client knows of is over at the server.
    pub(super) fn has_other_ended(&self, client: usize) -> bool {
        let entry = self.entries.get(&self.cid_of(client));
        let is_over = |epoch: u64| entry.is_some_and(|entry| epoch <= entry.over || epoch < entry.epoch);
        self.clients[&client].epoch.map_or(self.clients[&client].is_dismissed, is_over)
    }

    /// A client stops trying, or stops for another instance.
    pub(super) fn on_stopped(&mut self, client: usize) {
        let client = self.client(client);
        (client.is_stopped, client.is_attached) = (true, false);
    }

    pub(super) fn on_epoch_forgotten(&mut self, client: usize) {
        self.client(client).epoch = None;
    }

    pub(super) fn on_identity_changed(&mut self, client: usize, cid: ConnectionId) {
        self.entry(cid).lives += 1;
        let client = self.client(client);
        (client.is_stopped, client.epoch) = (false, None);
        client.cids.push(cid);
    }

    /// Somebody who may wants a connection to end.
    pub(super) fn on_end_wanted(&mut self, cid: ConnectionId) {
        self.entry(cid).is_end_wanted = true;
    }

    /// The application has it try again.
    pub(super) fn on_going_on(&mut self, client: usize) {
        self.client(client).is_stopped = false;
    }

    /// The server hears that a client goes to sleep.
    pub(super) fn on_suspended(&mut self, client: usize) {
        let cid = self.cid_of(client);
        self.entry(cid).is_suspended = true;
    }

    pub(super) fn on_registered(&mut self, cid: ConnectionId, principal: &Principal, max: usize) -> Checked {
        self.numbers += 1;
        let memory = self.numbers;
        let is_end_wanted = self.clients_of(cid).into_iter().any(|client| self.clients[&client].is_closing);
        let entry = self.entry(cid);
        let was_registered = core::mem::replace(&mut entry.is_registered, true);
        entry.principal = Some(principal.clone());
        (entry.memory, entry.was_attached, entry.is_stale) = (memory, false, false);
        entry.registrations = (entry.registrations + 1).min(2);
        (entry.is_end_wanted, entry.is_expired, entry.is_closing) = (is_end_wanted, false, false);
        (entry.attached, entry.detached_at, entry.is_suspended) = (None, None, false);
        (entry.holder, entry.evicted, entry.joined) = (None, BTreeSet::new(), None);
        check(!was_registered, "B2", || format!("{cid} is registered twice"))?;
        let count = self.count();
        check(count <= max, "B1", || format!("{count} connections are registered, and {max} are the most"))
    }

    /// A wire is attached at the server. Returns the number of the epoch.
    #[expect(clippy::too_many_arguments, reason = "each is what an attach is held against")]
    pub(super) fn on_attached_server(
        &mut self,
        cid: ConnectionId,
        wire: u64,
        client: Option<usize>,
        known: Option<u64>,
        resumed: bool,
        rules: &Rules,
        now: Instant,
    ) -> Result<u64, Broken> {
        let is_copy = client.is_none_or(|client| self.clients[&client].is_copy);
        self.numbers += 1;
        let fresh = self.numbers;
        let entry = self.entry(cid);
        // What the registry tells may come before what the peer told earlier.
        check(entry.is_registered || entry.is_end_wanted, "X1", || format!("{cid} is attached, and not registered"))?;
        let is_known = known == Some(entry.epoch) && entry.was_attached;
        if resumed {
            check((is_known || is_copy) && !entry.is_stale, "S2", || {
                format!("{cid} goes on in an epoch that its client knows as {known:?}: {entry:?}")
            })?;
        } else {
            let has_cause = !is_known || entry.is_stale || is_copy;
            check(has_cause, "J1", || format!("{cid} begins another epoch without a cause: {entry:?}"))?;
            let before = core::mem::replace(&mut entry.epoch, fresh);
            if entry.was_attached {
                let was_joined = entry.joined == Some(before) && !entry.is_stale;
                self.receipts.on_ended((cid, before), was_joined, &rules.receipts, now);
            }
        }
        let entry = self.entry(cid);
        (entry.was_attached, entry.is_stale, entry.attached) = (true, false, Some(wire));
        (entry.detached_at, entry.is_suspended) = (None, false);
        let epoch = entry.epoch;
        if resumed {
            self.on_joined(Party::Server(cid));
            self.receipts.on_named(cid);
        }
        Ok(epoch)
    }

    /// The server has heard from the client in the present epoch, if that is who has.
    pub(super) fn on_joined(&mut self, party: Party) {
        if let Party::Server(cid) = party {
            let entry = self.entry(cid);
            entry.joined = Some(entry.epoch);
        }
    }

    /// Whether the receipt of an epoch that a client names is certainly there.
    pub(super) fn has_receipt(&self, cid: ConnectionId, named: Option<u64>, rules: &Rules, now: Instant) -> bool {
        let is_copied = self.clients.values().any(|client| client.is_copy && client.cids.contains(&cid));
        let is_there = |epoch| self.receipts.is_there((cid, epoch), &rules.receipts, now);
        named.is_some_and(is_there) && !is_copied
    }

    /// A client hears its welcome.
    pub(super) fn on_attached_client(&mut self, client: usize, epoch: u64, resumed: bool) -> Checked {
        let it = self.client(client);
        (it.is_stopped, it.failures, it.is_attached) = (false, 0, true);
        it.is_dismissed = false;
        let before = it.epoch.replace(epoch);
        it.epochs += u32::from(!resumed);
        let fits = (before == Some(epoch)) == resumed || it.is_copy;
        check(fits, "S2", || format!("client {client} hears {resumed} of {epoch}, and knew {before:?}"))
    }

    /// A wire is not attached any more. Returns which one it was.
    pub(super) fn on_detached(&mut self, cid: &ConnectionId, now: Instant) -> Option<u64> {
        let entry = self.entries.get_mut(cid)?;
        entry.detached_at = Some(now);
        entry.attached.take()
    }

    /// Whether a party was attached before.
    pub(super) fn was_attached(&self, party: Party) -> bool {
        match party {
            Party::Client(client) => self.clients[&client].epoch.is_some(),
            Party::Server(cid) => self.entries.get(&cid).is_some_and(|entry| entry.was_attached),
        }
    }

    /// A client hears a welcome on a wire that nobody else knows of.
    pub(super) fn on_attached_unseen(&mut self, client: usize, resumed: bool) {
        let it = self.client(client);
        (it.is_stopped, it.failures) = (false, 0);
        it.epochs += u32::from(!resumed);
        it.epoch = Some(u64::from(it.epochs));
    }

    /// The server is attached on such a wire.
    pub(super) fn on_attached_unseen_server(&mut self, cid: ConnectionId) {
        self.entry(cid).was_attached = true;
    }

    /// No client has gone from one epoch to another.
    pub(super) fn check_one_epoch(&self) -> Checked {
        self.clients.iter().try_for_each(|(number, client)| {
            check(client.epochs <= 1, "L2", || {
                format!("client {number} begins {} epochs without a cause", client.epochs)
            })
        })
    }

    /// Another instance has taken a connection over; a stranger that has its key counts as one.
    pub(super) fn on_taken_over(&mut self, cid: ConnectionId, has_ghosts: bool) -> Checked {
        let entry = self.entry(cid);
        entry.was_taken_over = true;
        check(entry.lives > 1 || has_ghosts, "X1", || format!("{cid} is taken over, and had one instance only"))
    }

    pub(super) fn on_expired(&mut self, cid: &ConnectionId, rules: &Rules, now: Instant) -> Checked {
        let entry = self.entry(*cid);
        entry.is_expired = true;
        let ttl = if entry.is_suspended { rules.suspended_ttl } else { rules.detach_ttl };
        let is_due = entry.attached.is_none() && entry.detached_at.is_some_and(|at| at + ttl <= now);
        check(is_due, "J1", || format!("{cid} expires at {now:?} before its time, which is {ttl:?}: {entry:?}"))
    }

    /// Nothing is kept for much longer than it may be.
    pub(super) fn check_expiry(&self, rules: &Rules, slack: Duration, now: Instant) -> Checked {
        for (cid, entry) in &self.entries {
            let ttl = if entry.is_suspended { rules.suspended_ttl } else { rules.detach_ttl };
            let is_late = entry.is_registered && entry.detached_at.is_some_and(|at| at + ttl + slack < now);
            check(!is_late, "L1", || format!("{cid} should have expired by {now:?}: {entry:?}"))?;
        }
        Ok(())
    }

    pub(super) fn on_removed(&mut self, cid: &ConnectionId, rules: &Rules, now: Instant) -> Checked {
        let entry = self.entry(*cid);
        if entry.was_attached {
            let (epoch, was_joined) = (entry.epoch, entry.joined == Some(entry.epoch) && !entry.is_stale);
            self.receipts.on_ended((*cid, epoch), was_joined, &rules.receipts, now);
        }
        let entry = self.entry(*cid);
        let was_registered = core::mem::replace(&mut entry.is_registered, false);
        let has_cause = was_registered && (entry.is_expired || entry.is_end_wanted);
        (entry.attached, entry.detached_at) = (None, None);
        check(has_cause, "J1", || format!("{cid} is removed without a cause: {entry:?}"))
    }

    /// The epochs that clients and connections can still be in.
    pub(super) fn epochs(&self) -> impl Iterator<Item = u64> {
        let of_clients = self.clients.values().filter(|client| !client.is_gone).filter_map(|client| client.epoch);
        of_clients.chain(self.entries.values().map(|entry| entry.epoch))
    }

    pub(super) fn is_attached_by(&self, wire: u64) -> bool {
        self.entries.values().any(|entry| entry.attached == Some(wire))
    }

    fn client(&mut self, client: usize) -> &mut Client {
        self.clients.get_mut(&client).expect("a client was introduced")
    }

    fn entry(&mut self, cid: ConnectionId) -> &mut Entry {
        self.entries.entry(cid).or_default()
    }
}
