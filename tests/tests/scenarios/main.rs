//! The scripted scenarios of the requirements, each as a simulation in virtual time with all machines composed.
//!
//! | scenario | stands in |
//! |---|---|
//! | N02, N15 | `answers` |
//! | N03, N04, N06, N07 | `links` |
//! | N08, with the registry | `ties` |
//! | N09, N11, N12, N13 | `sends` |
//! | N18 | `requests` |
//! | N19, but for the fallback | `reconnecting` |
//!
//! The others that one machine answers by itself stand with that machine: N01 in `counterexamples` and `permissions`, N05, N08
//! and N17 in `sessions`, N16 in `permissions`. Beside the scripts, `storm` has everything at once in random order.
//!
//! Times are the scripts', counted in milliseconds from where a script begins; everything travels for 10 ms. Every script is
//! played twice and has to come out the same, and the invariants are checked after every step of it: see `harness::ensemble`.
//! `checks` shows that these checks can fail. Where a script says that a server answers no (a *nack*) or yes (an *ack*), its
//! application defers, rejects or accepts.

mod answers;
mod checks;
mod links;
mod reconnecting;
mod requests;
mod sends;
mod storm;
mod ties;
