//! The body of a request, as its stream brings it.

use bytes::Bytes;
use h2::RecvStream;

/// Why a body has no end.
#[derive(Debug)]
pub enum Broken {
    /// The stream or its connection ended.
    Stream(h2::Error),
    /// Trailers came with it, which are not carried.
    Trailers,
}

/// The body of a request. Its windows are given back as it is read.
#[derive(Debug)]
pub struct Incoming {
    body: RecvStream,
    read: usize,
    done: bool,
}

impl Incoming {
    /// Nothing of it has been read.
    #[must_use]
    pub fn new(body: RecvStream) -> Self {
        Self { done: body.is_end_stream(), body, read: 0 }
    }

    /// Whether its end has been read.
    #[must_use]
    pub const fn done(&self) -> bool {
        self.done
    }

    /// Bytes read.
    #[must_use]
    pub const fn read(&self) -> usize {
        self.read
    }

    /// The next piece, or none at its end. May be dropped and called again.
    ///
    /// # Errors
    /// It has no end; whoever gets it must not be told that it was all.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Broken> {
        if self.done {
            return Ok(None);
        }
        if let Some(piece) = self.body.data().await {
            let piece = piece.map_err(Broken::Stream)?;
            self.read += piece.len();
            // It fails when the stream is gone, which the next read tells.
            let _ = self.body.flow_control().release_capacity(piece.len());
            self.done = self.body.is_end_stream();
            return Ok(Some(piece));
        }
        match self.body.trailers().await.map_err(Broken::Stream)? {
            Some(trailers) if !trailers.is_empty() => Err(Broken::Trailers),
            _ => {
                self.done = true;
                Ok(None)
            }
        }
    }
}
