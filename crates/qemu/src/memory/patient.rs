//! A monitor that is waited for as long as it takes.

use std::time::Duration;

use serde_json::{Map, Value};
use xlsnap_qmp_transport::{Client, Error, EventStream, Qmp, async_trait};

/// Forwards to a client, without a time-out: while QEMU's main loop works, its monitor answers nothing.
pub(super) struct Patient<'a>(pub(super) &'a Client);

#[async_trait]
impl Qmp for Patient<'_> {
    async fn execute_raw(&self, command: &str, arguments: Map<String, Value>) -> Result<Value, Error> {
        self.0.execute_within(command, arguments, Duration::MAX).await
    }

    fn events(&self) -> EventStream {
        self.0.events()
    }

    fn version(&self) -> (u32, u32, u32) {
        self.0.version()
    }
}
