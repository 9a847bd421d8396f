//! Planning to freeze the guest's file systems.

use std::time::Duration;

use super::refused;
use crate::{Agent, CreateRequest, Error, GuestState, Port};

/// Whether the file systems are frozen, and how long the agent has for each answer; refuses where that cannot be. Where it need
/// not be, `warnings` says so.
pub(crate) fn quiesce(
    domain: &str,
    guest: GuestState,
    agent: Port<'_, dyn Agent>,
    request: &CreateRequest,
    warnings: &mut Vec<String>,
) -> Result<Option<Duration>, Error> {
    let Some(bound) = request.quiesce else { return Ok(None) };
    let cannot = |why: &str, advice: &str| {
        let message = format!("the file systems of domain {domain} cannot be frozen: {why}");
        Err(refused(message).with_advice(advice))
    };
    if request.memory.is_some() {
        return cannot(
            "its memory is saved too, and would hold them frozen",
            "leave freezing out: with its memory the guest goes on where it was",
        );
    }
    match guest {
        GuestState::On(flags) if !flags.can_run() => {
            warnings.push(format!(
                "the file systems of domain {domain} were not frozen: its guest does not run, so its agent cannot answer"
            ));
            return Ok(None);
        }
        GuestState::On(_) => {}
        GuestState::Off => {
            warnings.push(format!("the file systems of domain {domain} need no freezing: it is off"));
            return Ok(None);
        }
        GuestState::Serving => return cannot("a storage daemon has its disks", "leave freezing out"),
    }
    if let Some(why) = agent.can().why() {
        return cannot(why, "say in the domain's description where its agent's socket is");
    }
    Ok(Some(bound))
}
