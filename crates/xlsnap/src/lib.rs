//! xlsnap.
