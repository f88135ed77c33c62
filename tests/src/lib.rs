//! What the tests of Reattach share: a world of virtual time in which the real machines talk over an emulated network, a
//! reference model, the bodies of the fuzz targets, and readers of the documents that must agree with the code.

pub mod alone;
pub mod campaign;
pub mod ensemble;
pub mod explore;
pub mod frames;
pub mod fuzz;
pub mod hub;
#[cfg(feature = "hub")]
pub mod hubsim;
pub mod net;
pub mod oracle;
pub mod orders;
pub mod pair;
pub mod permissions;
pub mod rpc;
pub mod run;
pub mod sessions;
pub mod sim;
pub mod transcript;
pub mod vectors;
pub mod world;

/// The example in the README, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
