//! Reading and writing libxl-json.

use super::all::Bench;
use super::promise::{Line, Promise};
use super::sample::Sample;
use crate::Failure;
use crate::command::{cargo, output};

/// Runs the benchmark of the crate, in whose process nothing else is measured, and takes its numbers.
pub(super) fn json(bench: &Bench) -> Result<Vec<Line>, Failure> {
    let profile = if bench.smoke { "--profile dev" } else { "" };
    let rounds = bench.rounds;
    let text = output(cargo(&format!(
        "bench --quiet {profile} --locked --package xlsnap-types --bench libxl_json -- {rounds}"
    )))?;
    let text = String::from_utf8_lossy(&text);
    ["read", "write"]
        .into_iter()
        .map(|what| {
            let speeds: Vec<f64> = text
                .lines()
                .filter_map(|line| line.strip_prefix(what)?.trim().parse().ok())
                .filter(|speed: &f64| speed.is_finite())
                .collect();
            if speeds.is_empty() {
                return Err(Failure(format!("the benchmark of libxl-json says nothing of {what}: {text}")));
            }
            Ok(Line::new(&format!("{what} (MB/s)"), Sample::new(speeds), Promise::AtLeast(100.0)))
        })
        .collect()
}
