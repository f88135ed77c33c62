//! Sessions and questions over connections that fail, in virtual time.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod asleep;
mod clones;
mod ends;
mod fixture;
mod outages;
mod watching;
