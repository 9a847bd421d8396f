//! libxl-json against recordings of libxl itself.

mod vectors;
