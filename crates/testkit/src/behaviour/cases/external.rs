//! External snapshots.

use xlsnap_orchestrator::{
    CreateRequest, DeleteRequest, DiskChoice, KeepName, Kind, Outcome, delete, recover,
};
use xlsnap_types::model::ImageFormat;

use super::create::interrupt;
use super::*;

fn external(file: Option<String>) -> DiskChoice {
    DiskChoice::External { file, format: ImageFormat::Qcow2 }
}

/// With no external snapshots, the request is refused and changes nothing.
async fn refused_where_it_cannot(backend: &mut impl Backend, request: &CreateRequest) -> bool {
    if backend.capabilities().external {
        return false;
    }
    let before = everything(backend).await;
    let error = create(backend, request).await.expect_err("the backends take none");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert_eq!(everything(backend).await, before);
    true
}

/// The data is there before and after, through a stop and a start; what can be undone now is said.
pub async fn an_external_snapshot_moves_the_writes_to_the_overlay<W: Backend>(
    make: impl AsyncFn(&[TestDisk]) -> W,
) {
    let mut backend = begin(make, &two_disks()).await;
    let request = CreateRequest { default_choice: external(None), ..named("s1") };
    if refused_where_it_cannot(&mut backend, &request).await {
        return;
    }
    write_all(&mut backend, 1).await;
    let base = image(&backend, "vda").await;
    let report = create(&backend, &request).await.unwrap_or_else(|e| panic!("it is not made: {}", told(&e)));
    let capabilities = backend.capabilities();
    let can_go_back = !capabilities.live || capabilities.machine;
    assert_eq!(report.reversibility.revert.is_possible(), can_go_back, "{report:?}");
    assert!(report.reversibility.delete.is_possible(), "{report:?}");
    let meta = report.record.meta.as_ref().expect("our records have it");
    let made = meta.disks[0].made.clone().expect("an overlay was made");
    let holder = &meta.disks[0].image;
    assert_eq!(image(&backend, "vda").await, made);
    // What the disk writes to is new; where the name is kept, it is what held the state that has another one.
    assert!(*holder == base || made == base, "{base} {holder} {made}");
    assert_ne!(*holder, made);
    assert_reads(&mut backend, 1).await;
    write_all(&mut backend, 2).await;
    off(&mut backend).await;
    assert_reads(&mut backend, 2).await;

    on(&mut backend).await;
    assert_reads(&mut backend, 2).await;

    let forget = DeleteRequest { metadata_only: true, ..DeleteRequest::new(name("s1")) };
    delete(&backend.ports(), &backend.domain(), &forget, id()).await.expect("the record alone can go");
    assert!(listed(&backend).await.is_empty());
    assert_reads(&mut backend, 2).await;
}

/// A file that is there stays as it is.
pub async fn an_overlay_is_never_made_over_a_file<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    let file = backend.foreign_file(&disk("vda")).await;
    let request =
        CreateRequest { disks: [(disk("vda"), external(Some(file.clone())))].into(), ..named("s1") };
    if refused_where_it_cannot(&mut backend, &request).await {
        return;
    }
    let before = everything(&mut backend).await;
    let error = create(&backend, &request).await.expect_err("a foreign file is there");
    assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
    assert!(error.to_string().contains(&file), "{}", told(&error));
    assert!(
        backend
            .ports()
            .overlays
            .get()
            .expect("it makes overlays")
            .exists(&file)
            .await
            .expect("files can be looked for"),
        "it is gone"
    );
    assert_eq!(everything(&mut backend).await, before);
}

/// One disk inside, one outside, at one instant.
pub async fn internal_and_external_mix<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    let file = backend.free_file(&disk("vdb"), "over");
    let request =
        CreateRequest { disks: [(disk("vdb"), external(Some(file.clone())))].into(), ..named("s1") };
    let request = CreateRequest { keep_name: KeepName::No, ..request };
    if refused_where_it_cannot(&mut backend, &request).await {
        return;
    }
    write_all(&mut backend, 1).await;
    create(&backend, &request).await.unwrap_or_else(|e| panic!("it is not made: {}", told(&e)));
    assert_eq!(tags(&backend, "vda").await, ["s1"]);
    assert_eq!(image(&backend, "vdb").await, file);
    let rows = rows(&backend).await;
    assert_eq!((rows[0].internal, rows[0].external), (1, 1));
    assert_reads(&mut backend, 1).await;
    write_all(&mut backend, 2).await;
    off(&mut backend).await;
    on(&mut backend).await;
    assert_reads(&mut backend, 2).await;
    assert_settled(&backend).await;
}

/// Whatever recovery decides, no write is lost, and record and disks agree.
pub async fn an_external_creation_cut_short_is_brought_to_an_end<W: Backend>(
    make: impl AsyncFn(&[TestDisk]) -> W,
) {
    for taken in [0, 2] {
        let mut backend = begin(&make, &two_disks()).await;
        let files = ["vda", "vdb"].map(|at| (disk(at), backend.free_file(&disk(at), "over")));
        let choices = files.iter().map(|(at, file)| (at.clone(), external(Some(file.clone()))));
        let request = CreateRequest { disks: choices.collect(), keep_name: KeepName::No, ..named("s1") };
        if refused_where_it_cannot(&mut backend, &request).await {
            return;
        }
        write_all(&mut backend, 1).await;
        interrupt(&backend, &request, taken).await;
        write_all(&mut backend, 2).await;
        let recovered =
            recover(&backend.ports(), &backend.domain()).await.expect("it recovers").expect("it was left");
        assert_reads(&mut backend, 2).await;
        let done = recovered.outcome == Outcome::Completed;
        // While it is off the overlay wins; of a running one it is known whether it writes to the overlay.
        assert_eq!(done, taken == 2 || !backend.capabilities().live);
        assert_eq!(listed(&backend).await.len(), usize::from(done));
        for (at, file) in &files {
            assert_eq!(image(&backend, at.as_str()).await == *file, done, "disk {at}");
            assert_eq!(
                backend
                    .ports()
                    .overlays
                    .get()
                    .expect("it makes overlays")
                    .exists(file)
                    .await
                    .expect("files can be looked for"),
                done,
                "{file}"
            );
        }
        off(&mut backend).await;
        on(&mut backend).await;
        assert_reads(&mut backend, 2).await;
        assert_settled(&backend).await;
    }
}
