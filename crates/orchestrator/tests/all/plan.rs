//! Plans: what is chosen, named, refused, and shown.

use uuid::Uuid;
use xlsnap_orchestrator::{
    CreatePlan, CreateRequest, DeleteRequest, DiskChoice, Error, Kind, RevertRequest, Selection,
    SnapshotAction, overlay_beside, plan_create, plan_delete, plan_revert,
};
use xlsnap_testkit::fake::FakeWorld;
use xlsnap_types::model::ImageFormat;

use crate::common::{Op, disk, name, see, told};

/// A domain with one disk of each sort.
fn world() -> FakeWorld {
    let world = FakeWorld::qcow2(&["vda", "vdb"]);
    world.add_disk("raw", ImageFormat::Raw, false, false);
    world.add_disk("ro", ImageFormat::Qcow2, true, false);
    world.add_disk("cd", ImageFormat::Qcow2, false, true);
    world
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

async fn plan(world: &FakeWorld, request: &CreateRequest) -> Result<CreatePlan, Error> {
    let before = see(world);
    let plan = plan_create(&world.ports(), &world.domain(), request, Uuid::from_u128(7)).await;
    assert_eq!(see(world), before, "planning changed something");
    plan
}

/// The disks taken, and those passed over with why.
fn chosen(plan: &CreatePlan) -> (Vec<&str>, Vec<(&str, &str)>) {
    let taken = plan.disks.iter().map(|plan| plan.disk.as_str()).collect();
    (taken, plan.passed_over.iter().map(|p| (p.disk.as_str(), p.why.as_str())).collect())
}

#[track_caller]
fn refused(result: Result<impl std::fmt::Debug, Error>, words: &[&str]) {
    let error = result.expect_err("it is refused");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    let text = format!("{} / {}", told(&error), error.advice().unwrap_or("no advice"));
    for word in words {
        assert!(text.contains(word), "{word:?} is not in: {text}");
    }
}

#[tokio::test]
async fn the_choice_of_disks() {
    let world = world();
    let plan1 = plan(&world, &request(&[], &["raw"])).await.unwrap();
    let why = [("raw", "it was excluded"), ("ro", "it is read-only"), ("cd", "it is a removable medium")];
    assert_eq!(chosen(&plan1), (vec!["vda", "vdb"], why.to_vec()));
    let plan2 = plan(&world, &request(&["cd", "vda"], &[])).await.unwrap();
    assert_eq!(chosen(&plan2).0, ["vda", "cd"], "in the domain's order, a medium by name");

    refused(plan(&world, &request(&[], &[])).await, &["raw", "its format is raw", "exclude disk raw"]);
    refused(plan(&world, &request(&["ro"], &[])).await, &["ro", "read-only"]);
    refused(plan(&world, &request(&[], &["nope"])).await, &["nope", "vda, vdb, raw, ro, cd"]);
    refused(plan(&world, &request(&["vda"], &["vda"])).await, &["vda", "both"]);
    refused(plan(&world, &request(&[], &["vda", "vdb", "raw"])).await, &["nothing", "it was excluded"]);
    let stray = external(request(&["vda"], &[]), "vdb", None, ImageFormat::Qcow2);
    refused(plan(&world, &stray).await, &["vdb", "include"]);
}

#[tokio::test]
async fn the_choice_of_overlays() {
    let world = world();
    let beside = external(request(&["vda", "raw"], &[]), "raw", None, ImageFormat::Qcow2);
    let plan1 = plan(&world, &beside).await.unwrap();
    let SnapshotAction::External(overlay) = &plan1.disks[1].action else { panic!("{plan1:?}") };
    assert_eq!((overlay.file.as_str(), overlay.base.as_str()), ("/images/raw.s.qcow2", "/images/raw.raw"));
    assert_eq!((&overlay.base_format, overlay.virtual_size), (&ImageFormat::Raw, 1 << 20));
    assert!(overlay.token.len() <= 24 && overlay.token.bytes().all(|b| b.is_ascii_alphanumeric()));

    let at = |file: &str| external(request(&["vda"], &[]), "vda", Some(file), ImageFormat::Qcow2);
    refused(plan(&world, &at("relative.qcow2")).await, &["vda", "absolute"]);
    refused(plan(&world, &at("/images/")).await, &["vda", "absolute"]);
    refused(plan(&world, &at("/images/a\nb")).await, &["vda", "absolute"]);
    refused(plan(&world, &at("/images/vdb.qcow2")).await, &["vda", "/images/vdb.qcow2"]);
    refused(plan(&world, &at("/images/vda.qcow2")).await, &["vda", "another disk"]);
    refused(
        plan(&world, &external(request(&["vda"], &[]), "vda", None, ImageFormat::Raw)).await,
        &["vda", "qcow2"],
    );
    let both = external(
        external(request(&["vda", "vdb"], &[]), "vda", Some("/x"), ImageFormat::Qcow2),
        "vdb",
        Some("/x"),
        ImageFormat::Qcow2,
    );
    refused(plan(&world, &both).await, &["vdb", "/x"]);

    world.change_disk("vda", |image| image.take("inside", 1));
    let warned = plan(&world, &at("/images/new.qcow2")).await.unwrap().warnings;
    assert!(warned.iter().any(|w| w.contains("inside") && w.contains("vda")), "{warned:?}");
}

#[test]
fn overlays_are_named_beside_their_image() {
    let check = |image: &str, expected: &str| {
        assert_eq!(overlay_beside(image, &name("s 1"), &ImageFormat::Qcow2), expected);
    };
    check("/i/a.qcow2", "/i/a.s 1.qcow2");
    check("/i/a", "/i/a.s 1.qcow2");
    check("/i.d/a", "/i.d/a.s 1.qcow2");
    check("/i/.a", "/i/.a.s 1.qcow2");
    check("/i/a.b.c", "/i/a.b.s 1.qcow2");
    check("/i/web.example.organisation", "/i/web.example.organisation.s 1.qcow2");
    check("/i/ü.img", "/i/ü.s 1.qcow2");
    check("a:b", "a:b.s 1.qcow2");
    assert_eq!(overlay_beside("/i/a.raw", &name("s"), &ImageFormat::Vpc), "/i/a.s.vhd");
}

#[tokio::test]
async fn the_choice_of_a_name() {
    let world = FakeWorld::qcow2(&["vda", "vdb"]);
    let unnamed = CreateRequest::default();
    let first = plan(&world, &unnamed).await.unwrap().name;
    assert_eq!(first.as_str(), "1700000000");
    // The time's name is in an image, and the next one is a record.
    world.change_disk("vdb", |image| image.take("1700000000", 1));
    Op::create("1700000000-2").run(&world).await.unwrap();
    assert_eq!(plan(&world, &unnamed).await.unwrap().name.as_str(), "1700000000-3");

    world.change_disk("vda", |image| image.take("inside", 1));
    let named = |given: &str| CreateRequest { name: Some(name(given)), ..CreateRequest::default() };
    refused(plan(&world, &named("inside")).await, &["/images/vda.qcow2", "vda", "a check says"]);
    refused(plan(&world, &named("1700000000-2")).await, &["already"]);
    refused(plan(&world, &named("2")).await, &["id of another snapshot", "vda"]);
}

#[tokio::test]
async fn a_dry_run_names_every_file() {
    let world = FakeWorld::qcow2(&["vda", "vdb"]);
    Op::create("a").run(&world).await.unwrap();
    Op::create("b").run(&world).await.unwrap();
    let (ports, domain, id) = (world.ports(), world.domain(), Uuid::from_u128(7));
    let lines = |actions: Vec<xlsnap_orchestrator::Action>| -> Vec<String> {
        actions.into_iter().map(|a| format!("{}: {}", a.touches.as_deref().unwrap_or("-"), a.what)).collect()
    };
    let create = external(request(&[], &[]), "vdb", None, ImageFormat::Qcow2);
    assert_eq!(
        lines(plan(&world, &create).await.unwrap().actions()),
        [
            "/images/vdb.s.qcow2: make an empty overlay for disk vdb over /images/vdb.qcow2",
            "/images/vda.qcow2: take the internal snapshot s of disk vda",
            "/images/vdb.s.qcow2: direct the writes of disk vdb to it; /images/vdb.qcow2 stays as it is",
            "-: store the record of snapshot s",
        ]
    );
    let delete = DeleteRequest { name: name("a"), children: false, metadata_only: false };
    assert_eq!(
        lines(plan_delete(&ports, &domain, &delete, id).await.unwrap().actions()),
        [
            "/images/vda.qcow2: delete the internal snapshot a (id 1) of disk vda",
            "/images/vdb.qcow2: delete the internal snapshot a (id 1) of disk vdb",
            "-: delete the record of snapshot a",
            "-: change the parent in the record of snapshot b to none",
        ]
    );
    let forget = DeleteRequest { name: name("b"), metadata_only: true, ..delete };
    assert_eq!(
        lines(plan_delete(&ports, &domain, &forget, id).await.unwrap().actions()),
        ["-: delete the record of snapshot b", "-: change the current snapshot to a"]
    );
    let revert = RevertRequest { safety: Some(name("safe")), ..RevertRequest::new(name("a")) };
    assert_eq!(
        lines(plan_revert(&ports, &domain, &revert, id).await.unwrap().actions()),
        [
            "/images/vda.qcow2: take the internal snapshot safe of disk vda",
            "/images/vdb.qcow2: take the internal snapshot safe of disk vdb",
            "-: store the record of snapshot safe",
            "/images/vda.qcow2: revert disk vda to the internal snapshot a (id 1)",
            "/images/vdb.qcow2: revert disk vdb to the internal snapshot a (id 1)",
            "-: change the current snapshot to a",
        ]
    );
}

/// A dry run in the middle of somebody's operation would show what does not last.
#[tokio::test]
async fn no_dry_run_over_a_journal() {
    let world = FakeWorld::qcow2(&["vda"]);
    world.store().plant_journal(FakeWorld::UUID, Some(b"{}".to_vec()));
    let error = plan_create(&world.ports(), &world.domain(), &CreateRequest::default(), Uuid::nil())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::RecoveryPending);
}
