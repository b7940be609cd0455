//! Reads the files of TLS for whoever connects, one reading at a time: a file may hang, on a mount that is gone, and each try to
//! connect would leave a thread behind that hangs too.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::{BoxFuture, FutureExt, Shared};
use redis::{RedisResult, TlsCertificates};
use tokio::task::spawn_blocking;

use crate::{Encryption, encryption};

type Reading = Shared<BoxFuture<'static, RedisResult<TlsCertificates>>>;

/// The files of one way to Redis, whichever connection asks.
pub(crate) struct Files {
    encryption: Encryption,
    /// Only while it is under way: whoever comes later reads anew.
    reading: Mutex<Option<Reading>>,
}

impl Files {
    pub(crate) fn new(encryption: Encryption) -> Arc<Self> {
        Arc::new(Self {
            encryption,
            reading: Mutex::default(),
        })
    }

    /// What is in them. May hang; whoever does not wait any more leaves the reading to the next.
    pub(crate) async fn read(self: &Arc<Self>) -> RedisResult<TlsCertificates> {
        let reading = self
            .reading()
            .get_or_insert_with(|| Arc::clone(self).begin())
            .clone();
        reading.await
    }

    fn begin(self: Arc<Self>) -> Reading {
        let read = spawn_blocking(move || {
            let read = self.encryption.read();
            // It is kept before it can be over: whoever begins it holds the lock.
            self.reading().take();
            read.map_err(encryption::unusable)
        });
        let read = async move { read.await.map_err(io::Error::other)? };
        read.boxed().shared()
    }

    fn reading(&self) -> MutexGuard<'_, Option<Reading>> {
        // Nothing panics while it is held.
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
