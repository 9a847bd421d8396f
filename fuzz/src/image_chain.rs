use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use futures_util::FutureExt;
use tempfile::TempDir;
use xlsnap_qemu_img::{ChainEnd, Image, MAX_DEPTH, QemuImg, chain};

use crate::headers::Headers;

/// More than a chain may have layers.
const FILES: usize = MAX_DEPTH + 8;

/// The files are empty: what their headers say is in the input.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        for at in 0..FILES {
            fs::write(directory.path().join(at.to_string()), "").expect("a file can be written");
        }
        Self { directory }
    }
}

thread_local! {
    static FILES_OF_THREAD: Files = Files::new();
}

/// A chain of hostile headers: it is followed to an end that is told right, whatever they name. The first byte says whether each file
/// stands on the next one; each line of the rest is a file's number and what its header names instead.
pub fn image_chain(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    FILES_OF_THREAD.with(|files| {
        let path = |at: usize| files.directory.path().join(at.to_string());
        let mut named = HashMap::new();
        if mode % 2 == 1 {
            named.extend((0..FILES - 1).map(|at| (path(at), (at + 1).to_string())));
        }
        for line in String::from_utf8_lossy(rest).lines() {
            let Some((at, name)) = line.split_once(' ') else { continue };
            let Some(at) = at.parse().ok().filter(|at| *at < FILES) else { continue };
            named.insert(path(at), name.to_owned());
        }
        follow(&path(0), &Headers(|file: &Path| named.get(file).cloned()));
    });
}

fn follow(top: &Path, headers: &dyn QemuImg) {
    let followed = chain(headers, &Image::new(top, "qcow2")).now_or_never().expect("nothing is waited for");
    let chain = followed.expect("every file that is there has a header");
    let (last, others) = chain.layers.split_last().expect("the top is a layer");
    let ids: HashSet<_> = others.iter().map(|layer| layer.id).collect();
    assert_eq!(ids.len(), others.len(), "no file is met twice before the end");
    assert!(chain.layers.len() <= MAX_DEPTH + 1);
    assert_eq!(ids.contains(&last.id), chain.end == ChainEnd::Cycle);
    let names = |layer: &xlsnap_qemu_img::Layer| layer.info.clone().and_then(|info| info.backing);
    assert!(others.iter().all(|layer| names(layer).is_some()));
    match &chain.end {
        ChainEnd::Base => assert!(last.info.is_some() && names(last).is_none()),
        ChainEnd::Foreign(name) => assert_eq!(names(last).map(|backing| backing.name).as_ref(), Some(name)),
        ChainEnd::Missing(file) => assert!(fs::metadata(file).is_err() && names(last).is_some()),
        ChainEnd::Cycle => assert!(last.info.is_none()),
        ChainEnd::TooDeep => assert!(last.info.is_none() && others.len() == MAX_DEPTH),
    }
}
