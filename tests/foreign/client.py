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
from collections import deque

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, NegotiationError

SUBPROTOCOL = "reattach.v1"
WINDOW, WINDOW_BYTES, MAX_PAYLOAD = 256, 2 << 20, 4 << 20  # what this client announces (§13)
FRAME_MAX, BATCH, BIGGEST = 131072, 64 << 10, 2**53 - 1  # §2
QUEUE, ACK_DELAY, MIN_RATE, STABLE = 100, 0.02, 256, 5.0  # §13


def log(*words):
    print(f"{time.monotonic():.3f}", *words, file=sys.stderr)


class Malformed(Exception):
    """A frame that §2 calls malformed."""


class Closed(Exception):
    """The transport is over, with this code. `word` says what the server did that the protocol forbids, if it did."""

    def __init__(self, code, word=None):
        super().__init__(code, word)
        self.code, self.word = code, word


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
    return isinstance(v, list) and all(
        check(e, {"seq": number(1), **EXCEPTIONS[e["is"]][0]}, EXCEPTIONS[e["is"]][1]) for e in v
    ) and seqs([e["seq"] for e in v])


def receipt(v):
    """The `receipt` of a welcome (§8)."""
    return bool(check(v, {"epoch": NONCE}, {**REPORT, "seen": number(), "handed": seqs, "final": flag}))


UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
NONCE, NAME, WORDS = pattern("[0-9a-f]{32}"), text(1, 128), text(0, 256)
REPORT = {"received": number(), "settled": number(), "no": number(), "except": exceptions}
EXCEPTIONS = {  # kind: keys it must have, keys it may have
    "pending": ({}, {}), "voided": ({}, {}), "abandoned": ({}, {}),
    "deferred": ({"times": number(1), "code": NAME}, {"retryAfter": number()}),
    "rejected": ({"code": NAME}, {"reason": WORDS}),
}
FRAMES = {  # type: keys it must have, keys it may have; of a hello it is enough that no server sends one
    "hello": ({}, {}),
    "challenge": ({"fence": NONCE}, {}),
    "welcome": ({"cid": pattern("cid-" + UUID), "epoch": NONCE, "resumed": flag, "window": number(1, 16384),
                 "windowBytes": number(1), "maxPayload": number(1), "detachTtl": number()},
                {**REPORT, "seen": number(), "receipt": receipt}),
    "msg": ({}, {"seq": number(1), "key": NAME, "id": pattern(UUID)}),
    "ack": ({}, {**REPORT, "seen": number()}),
    "ping": ({"n": number(1)}, {"seen": number()}),
    "pong": ({"n": number(1)}, REPORT),
    "bye": ({"code": number(1000, 4999)}, {**REPORT, "end": flag, "handed": seqs, "final": flag, "reason": WORDS}),
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
            if depth(keys) > 64:
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
    """How much may be written and not final at once (§6): the same rule for what we write and for what comes."""

    def __init__(self, count, size):
        self.count, self.size = count, size

    def allows(self, sizes, size, count):
        """Whether one more of `size` bytes may join those of `sizes`, of which there may be `count`."""
        small = [s for s in sizes if s <= self.size // 2]
        if len(sizes) >= count:
            return False
        return len(small) == len(sizes) if size > self.size // 2 else sum(small) + size <= self.size


class Message:
    """A reliable message of ours: `n` is for the tally, `payload` the JSON text."""

    def __init__(self, n, payload):
        self.n, self.payload, self.size, self.outcome = n, payload, len(payload.encode()), None


class Outbox:
    """What this side sends. `queue` holds what was never written, `written` what has a seq and no outcome yet. What is
    below `cursor` was written on this transport or had come before it; to write again is to move the cursor back (§7).
    `decided(message, outcome)` is called once for each message."""

    FINAL = {"rejected": "rejected", "voided": "notDelivered", "abandoned": "unknown"}

    def __init__(self, decided):
        self.decided, self.queue, self.space = decided, deque(), asyncio.Event()
        self.space.set()
        self.restart()

    def restart(self):
        """A new epoch: seqs from 1, watermarks at 0; the queue stays (§7)."""
        self.written, self.sent, self.cursor = {}, 0, 1
        self.received = self.settled = self.seen = 0  # how far the other side's report goes

    def attach(self, welcome):
        """Take over the other side's limits, and write again from what it has not received (§7)."""
        self.window, self.max_payload = Window(welcome["window"], welcome["windowBytes"]), welcome["maxPayload"]
        self.cursor = self.received + 1

    def put(self, message):
        self.queue.append(message)
        if len(self.queue) >= QUEUE:
            self.space.clear()

    def next_frame(self):
        """The next `msg` that may be written now, an old one before any new one, or None. Half of the window's places
        stay free, for lanes."""
        while self.cursor <= self.sent and self.cursor not in self.written:
            self.cursor += 1
        while self.cursor > self.sent and self.queue and self.queue[0].size > self.max_payload:
            self.decide(self.queue.popleft(), "notDelivered")  # a sender MUST NOT send it (§2)
        message = self.written.get(self.cursor) or (self.queue[0] if self.queue else None)
        under_way = [m.size for seq, m in self.written.items() if seq < self.cursor]
        if not message or not self.window.allows(under_way, message.size, max(1, self.window.count // 2)):
            return None
        if self.cursor > self.sent:
            self.sent += 1
            self.written[self.sent] = self.queue.popleft()
            self.space.set()
        seq, self.cursor = self.cursor, self.cursor + 1
        return f'{{"t":"msg","seq":{seq},"d":{message.payload}}}'

    def take_in(self, keys):
        """Merge a report: an older one changes nothing. Returns whether a watermark has risen."""
        new = keys.get("received", 0), keys.get("settled", 0), keys.get("no", 0)
        old = self.received, self.settled, self.seen
        if new[0] > self.sent:
            raise Closed(4400, "received-above-sent")
        if new == old or any(a < b for a, b in zip(new, old)):
            return False
        self.received, self.settled, self.seen = new
        kinds = {e["seq"]: e["is"] for e in keys.get("except", ())}
        for seq in [seq for seq in self.written if seq <= self.received]:
            outcome = self.FINAL.get(kinds[seq]) if seq in kinds else "delivered" if seq <= self.settled else None
            if outcome:
                self.decide(self.written.pop(seq), outcome)
        return new[:2] != old[:2]

    def resolve(self, last=None, queue=False):
        """Give each written message its outcome by a receipt or a last report, or `unknown` without one (§7, §8); with
        `queue` those that were never written, too."""
        kinds = {e["seq"]: e["is"] for e in last.get("except", ())} if last else {}
        for seq in list(self.written):
            self.decide(self.written.pop(seq), self.verdict(seq, kinds.get(seq), last) if last else "unknown")
        while queue and self.queue:
            self.decide(self.queue.popleft(), "notDelivered")

    def verdict(self, seq, kind, last):
        """The table of §8, line by line."""
        if kind in self.FINAL:
            return self.FINAL[kind]
        if seq in last.get("handed", ()):
            return "unknown"
        if kind is None and seq <= last.get("settled", 0):
            return "unknown" if self.seen < last.get("seen", 0) else "delivered"
        if not last.get("final"):
            return "unknown"
        return "rejected" if kind == "deferred" else "notDelivered"

    def decide(self, message, outcome):
        assert message.outcome is None, "an outcome is never revised (§6)"
        message.outcome = outcome
        self.decided(message, outcome)


class Inbox:
    """What came: watermarks, and the messages that wait for the application. `open` has the sizes of what is not
    settled as far as the server can know, which is what its use of our window is checked against."""

    def __init__(self):
        self.arrived, self.window = asyncio.Event(), Window(WINDOW, WINDOW_BYTES)
        self.reset()

    def reset(self):
        """A new epoch: what was not handed over is dropped (§7)."""
        self.received = self.settled = self.told = 0  # `told`: settled, as last reported
        self.queue, self.open, self.since = deque(), deque(), None  # `since`: when there came to be news to report
        self.arrived.clear()

    def arrive(self, seq, payload):
        """Returns False for one that has come before."""
        size = len(payload.encode())
        if size > MAX_PAYLOAD:
            raise Closed(4413, "max-payload")
        if seq <= self.received:
            return False
        if seq > self.received + 1:
            raise Closed(4400, "gap")
        if not self.window.allows(self.open, size, WINDOW):
            raise Closed(4400, "window")
        self.received = seq
        self.open.append(size)
        self.queue.append(payload)
        self.arrived.set()
        self.since = self.since or time.monotonic()
        return True

    def take(self):
        """Hand the next one over, which settles it. None when a new epoch has dropped it meanwhile."""
        if not self.queue:
            return None
        payload = self.queue.popleft()
        self.settled += 1
        if not self.queue:
            self.arrived.clear()
        self.since = self.since or time.monotonic()
        return payload

    def report(self):
        """The report, to be written now. `no` and `except` stay absent: this receiver accepts all that it takes."""
        for _ in range(self.settled - self.told):
            self.open.popleft()
        self.since, self.told = None, self.settled
        return {"received": self.received, "settled": self.settled}

    def due(self):
        """In how many seconds a report of its own is due (§6, reporting); None when there is no news."""
        if self.since is None:
            return None
        if not self.queue or self.settled - self.told >= WINDOW // 4:
            return 0
        return max(0, self.since + ACK_DELAY - time.monotonic())


# ---- Transports, one after the other.

class Heartbeat:
    """Says when to ping and when to give a transport up (§9). A whole frame moves `heard` to now; loose bytes move it
    on by the time they are worth at the minimum rate, so a trickle below that rate still ends."""

    def __init__(self, idle, dead):
        self.idle, self.dead, self.n = idle, dead, 0
        self.heard = self.moved = time.monotonic()
        self.pinged = self.left = None  # when the last ping was written; when its bytes had left
        self.written = self.gone = 0  # bytes given to the socket; bytes that have left

    def got(self, size=None):
        now = time.monotonic()
        self.heard = now if size is None else min(now, self.heard + size / MIN_RATE)

    def ping(self):
        self.n, self.pinged, self.left = self.n + 1, time.monotonic(), None
        return self.n

    def look(self, waiting):
        """`waiting` bytes have not left yet. Returns "ping", "dead" or None."""
        now, gone = time.monotonic(), self.written - waiting
        self.moved = now if waiting == 0 else min(now, self.moved + (gone - self.gone) / MIN_RATE)
        self.gone = gone
        if self.pinged and not self.left and waiting == 0:
            self.left = now
        answer_late = self.left and now - self.left >= self.dead - self.idle and now - self.heard >= self.dead
        if answer_late or now - self.moved >= self.dead:
            return "dead"
        if now - self.heard >= self.idle and (self.pinged is None or self.pinged < self.heard):
            return "ping"  # one for each silence: another would only start the deadline anew


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
        self.failed = self.growth = self.refused = self.large = 0

    def ended(self, code, lived):
        """A transport ended with `code` after `lived` seconds attached. Returns the pause before the next try."""
        policy = self.POLICY.get(code, "backoff")
        self.growth = 0 if lived >= STABLE else self.growth
        self.failed += 1
        self.refused += policy == "credentials"
        self.large += policy == "large"
        if policy == "stop" or self.refused >= 2 or self.large >= 5 or 0 < self.attempts < self.failed:
            raise GiveUp(f"code {code}, {self.failed} failed")
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

    def __init__(self, args, decided, done):
        self.args, self.done = args, done
        self.identity, self.instance, self.attempt, self.epoch = Identity(args.key), secrets.token_hex(16), 0, None
        self.outbox, self.inbox, self.wake, self.closing = Outbox(decided), Inbox(), asyncio.Event(), set()
        self.retry = Retry(args.backoff_ms / 1000, args.cap_ms / 1000, args.attempts)
        self.counts, self.violations, self.ended = {"attached": 0, "resumed": 0, "fresh": 0}, [], None

    async def run(self):
        """Transport after transport until the connection has ended. Returns whether this side has ended it."""
        try:
            while True:
                self.attached_at = None
                code = await self.transport()
                if self.ended:
                    break
                log("transport ended", code)
                if code == 4409:  # a twin has the connection: go on as somebody else (§5, evicted)
                    self.identity, self.epoch = Identity(), None
                    self.begin_epoch(None)
                lived = time.monotonic() - self.attached_at if self.attached_at else 0
                await asyncio.sleep(self.retry.ended(code, lived))
        except GiveUp as error:
            log("giving up:", error)
            self.outbox.resolve(queue=True)  # §11, counting
        if self.closing:
            await asyncio.wait(self.closing, timeout=1)
        return self.ended == "here"

    def begin_epoch(self, old):
        """Everything of the old epoch is over, but what was never written (§7, fresh)."""
        self.outbox.resolve(old)
        self.outbox.restart()
        self.inbox.reset()

    def violated(self, word, detail=""):
        log("VIOLATION", word, detail)
        self.violations.append(word)

    async def transport(self):
        """One transport from opening to closing. Returns its close code."""
        self.attempt += 1
        ws = None
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
            code = error.code
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
            task = asyncio.create_task(ws.close(code if code in (1003, 4400, 4408, 4413, 4460) else 1000))
            self.closing.add(task)
            task.add_done_callback(self.closing.discard)
        return code

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
                raise Closed(frame.keys["code"])
            elif frame.t in FRAMES:
                raise Closed(4400, "unexpected-" + frame.t)

    def welcomed(self, ws, keys):
        """The checks of §4 (welcome), then resumed or fresh (§7)."""
        epoch, resumed = keys["epoch"].lower(), keys["resumed"]
        if keys["cid"].lower() != self.identity.cid:
            raise Closed(4400, "cid")
        if resumed != (epoch == self.epoch):
            raise Closed(4400, "epoch")
        if keys.get("seen", 0) > 0:
            raise Closed(4400, "seen-above-no")
        if not resumed and any(keys.get(name) for name in REPORT):
            raise Closed(4400, "fresh-report")
        if resumed:
            self.outbox.take_in(keys)
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
        self.heartbeat = ws.heartbeat = Heartbeat(self.args.idle_ms / 1000, self.args.dead_ms / 1000)
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
            self.retry.failed = 0  # a welcome that is followed by any frame (§11)
            self.handle(frame.t, frame.keys, frame.payload)

    def handle(self, t, keys, payload):
        if t == "msg" and "key" in keys:
            log("ephemeral", keys["key"], payload)
        elif t == "msg":
            if self.inbox.arrive(keys["seq"], payload):
                self.retry.large = 0
            else:
                self.violated("written-again", keys["seq"])  # §7: what the hello said it had is not written again
        elif t in ("ack", "ping", "pong", "bye"):
            if keys.get("seen", 0) > 0:
                raise Closed(4400, "seen-above-no")
            if t == "ping":
                self.pong_due = keys["n"]  # the newest is enough (§9)
            elif t == "bye" and keys.get("end"):
                if keys.get("received", 0) > self.outbox.sent:
                    raise Closed(4400, "received-above-sent")
                self.end_by_server(keys)
            elif self.outbox.take_in(keys):
                self.retry.large = 0
            if t == "bye":
                log("bye", keys)
                raise Closed(keys["code"])
        elif t in FRAMES:
            raise Closed(4400, "unexpected-" + t)
        self.wake.set()

    def end_by_server(self, last):
        """The server has ended the connection: its report counts as a receipt (§10)."""
        log("ended by the server")
        self.outbox.resolve(last, queue=True)
        self.ended = "there"

    def batch(self):
        """The frames that are ready, for one WebSocket message (§2), the report in front (§6)."""
        frames, size = [], 0
        while size < BATCH and (frame := self.outbox.next_frame()):
            frames.append(frame)
            size += len(frame)
        if self.ping_due:
            frames.append(encode("ping", n=self.heartbeat.ping(), seen=self.outbox.seen))
            self.ping_due, self.seen_told = False, self.outbox.seen
        if self.pong_due:
            frames.insert(0, encode("pong", n=self.pong_due, **self.inbox.report()))
            self.pong_due = 0
        due = self.inbox.due()
        if due is not None and (frames or due == 0) or self.seen_told != self.outbox.seen:
            self.seen_told = self.outbox.seen
            frames.insert(0, encode("ack", **self.inbox.report(), seen=self.seen_told))
        return "\n".join(frames)

    async def write(self, ws):
        """Write what is ready; when nothing is left to do, end the connection (§10)."""
        while True:
            self.wake.clear()
            data = self.batch()
            ending = not data and self.done()
            if ending:
                data = encode("bye", code=1000, end=True, final=True, **self.inbox.report())
            if data:
                self.heartbeat.written += len(data.encode())
                try:
                    await ws.send(data)
                except ConnectionClosed:
                    await asyncio.Event().wait()  # the reader hears why, after all that came before
                if ending:
                    self.ended = "here"
                    raise Closed(1000)
                continue
            try:
                async with asyncio.timeout(self.inbox.due()):
                    await self.wake.wait()
            except TimeoutError:
                pass

    async def watch(self, ws):
        """Look at the heartbeat often enough for its deadlines (§9)."""
        while True:
            await asyncio.sleep(min(self.args.idle_ms, self.args.dead_ms) / 20000)
            verdict = self.heartbeat.look(ws.transport.get_write_buffer_size())
            if verdict == "dead":
                raise Closed(4460)
            if verdict == "ping":
                self.ping_due = True
                self.wake.set()


class Application:
    """What the command line asks for: N messages sent at a pace, what comes taken in order, and a tally of both."""

    OUTCOMES = ("delivered", "rejected", "notDelivered", "unknown")

    def __init__(self, args):
        self.args, self.tally = args, {name: [] for name in (*self.OUTCOMES, "received")}
        self.client = Client(args, lambda message, outcome: self.tally[outcome].append(message.n), self.done)

    def done(self):
        decided = sum(len(self.tally[name]) for name in self.OUTCOMES)
        return decided >= self.args.messages and len(self.tally["received"]) >= self.args.receive

    async def send(self):
        for n in range(self.args.messages):
            await self.client.outbox.space.wait()
            self.client.outbox.put(Message(n, json.dumps({"n": n}, separators=(",", ":"))))
            self.client.wake.set()
            await asyncio.sleep(self.args.pace_ms / 1000)

    async def take(self):
        while True:
            await self.client.inbox.arrived.wait()
            await asyncio.sleep(self.args.accept_pause_ms / 1000)
            payload = self.client.inbox.take()
            if payload is None:
                continue
            try:
                value = loads(payload)
                self.tally["received"].append(value.get("n") if isinstance(value, dict) else value)
            except ValueError:
                self.client.violated("payload-not-json", payload[:200])
            self.client.wake.set()

    async def run(self):
        tasks = [asyncio.create_task(self.send()), asyncio.create_task(self.take())]
        ended_here = await self.client.run()
        for task in tasks:
            task.cancel()
        if not ended_here:  # what never got as far as the outbox was not delivered either
            known = {n for name in self.OUTCOMES for n in self.tally[name]}
            self.tally["notDelivered"] += [n for n in range(self.args.messages) if n not in known]
        print(json.dumps(self.tally | self.client.counts | {"violations": self.client.violations}))
        return 0 if ended_here else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A client of the Reattach protocol that sends, takes and tallies.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", help="32 hexadecimal digits")
    for option, default in {"messages": 0, "receive": 0, "attempts": 0}.items():
        parser.add_argument(f"--{option}", type=int, default=default)
    for option, default in {"pace": 1, "backoff": 20, "cap": 100, "idle": 100, "dead": 300, "hello-timeout": 500,
                            "accept-pause": 0}.items():
        parser.add_argument(f"--{option}-ms", type=float, default=default)
    sys.exit(asyncio.run(Application(parser.parse_args()).run()))
