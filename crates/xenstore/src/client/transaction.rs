//! A transaction of a client.

use async_trait::async_trait;

use super::handle::Client;
use crate::session::{Request, TransactionId};
use crate::{Error, Nodes, Path, Transaction};

/// A transaction that was begun and not ended.
#[derive(Debug)]
pub(super) struct Open<'a> {
    client: &'a Client,
    id: TransactionId,
    ended: bool,
}

impl<'a> Open<'a> {
    pub(super) fn new(client: &'a Client, id: TransactionId) -> Self {
        Self { client, id, ended: false }
    }
}

#[async_trait]
impl Nodes for Open<'_> {
    async fn read(&self, path: &Path) -> Result<Vec<u8>, Error> {
        self.client.read_within(path, Some(self.id)).await
    }

    async fn directory(&self, path: &Path) -> Result<Vec<String>, Error> {
        self.client.directory_within(path, Some(self.id)).await
    }

    async fn write(&self, path: &Path, value: &[u8]) -> Result<(), Error> {
        self.client.done(Request::Write(path.clone(), value.to_vec()), Some(self.id)).await
    }

    async fn make_directory(&self, path: &Path) -> Result<(), Error> {
        self.client.done(Request::MakeDirectory(path.clone()), Some(self.id)).await
    }

    async fn remove(&self, path: &Path) -> Result<(), Error> {
        self.client.done(Request::Remove(path.clone()), Some(self.id)).await
    }
}

#[async_trait]
impl Transaction for Open<'_> {
    async fn commit(mut self: Box<Self>) -> Result<(), Error> {
        // Whatever comes of it, the number is xenstored's again, so that it must not be sent a second time.
        self.ended = true;
        self.client.done(Request::End { commit: true }, Some(self.id)).await
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.client.tidy_up(Request::End { commit: false }, Some(self.id));
        }
    }
}
