//! What a listener allows the client of one request.

use super::chunks::Trailers;
use super::slow::Least;

/// On which terms a request is carried.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// What becomes of trailers.
    pub trailers: Trailers,
    /// How slow its body may be.
    pub body: Least,
    /// How slowly its answer may be taken.
    pub send: Least,
    /// A client that has ended its own side still gets its answer.
    pub answer_half_closed: bool,
    /// Nothing that follows it is taken for another request.
    pub last: bool,
}

impl Default for Terms {
    /// Those of a connection that has had no request yet.
    fn default() -> Self {
        let any = Least { rate: 0, over: std::time::Duration::ZERO };
        let trailers = Trailers::Refused;
        Self { trailers, body: any, send: any, answer_half_closed: false, last: false }
    }
}
