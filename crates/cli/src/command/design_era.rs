//! `xlsnap snapshot-create|list|delete|revert`: the spellings of xl's design. What they ask for is what the commands of today
//! do; the list has the design's own columns.

use std::borrow::Cow;
use std::path::Path;

use xlsnap::{CreateRequest, DeleteRequest, Host, MemoryRequest, RevertRequest, Row, Run, Selector};
use xlsnap_types::model::{DomainName, StateFlags};

use super::{config, create, delete, revert};
use crate::answer::{ListAnswer, ShowAnswer};
use crate::args::{SnapshotCreate, SnapshotDelete, SnapshotList, SnapshotRevert};
use crate::context::{Context, selector};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::table::write_table;
use crate::render::text::visible;
use crate::render::time::Times;
use crate::render::words;

pub(crate) fn create(context: &Context, args: &SnapshotCreate) -> Result<Exit, Failure> {
    let (file, domain) = match args.operands.as_slice() {
        [file, domain] => (Some(file), domain),
        [domain] => (None, domain),
        _ => return Err(Failure::usage("give [CONFIGFILE] DOMAIN")),
    };
    let domain = domain_name(domain)?;
    let mut request = match file {
        Some(file) => config::read(file)?,
        None => CreateRequest::default(),
    };
    if let Some(name) = &args.name {
        if request.name.as_ref().is_some_and(|of_file| of_file != name) {
            return Err(Failure::usage("the file and the command line give two different names")
                .advise("say it in one place"));
        }
        request.name = Some(name.clone());
    }
    let selector = selector(&domain, &args.monitor)?;
    if file.is_none() && !args.disk_only {
        // What -D leaves out is else part of the snapshot, of a guest that has a memory. A file says itself what it wants.
        let host = context.host_to_write()?;
        if context.block_on(host.guest_is_on(&selector))?? {
            request.memory = Some(MemoryRequest::default());
        }
    }
    if args.disk_only && request.memory.is_some() {
        return Err(Failure::usage(
            "the file asks for the guest's memory, and the command line for the disks alone (-D)",
        )
        .advise("say it in one place"));
    }
    create::make(context, &selector, &request, args.dry_run)
}

fn domain_name(word: &Path) -> Result<DomainName, Failure> {
    let word = word.to_str().ok_or_else(|| Failure::usage("the domain's name is no UTF-8 text"))?;
    DomainName::new(word).map_err(|e| Failure::usage(e.to_string()))
}

pub(crate) fn delete(context: &Context, args: &SnapshotDelete) -> Result<Exit, Failure> {
    let request = DeleteRequest::new(args.name.clone());
    delete::remove(context, &selector(&args.domain, &args.monitor)?, &request, args.dry_run)
}

pub(crate) fn revert(context: &Context, args: &SnapshotRevert) -> Result<Exit, Failure> {
    if args.console {
        return Err(Failure::usage("-c: there is no console to attach to")
            .advise("leave -c out, and attach to the console afterwards"));
    }
    let run = args.paused.then_some(Run::Waits);
    let request = RevertRequest { run, ..RevertRequest::new(args.name.clone()) };
    revert::bring_back(context, &selector(&args.domain, &args.monitor)?, &request, args.dry_run)
}

pub(crate) fn list(context: &Context, args: &SnapshotList) -> Result<Exit, Failure> {
    let host = context.host()?;
    let selector = selector(&args.domain, &args.monitor)?;
    let mut listing = context.block_on(host.list(&selector))??;
    if let Some(name) = &args.name {
        listing.listing.rows.retain(|row| row.name == *name);
        listing.listing.unreadable.retain(|(of, _)| of == name.as_str());
        if listing.listing.rows.is_empty() && listing.listing.unreadable.is_empty() {
            let message = format!("domain {} has no snapshot {name}", listing.domain);
            return Err(Failure::new(Exit::NotFound, message));
        }
    }
    let listings = [(listing, None)];
    let [(listing, _)] = &listings;
    let rows = &listing.listing.rows;
    context.answer(&ListAnswer::new(&listings), |out, style| {
        words::pending(out, style, &listing.domain, listing.pending.as_ref())?;
        let times = Times::local();
        write_table(out, HEADER, rows.iter().map(|row| columns(&times, row)))?;
        if args.long {
            for row in rows {
                writeln!(out)?;
                long(context, &host, &selector, row, out)?;
            }
        }
        for (name, why) in &listing.listing.unreadable {
            writeln!(out, "{} {}: {}", style.bad("unreadable:"), visible(name), visible(&why.to_string()))?;
        }
        Ok(())
    })?;
    Ok(Exit::Done)
}

const HEADER: [&str; 5] = ["TAG", "NAME", "DATE", "STATE", "DISK ONLY"];

fn columns<'a>(times: &Times, row: &'a Row) -> [Cow<'a, str>; 5] {
    [
        Cow::Owned(row.creation_time.to_string()),
        visible(row.name.as_str()),
        Cow::Owned(times.human(row.creation_time)),
        Cow::Owned(letters(row.state)),
        Cow::Borrowed(if row.memory { "no" } else { "yes" }),
    ]
}

/// The state as `xl list` writes it.
fn letters(state: StateFlags) -> String {
    let flags = [
        (state.running, 'r'),
        (state.blocked, 'b'),
        (state.paused, 'p'),
        (state.shutdown, 's'),
        (state.dying, 'd'),
    ];
    flags.iter().map(|(set, letter)| if *set { *letter } else { '-' }).collect()
}

/// The description and the disks of one snapshot.
fn long(
    context: &Context,
    host: &Host,
    selector: &Selector,
    row: &Row,
    out: &mut dyn std::io::Write,
) -> Result<(), Failure> {
    let details = context.block_on(host.show(selector, &row.name))??;
    let answer = ShowAnswer::new(&details);
    writeln!(out, "{}: {}", visible(row.name.as_str()), visible(answer.snapshot.description))?;
    let rows = answer.snapshot.disks.iter().map(|disk| {
        [
            visible(disk.disk),
            Cow::Borrowed(disk.kind),
            Cow::Borrowed(disk.format.unwrap_or_default()),
            visible(disk.file.unwrap_or_default()),
        ]
    });
    write_table(out, ["DEVICE", "TYPE", "FORMAT", "TARGET"], rows)?;
    Ok(())
}
