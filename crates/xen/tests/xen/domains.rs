//! Finding domains.

use uuid::Uuid;
use xlsnap_orchestrator::PortErrorKind;
use xlsnap_xen::{Domid, GuestKind, domains};

use crate::store::{HVM, PV, Store};

const UUID: &str = "0a773310-ff4b-4ec6-a93c-577d088a20d1";

#[tokio::test]
async fn a_domain_is_found_by_domid_name_and_uuid() {
    let store = Store::of(PV);
    let listed = domains::list(&store).await.unwrap();
    assert_eq!(listed.len(), 1, "dom0 is none");
    let domain = listed.into_iter().next().unwrap().unwrap();
    assert_eq!((domain.domid, domain.kind), (Domid::new(1).unwrap(), GuestKind::Pv));
    assert_eq!((domain.name.as_str(), domain.uuid.to_string().as_str()), ("pv1", UUID));
    for word in ["1", "pv1", UUID, &UUID.to_uppercase()] {
        assert_eq!(domains::find(&store, word).await.unwrap().as_ref(), Some(&domain), "{word}");
    }
    assert_eq!(domains::by_uuid(&store, domain.uuid).await.unwrap(), Some(domain));
    for word in ["2", "01", "pv", "Domain-0", "32752", "99999999999999999999", &Uuid::nil().to_string()] {
        assert_eq!(domains::find(&store, word).await.unwrap(), None, "{word}");
    }
    assert_eq!(domains::find(&store, "0").await.unwrap_err().kind, PortErrorKind::Refused);
    let hvm = domains::find(&Store::of(HVM), "hvm1").await.unwrap().unwrap();
    assert_eq!(hvm.kind, GuestKind::Hvm);
}

#[tokio::test]
async fn a_number_is_a_domid_even_where_a_domain_is_called_so() {
    let store = Store::of(PV);
    store.again(&Store::of(PV), 1, 7);
    store.set("/local/domain/7/vm", format!("/vm/{}", Uuid::from_u128(7)));
    store.set("/local/domain/7/name", "1");
    assert_eq!(domains::find(&store, "1").await.unwrap().unwrap().name, "pv1");
    assert_eq!(domains::find(&store, "7").await.unwrap().unwrap().name, "1");
}

#[tokio::test]
async fn two_of_a_name_or_uuid_are_told() {
    let store = Store::of(PV);
    store.again(&Store::of(PV), 1, 7);
    for word in ["pv1", UUID] {
        let error = domains::find(&store, word).await.unwrap_err();
        assert_eq!(error.kind, PortErrorKind::Refused);
        assert!(error.to_string().contains("domain 1 or domain 7"), "{error}");
    }
    assert!(domains::by_uuid(&store, UUID.parse().unwrap()).await.is_err());
}

#[tokio::test]
async fn hostile_and_missing_entries_are_errors_that_hide_no_other_domain() {
    for (path, value) in [
        ("/local/domain/1/vm", Some("/vm/")),
        ("/local/domain/1/vm", Some("/vm/0a773310-ff4b-4ec6-a93c-577d088a20d1/../x")),
        ("/local/domain/1/vm", Some("/vm/00000000-0000-0000-0000-000000000000")),
        ("/local/domain/1/name", Some("")),
        ("/local/domain/1/name", Some("a\nb")),
        ("/local/domain/1/name", Some(&"n".repeat(2000))),
        ("/local/domain/1/name", None),
        ("/libxl/1/type", Some("vm")),
        ("/libxl/1/type", None),
    ] {
        let store = Store::of(PV);
        store.again(&Store::of(PV), 1, 7);
        store.set("/local/domain/7/vm", format!("/vm/{}", Uuid::from_u128(7)));
        store.cut(path);
        if let Some(value) = value {
            store.set(path, value);
        }
        let listed = domains::list(&store).await.unwrap();
        let kinds: Vec<_> = listed.iter().map(|found| found.as_ref().map_err(|e| e.kind)).collect();
        assert!(matches!(kinds[..], [Err(PortErrorKind::Corrupt), Ok(_)]), "{path} {value:?}: {kinds:?}");
        let error = domains::by_domid(&store, Domid::new(1).unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("domain 1"), "{error}");
        assert!(domains::by_uuid(&store, Uuid::from_u128(7)).await.unwrap().is_some());
    }
    let store = Store::of(PV);
    store.set("/local/domain/1/name", [0xff, 0xfe]);
    assert!(domains::list(&store).await.unwrap()[0].is_err(), "no text");
}

#[tokio::test]
async fn a_domain_that_ends_while_it_is_looked_at_is_none() {
    let store = Store::of(PV);
    store.cut("/local/domain/1/vm");
    assert!(domains::list(&store).await.unwrap().is_empty());
    assert_eq!(domains::by_uuid(&store, UUID.parse().unwrap()).await.unwrap(), None);
}
