//! `xlsnap show`.

use std::borrow::Cow;

use xlsnap::Basis;

use crate::answer::ShowAnswer;
use crate::args::Show;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::chain::write_chains;
use crate::render::table::write_table;
use crate::render::text::{bytes, visible};
use crate::render::time::Times;
use crate::render::words;

use super::plan::left_out;

pub(crate) fn run(context: &Context, args: &Show) -> Result<Exit, Failure> {
    let host = context.host()?;
    let selector = args.domain.selector()?;
    let details = context.block_on(host.show(&selector, &args.name))??;
    let json = ShowAnswer::new(&details);
    let snapshot = &json.snapshot;
    context.answer(&json, |out, style| {
        let times = Times::local();
        let here = if details.current { ", the current one" } else { "" };
        let (name, domain) = (visible(snapshot.name), visible(&details.domain));
        writeln!(out, "snapshot {} of domain {domain}{here}", style.strong(&name))?;
        words::pending(out, style, &details.domain, details.pending.as_ref())?;
        if !snapshot.description.is_empty() {
            writeln!(out, "  about:       {}", visible(snapshot.description))?;
        }
        writeln!(out, "  created:     {}", times.human(snapshot.creation_time))?;
        writeln!(out, "  state:       {}", words::state(snapshot.state))?;
        writeln!(out, "  consistency: {}", words::consistency(snapshot.consistency))?;
        if let Some(parent) = snapshot.parent {
            writeln!(out, "  parent:      {}", visible(parent.as_str()))?;
        }
        if let Some(memory) = words::memory(snapshot) {
            writeln!(out, "  memory:      {memory}")?;
        }
        if let Some(micros) = snapshot.pause_us {
            writeln!(out, "  pause:       {:.1} ms", micros as f64 / 1e3)?;
        }
        if let Some(version) = snapshot.hypervisor.and_then(|hypervisor| hypervisor.qemu.as_deref()) {
            writeln!(out, "  qemu:        {}", visible(version))?;
        }
        for (key, value) in snapshot.labels.into_iter().flatten() {
            writeln!(out, "  label:       {}={}", visible(key), visible(value))?;
        }
        if let Some(expires) = snapshot.expires {
            writeln!(out, "  expires:     {}", times.human(expires))?;
        }
        writeln!(out, "  revert:      {}", words::can(snapshot.revert))?;
        writeln!(out, "  delete:      {}", words::can(snapshot.delete))?;
        if let Basis::Record { why } = snapshot.basis {
            writeln!(out, "  told by:     the record alone, since {}", visible(why))?;
        }
        left_out(out, snapshot.passed_over)?;
        writeln!(out)?;
        let rows = snapshot.disks.iter().map(|disk| {
            [
                visible(disk.disk),
                Cow::Borrowed(disk.kind),
                Cow::Owned(disk.virtual_size.map(bytes).unwrap_or_default()),
                visible(disk.id.unwrap_or_default()),
                visible(disk.image.or(disk.file).unwrap_or_default()),
            ]
        });
        write_table(out, ["DISK", "KIND", "SIZE", "ID", "IMAGE WITH THE STATE"], rows)?;
        if !details.chains.is_empty() {
            writeln!(out)?;
            write_chains(out, &details.chains.iter().collect::<Vec<_>>())?;
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}
