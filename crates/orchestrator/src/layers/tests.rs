//! Tidying, on trees that are made up here.
