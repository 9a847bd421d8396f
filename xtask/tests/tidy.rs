//! The rules of the tree hold.

#[test]
fn the_tree_is_tidy() {
    if let Err(failure) = xtask::tidy::tidy() {
        panic!("{failure}");
    }
}

#[test]
fn no_crate_depends_on_a_higher_layer() {
    if let Err(failure) = xtask::tidy::layers() {
        panic!("{failure}");
    }
}
