# needs: websockets==17.4
"""A client of the Reattach protocol `reattach.v1`, written from PROTOCOL.md alone (its sections are cited as §).

Nouns: Identity (who), Frame (one line of the wire), Window (how much may be under way), Outbox (what was sent),
Inbox (what came), Heartbeat (is the transport alive), Retry (when to come back), Client (puts them together).
"""
import argparse
import asyncio
import hashlib
import json
import random
import re
import secrets
import sys
import time
import uuid
from collections import OrderedDict, deque
from contextlib import suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, NegotiationError

SUBPROTOCOL = "reattach.v1"
WINDOW, WINDOW_BYTES, MAX_PAYLOAD = 256, 2 << 20, 4 << 20  # what this client announces (§13)
FRAME_MAX, BATCH, BIGGEST = 131072, 64 << 10, 2**53 - 1  # §2
OUTBOX, OUTBOX_BYTES, ATTEMPTS, ACK_DELAY, MIN_RATE, STABLE = 200, 2 << 20, 4, 0.02, 256, 5.0  # §13

def log(*words):
    print(f"{time.monotonic():.3f}", *words, file=sys.stderr)

class Malformed(Exception):
    """A frame that §2 calls malformed."""

class Closed(Exception):
    """The transport is over, with this code. `word` says what the server did that the protocol forbids, if it did; `said`
    whether the server knows already, for a `bye` has been written or read."""
    def __init__(self, code, word=None, said=False):
        super().__init__(code, word)
        self.code, self.word, self.said = code, word, said

class OldCopy(Exception):
    """The server stands below what it has told before (§4, welcome)."""

class GiveUp(Exception):
    """The policy of §11 allows no further try."""

class Identity:
    """A secret key and the public connection id that is made from it (§3)."""
    def __init__(self, key=None):
        self.key = (key or secrets.token_hex(16)).lower()
        digest = bytearray(hashlib.sha256(bytes.fromhex(self.key)).digest()[:16])
        digest[6], digest[8] = digest[6] & 0x0F | 0x80, digest[8] & 0x3F | 0x80
        self.cid = f"cid-{uuid.UUID(bytes=bytes(digest))}"

# ---- The wire: a predicate for each type of value (§2), a table of frames (§4), the reader of one line.

def number(low=0, high=BIGGEST):
    return lambda v: type(v) is int and low <= v <= high

def text(low, high):
    return lambda v: isinstance(v, str) and low <= len(v.encode("utf-8", "surrogatepass")) <= high

def pattern(regex):
    return lambda v: isinstance(v, str) and re.fullmatch(regex, v, re.A | re.I) is not None

def flag(v):
    return isinstance(v, bool)

def seqs(v):
    return isinstance(v, list) and all(map(number(1), v)) and all(a < b for a, b in zip(v, v[1:]))

def exceptions(v):
    """The list `except`: objects of known kinds, by rising seq."""
    return isinstance(v, list) and len(v) <= 512 and all(
        check(e, {"seq": number(1), **EXCEPTIONS[e["is"]][0]}, EXCEPTIONS[e["is"]][1]) for e in v
    ) and seqs([e["seq"] for e in v])

def receipt(v):
    """The `receipt` of a welcome (§8)."""
    return bool(check(v, {"epoch": NONCE}, {**REPORT, "seen": number(), "handed": seqs, "final": flag}))

UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
NONCE, NAME, WORDS, CODE = pattern("[0-9a-f]{32}"), text(1, 128), text(0, 256), pattern("[a-z0-9_.:/-]{1,64}")
REPORT = {"received": number(), "settled": number(), "no": number(), "except": exceptions}
EXCEPTIONS = {  # kind: keys it must have, keys it may have
    "pending": ({}, {}), "voided": ({}, {}), "abandoned": ({}, {}),
    "deferred": ({"times": number(1), "code": CODE}, {"retryAfter": number()}),
    "rejected": ({"code": CODE}, {"reason": WORDS}),
}
FRAMES = {  # type: keys it must have, keys it may have; of a hello it is enough that no server sends one
    "hello": ({}, {}),
    "challenge": ({"fence": NONCE}, {}),
    "welcome": ({"cid": pattern("cid-" + UUID), "epoch": NONCE, "resumed": flag, "window": number(1, 16384),
                 "windowBytes": number(1), "maxPayload": number(1), "detachTtl": number()},
                {**REPORT, "seen": number(), "receipt": receipt}),
    "msg": ({}, {"seq": number(1), "key": NAME, "id": pattern(UUID), "lane": NAME, "idem": flag, "hands": number(1, 1000)}),
    "void": ({"seq": number(1)}, {}),
    "ack": ({}, {**REPORT, "seen": number()}),
    "ping": ({"n": number(1)}, {"seen": number()}),
    "pong": ({"n": number(1)}, REPORT),
    "bye": ({"code": lambda v: type(v) is int and (1000 <= v <= 1003 or 1007 <= v <= 1014 or 3000 <= v <= 4999)},
            {**REPORT, "end": flag, "handed": seqs, "final": flag, "reason": WORDS, "retryAfter": number(),
             "suspend": flag}),
}

class Keys(dict):
    """An object of JSON that remembers how many keys it had and which ones stood twice."""
    def __init__(self, pairs):
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.count, self.twice = len(names), {n for n in names if names.count(n) > 1} if len(self) < len(names) else ()

def check(keys, must, may):
    """The object without nulls, when each known key is of its type and stands once (§2); else Malformed."""
    known = {"t": text(0, FRAME_MAX), **must, **may}
    if keys.count > 64 or any(name in known for name in keys.twice):
        raise Malformed("too many keys, or one twice")
    keys = {name: v for name, v in keys.items() if v is not None}
    for name, fits in known.items():
        if name in must and name not in keys or name in keys and not fits(keys[name]):
            raise Malformed(f"lacks {name}, or it is wrong")
    top = keys.get("received", 0)
    if "received" in known and (keys.get("settled", 0) > top or any(e["seq"] > top for e in keys.get("except", ()))):
        raise Malformed("the report contradicts itself")
    return keys

def refuse(constant):
    raise ValueError(constant)  # NaN and Infinity, which Python reads and RFC 8259 does not have

def loads(line):
    return json.loads(line, object_pairs_hook=Keys, parse_constant=refuse)

def depth(v):
    inner = v.values() if isinstance(v, dict) else v if isinstance(v, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)

class Frame:
    """One line. `payload` is the text of `d`: the last key of a `msg`, so it can be cut off unread (§2). Leaving it
    unread until the application takes it also keeps one bad payload from breaking every reattach at the same seq."""
    def __init__(self, line):
        try:
            keys, self.payload = self.split(line)
            self.t = keys["t"]
            self.keys = check(keys, *FRAMES.get(self.t, ({}, {})))
            if depth(keys) > 65:  # a value nests at most 64 deep, and the frame is around it
                raise Malformed("too deep")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise Malformed(f"not such an object: {error!r}") from None
        if self.t == "msg" and (not self.payload or ("seq" in keys) == ("key" in keys)):
            raise Malformed("neither reliable nor ephemeral, or without a last key d")
        if self.t != "msg" and len(line.encode()) > FRAME_MAX:
            raise Closed(4413, "frame-too-large")

    @staticmethod
    def split(line):
        for d in re.finditer(r'"d"\s*:', line):
            try:
                keys = loads(line[:d.start()].rstrip().removesuffix(",") + "}")
            except ValueError:
                continue  # that was a "d" deeper down
            if keys.get("t") == "msg" and line.rstrip().endswith("}"):
                keys.count += 1
                return keys, line[d.end():line.rindex("}")].strip()
            break
        return loads(line), ""

def encode(t, **keys):
    return json.dumps({"t": t, **keys}, separators=(",", ":"))

# ---- The two directions (§6).

class Window:
    """How much may be held at once, and how much of it by one lane (§6): for what we write, for what comes, and for what
    the outbox holds."""
    def __init__(self, count, size):
        self.count, self.size = count, size

    def allows(self, held, size):
        """Whether one more of `size` bytes may join `held`, a list of (lane, size)."""
        small = [s for _, s in held if s <= self.size // 2]
        if len(held) >= self.count:
            return False
        return len(small) == len(held) if size > self.size // 2 else sum(small) + size <= self.size

    def shares(self, held, lane):
        """Whether this lane holds fewer places than are free, and fewer bytes than are free, or none."""
        small = [(owner, s) for owner, s in held if s <= self.size // 2]
        mine = sum(s for owner, s in small if owner == lane)
        return (sum(owner == lane for owner, _ in held) < self.count - len(held)
                and (mine == 0 or mine < self.size - sum(s for _, s in small)))

class Message:
    """A reliable message of ours: `n` is for the tally, `payload` the JSON text, `deadline` a moment."""
    def __init__(self, n, payload, lane=None, name=None, idem=False, hands=None, deadline=None):
        self.n, self.payload, self.size, self.outcome = n, payload, len(payload.encode()), None
        self.lane, self.deadline, self.idem = lane, deadline, idem
        self.keys = {k: v for k, v in {"id": name, "lane": lane, "idem": idem or None, "hands": hands}.items() if v}
        self.lost, self.resent = 0, False  # attempts lost (§6); whether it was sent again in another epoch
        self.queued()

    def queued(self):
        """Not written in this epoch."""
        self.seq, self.withdrawn, self.void_due, self.deferred = None, None, False, 0
        self.left, self.ping = None, 0  # when its bytes had left, and the last ping before it, on this transport

    def frame(self):
        return json.dumps({"t": "msg", "seq": self.seq, **self.keys}, separators=(",", ":"))[:-1] + f',"d":{self.payload}}}'

class Outbox:
    """What this side sends. `queue` holds what was never written, `written` what has a seq and is not final (one whose
    outcome was told early, as unknown, stays: it keeps its place). What is below `cursor` was written on this transport
    or had come before it; to write again is to move the cursor back (§7). `decided(message, outcome)` is called once for
    each message, `deferred(message)` whenever one failed for now."""
    FINAL = {"rejected": "rejected", "voided": "notDelivered", "abandoned": "unknown"}

    def __init__(self, decided, deferred, void_timeout):
        self.decided, self.deferred, self.void_timeout = decided, deferred, void_timeout
        self.queue, self.limit, self.space = deque(), Window(OUTBOX, OUTBOX_BYTES), asyncio.Event()
        self.restart()

    def restart(self):
        """A new epoch: seqs from 1, watermarks at 0; the queue stays (§7)."""
        self.written, self.sent, self.cursor = {}, 0, 1
        self.received = self.settled = self.seen = 0  # how far the other side's report goes
        self.attached_with = None  # `received` when the last transport was attached

    def attach(self, welcome):
        """Take over the other side's limits, and write again from what it has not received (§7). A transport that took
        the lowest message away and moved nothing has cost that message an attempt (§6)."""
        self.window, self.max_payload = Window(welcome["window"], welcome["windowBytes"]), welcome["maxPayload"]
        lowest = self.written.get(self.received + 1)
        if lowest and lowest.left and self.attached_with == self.received:
            self.lose(lowest)
        self.attached_with = self.received
        for message in self.written.values():
            message.left, message.ping = None, 0
            if message.seq > self.received and message.size > self.max_payload:
                self.withdraw(message)
            message.void_due = message.withdrawn is not None
        self.cursor = self.received + 1

    def lose(self, message):
        message.lost += 1
        if message.lost >= ATTEMPTS:
            self.withdraw(message)

    def may_put(self, message):
        """Whether the outbox has room for one more of this lane (§6)."""
        held = [(m.lane, m.size) for m in (*self.queue, *self.written.values())]
        return self.limit.allows(held, message.size) and self.limit.shares(held, message.lane)

    def next_frame(self, ping):
        """The next `msg` or `void` that may be written now, behind the ping of that number: voids, then what has to be
        written again, then what is new. None when there is nothing."""
        for message in self.written.values():
            if message.void_due:
                message.void_due = False
                return encode("void", seq=message.seq)
        while self.cursor <= self.sent:
            message = self.written.get(self.cursor)
            if message and message.withdrawn is None:
                under_way = [(m.lane, m.size) for seq, m in self.written.items() if seq < self.cursor]
                return self.write(message, ping) if self.window.allows(under_way, message.size) else None
            self.cursor += 1
        for message in [m for m in self.queue if m.size > self.max_payload]:
            self.withdraw(message)  # a sender MUST NOT send it (§2)
        held, full = [(m.lane, m.size) for m in self.written.values()], {m.lane for m in self.written.values() if m.deferred}
        for message in self.queue:
            if message.lane not in full:
                if self.window.allows(held, message.size) and self.window.shares(held, message.lane):
                    self.queue.remove(message)
                    self.sent += 1
                    message.seq, self.written[self.sent] = self.sent, message
                    return self.write(message, ping)
                full.add(message.lane)
        return None

    def write(self, message, ping):
        message.left, message.ping, self.cursor = None, ping, message.seq + 1
        return message.frame()

    def bytes_left(self):
        """All that was written on this transport has been handed to the operating system."""
        for message in self.written.values():
            if message.ping and message.left is None and message.seq < self.cursor:
                message.left = time.monotonic()

    def probe(self, after, answered, last):
        """Whether a message asks for a probe (§9): `after` seconds without a settlement, and the last ping, of number
        `last`, is answered or was written before it."""
        late = time.monotonic() - after
        return any(m.left and m.left <= late and (answered >= last or m.ping > last) for m in self.written.values())

    def pong(self, n):
        """A ping is answered: what was written before it and is not received was lost (§9)."""
        lowest = self.written.get(self.received + 1)
        if lowest and lowest.withdrawn is None and lowest.seq < self.cursor and lowest.ping <= n:
            self.lose(lowest)
            self.cursor = self.received + 1
            for message in self.written.values():
                message.void_due |= message.withdrawn is not None and message.seq > self.received

    def withdraw(self, message):
        """Its application has cancelled it, or its deadline has passed, or it lost too many attempts (§6)."""
        if message.seq is None:
            self.queue.remove(message)
            self.decide(message, "notDelivered")
        elif message.withdrawn is None:
            message.withdrawn, message.void_due = time.monotonic(), True

    def tick(self):
        """What time does: deadlines, and withdrawals that nobody answers. Returns whether there is something to write."""
        now = time.monotonic()
        for message in (*self.queue, *self.written.values()):
            if message.outcome is None and message.deadline and now >= message.deadline:
                self.withdraw(message)
            if message.outcome is None and message.withdrawn and now - message.withdrawn >= self.void_timeout:
                self.decide(message, "unknown")
        return any(m.void_due for m in self.written.values())

    def take_in(self, keys, resumed=False):
        """Merge a report: an older one changes nothing, unless it comes with a welcome (§4). Returns whether a watermark
        has risen."""
        new = keys.get("received", 0), keys.get("settled", 0), keys.get("no", 0)
        old = self.received, self.settled, self.seen
        if new[0] > self.sent:
            raise Closed(4400, "received-above-sent")
        if any(a < b for a, b in zip(new, old)):
            if resumed:
                raise OldCopy
            return False
        self.received, self.settled, self.seen = new
        entries = {e["seq"]: e for e in keys.get("except", ())}
        for seq in [seq for seq in self.written if seq <= self.received and new != old]:
            entry = entries.get(seq)
            if entry and entry["is"] in self.FINAL or not entry and seq <= self.settled:
                self.decide(self.written.pop(seq), self.FINAL[entry["is"]] if entry else "delivered")
            elif entry and entry.get("times", 0) > self.written[seq].deferred:
                self.written[seq].deferred = entry["times"]
                self.deferred(self.written[seq])
        return new[:2] != old[:2]

    def resolve(self, last=None, again=True):
        """Give each written message its outcome by a receipt or a last report (§7, §8), or `unknown` without one. With
        `again` there is a next epoch, for those that are idempotent and of which nobody can tell."""
        if last and last.get("final") and (last.get("received", 0) < self.received or last.get("settled", 0) < self.settled):
            last = None  # made by an old copy
        kinds = {e["seq"]: e["is"] for e in last.get("except", ())} if last else {}
        back = []
        for seq, message in list(self.written.items()):
            outcome = self.verdict(seq, kinds.get(seq), last) if last else None
            if outcome is None and again and message.idem and message.withdrawn is None and message.lost + 1 < ATTEMPTS:
                message.lost, message.resent = message.lost + 1, True
                message.queued()
                back.append(message)
            else:
                self.decide(message, outcome or "unknown")
        self.written = {}
        self.queue.extendleft(reversed(back))

    def verdict(self, seq, kind, last):
        """The table of §8, line by line. None: nobody can tell."""
        if kind in self.FINAL:
            return self.FINAL[kind]
        if seq in last.get("handed", ()):
            return None
        if kind is None and seq <= last.get("settled", 0):
            return None if self.seen < last.get("seen", 0) else "delivered"
        if not last.get("final"):
            return None
        return "rejected" if kind == "deferred" else "notDelivered"

    def give_up(self):
        """Every message gets its outcome now (§11). What was written is withdrawn and keeps its place, for a later try."""
        while self.queue:
            self.decide(self.queue.popleft(), "notDelivered")
        for message in self.written.values():
            self.decide(message, "unknown")
            self.withdraw(message)

    def decide(self, message, outcome):
        """Outcomes are told once (§6). A message that was sent in two epochs cannot be told from its second life alone."""
        if message.outcome is None:
            message.outcome = "unknown" if message.resent and outcome != "delivered" else outcome
            self.decided(message, message.outcome)
        self.space.set()

class Arrival:
    """A reliable message that has come, or was voided before. `state`: waiting, handed, deferred, or a final one."""
    def __init__(self, seq, payload="", lane=None, name=None, hands=4, state="waiting"):
        self.seq, self.payload, self.lane, self.name, self.hands, self.state = seq, payload, lane, name, hands, state
        self.size, self.handed, self.times, self.withdrawn = len(payload.encode()), 0, 0, False
        self.due, self.code, self.reason = None, "", ""  # `due`: when it is to be handed over again, or its lease ends
        self.shown, self.no = None, 0  # the entry of `except`, and the `no` of its last change

    def is_final(self):
        return self.state in ("accepted", "rejected", "voided", "abandoned")

    def entry(self, settled):
        """The entry of `except`, or None. One that was deferred stays so while it is handed over again: entries only go
        up (§6)."""
        if self.state == "rejected":
            return {"seq": self.seq, "is": "rejected", "code": self.code, "reason": self.reason}
        if self.state in ("voided", "abandoned"):
            return {"seq": self.seq, "is": self.state}
        if self.times and self.state != "accepted":
            return {"seq": self.seq, "is": "deferred", "times": self.times, "code": self.code}
        return {"seq": self.seq, "is": "pending"} if self.seq < settled and self.state != "accepted" else None

class Inbox:
    """What came. `open` holds all that takes a place in our window: what is not final, and final exceptions that the
    server has not seen. That is less than 512, so `except` needs no other bound."""
    def __init__(self, manual=False, lease=300.0):
        self.manual, self.lease, self.window = manual, lease, Window(WINDOW, WINDOW_BYTES)
        self.arrived, self.known = asyncio.Event(), OrderedDict()  # `known`: what became of each id
        self.reset()

    def reset(self):
        """A new epoch: what was not handed over is dropped (§7)."""
        self.received = self.settled = self.no = self.told = 0  # `told`: settled, as last reported
        self.open, self.since = {}, None  # `since`: when there came to be news to report

    def comes(self, seq):
        """Whether this seq is new, and may come."""
        if seq <= self.received or seq in self.open:
            return False
        if seq > self.received + WINDOW:
            raise Closed(4400, "above-window")
        return True

    def arrive(self, keys, payload):
        """Returns False for one that has come before. Behind a gap it is kept, and waits."""
        seq, size = keys["seq"], len(payload.encode())
        if size > MAX_PAYLOAD:
            raise Closed(4413, "max-payload")
        if not self.comes(seq):
            return False
        if not self.window.allows([(a.lane, 0 if a.is_final() else a.size) for a in self.open.values()], size):
            raise Closed(4400, "window")
        self.open[seq] = Arrival(seq, payload, keys.get("lane"), keys.get("id", "").lower(), keys.get("hands", 4))
        self.changed()
        return True

    def void(self, seq):
        """The table of §6, withdrawing."""
        if self.comes(seq):
            self.open[seq] = Arrival(seq, state="voided")
        arrival = self.open.get(seq)
        if arrival and arrival.state == "waiting":
            arrival.state = "voided"
        elif arrival and arrival.state == "deferred":
            arrival.state = "rejected"
            self.remember(arrival)
        elif arrival:
            arrival.withdrawn = True
        self.changed()

    def changed(self):
        """Bring the watermarks and the exceptions up to date, and note that there is news."""
        before = self.received, self.settled, self.no
        while self.received + 1 in self.open:
            self.received += 1
        here = [self.open[seq] for seq in sorted(self.open) if seq <= self.received]
        self.settled = max([self.settled, *(a.seq for a in here if a.is_final())])
        for arrival in here:
            entry = arrival.entry(self.settled)
            if entry != arrival.shown:
                self.no += 1
                arrival.shown, arrival.no = entry, self.no
            if arrival.state == "accepted":
                del self.open[arrival.seq]
        if before != (self.received, self.settled, self.no):
            self.since = self.since or time.monotonic()
            self.arrived.set()

    def forget(self, seen):
        """The server has taken in our exceptions up to `seen`: the final ones among them need no place any more."""
        if seen > self.no:
            raise Closed(4400, "seen-above-no")
        for arrival in [a for a in self.open.values() if a.is_final() and a.shown and a.no <= seen]:
            del self.open[arrival.seq]

    def waiting(self):
        """Of each lane the first that is not final, in the order of seqs (§6)."""
        lanes = {}
        for seq in sorted(seq for seq in self.open if seq <= self.received):
            if not self.open[seq].is_final():
                lanes.setdefault(self.open[seq].lane, self.open[seq])
        return list(lanes.values())

    def take(self):
        """Hand the next one over. None when none is due."""
        now, lapsed = time.monotonic(), True
        while lapsed:  # settling one without its application may free another of its lane
            lapsed = False
            for arrival in self.waiting():
                if arrival.state != "waiting" and now < arrival.due:
                    continue
                if arrival.state == "handed" or arrival.handed >= arrival.hands:
                    self.settle(arrival, "abandoned")  # the lease has run out; or it was handed over often enough
                elif arrival.name in self.known:
                    self.settle(arrival, *self.known[arrival.name])
                else:
                    arrival.state, arrival.due, arrival.handed = "handed", now + self.lease, arrival.handed + 1
                    if not self.manual:
                        self.settle(arrival, "accepted")
                    return arrival
                lapsed = True
        return None

    def due(self):
        """In how many seconds something happens without a message: a deferral or a lease ends. None: never."""
        dues = [a.due for a in self.waiting() if a.due]
        return max(0, min(dues) - time.monotonic()) if dues else None

    def decide(self, arrival, state, code="", reason="", after=3.0):
        """The application decides. Returns False when it is too late: the lease or the epoch is over."""
        if self.open.get(arrival.seq) is not arrival or arrival.state != "handed":
            return False
        if state != "deferred":
            self.settle(arrival, state, code, reason)
        elif arrival.withdrawn or arrival.times + 1 >= arrival.hands:
            self.settle(arrival, "rejected", code)
        else:
            arrival.state, arrival.code, arrival.due = "deferred", code, time.monotonic() + after
            arrival.times += 1
            self.changed()
        return True

    def settle(self, arrival, state, code="", reason=""):
        arrival.state, arrival.code, arrival.reason = state, code, reason
        self.remember(arrival)
        self.changed()

    def remember(self, arrival):
        if arrival.name:
            self.known[arrival.name] = arrival.state, arrival.code, arrival.reason
            while len(self.known) > 1024:
                self.known.popitem(last=False)

    def report(self):
        """The report, to be written now."""
        self.since, self.told = None, self.settled
        shown = [self.open[seq].shown for seq in sorted(self.open) if self.open[seq].shown]
        return {"received": self.received, "settled": self.settled} | ({"no": self.no, "except": shown} if self.no else {})

    def last_word(self):
        """The report behind which nothing more is handed over (§10)."""
        handed = sorted(a.seq for a in self.open.values() if a.state == "handed")
        return self.report() | {"final": True} | ({"handed": handed} if handed else {})

    def report_due(self):
        """In how many seconds a report of its own is due (§6, reporting); None when there is no news."""
        if self.since is None:
            return None
        if not any(a.state == "waiting" for a in self.open.values()) or self.settled - self.told >= WINDOW // 4:
            return 0
        return max(0, self.since + ACK_DELAY - time.monotonic())

# ---- Transports, one after the other.

class Heartbeat:
    """Says when to ping and when to give a transport up (§9). A whole frame moves `heard` to now; loose bytes move it
    on by the time they are worth at the minimum rate, so a trickle below that rate still ends."""
    def __init__(self, idle, dead, probe_timeout, gap):
        self.idle, self.dead, self.probe_timeout, self.gap = idle, dead, probe_timeout, gap
        self.n = self.answered = 0  # the newest ping, and the newest that was answered
        self.heard = self.moved = self.looked = time.monotonic()
        self.pinged = self.left = None  # when the last ping was written; when its bytes had left
        self.written = self.gone = 0  # bytes given to the socket; bytes that have left
        self.probed = None  # when the last probe was asked for
        self.asleep = None  # the ping that has to be answered before anything counts as life again

    def got(self, size=None):
        now = time.monotonic()
        if self.asleep is None:
            self.heard = now if size is None else min(now, self.heard + size / MIN_RATE)

    def ping(self):
        self.n, self.pinged, self.left = self.n + 1, time.monotonic(), None
        return self.n

    def pong(self, n):
        """Returns whether it answers a ping."""
        if not self.answered < n <= self.n:
            return False
        self.answered = n
        if self.asleep is not None and n >= self.asleep:
            self.asleep = None
            self.got()
        return True

    def woken(self, asked):
        """Whether this side was asleep, being woken much later than `asked`. Nothing is held against the other side."""
        now, late = time.monotonic(), time.monotonic() - self.looked - asked
        self.looked = now
        if late >= self.gap:
            self.heard = self.moved = now
            self.pinged, self.asleep = None, self.n + 1
        return late >= self.gap

    def look(self, waiting):
        """`waiting` bytes have not left yet. Returns "ping", "dead" or None."""
        now, gone = time.monotonic(), self.written - waiting
        self.moved = now if waiting == 0 else min(now, self.moved + (gone - self.gone) / MIN_RATE)
        self.gone = gone
        if self.pinged and not self.left and waiting == 0:
            self.left = now
        out = self.left if self.answered < self.n else None
        late = out and now - out >= self.dead - self.idle and now - self.heard >= self.dead
        probe_late = out and self.probed and now - max(out, self.heard) >= self.probe_timeout
        if late or probe_late or now - self.moved >= self.dead:
            return "dead"
        return "ping" if now - self.heard >= self.idle and self.answered == self.n else None

class Transport(ClientConnection):
    """One WebSocket that tells its Heartbeat of every byte that comes, not only of whole messages (§9)."""

    heartbeat = None
    def data_received(self, data):
        if self.heartbeat:
            self.heartbeat.got(len(data))
        super().data_received(data)

class Retry:
    """The policies and the counting of §11."""
    POLICY = {1002: "stop", 1003: "stop", 1007: "stop", 1010: "stop", 4422: "stop", 1008: "credentials",
              4401: "credentials", 4403: "credentials", 1009: "large", 4413: "large", 1012: "restart",
              1013: "late", 4429: "late"}

    def __init__(self, base, cap, attempts):
        self.base, self.cap, self.attempts = base, cap, attempts
        self.start_over()

    def start_over(self):
        self.failed = self.growth = self.refused = self.large = self.evicted = 0
        self.news = set()  # which sides took something new since the last frame that was too large

    def frame(self):
        """A frame has come after a welcome."""
        self.failed = self.evicted = 0

    def took(self, side):
        self.news.add(side)
        if len(self.news) == 2:
            self.large = 0

    def ended(self, code, lived, retry_after):
        """A transport ended with `code` after `lived` seconds attached. Returns the pause before the next try."""
        policy = self.POLICY.get(code, "backoff")
        if lived >= STABLE:
            self.growth = self.large = 0
        self.failed += 1
        if policy == "large":
            self.news = set()
        self.evicted += code == 4409
        self.refused += policy == "credentials"
        self.large += policy == "large"
        if policy == "stop" or self.refused >= 2 or self.large >= 5 or 0 < self.attempts < self.failed:
            raise GiveUp(f"code {code}, {self.failed} failed")
        if retry_after is not None:
            return retry_after / 1000
        if code == 4409 and self.evicted == 1:
            return 0
        if policy in ("restart", "late"):
            return random.uniform(5 if policy == "restart" else 15, 30)
        self.growth += 1
        return random.uniform(0, min(self.cap, self.base * 2 ** min(self.growth - 1, 40)))

    @staticmethod
    def of_status(status):
        """The close code whose policy an HTTP status shares."""
        if status in (401, 403):
            return 4401
        if status in (429, 503):
            return 1013
        return 1002 if 400 <= status <= 499 and status not in (404, 408, 425) else 1006

class Client:
    """One connection across its transports: handshake (§5), the attached phase, and the end (§10)."""
    def __init__(self, args, decided, deferred, done):
        self.args, self.done = args, done
        self.identity, self.instance, self.attempt, self.epoch = Identity(args.key), secrets.token_hex(16), 0, None
        self.outbox, self.inbox = Outbox(decided, deferred, args.void_ms / 1000), Inbox(args.manual, args.lease_ms / 1000)
        self.wake, self.closing, self.naps = asyncio.Event(), set(), args.naps
        self.nap_at = 4  # how many transports are attached before the next nap
        self.retry = Retry(args.backoff_ms / 1000, args.cap_ms / 1000, args.attempts)
        self.counts, self.violations, self.ended = {"attached": 0, "resumed": 0, "fresh": 0}, [], None

    async def run(self):
        """Transport after transport until the connection has ended. Returns whether this side has ended it."""
        while True:
            try:
                self.attached_at = self.retry_after = None
                code = await self.transport()
                if self.ended:
                    break
                log("transport ended", code)
                if code == 4409:  # a twin has the connection: go on as somebody else (§5, evicted)
                    self.begin_epoch(None, again=False)
                    self.identity = Identity()
                    self.inbox.known.clear()
                lived = time.monotonic() - self.attached_at if self.attached_at else 0
                await asyncio.sleep(self.retry.ended(code, lived, self.retry_after))
            except GiveUp as error:
                log("giving up:", error)
                self.outbox.give_up()  # §11, counting
                if not self.args.revive_ms:
                    break
                await asyncio.sleep(self.args.revive_ms / 1000)
                self.retry.start_over()
        if self.closing:
            await asyncio.wait(self.closing, timeout=1)
        return self.ended == "here"

    def begin_epoch(self, old, again=True):
        """Everything of the old epoch is over, but what was never written (§7, fresh)."""
        self.outbox.resolve(old, again)
        self.outbox.restart()
        self.inbox.reset()
        self.epoch = None

    def violated(self, word, detail=""):
        log("VIOLATION", word, detail)
        self.violations.append(word)

    async def transport(self):
        """One transport from opening to closing. Returns its close code."""
        self.attempt += 1
        ws, said = None, True
        try:
            async with asyncio.timeout(self.args.hello_timeout_ms / 1000):
                ws = await connect(self.args.url, subprotocols=[SUBPROTOCOL], compression=None, proxy=None,
                                   ping_interval=None, open_timeout=None, close_timeout=1,
                                   create_connection=Transport, max_size=MAX_PAYLOAD + FRAME_MAX)
            if ws.subprotocol != SUBPROTOCOL:
                raise NegotiationError("no subprotocol")
            lines = self.lines(ws)
            async with asyncio.timeout(self.args.hello_timeout_ms / 1000):
                await self.handshake(ws, lines)
            tasks = [asyncio.create_task(job) for job in (self.read(lines), self.write(ws), self.watch(ws))]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            raise next(r for r in results if not isinstance(r, asyncio.CancelledError))
        except Closed as error:
            code, said = error.code, error.said
            if error.word:
                self.violated(error.word)
        except ConnectionClosed as error:
            code = error.rcvd.code if error.rcvd else 1006
            if error.sent and not error.rcvd_then_sent:  # the library has closed: 1002, 1007 or 1009
                code = error.sent.code
                self.violated(f"websocket-{code}")
        except InvalidStatus as error:
            code = Retry.of_status(error.response.status_code)
        except NegotiationError:
            code = 1002
        except (OSError, InvalidHandshake, EOFError) as error:  # TimeoutError is an OSError
            log("no welcome:", repr(error))
            code = 4408 if ws else 1006
        if ws:
            ws.heartbeat = None
            last = None
            if not said and self.attached_at:  # no settlement shall die with it (§4, bye)
                last = encode("bye", code=code, reason="closed by the client", **self.inbox.report())
            task = asyncio.create_task(self.close(ws, code if code in (1003, 4400, 4408, 4413, 4460) else 1000, last))
            self.closing.add(task)
            task.add_done_callback(self.closing.discard)
        return code

    @staticmethod
    async def close(ws, code, last):
        try:
            async with asyncio.timeout(1):
                if last:
                    await ws.send(last)
                await ws.close(code)
        except (TimeoutError, ConnectionClosed):
            ws.transport.abort()

    @staticmethod
    async def lines(ws):
        """The lines of the WebSocket messages that come, without the empty ones (§2)."""
        while True:
            message = await ws.recv()
            if not isinstance(message, str):
                raise Closed(1003, "binary")
            for line in message.split("\n"):
                if line.strip(" \t\r"):
                    yield line

    async def handshake(self, ws, lines):
        hello = dict(key=self.identity.key, cid=self.identity.cid, instance=self.instance, attempt=self.attempt,
                     window=WINDOW, windowBytes=WINDOW_BYTES, maxPayload=MAX_PAYLOAD)
        if self.epoch:
            box = self.outbox
            hello |= dict(epoch=self.epoch, sent=box.sent, base=min(box.written, default=box.sent + 1), seen=box.seen,
                          **self.inbox.report())
        self.seen_told = self.outbox.seen
        await ws.send(encode("hello", **hello))
        async for line in lines:
            try:
                frame = Frame(line)
            except Malformed as error:
                raise Closed(4400, "malformed") from error
            if frame.t == "welcome":
                return self.welcomed(ws, frame.keys)
            if frame.t == "challenge" and "fence" not in hello:
                hello["fence"] = frame.keys["fence"]
                await ws.send(encode("hello", **hello))
            elif frame.t == "bye":  # refused; in no epoch that we are attached in, so its report is not used
                log("refused", frame.keys)
                if frame.keys.get("end"):
                    self.end_by_server(None)
                self.retry_after = frame.keys.get("retryAfter")
                raise Closed(frame.keys["code"], said=True)
            elif frame.t in FRAMES:
                raise Closed(4400, "unexpected-" + frame.t)

    def welcomed(self, ws, keys):
        """The checks of §4 (welcome), then resumed or fresh (§7)."""
        epoch, resumed = keys["epoch"].lower(), keys["resumed"]
        if keys["cid"].lower() != self.identity.cid:
            raise Closed(4400, "cid")
        if resumed != (epoch == self.epoch):
            raise Closed(4400, "epoch")
        if resumed:
            self.inbox.forget(keys.get("seen", 0))
        if not resumed and any(keys.get(name) for name in (*REPORT, "seen")):
            raise Closed(4400, "fresh-report")
        if resumed:
            try:
                self.outbox.take_in(keys, resumed=True)
            except OldCopy:
                self.begin_epoch(None, again=False)
                raise Closed(4400) from None
        else:
            old = keys.get("receipt")
            if old and old["epoch"].lower() != self.epoch:
                self.violated("receipt-of-another-epoch")
                old = None
            self.begin_epoch(old)
            self.epoch, self.seen_told = epoch, 0
        self.outbox.attach(keys)
        self.counts["attached"] += 1
        self.counts["resumed" if resumed else "fresh"] += 1
        self.retry.refused = 0
        self.attached_at, self.slips, self.pong_due, self.ping_due = time.monotonic(), deque(), 0, False
        self.heartbeat = ws.heartbeat = Heartbeat(*(ms / 1000 for ms in (
            self.args.idle_ms, self.args.dead_ms, self.args.probe_timeout_ms, self.args.gap_ms)))
        log("attached", self.attempt, "resumed" if resumed else "fresh", epoch)

    async def read(self, lines):
        """Handle what comes until the transport ends. A malformed frame is skipped; more than 8 a minute end it (§2)."""
        async for line in lines:
            self.heartbeat.got()
            try:
                frame = Frame(line)
            except Malformed as error:
                self.violated("malformed", f"{error}: {line[:200]}")
                self.slips.append(time.monotonic())
                if len(self.slips) > 8 and self.slips.popleft() > self.slips[-1] - 60:
                    raise Closed(4400, "malformed-too-often") from error
                continue
            self.retry.frame()  # a welcome that is followed by any frame (§11)
            self.handle(frame.t, frame.keys, frame.payload)

    def handle(self, t, keys, payload):
        if t == "msg" and "key" in keys:
            log("ephemeral", keys["key"], payload)
        elif t == "msg":
            if self.inbox.arrive(keys, payload):
                self.retry.took("here")
            else:
                self.violated("written-again", keys["seq"])  # §7: what the hello said it had is not written again
        elif t == "void":
            self.inbox.void(keys["seq"])
        elif t == "ping":
            self.inbox.forget(keys.get("seen", 0))
            self.pong_due = keys["n"]  # the newest is enough (§9)
        elif t == "bye":
            log("bye", keys)
            self.last_word(keys)
            self.retry_after = keys.get("retryAfter")
            raise Closed(keys["code"], said=True)
        elif t == "ack" or t == "pong" and self.heartbeat.pong(keys["n"]):
            self.inbox.forget(keys.get("seen", 0))
            if self.outbox.take_in(keys):
                self.retry.took("there")
            if t == "pong":
                self.outbox.pong(keys["n"])
        elif t in FRAMES and t != "pong":
            raise Closed(4400, "unexpected-" + t)
        self.wake.set()

    def last_word(self, keys):
        """Take in a `bye` on an attached transport: a report that cannot be true is disregarded (§4); behind an `end` or a
        `final` one it counts as a receipt (§10)."""
        if keys.get("received", 0) > self.outbox.sent:
            keys = {"end": keys.get("end")}
        if keys.get("end"):
            self.end_by_server(keys if "received" in keys or keys.get("final") else None)
        elif keys.get("final"):
            self.begin_epoch(keys)
        elif "received" in keys:
            self.outbox.take_in(keys)

    def end_by_server(self, last):
        """The server has ended the connection: its report counts as a receipt (§10)."""
        log("ended by the server")
        self.outbox.resolve(last, again=False)
        self.outbox.give_up()
        self.ended = "there"

    def batch(self):
        """The frames that are ready, for one WebSocket message (§2), the report in front (§6)."""
        frames, size = [], 0
        while size < BATCH and (frame := self.outbox.next_frame(self.heartbeat.n + 1)):
            frames.append(frame)
            size += len(frame)
        new = self.outbox.seen != self.seen_told  # said before anything is written into room that it frees (§4)
        if self.ping_due:
            frames.append(encode("ping", n=self.heartbeat.ping(), seen=self.outbox.seen))
            self.ping_due = False
        if self.pong_due:
            frames.insert(0, encode("pong", n=self.pong_due, **self.inbox.report()))
            self.pong_due = 0
        due = self.inbox.report_due()
        if due is not None and (frames or due == 0) or new:
            self.seen_told = self.outbox.seen
            frames.insert(0, encode("ack", **self.inbox.report(), seen=self.seen_told))
        return "\n".join(frames)

    async def write(self, ws):
        """Write what is ready; when nothing is left to do, end the connection (§10)."""
        while True:
            self.wake.clear()
            data = self.batch()
            ending, napping = not data and self.done(), False
            if ending:
                data = encode("bye", code=1000, end=True, **self.inbox.last_word())
            elif self.naps and self.counts["attached"] >= self.nap_at and time.monotonic() - self.attached_at >= 0.05:
                napping, self.naps = True, self.naps - 1
                self.nap_at += 4
                data += "\n" + encode("bye", code=1001, suspend=True, **self.inbox.report())
            if data:
                self.heartbeat.written += len(data.encode())
                try:
                    await ws.send(data)
                except ConnectionClosed:
                    await asyncio.Event().wait()  # the reader hears why, after all that came before
                if ws.transport.get_write_buffer_size() == 0:
                    self.outbox.bytes_left()
                if ending:
                    self.ended = "here"
                    raise Closed(1000, said=True)
                if napping:
                    self.retry_after = self.args.nap_ms
                    raise Closed(1001, said=True)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(self.inbox.report_due()):
                    await self.wake.wait()

    async def watch(self, ws):
        """Look at the heartbeat often enough for its deadlines (§9)."""
        step, probe = min(self.args.idle_ms, self.args.dead_ms) / 20000, self.args.probe_ms / 1000
        while True:
            await asyncio.sleep(step)
            beat, waiting = self.heartbeat, ws.transport.get_write_buffer_size()
            asleep = beat.woken(step)
            if waiting == 0:
                self.outbox.bytes_left()
            verdict = beat.look(waiting)
            if verdict == "dead":
                raise Closed(4460)
            probing = self.outbox.probe(probe, beat.answered, beat.n) and time.monotonic() - (beat.probed or 0) >= probe
            if probing:
                beat.probed = time.monotonic()
            if verdict == "ping" or probing or asleep:
                self.ping_due = True
                self.wake.set()

class Application:
    """What the command line asks for: N messages sent at a pace, on lanes, some of them cancelled or with a deadline; what
    comes taken in order and decided about by its number; and a tally of both."""
    OUTCOMES = ("delivered", "rejected", "notDelivered", "unknown")

    def __init__(self, args):
        self.args, self.tally = args, {name: [] for name in (*self.OUTCOMES, "received", "deferred", "withdrawn")}
        self.decisions, self.finished, self.tasks = [], 0, []
        self.client = Client(args, lambda message, outcome: self.tally[outcome].append(message.n),
                             lambda message: self.tally["deferred"].append(message.n), self.done)

    def done(self):
        decided = sum(len(self.tally[name]) for name in self.OUTCOMES)
        return decided >= self.args.messages and self.finished >= self.args.receive

    def message(self, n):
        lane = n % self.args.lanes if self.args.lanes else 0
        has_deadline = self.args.deadline_each and n % self.args.deadline_each == 1
        if has_deadline:
            self.tally["withdrawn"].append(n)
        idem = bool(self.args.idem_each) and n % self.args.idem_each == 0
        return Message(n, json.dumps({"n": n}, separators=(",", ":")), f"lane-{lane}" if lane else None,
                       str(uuid.uuid4()) if idem else None, idem, self.args.hands,
                       time.monotonic() + random.uniform(0, self.args.deadline_ms / 1000) if has_deadline else None)

    async def send(self):
        outbox = self.client.outbox
        for n in range(self.args.messages):
            message = self.message(n)
            while not outbox.may_put(message):
                outbox.space.clear()
                await outbox.space.wait()
            outbox.queue.append(message)
            if self.args.cancel_each and n % self.args.cancel_each == 2:
                self.tally["withdrawn"].append(n)
                self.tasks.append(asyncio.create_task(self.cancel(message)))
            self.client.wake.set()
            await asyncio.sleep(self.args.pace_ms / 1000)

    async def cancel(self, message):
        await asyncio.sleep(random.uniform(0, self.args.deadline_ms / 1000))
        if message.outcome is None:
            self.client.outbox.withdraw(message)
            self.client.wake.set()

    async def tick(self):
        """Deadlines run on while detached."""
        while True:
            await asyncio.sleep(0.01)
            if self.client.outbox.tick():
                self.client.wake.set()

    async def take(self):
        inbox = self.client.inbox
        while True:
            arrival = inbox.take()
            if arrival is None:
                inbox.arrived.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(inbox.due()):
                        await inbox.arrived.wait()
                    await asyncio.sleep(self.args.accept_pause_ms / 1000)
                continue
            try:
                value = loads(arrival.payload)
                self.decide(arrival, value.get("n") if isinstance(value, dict) else value)
            except ValueError:
                self.client.violated("payload-not-json", arrival.payload[:200])
            self.client.wake.set()

    def decide(self, arrival, n):
        """By number: most are accepted, some rejected, deferred twice, deferred until it is over, or abandoned. The
        message numbered as `--receive` says is the last."""
        if not self.args.manual:
            self.tally["received"].append(n)
            self.finished += 1
            return
        kind = {3: "rejected", 6: "deferred", 9: "twice", 12: "abandoned"}.get(n % 20, "accepted")
        if kind == "twice":
            kind = "accepted" if arrival.times >= 2 else "deferred"
        if kind == "abandoned":
            self.client.inbox.settle(arrival, kind)
        elif not self.client.inbox.decide(arrival, kind, f"because-{n}", "no", 0.01):
            kind = "late"
        self.decisions.append([n, kind])
        self.finished = max(self.finished, n if n == self.args.receive else 0)

    async def run(self):
        self.tasks = [asyncio.create_task(job) for job in (self.send(), self.take(), self.tick())]
        ended_here = await self.client.run()
        for task in self.tasks:
            task.cancel()
        if not ended_here:  # what never got as far as the outbox was not delivered either
            known = {n for name in self.OUTCOMES for n in self.tally[name]}
            self.tally["notDelivered"] += [n for n in range(self.args.messages) if n not in known]
        print(json.dumps(self.tally | self.client.counts | {"decisions": self.decisions,
                                                            "violations": self.client.violations}))
        return 0 if ended_here else 1

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A client of the Reattach protocol that sends, takes and tallies.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", help="32 hexadecimal digits")
    parser.add_argument("--manual", action="store_true", help="decide about each message by its number")
    for option, default in {"messages": 0, "receive": 0, "attempts": 0, "lanes": 0, "hands": 0, "cancel-each": 0,
                            "deadline-each": 0, "idem-each": 0, "naps": 0}.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    for option, default in {"pace": 1, "backoff": 20, "cap": 100, "idle": 100, "dead": 300, "hello-timeout": 500,
                            "accept-pause": 0, "deadline": 30, "void": 30000, "lease": 300000, "probe": 200,
                            "probe-timeout": 300, "gap": 10000, "revive": 0, "nap": 100}.items():
        parser.add_argument(f"--{option}-ms", type=float, default=default)
    sys.exit(asyncio.run(Application(parser.parse_args()).run()))
