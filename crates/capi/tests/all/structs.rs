//! The structs, their memory and their JSON, as a C program has them.

use crate::compiler::{Program, here, ways};

#[test]
fn init_dispose_copy_and_json() {
    for (language, watch) in ways() {
        Program::watched(&here("tests/c/structs.c"), language, &[], watch).run(&[]);
    }
}
