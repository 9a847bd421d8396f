//! The crate from outside: against recordings of libxl, against its documentation, and with random input.

mod config;
mod model;
mod properties;
mod reading;
mod readme;
mod vectors;
