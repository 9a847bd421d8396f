//! Operations on whole domains.

use std::collections::BTreeSet;
use std::ffi::{c_char, c_int};
use std::num::NonZeroU64;
use std::ptr;
use std::time::Duration;

use xlsnap::{
    CreateRequest, DeleteRequest, DiskChoice, Error, FlattenRequest, KeepName, MemoryPlace, MemoryRequest,
    Outcome, RevertRequest, Run, Selection, Selector,
};
use xlsnap_types::model::{Compression, DiskName, DomainName, ImageFormat, SnapshotName};

use crate::cancel::{XlsnapCancel, unless_cancelled};
use crate::failure::{XlsnapEffect, XlsnapError, answer};
use crate::host::{XlsnapHost, argument};
use crate::options::{
    XlsnapCreateOptions, XlsnapDeleteOptions, XlsnapFlattenOptions, XlsnapRevertOptions, read,
};
use crate::runtime::block_on;
use crate::string::alloc;
use crate::structs::LibxlDomainSnapshot;
use crate::validate::texts;

/// Makes a snapshot of a domain: all chosen disks at one instant, or nothing.
///
/// `domain` is a name or a uuid. `*name`, if wanted, is the snapshot's name, to be freed by free(). `options`, `cancel`, `name` and
/// `error` may be NULL. Cancelled, it is brought to an end: either made, or undone; the error's effect says which.
///
/// # Safety
/// `host` is open; strings are NULL or NUL-terminated; `options` is as its `size` says; `cancel` is not freed meanwhile; `name` and
/// `error` are NULL or point to room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_create(
    host: *const XlsnapHost,
    domain: *const c_char,
    options: *const XlsnapCreateOptions,
    cancel: *const XlsnapCancel,
    name: *mut *mut c_char,
    error: *mut *mut XlsnapError,
) -> c_int {
    let create = || {
        // SAFETY: the caller's promise.
        let room = unsafe { emptied(name) };
        // SAFETY: the caller's promise.
        let (call, request) = unsafe { (Call::new(host, domain, cancel)?, create_request(&read(options)?)?) };
        let report = call.run(async |host, domain| host.host.create(domain, &request, host.call()).await)?;
        if let Some(room) = room {
            *room = alloc(report.record.snapshot.name.unwrap_or_default().as_bytes());
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { answer(error, create) }
}

/// Brings a domain back to a snapshot: its disks, and its guest's memory where that is part of it. A domain that is off stays off
/// when its disks alone come back; the guest of one that runs is reset, or goes on where it was.
///
/// Cancelled before its first effect it has none; later it is finished, as after a crash. See xlsnap_create for the arguments.
///
/// # Safety
/// As xlsnap_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_revert(
    host: *const XlsnapHost,
    domain: *const c_char,
    name: *const c_char,
    options: *const XlsnapRevertOptions,
    cancel: *const XlsnapCancel,
    error: *mut *mut XlsnapError,
) -> c_int {
    let revert = || {
        // SAFETY: the caller's promise.
        let (call, name, safety, options) = unsafe {
            let options = read(options)?;
            let safety = optional_snapshot(options.safety)?;
            (Call::new(host, domain, cancel)?, snapshot(name)?, safety, options)
        };
        let request = RevertRequest {
            safety,
            run: (options.run != 0).then_some(Run::if_it(options.run > 0)),
            offline: options.offline != 0,
            without_memory: options.without_memory != 0,
            drop_bitmaps: options.drop_bitmaps != 0,
            ..RevertRequest::new(name)
        };
        call.run(async |host, domain| host.host.revert(domain, &request, host.call()).await).map(drop)
    };
    // SAFETY: the caller's promise.
    unsafe { answer(error, revert) }
}

/// Deletes a snapshot: its data in every image, then its record.
///
/// Cancelled after its first effect it is finished. See xlsnap_create for the arguments.
///
/// # Safety
/// As xlsnap_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_delete(
    host: *const XlsnapHost,
    domain: *const c_char,
    name: *const c_char,
    options: *const XlsnapDeleteOptions,
    cancel: *const XlsnapCancel,
    error: *mut *mut XlsnapError,
) -> c_int {
    let delete = || {
        // SAFETY: the caller's promise.
        let (call, name, options) =
            unsafe { (Call::new(host, domain, cancel)?, snapshot(name)?, read(options)?) };
        // SAFETY: the caller's promise.
        let into_base = unsafe { files(options.into_base, options.num_into_base)? };
        let request = DeleteRequest {
            children: options.children != 0,
            metadata_only: options.metadata_only != 0,
            no_merge: options.no_merge != 0,
            rate: NonZeroU64::new(options.rate),
            into_base,
            ..DeleteRequest::new(name)
        };
        call.run(async |host, domain| host.host.delete(domain, &request, host.call()).await).map(drop)
    };
    // SAFETY: the caller's promise.
    unsafe { answer(error, delete) }
}

/// Makes disks stand on nothing: what is read from the files below their images is copied into these, while a guest that runs goes on.
/// No snapshot is deleted, but those that the options mean.
///
/// Cancelled, a disk stands on what it stood on, and another call goes on from what was copied. See xlsnap_create for the arguments.
///
/// # Safety
/// As xlsnap_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_flatten(
    host: *const XlsnapHost,
    domain: *const c_char,
    options: *const XlsnapFlattenOptions,
    cancel: *const XlsnapCancel,
    error: *mut *mut XlsnapError,
) -> c_int {
    let flatten = || {
        // SAFETY: the caller's promise.
        let (call, options) = unsafe { (Call::new(host, domain, cancel)?, read(options)?) };
        // SAFETY: the caller's promise.
        let disks = unsafe { disk_names(options.disks, options.num_disks)? };
        // SAFETY: the caller's promise.
        let into_base = unsafe { files(options.into_base, options.num_into_base)? };
        let request = FlattenRequest {
            disks,
            keep: (options.delete_older != 0).then_some(options.keep),
            rate: NonZeroU64::new(options.rate),
            into_base,
        };
        call.run(async |host, domain| host.host.flatten(domain, &request, host.call()).await).map(drop)
    };
    // SAFETY: the caller's promise.
    unsafe { answer(error, flatten) }
}

/// Fills `snapshot` with all that libxl's struct can hold of a snapshot. It is overwritten, not disposed of.
///
/// # Safety
/// `snapshot` points to room for the struct; else as xlsnap_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_show(
    host: *const XlsnapHost,
    domain: *const c_char,
    name: *const c_char,
    snapshot: *mut LibxlDomainSnapshot,
    error: *mut *mut XlsnapError,
) -> c_int {
    let show = || {
        if snapshot.is_null() {
            return Err(XlsnapError::invalid("there is no room for the snapshot: a NULL pointer"));
        }
        // SAFETY: not NULL, so the caller gave room for one.
        unsafe { snapshot.write(LibxlDomainSnapshot::INIT) };
        // SAFETY: the caller's promise.
        let (call, name) = unsafe { (Call::new(host, domain, ptr::null())?, self::snapshot(name)?) };
        let details = call.run(async |host, domain| host.host.show(domain, &name).await)?;
        // SAFETY: not NULL, as above.
        unsafe { snapshot.write(LibxlDomainSnapshot::from_rust(&details.record.snapshot)) };
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { answer(error, show) }
}

/// Finishes or undoes what a crash left, as every operation that changes something does first.
///
/// `*what`, if wanted, says what was done, to be freed by free(); NULL when nothing was left.
///
/// # Safety
/// `what` is NULL or points to room for a pointer; else as xlsnap_create.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xlsnap_recover(
    host: *const XlsnapHost,
    domain: *const c_char,
    what: *mut *mut c_char,
    error: *mut *mut XlsnapError,
) -> c_int {
    let recover = || {
        // SAFETY: the caller's promise.
        let (room, call) = unsafe { (emptied(what), Call::new(host, domain, ptr::null())?) };
        let recovered = call.run(async |host, domain| host.host.recover(domain, host.call()).await)?;
        if let (Some(room), Some(recovered)) = (room, recovered) {
            *room = alloc(recovered.to_string().as_bytes());
        }
        Ok(())
    };
    // SAFETY: the caller's promise.
    unsafe { answer(error, recover) }
}

/// What every operation is given.
pub(crate) struct Call<'a> {
    host: &'a XlsnapHost,
    domain: Selector,
    cancel: Option<&'a XlsnapCancel>,
}

impl<'a> Call<'a> {
    /// # Safety
    /// `host` and `cancel` are NULL or live as long as the call; `domain` is NULL or NUL-terminated.
    pub(crate) unsafe fn new(
        host: *const XlsnapHost,
        domain: *const c_char,
        cancel: *const XlsnapCancel,
    ) -> Result<Self, XlsnapError> {
        // SAFETY: the caller's promise.
        let (host, cancel) = unsafe { (host.as_ref(), cancel.as_ref()) };
        let host = host.ok_or_else(|| XlsnapError::invalid("there is no host: a NULL pointer"))?;
        // SAFETY: the caller's promise.
        let domain = unsafe { argument("the domain's name", domain)? };
        let domain = domain.ok_or_else(|| XlsnapError::invalid("no domain is named: a NULL pointer"))?;
        let domain = DomainName::new(domain)
            .map_err(|why| XlsnapError::invalid(&format!("{domain:?} is no domain's name: {why}")))?;
        Ok(Self { host, domain: Selector::new(domain), cancel })
    }

    /// Runs an operation to its end, or until it is cancelled; then what it left is brought to an end.
    pub(crate) fn run<T>(
        &self,
        operation: impl AsyncFnOnce(&XlsnapHost, &Selector) -> Result<T, Error>,
    ) -> Result<T, XlsnapError> {
        block_on(async {
            match unless_cancelled(self.cancel, operation(self.host, &self.domain)).await {
                Some(done) => done.map_err(XlsnapError::from),
                None => Err(self.settle().await),
            }
        })?
    }

    /// Ends what a cancelled operation left, and says how.
    async fn settle(&self) -> XlsnapError {
        match self.host.host.recover(&self.domain, self.host.call()).await {
            Ok(None) => {
                XlsnapError::cancelled(XlsnapEffect::None, "it was cancelled, and nothing was left to undo")
            }
            Ok(Some(recovered)) => {
                let effect = match recovered.outcome {
                    Outcome::Completed => XlsnapEffect::Done,
                    Outcome::Undone => XlsnapEffect::None,
                };
                XlsnapError::cancelled(effect, &format!("it was cancelled: {recovered}"))
            }
            Err(error) => error.into(),
        }
    }
}

/// # Safety
/// There are `count` strings.
unsafe fn disk_names(disks: *const *const c_char, count: usize) -> Result<BTreeSet<DiskName>, XlsnapError> {
    // SAFETY: the caller's promise.
    let disks = unsafe { texts(("disks", "num_disks"), disks, count)? };
    let mut names = BTreeSet::new();
    for disk in disks {
        let disk = disk?;
        let disk = DiskName::new(disk)
            .map_err(|why| XlsnapError::invalid(&format!("{disk:?} is no disk's name: {why}")))?;
        if let Some(disk) = names.replace(disk) {
            return Err(XlsnapError::invalid(&format!("disk {disk} is named twice")));
        }
    }
    Ok(names)
}

/// # Safety
/// There are `count` strings in `files`.
unsafe fn files(files: *const *const c_char, count: usize) -> Result<BTreeSet<String>, XlsnapError> {
    // SAFETY: the caller's promise.
    let files = unsafe { texts(("into_base", "num_into_base"), files, count)? };
    files.map(|file| file.map(str::to_owned)).collect()
}

/// # Safety
/// Its pointers are as C promises: strings, and `num_disks` of them in `disks`.
unsafe fn create_request(options: &XlsnapCreateOptions) -> Result<CreateRequest, XlsnapError> {
    // SAFETY: the caller's promise.
    let (name, description) =
        unsafe { (optional_snapshot(options.name)?, argument("the description", options.description)?) };
    // SAFETY: the caller's promise.
    let only = unsafe { disk_names(options.disks, options.num_disks)? };
    let default_choice = match options.external {
        0 => DiskChoice::Internal,
        _ => DiskChoice::External { file: None, format: ImageFormat::Qcow2 },
    };
    Ok(CreateRequest {
        name,
        description: description.unwrap_or_default().to_owned(),
        selection: Selection { only, ..Selection::default() },
        default_choice,
        // SAFETY: the caller's promise.
        memory: unsafe { memory(options)? },
        keep_name: match options.keep_name {
            0 => KeepName::WhereOthersStart,
            1.. => KeepName::Yes,
            _ => KeepName::No,
        },
        quiesce: match u64::try_from(options.quiesce_ms) {
            Ok(0) => None,
            Ok(bound) => Some(Duration::from_millis(bound)),
            Err(_) => return Err(XlsnapError::invalid("the time for the guest's agent is below 0")),
        },
        ..CreateRequest::default()
    })
}

/// # Safety
/// As [`create_request`].
unsafe fn memory(options: &XlsnapCreateOptions) -> Result<Option<MemoryRequest>, XlsnapError> {
    // SAFETY: the caller's promise.
    let Some(memory) = (unsafe { argument("the memory's place", options.memory)? }) else { return Ok(None) };
    let place = match memory {
        "yes" => MemoryPlace::Default,
        "internal" => MemoryPlace::Inside,
        file if file.starts_with('/') => MemoryPlace::File(file.to_owned()),
        other => {
            let message =
                format!("the memory's place {other:?} is neither yes, internal nor an absolute path");
            return Err(XlsnapError::invalid(&message));
        }
    };
    let compression = if options.compress == 0 { Compression::None } else { Compression::Zstd };
    Ok(Some(MemoryRequest { place, way: None, compression }))
}

/// # Safety
/// `name` is NULL or NUL-terminated.
unsafe fn optional_snapshot(name: *const c_char) -> Result<Option<SnapshotName>, XlsnapError> {
    // SAFETY: the caller's promise.
    let Some(name) = (unsafe { argument("the snapshot's name", name)? }) else { return Ok(None) };
    let name = SnapshotName::new(name)
        .map_err(|why| XlsnapError::invalid(&format!("{name:?} cannot be the name of a snapshot: {why}")))?;
    Ok(Some(name))
}

/// # Safety
/// `name` is NULL or NUL-terminated.
unsafe fn snapshot(name: *const c_char) -> Result<SnapshotName, XlsnapError> {
    // SAFETY: the caller's promise.
    unsafe { optional_snapshot(name)? }
        .ok_or_else(|| XlsnapError::invalid("no snapshot is named: a NULL pointer"))
}

/// Room for an answer, with NULL in it; `None` where none is wanted.
///
/// # Safety
/// `room` is NULL or points to room for a pointer.
pub(crate) unsafe fn emptied<'a, T>(room: *mut *mut T) -> Option<&'a mut *mut T> {
    if room.is_null() {
        return None;
    }
    // SAFETY: not NULL, so the caller gave room for a pointer, which is a valid one from here on.
    unsafe {
        room.write(ptr::null_mut());
        room.as_mut()
    }
}
