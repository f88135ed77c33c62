//! What people see of a session: whether it works, and what became of what they sent, never both at odds.

#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

mod errors;
mod fixture;
mod whole;
mod work;
