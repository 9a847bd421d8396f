//! How fast libxl-json is read and written: a line `read MB/s` or `write MB/s` for each round, in turn.
//!
//! `cargo bench --package xlsnap-types --bench libxl_json -- 21` runs that many rounds; without a number, one.

use std::hint::black_box;
use std::time::Instant;

use xlsnap_types::libxl::{DiskSnapshot, DomainSnapshot, Mode};

/// A snapshot of two disks is some 500 bytes: each round takes this many, as a store of many snapshots has them.
const RECORDS: usize = 10_000;

fn main() {
    let rounds = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(1_usize);
    let snapshots: Vec<DomainSnapshot> = (0..RECORDS).map(snapshot).collect();
    let texts: Vec<String> = snapshots.iter().map(DomainSnapshot::to_json).collect();
    let megabytes = texts.iter().map(String::len).sum::<usize>() as f64 / 1e6;
    for _ in 0..rounds {
        let start = Instant::now();
        for text in &texts {
            let read = DomainSnapshot::from_json(black_box(text.as_bytes()), Mode::Strict);
            black_box(read.expect("it reads what it wrote"));
        }
        println!("read {:.1}", megabytes / start.elapsed().as_secs_f64());

        let start = Instant::now();
        for snapshot in &snapshots {
            black_box(black_box(snapshot).to_json());
        }
        println!("write {:.1}", megabytes / start.elapsed().as_secs_f64());
    }
}

fn snapshot(number: usize) -> DomainSnapshot {
    let name = format!("nightly-{number}");
    let disk = |device: &str| DiskSnapshot {
        device: Some(device.to_owned()),
        name: Some(name.clone()),
        file: Some(String::new()),
        path: Some(String::new()),
        ..DiskSnapshot::default()
    };
    DomainSnapshot {
        disks: vec![disk("xvda"), disk("xvdb")],
        creation_time: 1_795_464_000 + number as u64,
        description: Some("before the \"big\" upgrade of\t2026, grüße".to_owned()),
        memory: Some(String::new()),
        running: true,
        name: Some(name),
        ..DomainSnapshot::default()
    }
}
