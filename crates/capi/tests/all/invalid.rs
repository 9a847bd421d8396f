//! Structs and arrays that are not valid are refused, and the reason is told.

use xlsnap_testkit::real::snapshots_in;

use crate::compiler::{Program, here, must, ways};
use crate::fixture::Fixture;

#[test]
fn each_struct_that_is_not_valid_and_the_reason() {
    for (language, watch) in ways() {
        let fixture = Fixture::new();
        let program = Program::watched(&here("tests/c/invalid.c"), language, &[], watch);
        must(fixture.of(program.command().arg(fixture.scratch.dir())));
        let [a, b] = &fixture.images;
        assert!(snapshots_in(a).is_empty() && snapshots_in(b).is_empty(), "{language:?} {watch:?}");
    }
}
