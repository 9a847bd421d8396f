//! New files under the names of the disks' images.

use xlsnap_orchestrator::{CreateRequest, KeepName, Kind};

use super::layers::{BOTH, Held, assert_both_read, assert_held, back, external, gone, images, write_both};
use super::*;

async fn taken(backend: &mut impl Backend, held: &mut Held, given: &'static str, byte: u8) {
    write_both(backend, byte).await;
    let request = CreateRequest { keep_name: KeepName::Yes, ..external(given, &BOTH) };
    create(backend, &request).await.unwrap_or_else(|e| panic!("snapshot {given} is not made: {}", told(&e)));
    held.insert(given, byte);
}

/// What the disks write to has the names of the domain's own images all the time: made, gone back to, started again, and deleted.
pub async fn a_new_file_takes_the_name_of_the_image<W: Backend>(make: impl AsyncFn(&[TestDisk]) -> W) {
    let mut backend = begin(make, &two_disks()).await;
    let own = images(&backend).await;
    if backend.ports().names.get().is_none() {
        let before = everything(&mut backend).await;
        let request = CreateRequest { keep_name: KeepName::Yes, ..external("a", &BOTH) };
        let error = create(&backend, &request).await.expect_err("its files cannot be renamed");
        assert_eq!(error.kind(), Kind::Refused, "{}", told(&error));
        assert!(error.advice().is_some_and(|advice| advice.contains("--no-keep-name")), "{}", told(&error));
        assert_eq!(everything(&mut backend).await, before);
        return;
    }
    let mut held = Held::new();
    for (byte, given) in [(1, "a"), (2, "b"), (3, "c")] {
        taken(&mut backend, &mut held, given, byte).await;
        assert_eq!(images(&backend).await, own, "{given}");
        assert_held(&mut backend, &held, given).await;
    }
    write_both(&mut backend, 4).await;
    off(&mut backend).await;
    assert_both_read(&mut backend, 4).await;
    on(&mut backend).await;
    assert_both_read(&mut backend, 4).await;
    for (round, given) in ["a", "c", "b"].into_iter().enumerate() {
        back(&mut backend, given).await;
        assert_both_read(&mut backend, held[given]).await;
        assert_eq!(images(&backend).await, own, "{given}");
        write_both(&mut backend, 10 + u8::try_from(round).expect("few rounds")).await;
        assert_held(&mut backend, &held, &format!("back to {given}")).await;
    }
    taken(&mut backend, &mut held, "d", 5).await;
    write_both(&mut backend, 6).await;
    for given in ["b", "a", "c", "d"] {
        let warnings = gone(&mut backend, &mut held, given).await;
        assert!(!warnings.iter().any(|warning| warning.contains("writes to")), "{given}: {warnings:?}");
        assert_held(&mut backend, &held, given).await;
        assert_both_read(&mut backend, 6).await;
        assert_eq!(images(&backend).await, own, "{given} is gone");
    }
    off(&mut backend).await;
    on(&mut backend).await;
    assert_both_read(&mut backend, 6).await;
}
