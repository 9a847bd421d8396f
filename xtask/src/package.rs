//! `cargo xtask package`: what would be uploaded, built alone.

use crate::command::{cargo, run};
use crate::{Done, Echo};

/// Packages every published crate and builds each from its package, so with its own features only.
///
/// # Errors
/// What cargo says.
pub fn package(echo: Echo) -> Done {
    run(
        echo,
        cargo("package --quiet --workspace --exclude xtask --exclude xlsnap-testkit --locked --allow-dirty"),
    )
}
