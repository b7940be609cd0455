//! A TCP connection that can be cut: after so many more bytes nothing comes any more, wherever in a frame that is.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

#[derive(Debug)]
pub struct Line {
    stream: TcpStream,
    /// The bytes that may still come; `None`: all that do.
    left: Option<usize>,
    read: usize,
    /// How much of the empty line that ends an HTTP head came last.
    matched: usize,
    head: Option<usize>,
}

impl Line {
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            left: None,
            read: 0,
            matched: 0,
            head: None,
        })
    }

    /// Lets so many more bytes come; then reading fails.
    pub fn allow(&mut self, bytes: usize) {
        self.left = Some(bytes);
    }

    /// The bytes that came after the head of the HTTP response.
    #[must_use]
    pub fn body(&self) -> usize {
        self.read - self.head.unwrap_or(self.read)
    }

    /// Ends with a reset in the place of an orderly end.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn reset(self) -> std::io::Result<()> {
        self.stream.set_zero_linger()
    }

    fn saw(&mut self, bytes: &[u8]) {
        const END: &[u8; 4] = b"\r\n\r\n";
        for byte in bytes {
            self.read += 1;
            if self.head.is_some() {
                continue;
            }
            self.matched = match *byte {
                byte if byte == END[self.matched] => self.matched + 1,
                b'\r' => 1,
                _ => 0,
            };
            if self.matched == END.len() {
                self.head = Some(self.read);
            }
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.left == Some(0) {
            return Poll::Ready(Err(Error::new(ErrorKind::ConnectionAborted, "cut")));
        }
        let most = self.left.unwrap_or(usize::MAX).min(buffer.remaining());
        let mut part = buffer.take(most);
        let polled = Pin::new(&mut self.stream).poll_read(context, &mut part);
        let bytes = part.filled().to_vec();
        self.saw(&bytes);
        if let Some(left) = &mut self.left {
            *left -= bytes.len();
        }

        buffer.put_slice(&bytes);
        polled
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
