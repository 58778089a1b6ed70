//! Why a request is not carried, and the answer that says so.

/// A request that is answered here with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Status of the answer.
    pub status: u16,
    /// One word for metrics and logs.
    pub reason: &'static str,
    /// A sentence for the client.
    pub message: &'static str,
}

impl Refusal {
    pub(crate) const fn new(status: u16, reason: &'static str, message: &'static str) -> Self {
        Self { status, reason, message }
    }

    /// The whole answer in HTTP/1.1, after which the connection is closed.
    #[must_use]
    pub fn answer(&self) -> String {
        format!(
            "HTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
             Connection: close\r\n\r\n{message}\n",
            status = self.status,
            phrase = phrase(self.status),
            length = self.message.len() + 1,
            message = self.message,
        )
    }
}

/// The reason phrase of the few statuses that we answer by ourselves (RFC 9110 §15).
#[must_use]
pub const fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "Error",
    }
}
