//! What people see.

pub(crate) mod chain;
pub(crate) mod forest;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod text;
pub(crate) mod time;
pub(crate) mod words;
