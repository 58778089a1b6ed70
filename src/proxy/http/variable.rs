//! What the value of a header line can stand for: facts about the request, by the names that nginx
//! has for them.

use std::net::IpAddr;

use bytes::Bytes;
use http::HeaderValue;

/// A fact about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variable {
    /// `$host`: the host that was asked for, in lower case, without port and final dot.
    Host,
    /// `$scheme`: `https` for what came by TLS, else `http`.
    Scheme,
    /// `$server_port`: the port that was connected to.
    ServerPort,
    /// `$remote_addr`: the client's address, as far as trusted proxies tell it.
    RemoteAddr,
}

/// Each by its name, in the order in which they are told of.
const NAMES: [(&str, Variable); 4] = [
    ("$host", Variable::Host),
    ("$scheme", Variable::Scheme),
    ("$server_port", Variable::ServerPort),
    ("$remote_addr", Variable::RemoteAddr),
];

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// The same for every request.
    Fixed(HeaderValue),
    /// A fact about the request.
    Of(Variable),
}

/// What is known about one request.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// `Host`, as it came; `""` without one.
    pub host: &'a str,
    /// The port that was connected to.
    pub port: u16,
    /// The client's address.
    pub client: IpAddr,
    /// Whether it came by TLS.
    pub secure: bool,
}

impl Value {
    /// Reads a value as it is written: a variable when it is nothing but `$` and a name of lower-case
    /// letters and underscores, else itself.
    ///
    /// # Errors
    /// Nobody knows a variable of that name, or no header can have the value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix('$').filter(|name| !name.is_empty());
        if name
            .is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
        {
            let found = NAMES.iter().find(|(known, _)| *known == text);
            return found.map(|(_, variable)| Self::Of(*variable)).ok_or_else(|| {
                let known: Vec<&str> = NAMES.iter().map(|(known, _)| *known).collect();
                format!("stands for nothing; known are {}", known.join(", "))
            });
        }
        HeaderValue::from_str(text)
            .map(Self::Fixed)
            .map_err(|_| "has a character that no header can have; printable ASCII only".to_owned())
    }

    /// What stands there for a request; `None` when there is nothing to say, and no line is written
    /// then.
    #[must_use]
    pub fn of(&self, about: Option<&About<'_>>) -> Option<HeaderValue> {
        let variable = match self {
            Self::Fixed(value) => return Some(value.clone()),
            Self::Of(variable) => variable,
        };
        let about = about?;
        let text = match variable {
            Variable::Host => host(about.host),
            Variable::Scheme => return Some(scheme(about.secure)),
            Variable::ServerPort => about.port.to_string(),
            Variable::RemoteAddr => about.client.to_canonical().to_string(),
        };
        HeaderValue::from_maybe_shared(Bytes::from(text)).ok().filter(|value| !value.is_empty())
    }
}

/// `http`, or `https` when it came by TLS.
#[must_use]
pub const fn scheme(secure: bool) -> HeaderValue {
    HeaderValue::from_static(if secure { "https" } else { "http" })
}

/// Nginx's `$host`.
fn host(told: &str) -> String {
    let end = match told.rfind(']') {
        Some(bracket) => bracket + 1,
        None => told.find(':').unwrap_or(told.len()),
    };
    let name = &told[..end];
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_says_of_a_request_what_nginx_says() {
        for (text, host, want) in [
            ("$host", "Shop.Example:8080", Some("shop.example")),
            ("$host", "shop.example.", Some("shop.example")),
            ("$host", "[::1]:80", Some("[::1]")),
            ("$host", "[::1]", Some("[::1]")),
            ("$host", "", None),
            ("$scheme", "a", Some("http")),
            ("$server_port", "a", Some("8080")),
            ("$remote_addr", "a", Some("192.0.2.1")),
            ("plain", "a", Some("plain")),
            ("", "a", Some("")),
            ("$", "a", Some("$")),
            ("$5", "a", Some("$5")),
            ("to $host", "a", Some("to $host")),
        ] {
            let client = "::ffff:192.0.2.1".parse().unwrap();
            let about = About { host, port: 8080, client, secure: false };
            let value = Value::parse(text).unwrap().of(Some(&about));
            let told = value.as_ref().map(|value| value.to_str().unwrap());
            assert_eq!(told, want, "{text} of {host:?}");
        }
        assert_eq!([scheme(false), scheme(true)], ["http", "https"]);
    }

    #[test]
    fn what_stands_for_nothing_is_refused_with_what_is_known() {
        let told = Value::parse("$hosts").unwrap_err();
        assert!(told.contains("known are $host, $scheme"), "{told}");
        assert!(Value::parse("a\nb").is_err());
    }
}
