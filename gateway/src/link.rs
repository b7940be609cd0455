//! A connection's bytes. Whoever takes none of those that wait for them, for as long as that, has none: writing fails, and
//! what held the connection lets go of it. What the connection has taken is free again when the last who holds it is gone.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// `P` is what the connection has taken: an upgrade outlives the request that asked for it, and takes this along.
#[derive(Debug)]
pub(crate) struct Link<S, P> {
    stream: S,
    patience: Duration,
    /// When it is over; only while a write waits.
    over: Option<Pin<Box<Sleep>>>,
    _places: P,
}

impl<S, P> Link<S, P> {
    pub(crate) fn new(stream: S, patience: Duration, places: P) -> Self {
        Self {
            stream,
            patience,
            over: None,
            _places: places,
        }
    }

    /// What a write has come to.
    fn wrote<T>(&mut self, context: &mut Context<'_>, polled: Poll<Result<T>>) -> Poll<Result<T>> {
        if polled.is_ready() {
            self.over = None;
            return polled;
        }
        let patience = self.patience;
        let over = self.over.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(over.as_mut().poll(context));
        let words = "the client takes nothing any more";
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, words)))
    }
}

impl<S: AsyncRead + Unpin, P: Unpin> AsyncRead for Link<S, P> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin, P: Unpin> AsyncWrite for Link<S, P> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let link = self.get_mut();
        let polled = Pin::new(&mut link.stream).poll_write(context, bytes);
        link.wrote(context, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[std::io::IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let link = self.get_mut();
        let polled = Pin::new(&mut link.stream).poll_write_vectored(context, parts);
        link.wrote(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let link = self.get_mut();
        let polled = Pin::new(&mut link.stream).poll_flush(context);
        // Nothing waits: a write that does says so itself, and it is its time that counts.
        match polled {
            Poll::Ready(flushed) => Poll::Ready(flushed),
            Poll::Pending => link.wrote(context, Poll::Pending),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let link = self.get_mut();
        let polled = Pin::new(&mut link.stream).poll_shutdown(context);
        link.wrote(context, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, advance, timeout};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_takes_fails_after_its_time() {
        let (ours, _theirs) = duplex(16);
        let mut link = Link::new(ours, PATIENCE, ());
        let start = Instant::now();
        let error = link.write_all(&[0; 64]).await.expect_err("nobody reads");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!((30..=31).contains(&start.elapsed().as_secs()));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_a_little_in_time_is_waited_for() {
        let (ours, mut theirs) = duplex(16);
        let mut link = Link::new(ours, PATIENCE, ());
        let writes = async {
            link.write_all(&[0; 64]).await.expect("it is read");
            drop(link);
        };
        let reads = async {
            let (mut read, mut part) = (0, [0; 8]);
            loop {
                advance(PATIENCE - Duration::from_secs(1)).await;
                match theirs.read(&mut part).await.expect("readable") {
                    0 => return read,
                    more => read += more,
                }
            }
        };
        let ((), read) = tokio::join!(writes, reads);
        assert_eq!(read, 64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_connection_has_all_the_time_there_is() {
        let (ours, mut theirs) = duplex(16);
        let mut link = Link::new(ours, PATIENCE, ());
        link.write_all(b"a").await.expect("room");
        let quiet = timeout(100 * PATIENCE, link.read_u8()).await;
        assert!(quiet.is_err(), "nothing came");
        link.write_all(b"b").await.expect("room");
        let mut both = [0; 2];
        theirs.read_exact(&mut both).await.expect("both");
        assert_eq!(&both, b"ab");
    }
}
