//! `xlsnap create`.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use xlsnap::{
    CreateReport, CreateRequest, DiskChoice, KeepName, MemoryPlace, MemoryRequest, Operation, Selection,
    Selector,
};
use xlsnap_types::model::{Compression, ImageFormat, MemoryWay};

use super::plan::{Plan, left_out};
use crate::answer::CreateAnswer;
use crate::args::{Compress, Create, Externals, Memory, MemoryMode};
use crate::context::{Context, absolute_text};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::render::text::visible;
use crate::render::time::Times;
use crate::render::words::{self, can, disks, notes};

pub(crate) fn run(context: &Context, args: &Create) -> Result<Exit, Failure> {
    let selector = args.domain.selector()?;
    let request = request(args)?;
    make(context, &selector, &request, args.dry_run)
}

/// Makes the snapshot, or says how it would.
pub(crate) fn make(
    context: &Context,
    selector: &Selector,
    request: &CreateRequest,
    dry_run: bool,
) -> Result<Exit, Failure> {
    let host = context.host_to_write()?;
    let domain = selector.domain.as_str();
    if dry_run {
        let planned = context.block_on(host.plan_create(selector, request))??;
        let plan = Plan {
            domain,
            operation: Operation::Create,
            name: planned.plan.name.as_str(),
            snapshot: None,
            stages: &planned.stages,
            passed_over: &planned.plan.passed_over,
            warnings: &planned.plan.warnings,
        };
        return plan.tell(context);
    }
    let watch = context.watch();
    let report = context.block_on(host.create(selector, request, watch.call()))??;
    drop(watch);
    tell(context, domain, &report)?;
    Ok(Exit::Done)
}

fn tell(context: &Context, domain: &str, report: &CreateReport) -> Result<(), Failure> {
    let json = CreateAnswer::new(domain, report);
    let snapshot = &json.snapshot;
    context.done(&json, |out, style| {
        notes(out, report.recovered.as_ref(), &report.warnings)?;
        writeln!(
            out,
            "made snapshot {} of domain {}",
            style.strong(&visible(snapshot.name)),
            visible(domain)
        )?;
        writeln!(out, "  disks:    {}", disks(&snapshot.disks))?;
        left_out(out, &report.passed_over)?;
        if let Some(memory) = words::memory(snapshot) {
            writeln!(out, "  memory:   {memory}")?;
        }
        writeln!(out, "  took:     {:.1} ms", report.took.as_secs_f64() * 1e3)?;
        if let Some(pause) = report.pause {
            writeln!(out, "  pause:    {:.1} ms", pause.as_secs_f64() * 1e3)?;
        }
        writeln!(out, "  revert:   {}", can(snapshot.revert))?;
        writeln!(out, "  delete:   {}", can(snapshot.delete))?;
        Ok(())
    })
}

/// What the options and the file ask for, together.
fn request(args: &Create) -> Result<CreateRequest, Failure> {
    let mut request = match &args.config {
        Some(file) => super::config::read(file)?,
        None => CreateRequest::default(),
    };
    let both = |what: &str| {
        Failure::usage(format!("the file and the command line give two different {what}"))
            .advise("say it in one place")
    };
    if let Some(name) = &args.name {
        if request.name.as_ref().is_some_and(|of_file| of_file != name) {
            return Err(both("names"));
        }
        request.name = Some(name.clone());
    }
    if let Some(description) = &args.description {
        if !request.description.is_empty() && request.description != *description {
            return Err(both("descriptions"));
        }
        request.description.clone_from(description);
    }
    let selection = Selection {
        only: args.disk.iter().cloned().collect(),
        except: args.exclude.iter().cloned().collect(),
    };
    if let Some(disk) = selection.only.intersection(&selection.except).next() {
        return Err(Failure::usage(format!("disk {disk} is both taken (--disk) and left out (--exclude)")));
    }
    if selection != Selection::default() {
        if request.selection != Selection::default() {
            return Err(both("choices of disks"));
        }
        request.selection = selection;
    }
    for external in args.external.iter().flat_map(|Externals(all)| all) {
        let file = external.file.as_deref().map(absolute_text).transpose()?;
        let choice = DiskChoice::External { file, format: ImageFormat::Qcow2 };
        let before = request.disks.insert(external.disk.clone(), choice.clone());
        if before.is_some_and(|before| before != choice) {
            return Err(both(&format!("ways to take disk {}", external.disk)));
        }
        if request.selection.except.contains(&external.disk) {
            return Err(Failure::usage(format!(
                "disk {} is both taken (--external) and left out (--exclude)",
                external.disk
            )));
        }
        // `--disk vda --external vdb` means both.
        if !request.selection.only.is_empty() {
            request.selection.only.insert(external.disk.clone());
        }
    }
    if let Some(memory) = &args.memory {
        let wanted = self::memory(args, memory)?;
        if request.memory.as_ref().is_some_and(|of_file| *of_file != wanted) {
            return Err(both("places for the memory"));
        }
        request.memory = Some(wanted);
    }
    request.quiesce = args.quiesce;
    request.keep_name = match (args.keep_name, args.no_keep_name) {
        (true, _) => KeepName::Yes,
        (_, true) => KeepName::No,
        _ => KeepName::WhereOthersStart,
    };
    let mut labels = BTreeMap::new();
    for label in &args.label {
        if labels.insert(label.key.clone(), label.value.clone()).is_some() {
            return Err(Failure::usage(format!("the label {:?} is given twice", label.key)));
        }
    }
    request.labels = labels;
    if let Some(when) = &args.expires {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let expires = Times::local().parse(when, now).map_err(|why| {
            Failure::usage(format!("the time {when:?} of --expires is not understood: {why}"))
        })?;
        request.expires = Some(expires);
    }
    Ok(request)
}

fn memory(args: &Create, memory: &Memory) -> Result<MemoryRequest, Failure> {
    let place = match memory {
        Memory::Yes => MemoryPlace::Default,
        Memory::Internal => MemoryPlace::Inside,
        Memory::File(file) => MemoryPlace::File(absolute_text(file)?),
    };
    let way = match args.memory_mode {
        None | Some(MemoryMode::Auto) => None,
        Some(MemoryMode::Background) => Some(MemoryWay::Background),
        Some(MemoryMode::Switchover) => Some(MemoryWay::Switchover),
        Some(MemoryMode::Stop) => Some(MemoryWay::Stopped),
    };
    let compression = match args.compress {
        None | Some(Compress::None) => Compression::None,
        Some(Compress::Zstd) => Compression::Zstd,
    };
    Ok(MemoryRequest { place, way, compression })
}
