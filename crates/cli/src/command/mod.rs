//! One module a group of commands: each reads its arguments, calls the facade once, and renders.

mod config;
mod create;
mod delete;
mod design_era;
mod domain;
mod flatten;
mod health;
mod json;
mod list;
mod manual;
mod orphan;
mod plan;
mod relocate;
mod revert;
mod run;
mod show;

pub(crate) use run::run;
