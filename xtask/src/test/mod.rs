//! `cargo xtask test`: everything that runs and can fail, each test with a time of its own.
//!
//! libtest runs the tests of one program as threads, and cannot end one of them; a bound on the whole ends a slow machine's tests
//! without a fault. cargo-nextest gives each test a process and a bound, but Debian has no package of it, and building it takes
//! a new machine longer than all tests. So the little of it that is needed is here: [`cases`] finds the tests, [`pool`] runs each
//! as a process, so many at once, and [`marked`] ends what outlives its time.

mod all;
mod campaign;
mod cases;
mod marked;
mod pool;

pub use all::{Drawn, Options, soak, test};
pub use campaign::{Campaign, campaign};
