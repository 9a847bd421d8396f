//! C programs against the library: compiled, linked and run as their authors would, and under valgrind and AddressSanitizer.

mod compiler;
mod design;
mod domain;
mod examples;
mod fixture;
mod header;
mod invalid;
mod layout;
mod libxl;
mod structs;
mod symbols;
