//! A model checker over the real machines: every order in which things can happen in a small world, each state looked at once.
//!
//! A world is real clients, a real server, the wires between them, and what the applications know ([`Shape`] says how many of
//! each, and what may go wrong). A step is one thing that happens ([`Action`]): something arrives, an application sends, takes,
//! decides or withdraws, a timer fires, a wire breaks, the server restarts. Everything that a machine does in answer is done
//! before the next step, its bytes having left at once. From each state the search goes on with every action that is possible.
//!
//! # What is checked
//!
//! In every state: whatever the [`oracle`](crate::oracle) says, which hears everything that applications send, take, decide
//! and are told, what is written, opened and closed, and what went wrong on which wire; caps hold; whoever waits has a timer,
//! and none is due after it fired; before anything went wrong nothing is written again and nothing comes twice; who has room
//! takes a message; what was taken leaves a receipt where its epoch ends, as long as the server forgets nothing; nothing
//! panics. In one state of sixteen: an input that names a dead transport changes nothing. In every state where nothing more
//! happens by itself, whatever faults were still to come: each sender has its outcomes, both sides agree on epoch, watermarks
//! and reports, and all queues are empty. As every way through a finite search without endless stories ends in such a state,
//! everything that is sent reaches its outcome.
//!
//! What the oracle holds against a span of time, or counts (its slack, and how much was written again on a wire), is left to the
//! simulator: here nothing is late but what never comes.
//!
//! # When time passes
//!
//! A timer that is due may fire before or after anything else. A timer within ten minutes fires once nothing is on its way on
//! a wire that its client believes in; where the shape has rushes left, also before. What is left on a wire that its client
//! has given up, the news of its end included, may be as late as it likes: so each cut is one that the ends hear of at
//! different times. Heartbeats of an idle transport, the age of messages, and receipts lie twenty hours away and never come,
//! but for a text that was lost, which only the next sign of life tells again.
//!
//! # What is taken for the same
//!
//! A state is known by a fingerprint of 128 bits: the machines' own `Hash`, the wires, the oracle's
//! [`fingerprint`](crate::oracle::Oracle::fingerprint), and what may still be done. The oracle keeps a history, and its
//! fingerprint takes of it what a check can still ask for, in the form in which it is asked; its source says why that is enough,
//! and what it assumes. With [`Limits::is_whole`] the whole history stands in it, and a search has to find the same. The machines hash neither what they only count nor where they began to count bytes. Numbers of transports, attempts and
//! pings do matter and stand in it; the faults of a shape bound them. A point in time stands in it as its distance from the
//! present, since a machine only compares times with each other and with the present. One that is more than five hours ahead
//! looks like any other such, since no world lasts that long; and where no message is asked about within the horizon, so does
//! everything that is over: there the past shows in nothing but what it once armed. Instants are known from other numbers by
//! where the clock starts, far from any count, id or duration.
//!
//! Should fingerprints be as good as random, ten million states share one with a chance of 10^14 / 2^129, about 10^-25. Another
//! seed gives other fingerprints, and has to count the same states.
//!
//! # What is left out
//!
//! Texts reach an end whole and in order. What was sent while attached is never coalesced, for each send is drained at once;
//! what was queued is. Transports that are asked for always open, at once unless the shape says otherwise. In shapes that are
//! eager, applications take what comes at once. A cut keeps none, one or all of what is on its way in each direction. A wire
//! on which one end has closed is not cut. Clients restart from their very state only: an old copy of one, and a client that
//! has lost its state, are the simulator's, as are ends that applications want, ephemeral messages, strangers, clocks that
//! differ, credentials, and what is left of a connection that has ended. Lanes are two at the most, and messages take turns
//! between them. Who decides too late is told so once, and lets it rest. Both sides have the same settings.
//!
//! # Why an explorer of its own
//!
//! A search library keeps every state that waits to be looked at, or the way to it. Depth first with fingerprints alone there
//! is one way at a time, which is the trace of what fails; the rest of the memory is 17 bytes for each place in one table. The
//! machines are shared by the states on the way until one changes, and fingerprinted only then. What panics is a broken
//! property with a trace too. All of it is less code than a model in a library's terms would be.

mod actions;
mod checks;
mod fingerprint;
mod search;
mod shapes;
mod state;
mod steps;
mod wires;

pub use self::actions::Action;
pub use self::actions::Program;
pub use self::actions::Verdict;
pub use self::search::End;
pub use self::search::Failure;
pub use self::search::Limits;
pub use self::search::Report;
pub use self::search::retrace;
pub use self::search::search;
pub use self::shapes::Budget;
pub use self::shapes::Memory;
pub use self::shapes::Shape;
pub use self::wires::Way;
