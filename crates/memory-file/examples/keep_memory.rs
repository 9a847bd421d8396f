//! Keeps what comes from standard input in a memory file, verifies it and removes it: `cargo run --example keep_memory -- DIRECTORY NAME`.

use std::error::Error;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use xlsnap_memory_file::{Header, MemoryFile, MissingDirectory, Packing, Recorded};

/// A token that no other operation has.
fn token() -> String {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("{}x{}", std::process::id(), since.as_nanos())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(name), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: keep_memory DIRECTORY NAME".into());
    };
    let file = MemoryFile::in_directory(directory.as_ref(), &name)?;
    let place = file.place(MissingDirectory::Refuse).await?;
    if let Some(obstacle) = place.obstacle {
        return Err(obstacle.into());
    }

    let (ours, mut theirs) = UnixStream::pair()?;
    let mut receiving = file.stage(&token())?.receive(ours, Packing::Zstd)?;
    io::copy(&mut io::stdin().lock(), &mut theirs)?;
    theirs.flush()?;
    drop(theirs);
    let sealed = receiving.within(Duration::MAX).await.ok_or("it goes on for ever")??;
    let recorded =
        Recorded { bytes: sealed.bytes(), checksum: Some(sealed.checksum()), packing: Packing::Zstd };
    sealed.publish().await?;
    println!("{} bytes, {}", recorded.bytes, file.path().display());

    let opened = file.open(&recorded).await?;
    match opened.header().await {
        Ok(Header::Qemu { machine }) => {
            println!("QEMU, {}", machine.as_deref().unwrap_or("a machine before 2.4"))
        }
        Ok(Header::Xl { .. }) => println!("xl"),
        Err(error) => println!("{error}"),
    }
    opened.verify(|_| {}).await?;
    file.remove().await?;
    println!("verified and removed");
    Ok(())
}
