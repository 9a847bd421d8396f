//! Runs every seed of every target, and keeps the places where a target is named in step.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use xlsnap_fuzz::TARGETS;

#[test]
fn every_seed_passes() {
    let mut failed = Vec::new();
    for (name, target) in TARGETS {
        for seed in files(&Path::new("seeds").join(name)) {
            let data = fs::read(&seed).unwrap();
            if catch_unwind(|| target(&data)).is_err() {
                failed.push(seed);
            }
        }
    }
    assert!(failed.is_empty(), "these seeds failed, each as printed above: {failed:#?}");
}

#[test]
fn every_target_has_its_row_shell_and_seeds() {
    let rows: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names_in("seeds"), rows, "the directories of seeds/ (left) and the rows of TARGETS (right)");
    assert_eq!(
        names_in("fuzz_targets"),
        rows,
        "the files of fuzz_targets/ (left) and the rows of TARGETS (right)"
    );
    let manifest = fs::read_to_string("Cargo.toml").unwrap();
    for name in &rows {
        assert!(!files(&Path::new("seeds").join(name)).is_empty(), "seeds/{name} has no seed");
        let bin = format!(
            "name = \"{name}\"\npath = \"fuzz_targets/{name}.rs\"\nrequired-features = [\"libfuzzer\"]\n"
        );
        assert!(manifest.contains(&bin), "Cargo.toml has no [[bin]] with\n{bin}");
    }
}

fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn names_in(directory: &str) -> BTreeSet<String> {
    files(Path::new(directory))
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}
