//! Plans: what is chosen, named, refused, and shown.

use uuid::Uuid;
use xlsnap_orchestrator::{
    CreatePlan, CreateRequest, DeleteRequest, DiskChoice, Error, Kind, RevertRequest, Selection,
    SnapshotAction, Stage, Step, plan_create, plan_delete, plan_revert,
};
use xlsnap_testkit::fake::FakeBackend;
use xlsnap_types::model::{ImageFormat, MemoryWay};

use crate::common::{Op, disk, name, refused, see};

/// A domain with one disk of each sort.
fn backend() -> FakeBackend {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]);
    backend.add_disk("raw", ImageFormat::Raw, false, false);
    backend.add_disk("ro", ImageFormat::Qcow2, true, false);
    backend.add_disk("cd", ImageFormat::Qcow2, false, true);
    backend
}

fn request(only: &[&str], except: &[&str]) -> CreateRequest {
    let set = |names: &[&str]| names.iter().map(|at| disk(at)).collect();
    let selection = Selection { only: set(only), except: set(except) };
    CreateRequest { name: Some(name("s")), selection, ..CreateRequest::default() }
}

fn external(mut request: CreateRequest, at: &str, file: Option<&str>, format: ImageFormat) -> CreateRequest {
    request.disks.insert(disk(at), DiskChoice::External { file: file.map(str::to_owned), format });
    request
}

async fn plan(backend: &FakeBackend, request: &CreateRequest) -> Result<CreatePlan, Error> {
    let before = see(backend);
    let plan = plan_create(&backend.ports(), &backend.domain(), request, Uuid::from_u128(7)).await;
    assert_eq!(see(backend), before, "planning changed something");
    plan
}

/// The disks taken, and those passed over with why.
fn chosen(plan: &CreatePlan) -> (Vec<&str>, Vec<(&str, &str)>) {
    let taken = plan.disks.iter().map(|plan| plan.disk.as_str()).collect();
    (taken, plan.passed_over.iter().map(|p| (p.disk.as_str(), p.why.as_str())).collect())
}

#[tokio::test]
async fn the_choice_of_disks() {
    let backend = backend();
    let plan1 = plan(&backend, &request(&[], &["raw"])).await.unwrap();
    let why = [("raw", "it was excluded"), ("ro", "it is read-only"), ("cd", "it is a removable medium")];
    assert_eq!(chosen(&plan1), (vec!["vda", "vdb"], why.to_vec()));
    let plan2 = plan(&backend, &request(&["cd", "vda"], &[])).await.unwrap();
    assert_eq!(chosen(&plan2).0, ["vda", "cd"], "in the domain's order, a medium by name");

    refused(plan(&backend, &request(&[], &[])).await, &["raw", "its format is raw", "exclude disk raw"]);
    refused(plan(&backend, &request(&["ro"], &[])).await, &["ro", "read-only"]);
    refused(plan(&backend, &request(&[], &["nope"])).await, &["nope", "vda, vdb, raw, ro, cd"]);
    refused(plan(&backend, &request(&["vda"], &["vda"])).await, &["vda", "both"]);
    refused(plan(&backend, &request(&[], &["vda", "vdb", "raw"])).await, &["nothing", "it was excluded"]);
    let stray = external(request(&["vda"], &[]), "vdb", None, ImageFormat::Qcow2);
    refused(plan(&backend, &stray).await, &["vdb", "include"]);
}

#[tokio::test]
async fn the_choice_of_overlays() {
    let backend = backend();
    let beside = external(request(&["vda", "raw"], &[]), "raw", None, ImageFormat::Qcow2);
    let plan1 = plan(&backend, &beside).await.unwrap();
    let SnapshotAction::External(overlay) = &plan1.disks[1].action else { panic!("{plan1:?}") };
    assert_eq!((overlay.file.as_str(), overlay.base.as_str()), ("/images/raw.s-1.qcow2", "/images/raw.raw"));
    assert_eq!((&overlay.base_format, overlay.virtual_size), (&ImageFormat::Raw, 1 << 20));
    assert!(overlay.token.len() <= 24 && overlay.token.bytes().all(|b| b.is_ascii_alphanumeric()));

    let at = |file: &str| external(request(&["vda"], &[]), "vda", Some(file), ImageFormat::Qcow2);
    refused(plan(&backend, &at("relative.qcow2")).await, &["vda", "absolute"]);
    refused(plan(&backend, &at("/images/")).await, &["vda", "absolute"]);
    refused(plan(&backend, &at("/images/a\nb")).await, &["vda", "absolute"]);
    refused(plan(&backend, &at("/images/vdb.qcow2")).await, &["vda", "/images/vdb.qcow2"]);
    refused(plan(&backend, &at("/images/vda.qcow2")).await, &["vda", "another disk"]);
    refused(
        plan(&backend, &external(request(&["vda"], &[]), "vda", None, ImageFormat::Raw)).await,
        &["vda", "qcow2"],
    );
    let both = external(
        external(request(&["vda", "vdb"], &[]), "vda", Some("/x"), ImageFormat::Qcow2),
        "vdb",
        Some("/x"),
        ImageFormat::Qcow2,
    );
    refused(plan(&backend, &both).await, &["vdb", "/x"]);

    backend.change_disk("vda", |image| image.take("inside", 1));
    let warned = plan(&backend, &at("/images/new.qcow2")).await.unwrap().warnings;
    assert!(
        !warned.iter().any(|w| w.contains("inside")),
        "it is gone back to and deleted as before: {warned:?}"
    );
}

/// A machine's state is loaded from the image that the disk writes to, and from no other.
#[tokio::test]
async fn snapshots_of_machines_that_get_out_of_reach_are_told() {
    let backend = FakeBackend::qcow2(&["vda"]).with_machine();
    backend.start();
    Op::memory("with-memory", MemoryWay::Internal).run(&backend).await.unwrap();
    Op::create("alone").run(&backend).await.unwrap();
    let told = Op::external("above", &["vda"]).run(&backend).await.unwrap();
    let told: Vec<_> = told.iter().filter(|told| told.contains("revert --without-memory")).collect();
    assert!(told.len() == 1 && told[0].contains("(with-memory)"), "{told:?}");
}

#[tokio::test]
async fn the_choice_of_a_name() {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]);
    let unnamed = CreateRequest::default();
    let first = plan(&backend, &unnamed).await.unwrap().name;
    assert_eq!(first.as_str(), "1700000000");
    // The time's name is in an image, and the next one is a record.
    backend.change_disk("vdb", |image| image.take("1700000000", 1));
    Op::create("1700000000-2").run(&backend).await.unwrap();
    assert_eq!(plan(&backend, &unnamed).await.unwrap().name.as_str(), "1700000000-3");

    backend.change_disk("vda", |image| image.take("inside", 1));
    let named = |given: &str| CreateRequest { name: Some(name(given)), ..CreateRequest::default() };
    refused(plan(&backend, &named("inside")).await, &["/images/vda.qcow2", "vda", "a check says"]);
    refused(plan(&backend, &named("1700000000-2")).await, &["already"]);
    refused(plan(&backend, &named("2")).await, &["id of another snapshot", "vda"]);
}

/// The steps of a plan in words, each with what it touches.
fn lines(stages: &[Stage]) -> Vec<String> {
    let texts = stages.iter().flat_map(Stage::steps).filter_map(Step::text);
    texts.map(|text| format!("{}: {}", text.touches.join(" "), text.what)).collect()
}

#[tokio::test]
async fn a_dry_run_names_every_step() {
    let backend = FakeBackend::qcow2(&["vda", "vdb"]);
    Op::create("a").run(&backend).await.unwrap();
    Op::create("b").run(&backend).await.unwrap();
    let (ports, domain, id) = (backend.ports(), backend.domain(), Uuid::from_u128(7));
    let create = external(request(&[], &[]), "vdb", None, ImageFormat::Qcow2);
    assert_eq!(
        lines(&plan(&backend, &create).await.unwrap().stages),
        [
            "/images/vdb.s-1.qcow2: make an empty overlay for disk vdb on /images/vdb.qcow2",
            "/images/vda.qcow2: take the internal snapshot s of disk vda",
            "/images/vdb.s-1.qcow2: write disk vdb to /images/vdb.s-1.qcow2 from now on; /images/vdb.qcow2 stays as it is",
            ": name /images/vdb.s-1.qcow2 as the image of disk vdb in the domain's description",
            ": store the record of snapshot s",
            ": note that the domain is at snapshot s",
            ": note in the ledger which files the disks' chains have",
        ]
    );
    let delete = DeleteRequest::new(name("a"));
    assert_eq!(
        lines(&plan_delete(&ports, &domain, &delete, id).await.unwrap().stages),
        [
            "/images/vda.qcow2: delete the internal snapshot a (id 1) of disk vda",
            "/images/vdb.qcow2: delete the internal snapshot a (id 1) of disk vdb",
            ": make snapshot b a root in its record",
            ": delete the record of snapshot a",
        ]
    );
    let forget = DeleteRequest { name: name("b"), metadata_only: true, ..delete };
    assert_eq!(
        lines(&plan_delete(&ports, &domain, &forget, id).await.unwrap().stages),
        [": note that the domain is at snapshot a", ": delete the record of snapshot b"]
    );
    let revert = RevertRequest { safety: Some(name("safe")), ..RevertRequest::new(name("a")) };
    let plan = plan_revert(&ports, &domain, &revert, id).await.unwrap();
    assert_eq!(
        lines(&plan.safety.unwrap().stages),
        [
            "/images/vda.qcow2: take the internal snapshot safe of disk vda",
            "/images/vdb.qcow2: take the internal snapshot safe of disk vdb",
            ": store the record of snapshot safe",
            ": note that the domain is at snapshot safe",
        ]
    );
    assert_eq!(
        lines(&plan.stages),
        [
            "/images/vda.qcow2: mark the present state of disk vda",
            "/images/vdb.qcow2: mark the present state of disk vdb",
            "/images/vda.qcow2: revert disk vda to the internal snapshot a (id 1)",
            "/images/vdb.qcow2: revert disk vdb to the internal snapshot a (id 1)",
            ": note that the domain is at snapshot a",
            ": note in the journal that the operation is done",
            "/images/vda.qcow2: remove the mark of disk vda",
            "/images/vdb.qcow2: remove the mark of disk vdb",
        ]
    );
}

/// A dry run in the middle of another operation would show what does not last.
#[tokio::test]
async fn no_dry_run_over_a_journal() {
    let backend = FakeBackend::qcow2(&["vda"]);
    backend.store().plant_journal(FakeBackend::UUID, Some(b"{}".to_vec()));
    let error = plan_create(&backend.ports(), &backend.domain(), &CreateRequest::default(), Uuid::nil())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::RecoveryPending);
}
