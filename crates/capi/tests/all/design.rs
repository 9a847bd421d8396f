//! The design's seven functions on real images.

use xlsnap_testkit::real::{Data, holds_offline, snapshots_in};

use crate::compiler::{Program, here, must, ways};
use crate::fixture::Fixture;

#[test]
fn each_function_and_each_failure_of_it() {
    for (language, watch) in ways() {
        let fixture = Fixture::new();
        fixture.plant("broken", "{\"name\": 7}");
        let program = Program::watched(&here("tests/c/design.c"), language, &[], watch);
        must(fixture.of(program.command().arg(fixture.scratch.dir())));

        let [a, b] = &fixture.images;
        assert!(snapshots_in(a).is_empty() && snapshots_in(b).is_empty(), "{language:?} {watch:?}");
        assert!(holds_offline(a, "qcow2", Data::of(1)));
        let overlay = fixture.scratch.path("overlay.qcow2");
        assert!(holds_offline(&overlay, "qcow2", Data::of(2)), "the overlay stands on the image");
        let file = std::fs::read_to_string(fixture.root().join("domains/web.toml")).unwrap();
        assert!(file.contains(overlay.to_str().unwrap()), "the overlay is the disk's image now: {file}");
    }
}
