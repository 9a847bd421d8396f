//! Stopping the guest and letting it run.

use xlsnap_orchestrator::{Effect, Guest, GuestState, Pause, PortErrorKind};
use xlsnap_xen::XlDomain;
use xlsnap_xen::xl::Kind;

use crate::rig::Rig;

async fn is_paused(domain: &XlDomain) -> bool {
    matches!(domain.state().await.unwrap(), GuestState::On(flags) if flags.paused)
}

#[tokio::test]
async fn a_guest_is_stopped_once_and_let_go() {
    let rig = Rig::off();
    let domain = rig.domain(None);
    domain.stop().await.unwrap();
    domain.stop().await.unwrap();
    assert_eq!(rig.toolstack.paused(1), 1, "pauses count: the second stop adds none");
    domain.resume().await.unwrap();
    domain.resume().await.unwrap();
    assert!(!is_paused(&domain).await);
    // Pauses of other programs are taken away too: the guest is to run.
    for _ in 0..3 {
        rig.toolstack.add_pause(1);
    }
    domain.resume().await.unwrap();
    assert_eq!(rig.toolstack.paused(1), 0);
}

#[tokio::test]
async fn a_guest_that_is_paused_again_and_again_is_told() {
    let rig = Rig::off();
    let domain = rig.domain(None);
    for _ in 0..100 {
        rig.toolstack.add_pause(1);
    }
    let error = domain.resume().await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Busy, Effect::Unknown));
    assert!(error.to_string().contains("xl unpause 1"), "{error}");
}

#[tokio::test]
async fn a_pause_that_fails_is_told() {
    let rig = Rig::off();
    let domain = rig.domain(None);
    *rig.toolstack.fails.lock().unwrap() = Some((Kind::Failed, false));
    let error = domain.stop().await.unwrap_err();
    assert_eq!(error.effect, Effect::Unknown, "{error}");
    domain.stop().await.unwrap();
    *rig.toolstack.fails.lock().unwrap() = Some((Kind::Failed, false));
    let error = domain.resume().await.unwrap_err();
    assert!(error.to_string().contains("unpause it: xl unpause 1"), "{error}");
}

#[tokio::test]
async fn a_domain_that_is_off_has_no_guest_and_none_is_reset() {
    let rig = Rig::off();
    let domain = rig.domain(None);
    let error = domain.reset().await.unwrap_err();
    assert_eq!((error.kind, error.effect), (PortErrorKind::Refused, Effect::None));
    assert!(error.to_string().contains("pv1"), "{error}");
    rig.store.end(1);
    for error in [domain.stop().await.unwrap_err(), domain.resume().await.unwrap_err()] {
        assert_eq!((error.kind, error.effect), (PortErrorKind::NotFound, Effect::None), "{error}");
    }
}
