//! Ending a domain and starting it.

use xlsnap_orchestrator::{Effect, PortErrorKind, Power, Run};
use xlsnap_types::model::{Compression, MemoryMeta, MemoryWay, SavedIn};
use xlsnap_xen::xl::Kind;

use crate::rig::{Rig, Unwatched};

fn memory() -> MemoryMeta {
    let place = SavedIn::File {
        file: "/srv/s1.save".into(),
        way: MemoryWay::Toolstack,
        checksum: None,
        compression: Compression::None,
    };
    MemoryMeta { place, bytes: 0 }
}

#[tokio::test]
async fn a_domain_is_ended_and_made_again() {
    let rig = Rig::off();
    let kept = rig.domain(None).to_keep().await.unwrap();
    let domain = rig.domain(kept);
    let abilities = domain.abilities().await.unwrap();
    assert!(abilities.restart.is_yes() && abilities.restore.is_yes(), "{abilities:?}");
    assert!(!abilities.release.is_yes() && !abilities.load.is_yes(), "{abilities:?}");
    let meta = memory();
    for error in [
        domain.restore(&meta, Run::Runs, &Unwatched).await.unwrap_err(),
        domain.start(Run::Runs).await.unwrap_err(),
    ] {
        assert_eq!(
            (error.kind, error.effect),
            (PortErrorKind::Busy, Effect::Unknown),
            "it is not off: {error}"
        );
    }
    domain.end().await.unwrap();
    domain.end().await.unwrap();
    assert_eq!(domain.running().await.unwrap(), None);

    domain.restore(&meta, Run::Runs, &Unwatched).await.unwrap();
    assert_eq!(domain.running().await.unwrap().unwrap().domid.number(), 2);
    assert_eq!(rig.toolstack.paused(2), 0);
    domain.end().await.unwrap();
    domain.restore(&meta, Run::Waits, &Unwatched).await.unwrap();
    assert_eq!(rig.toolstack.paused(3), 1);
    domain.end().await.unwrap();

    // Also where no records are in a directory of the host.
    domain.start(Run::Runs).await.unwrap();
    assert_eq!(rig.toolstack.paused(4), 0);
    let left = std::fs::read_dir(rig.scratch.path("records")).unwrap().count();
    assert_eq!(left, 0, "the configuration was only for xl");
    domain.end().await.unwrap();

    // However far it came: the domain is off.
    for done in [false, true] {
        *rig.toolstack.fails.lock().unwrap() = Some((Kind::NoSpace, done));
        let error = domain.restore(&meta, Run::Runs, &Unwatched).await.unwrap_err();
        assert_eq!((error.kind, error.effect), (PortErrorKind::NoSpace, Effect::None));
        assert_eq!(domain.running().await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_domain_that_leaves_something_behind_is_not_gone() {
    let rig = Rig::off();
    let mut qemu = std::process::Command::new("sleep").arg("100").spawn().unwrap();
    rig.store.set("/local/domain/1/image/device-model-pid", qemu.id().to_string());
    let error = rig.domain(None).end().await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Busy, Effect::Unknown));
    assert!(error.to_string().contains(&qemu.id().to_string()), "{error}");
    qemu.kill().unwrap();
    qemu.wait().unwrap();
    rig.domain(None).end().await.unwrap();
}

#[tokio::test]
async fn a_domain_that_was_made_and_is_not_let_go_is_not_off() {
    let rig = Rig::off();
    let domain = rig.domain(rig.domain(None).to_keep().await.unwrap());
    domain.end().await.unwrap();
    *rig.toolstack.after.lock().unwrap() = 1;
    *rig.toolstack.fails.lock().unwrap() = Some((Kind::NoSuchDomain, false));
    let error = domain.restore(&memory(), Run::Runs, &Unwatched).await.unwrap_err();
    assert_eq!(error.effect, Effect::Unknown, "{error}");
    assert!(domain.running().await.unwrap().is_some());
}

#[tokio::test]
async fn a_domain_is_started_as_it_was_when_it_was_ended() {
    let rig = Rig::off();
    // Nothing was kept of it before.
    let domain = rig.domain(None);
    domain.end().await.unwrap();
    assert!(domain.abilities().await.unwrap().restart.is_yes());
    domain.start(Run::Waits).await.unwrap();
    assert_eq!(rig.toolstack.paused(2), 1);
}
