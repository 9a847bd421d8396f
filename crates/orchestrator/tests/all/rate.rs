//! How fast data moves between layers: in the plan, in the journal, and in a recovery.

use std::num::NonZeroU64;

use uuid::Uuid;
use xlsnap_orchestrator::{
    DeleteRequest, Does, FlattenRequest, Stage, plan_delete, plan_flatten, plan_recover,
};
use xlsnap_testkit::fake::{FakeBackend, Fault, Moment};

use crate::common::{Op, name};
use crate::sweep::{Power, write};

/// A disk with the external snapshots a, b and c.
async fn chain(power: Power) -> FakeBackend {
    let backend = FakeBackend::qcow2(&["vda"]).with_machine();
    for (content, given) in [(1, "a"), (2, "b"), (3, "c")] {
        write(&backend, content);
        Op::external(given, &["vda"]).run(&backend).await.unwrap();
    }
    write(&backend, 4);
    backend.power(power.guest());
    backend.faults().clear();
    backend
}

/// The limits of what moves data.
fn rates(stages: &[Stage]) -> Vec<Option<u64>> {
    let rate = |does: &Does| match does {
        Does::Merge(merge) => Some(merge.rate.map(NonZeroU64::get)),
        Does::Stream(stream) => Some(stream.rate.map(NonZeroU64::get)),
        _ => None,
    };
    stages.iter().flat_map(Stage::steps).filter_map(|step| rate(&step.does)).collect()
}

fn deletion() -> DeleteRequest {
    DeleteRequest { rate: NonZeroU64::new(4096), ..DeleteRequest::new(name("b")) }
}

#[tokio::test]
async fn a_limit_is_in_the_plan_where_it_applies() {
    let id = Uuid::from_u128(7);
    for power in [Power::Running, Power::Off] {
        let backend = chain(power).await;
        let (ports, domain) = (backend.ports(), backend.domain());
        let plan = plan_delete(&ports, &domain, &deletion(), id).await.unwrap();
        assert_eq!(rates(&plan.stages), [Some(4096)], "{power:?}");
        let told: Vec<String> =
            plan.stages.iter().filter_map(|stage| Some(stage.steps()[0].text()?.what)).collect();
        assert!(told.iter().any(|what| what.ends_with(", at most 4096 bytes a second")), "{told:?}");
        assert_eq!(plan.warnings, Vec::<String>::new());
        let request = FlattenRequest { rate: NonZeroU64::new(4096), ..FlattenRequest::default() };
        let plan = plan_flatten(&ports, &domain, &request, id).await.unwrap();
        let (rate, warnings) = if power == Power::Off { (None, 1) } else { (Some(4096), 0) };
        assert_eq!(rates(&plan.stages), [rate], "{power:?}");
        let limit = |warning: &&String| warning.contains("the limit of 4096 bytes a second does not apply");
        assert_eq!(plan.warnings.iter().filter(limit).count(), warnings, "{:?}", plan.warnings);
    }
}

#[tokio::test]
async fn a_recovery_keeps_the_limit() {
    let start = chain(Power::Running).await;
    let clean = start.fork();
    Op::Delete(deletion()).run(&clean).await.unwrap();
    let at = clean.faults().calls().iter().position(|call| call.method == "layers.merge").unwrap();
    let backend = start.fork();
    backend.faults().plan(at, Fault::Crash(Moment::Before));
    Op::Delete(deletion()).run(&backend).await.unwrap_err();
    backend.restart();
    let plan = plan_recover(&backend.ports(), &backend.domain(), false).await.unwrap().unwrap();
    assert_eq!(rates(&plan.stages), [Some(4096)]);
}
