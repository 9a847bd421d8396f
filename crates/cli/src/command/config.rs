//! The user's `KEY=VALUE` file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use xlsnap::CreateRequest;
use xlsnap_types::config::UserConfig;

use crate::exit::Exit;
use crate::failure::Failure;

/// The request that the file at `path` makes.
pub(crate) fn read(path: &Path) -> Result<CreateRequest, Failure> {
    let shown = path.display();
    let text = read_limited(path).map_err(|e| {
        let exit = if e.kind() == io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        Failure::new(exit, format!("cannot read the configuration file {shown}")).because(&e)
    })?;
    let config = UserConfig::parse(&text).map_err(|e| {
        Failure::usage(format!("the configuration file {shown} is not understood")).because(&e)
    })?;
    Ok(xlsnap::create_request(config))
}

/// One byte more than is allowed is enough to tell that there is more.
fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(UserConfig::MAX_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}
