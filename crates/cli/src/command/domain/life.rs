//! `xlsnap domain start|stop|status|run`.

use xlsnap::{PowerState, Selector, StartOptions, StopOptions, StopWay};

use crate::answer::{DomainStartedAnswer, DomainStatusAnswer, DomainStoppedAnswer};
use crate::args::{DomainShow, DomainStart, DomainStop};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::text::visible;
use crate::render::words::pending;

fn options(args: &DomainStart, place: xlsnap::Place) -> StartOptions {
    StartOptions { paused: args.paused, wait: args.within, place, ..StartOptions::default() }
}

pub(super) fn start(context: &Context, args: &DomainStart) -> Result<(), Failure> {
    let host = context.host()?;
    let selector = Selector::new(args.domain.clone());
    let options = options(args, xlsnap::Place::Apart);
    let started = context.block_on(host.domain_start(&selector, &options))??;
    let json = DomainStartedAnswer::new(&started);
    context.answer(&json, |out, style| {
        let name = visible(started.domain.as_str());
        writeln!(out, "started domain {}: process {}", style.strong(&name), started.pid)?;
        writeln!(out, "  socket: {}", visible(&json.socket))?;
        writeln!(out, "  log:    {}", visible(&json.log))?;
        Ok(())
    })
}

pub(super) fn run(context: &Context, args: &DomainStart) -> Result<Exit, Failure> {
    let host = context.host()?;
    let selector = Selector::new(args.domain.clone());
    let options = options(args, xlsnap::Place::Here);
    let mut answered = Ok(());
    let begun = |started: &xlsnap::DomainStarted| {
        // What QEMU prints is the terminal's; a program is told where it is.
        if context.json() {
            answered = context.answer(&DomainStartedAnswer::new(started), |_, _| Ok(()));
        }
    };
    let status = context.block_on(host.domain_run(&selector, &options, begun))??;
    answered?;
    if status.success() {
        return Ok(Exit::Done);
    }
    Err(Failure::new(Exit::Failed, format!("the QEMU of domain {} ended with {status}", args.domain)))
}

pub(super) fn stop(context: &Context, args: &DomainStop) -> Result<(), Failure> {
    let host = context.host()?;
    let options = StopOptions { powerdown: args.powerdown, quit: args.quit, kill: args.kill };
    let selector = Selector::new(args.domain.clone());
    let stopped = context.block_on(host.domain_stop(&selector, &options))??;
    context.answer(&DomainStoppedAnswer::new(&stopped), |out, style| {
        let name = visible(stopped.domain.as_str());
        let name = style.strong(&name);
        match stopped.way {
            StopWay::WasOff => writeln!(out, "domain {name} is off already")?,
            StopWay::Powerdown => writeln!(out, "stopped domain {name}: the guest shut down")?,
            StopWay::Quit => writeln!(out, "stopped domain {name}: QEMU was told to end")?,
            StopWay::Terminate => writeln!(out, "stopped domain {name}: ended by SIGTERM")?,
            StopWay::Kill => writeln!(out, "stopped domain {name}: killed by SIGKILL")?,
        }
        for note in &stopped.notes {
            writeln!(out, "note: {}", visible(note))?;
        }
        Ok(())
    })
}

pub(super) fn status(context: &Context, args: &DomainShow) -> Result<(), Failure> {
    let host = context.host()?;
    let status = context.block_on(host.domain_status(&Selector::new(args.domain.clone())))??;
    let json = DomainStatusAnswer::new(&status);
    context.answer(&json, |out, style| {
        let name = visible(status.domain.as_str());
        writeln!(out, "domain {}: {}", style.strong(&name), json.state)?;
        pending(out, style, status.domain.as_str(), status.pending.as_ref())?;
        if let PowerState::Silent(why) = &status.state {
            writeln!(out, "  why:    {}", visible(why))?;
        }
        if let Some(pid) = status.pid {
            writeln!(out, "  pid:    {pid}")?;
        }
        if let Some(started) = &json.started {
            writeln!(out, "  since:  {started}")?;
        }
        writeln!(out, "  socket: {}", visible(&json.socket))?;
        if let Some(agent) = &json.agent {
            writeln!(out, "  agent:  {}", visible(agent))?;
        }
        Ok(())
    })
}
