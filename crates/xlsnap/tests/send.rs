//! Every future of this crate can be spawned on a runtime of several threads.

use std::fs;
use std::path::Path;

use xlsnap::types::libxl::{DiskSnapshot, DomainSnapshot};
use xlsnap::types::model::SnapshotName;
use xlsnap::{
    AdoptRequest, Call, CheckRequest, CreateRequest, DeleteRequest, FlattenRequest, Host, NewDomain,
    OrphanRequest, RelocateRequest, RevertRequest, Selector, StartOptions, StopOptions, design,
};

fn send(_: impl Send) {}

fn shared<T: Send + Sync>() {}

/// All that a caller brings.
struct Given<'a> {
    host: &'a Host,
    domain: &'a Selector,
    name: &'a SnapshotName,
    disks: &'a [DiskSnapshot],
    snapshot: &'a DomainSnapshot,
    call: Call<'a>,
}

/// That this compiles is the test; it is not called.
fn every_future_is_send(
    given: &Given<'_>,
    create: &CreateRequest,
    revert: &RevertRequest,
    delete: &DeleteRequest,
    adopt: &AdoptRequest,
    orphan: &OrphanRequest,
) {
    let Given { host, domain, name, disks, snapshot, call } = *given;
    send(host.create(domain, create, call));
    send(host.plan_create(domain, create));
    send(host.list(domain));
    send(host.chains(domain));
    send(host.domains());
    send(host.show(domain, name));
    send(host.revert(domain, revert, call));
    send(host.plan_revert(domain, revert));
    send(host.delete(domain, delete, call));
    send(host.plan_delete(domain, delete));
    send(host.flatten(domain, &FlattenRequest::default(), call));
    send(host.plan_flatten(domain, &FlattenRequest::default()));
    send(host.check(domain, &CheckRequest::default(), call));
    send(host.plan_check(domain, &CheckRequest::default()));
    send(host.adopt(domain, adopt, call));
    send(host.plan_adopt(domain, adopt));
    send(host.delete_orphan(domain, orphan, call));
    send(host.plan_delete_orphan(domain, orphan));
    send(host.relocate(domain, &RelocateRequest::default(), call));
    send(host.plan_relocate(domain, &RelocateRequest::default()));
    send(host.recover(domain, call));
    send(host.plan_recover(domain, true));
    send(host.recover_without_memory(domain, call));
    send(host.domain_show(domain));
    send(host.guest_is_on(domain));
    send(host.domain_remove(domain, false));
    send(host.domain_forget(domain, false));
    send(host.domain_start(domain, &StartOptions::default()));
    send(host.domain_run(domain, &StartOptions::default(), |_| ()));
    send(host.domain_stop(domain, &StopOptions::default()));
    send(host.domain_status(domain));
    send(host.xen_domains());
    send(design::load_dom_snapshot_conf(host, 1, "s"));
    send(design::store_dom_snapshot_conf(host, 1, snapshot));
    send(design::delete_dom_snapshot_conf(host, 1, "s"));
    send(design::list_dom_snapshot(host, 1));
    send(design::disk_snapshot_create(host, 1, disks));
    send(design::disk_snapshot_delete(host, 1, disks));
    send(design::disk_snapshot_revert(host, 1, disks));
}

/// As [`every_future_is_send`], for what takes its argument whole.
fn every_future_of_a_new_thing_is_send(host: &Host, domain: NewDomain) {
    send(host.domain_add(domain));
}

#[test]
fn a_host_is_shared_among_threads() {
    shared::<Host>();
    shared::<xlsnap::Error>();
    shared::<design::Failure>();
    // Compiled, and so checked.
    let _ = (every_future_is_send, every_future_of_a_new_thing_is_send);
}

#[test]
fn no_public_async_function_is_left_out() {
    let mut functions = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut functions);
    assert!(functions.len() >= 27, "too few to be all: {functions:?}");
    let here = include_str!("send.rs");
    let missing: Vec<&String> = functions
        .iter()
        .filter(|name| {
            !here.contains(&format!("send(host.{name}(")) && !here.contains(&format!("send(design::{name}("))
        })
        .collect();
    assert!(missing.is_empty(), "add them to every_future_is_send: {missing:?}");
}

fn collect(directory: &Path, functions: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("the crate's sources are there") {
        let path = entry.expect("they can be listed").path();
        if path.is_dir() {
            collect(&path, functions);
            continue;
        }
        let text = fs::read_to_string(&path).expect("sources are text");
        for line in text.lines().filter_map(|line| line.trim_start().strip_prefix("pub async fn ")) {
            functions
                .extend(line.split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned));
        }
    }
}
