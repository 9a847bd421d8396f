//! `xlsnap domain ...`.

mod life;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;

use xlsnap::{Connection, NewDisk, NewDomain, Selector};
use xlsnap_types::model::{DiskName, ImageFormat};

use crate::answer::{
    DomainAddedAnswer, DomainAnswer, DomainDiskForm, DomainForgottenAnswer, DomainRemovedAnswer,
    DomainsAnswer,
};
use crate::args::{DiskWord, DomainAdd, DomainCommand, DomainForget, DomainRemove, DomainShow};
use crate::command::manual;
use crate::context::{Context, absolute, absolute_text};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::style::Style;
use crate::render::table::write_table;
use crate::render::text::{counted, visible};
use crate::render::words::notes;

pub(crate) fn run(context: &Context, command: &DomainCommand) -> Result<Exit, Failure> {
    match command {
        DomainCommand::Add(args) => add(context, args),
        DomainCommand::List => list(context),
        DomainCommand::Show(args) => show(context, args),
        DomainCommand::Remove(args) => remove(context, args),
        DomainCommand::Forget(args) => forget(context, args),
        DomainCommand::Start(args) => life::start(context, args),
        DomainCommand::Stop(args) => life::stop(context, args),
        DomainCommand::Status(args) => life::status(context, args),
        DomainCommand::Run(args) => return life::run(context, args),
        DomainCommand::Help(args) => return manual::help(&["domain"], args),
    }?;
    Ok(Exit::Done)
}

fn add(context: &Context, args: &DomainAdd) -> Result<(), Failure> {
    let new = NewDomain {
        name: args.name.clone(),
        uuid: args.uuid,
        domid: args.domid,
        qmp: args.qmp.as_deref().map(absolute).transpose()?,
        disks: new_disks(args)?,
    };
    let host = context.host_to_write()?;
    let added = context.block_on(host.domain_add(new))??;
    let json = DomainAddedAnswer::new(&added);
    context.done(&json, |out, style| {
        let name = visible(added.domain.name.as_str());
        writeln!(out, "described domain {} in {}", style.strong(&name), visible(&json.file))?;
        writeln!(out, "  uuid: {}", added.domain.uuid)?;
        disks(out, &json.domain.disks)?;
        for disk in &added.detected {
            let format = added.domain.disks.iter().find(|of| of.name == *disk).map(|of| of.format.driver());
            writeln!(
                out,
                "note: disk {disk} was found to be {}; from now on that is not looked at again",
                visible(format.unwrap_or_default()),
            )?;
        }
        notes(out, None, &added.warnings)
    })
}

/// The disks that the options describe together.
fn new_disks(args: &DomainAdd) -> Result<Vec<NewDisk>, Failure> {
    let words = |option: &str, words: &[DiskWord]| {
        let mut by_disk = BTreeMap::new();
        for DiskWord { disk, word } in words {
            if by_disk.insert(disk.clone(), word.clone()).is_some() {
                return Err(Failure::usage(format!("{option} is given twice for disk {disk}")));
            }
        }
        Ok(by_disk)
    };
    words("--disk", &args.disk)?;
    let mut formats = words("--format", &args.format)?;
    let mut nodes = words("--node", &args.node)?;
    let known = |disk: &DiskName| args.disk.iter().any(|of| of.disk == *disk);
    let named = formats.keys().chain(nodes.keys()).chain(&args.read_only).chain(&args.removable);
    if let Some(unknown) = named.into_iter().find(|disk| !known(disk)) {
        return Err(Failure::usage(format!("disk {unknown} has no --disk {unknown}=FILE")));
    }
    let mut disks = Vec::new();
    for DiskWord { disk, word } in &args.disk {
        disks.push(NewDisk {
            name: disk.clone(),
            image: absolute_text(word)?,
            format: formats.remove(disk).map(|word| ImageFormat::from_driver(&word)),
            read_only: args.read_only.contains(disk),
            removable: args.removable.contains(disk),
            node: nodes.remove(disk),
        });
    }
    Ok(disks)
}

fn list(context: &Context) -> Result<(), Failure> {
    let host = context.host()?;
    let all = host.domain_list()?;
    let xen = context.block_on(host.xen_domains())?;
    let json = DomainsAnswer::new(&all, &xen);
    context.answer(&json, |out, style| {
        if json.domains.is_empty() && json.refused.is_empty() {
            writeln!(out, "no domains; `xlsnap domain add` describes one")?;
        } else if !json.domains.is_empty() {
            let rows = json.domains.iter().map(|domain| {
                [
                    visible(domain.name),
                    Cow::Borrowed(domain.kind),
                    Cow::Owned(domain.uuid.to_string()),
                    Cow::Owned(domain.disks.len().to_string()),
                    Cow::Owned(domain.domid.map(|domid| domid.to_string()).unwrap_or_default()),
                    visible(domain.qmp.as_deref().unwrap_or_default()),
                ]
            });
            write_table(out, ["NAME", "KIND", "UUID", "DISKS", "DOMID", "SOCKET"], rows)?;
        }
        for refused in &json.refused {
            let why = refused.why.join(": ");
            let why = why.lines().map(visible).collect::<Vec<_>>().join("\n    ");
            writeln!(out, "{} {}: {why}", style.bad("refused:"), visible(refused.name))?;
        }
        if let Some(why) = &json.xen_silent {
            let why: Vec<_> = why.iter().map(|why| visible(why)).collect();
            writeln!(out, "{} {}", style.bad("not listed:"), why.join(": "))?;
        }
        Ok(())
    })
}

fn show(context: &Context, args: &DomainShow) -> Result<(), Failure> {
    let host = context.host()?;
    let details = context.block_on(host.domain_show(&Selector::new(args.domain.clone())))??;
    let json = DomainAnswer::new(&details);
    context.answer(&json, |out, style| {
        writeln!(out, "domain {}", style.strong(&visible(json.domain.name)))?;
        writeln!(out, "  uuid:      {}", json.domain.uuid)?;
        if let Some(file) = &json.file {
            writeln!(out, "  file:      {}", visible(file))?;
        }
        if let Some(domid) = json.domain.domid {
            writeln!(out, "  domid:     {domid}")?;
        }
        if let Some(qmp) = &json.domain.qmp {
            writeln!(out, "  socket:    {}", visible(qmp))?;
        }
        writeln!(out, "  reached:   {}", connection(style, &details.connection))?;
        writeln!(out, "  snapshots: {}", json.snapshots)?;
        disks(out, &json.domain.disks)
    })
}

fn connection(style: Style, connection: &Result<Connection, xlsnap::Error>) -> String {
    match connection {
        Ok(Connection::Images) => "through its images".to_owned(),
        Ok(Connection::Off) => "through its images: no process listens at its socket".to_owned(),
        Ok(Connection::Xen { domid: Some(domid) }) => style.good(&format!("as Xen's domain {domid}")),
        Ok(Connection::Xen { domid: None }) => "as a domain of Xen's that is off".to_owned(),
        Ok(Connection::Monitor { qemu }) => {
            style.good(&format!("through the monitor of QEMU {}", visible(qemu)))
        }
        Err(error) => format!("{} {}", style.bad("not at all:"), visible(&error.to_string())),
    }
}

fn remove(context: &Context, args: &DomainRemove) -> Result<(), Failure> {
    let host = context.host()?;
    let selector = Selector::new(args.domain.clone());
    let removed = context.block_on(host.domain_remove(&selector, args.force))??;
    context.done(&DomainRemovedAnswer::new(&removed), |out, style| {
        let name = visible(removed.domain.name.as_str());
        writeln!(out, "removed the file of domain {} (uuid {})", style.strong(&name), removed.domain.uuid)?;
        if removed.snapshots > 0 {
            writeln!(
                out,
                "note: the records of its snapshots stay ({}); to drop them: xlsnap domain forget {name}",
                counted(removed.snapshots, "snapshot")
            )?;
        }
        left(out, &removed.left)
    })
}

fn forget(context: &Context, args: &DomainForget) -> Result<(), Failure> {
    let host = context.host()?;
    let selector = Selector::new(args.domain.clone());
    let forgotten = context.block_on(host.domain_forget(&selector, args.records_only))??;
    context.done(&DomainForgottenAnswer::new(&forgotten), |out, style| {
        let name = visible(&forgotten.domain);
        let count = counted(forgotten.snapshots, "snapshot");
        writeln!(out, "forgot domain {} (uuid {}) and {count}", style.strong(&name), forgotten.uuid)?;
        left(out, &forgotten.left)
    })
}

fn left(out: &mut dyn Write, files: &[std::path::PathBuf]) -> Result<(), Failure> {
    for file in files {
        writeln!(out, "note: {} is no record, and stays", visible(&file.display().to_string()))?;
    }
    Ok(())
}

fn disks(out: &mut dyn Write, disks: &[DomainDiskForm<'_>]) -> Result<(), Failure> {
    writeln!(out)?;
    let rows = disks.iter().map(|disk| {
        let how = match (disk.read_only, disk.removable) {
            (_, true) => "removable",
            (true, false) => "read-only",
            (false, false) => "writable",
        };
        [
            Cow::Borrowed(disk.name.as_str()),
            visible(disk.format),
            Cow::Borrowed(how),
            visible(disk.image.unwrap_or("(empty)")),
        ]
    });
    write_table(out, ["DISK", "FORMAT", "ACCESS", "IMAGE"], rows)?;
    Ok(())
}
