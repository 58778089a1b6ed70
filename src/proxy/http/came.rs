//! The head of a request as it came, kept for the line of one that is cut: what the library read of
//! it is gone by then.

use bytes::Bytes;
use http::request::Parts;

/// A head that may be told of later.
#[derive(Debug, Clone, Default)]
pub enum Came {
    /// Nothing is kept where there is no log.
    #[default]
    Nothing,
    /// The bytes of HTTP/1.1.
    Bytes(Bytes),
    /// What a stream of HTTP/2 brought.
    Parts(Box<Parts>),
}

impl Came {
    /// Keeps the bytes of a head.
    #[must_use]
    pub fn bytes(head: &[u8]) -> Self {
        Self::Bytes(Bytes::copy_from_slice(head))
    }

    /// Keeps what a log tells of a head.
    #[must_use]
    pub fn parts(head: &Parts) -> Self {
        let mut parts = http::Request::new(()).into_parts().0;
        parts.method = head.method.clone();
        parts.uri = head.uri.clone();
        parts.version = head.version;
        parts.headers = head.headers.clone();
        Self::Parts(Box::new(parts))
    }

    /// Method, version and header, and the target as it was sent.
    pub(super) fn read(&self) -> (Parts, Vec<u8>) {
        match self {
            Self::Nothing => (http::Request::new(()).into_parts().0, Vec::new()),
            Self::Bytes(head) => read_again(head),
            Self::Parts(parts) => {
                let target = parts.uri.path_and_query().map_or("*", |target| target.as_str());
                ((**parts).clone(), target.as_bytes().to_vec())
            }
        }
    }
}

/// Reads a head that was read before.
fn read_again(head: &[u8]) -> (Parts, Vec<u8>) {
    let mut parts = http::Request::new(()).into_parts().0;
    let mut headers = [httparse::EMPTY_HEADER; 255];
    let mut request = httparse::Request::new(&mut headers);
    if !matches!(request.parse(head), Ok(httparse::Status::Complete(_))) {
        return (parts, Vec::new());
    }
    if let Some(method) = request.method.and_then(|method| method.parse().ok()) {
        parts.method = method;
    }
    if request.version == Some(0) {
        parts.version = http::Version::HTTP_10;
    }
    for line in request.headers.iter() {
        let name = http::HeaderName::from_bytes(line.name.as_bytes());
        let value = http::HeaderValue::from_bytes(line.value);
        if let (Ok(name), Ok(value)) = (name, value) {
            parts.headers.append(name, value);
        }
    }
    (parts, request.path.unwrap_or_default().as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_tells_the_same_whatever_it_came_by() {
        let bytes = Came::bytes(b"PUT /a?b HTTP/1.0\r\nHost: a\r\nX: 1\r\nX: 2\r\n\r\n");
        let request = http::Request::put("http://a/a?b").version(http::Version::HTTP_2);
        let request = request.header("x", "1").header("x", "2").body(()).unwrap();
        let parts = Came::parts(&request.into_parts().0);
        for (came, version) in [(bytes, http::Version::HTTP_10), (parts, http::Version::HTTP_2)] {
            let (head, target) = came.read();
            assert_eq!((head.method.as_str(), head.version), ("PUT", version));
            assert_eq!(target, b"/a?b");
            assert_eq!(head.headers.get_all("x").iter().count(), 2);
        }
        assert_eq!(Came::Nothing.read().1, b"");
    }
}
