//! A URL that somebody asks about: a request, or the hello of a client of TLS.

use http::Uri;

/// The URL in its parts.
pub(super) struct Asked {
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) secure: bool,
    pub(super) path: String,
    pub(super) query: String,
}

impl Asked {
    /// The host without its port.
    pub(super) fn name(&self) -> &str {
        match self.host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &self.host,
        }
    }

    /// Reads `url`; an error says how to write one.
    pub(super) fn read(url: &str) -> Result<Self, String> {
        let refuse = || format!("{url:?} is no URL; write it as http://host/path");
        let plain = &url[..url.find('#').unwrap_or(url.len())];
        let uri: Uri = plain.parse().map_err(|_| refuse())?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(refuse()),
        };
        let authority = uri.authority().ok_or_else(refuse)?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(refuse());
        }
        Ok(Self {
            host: authority.as_str().to_owned(),
            port: uri.port_u16(),
            secure,
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
        })
    }
}

/// What a client of TLS would ask for: `tls://name:port?alpn=h2,http/1.1`.
pub(super) struct AskedHello {
    /// None: it names nothing.
    pub(super) name: Option<String>,
    pub(super) port: Option<u16>,
    /// As ALPN sends it: each with its length before it.
    pub(super) protocols: Vec<u8>,
}

impl AskedHello {
    /// Reads `url`; none when it is one of another kind. An error says how to write one.
    pub(super) fn read(url: &str) -> Result<Option<Self>, String> {
        let Some(rest) = url.strip_prefix("tls://") else { return Ok(None) };
        let refuse = || {
            format!(
                "{url:?} is no hello of TLS; write it as tls://name:port or \
                 tls://name:port?alpn=h2,http/1.1, without a name for a client that names nothing"
            )
        };
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let place = place.strip_suffix('/').unwrap_or(place);
        let (name, port) = match place.rsplit_once(':') {
            // An address of IPv6 has colons of its own.
            Some((name, port)) if !port.ends_with(']') => {
                (name, Some(port.parse().map_err(|_| refuse())?))
            }
            _ => (place, None),
        };
        if name.contains(['/', '@', '#', ' ']) {
            return Err(refuse());
        }
        // An address is not sent.
        let address = name.starts_with('[') || name.parse::<std::net::IpAddr>().is_ok();
        let mut protocols = Vec::new();
        if !query.is_empty() {
            for protocol in query.strip_prefix("alpn=").ok_or_else(refuse)?.split(',') {
                let length = u8::try_from(protocol.len()).ok().filter(|length| *length > 0);
                protocols.push(length.ok_or_else(refuse)?);
                protocols.extend(protocol.bytes());
            }
        }
        let name = (!name.is_empty() && !address).then(|| name.to_owned());
        Ok(Some(Self { name, port, protocols }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_a_name_a_port_and_protocols_of_which_each_may_be_missing() {
        for (url, name, port, protocols) in [
            ("tls://a.example", Some("a.example"), None, &b""[..]),
            ("tls://a.example:443/", Some("a.example"), Some(443), b""),
            ("tls://a.example:443?alpn=h2,x", Some("a.example"), Some(443), b"\x02h2\x01x"),
            ("tls://:443", None, Some(443), b""),
            ("tls://", None, None, b""),
            ("tls://192.0.2.1:443", None, Some(443), b""),
            ("tls://[2001:db8::1]:443", None, Some(443), b""),
            ("tls://[2001:db8::1]", None, None, b""),
        ] {
            let read = AskedHello::read(url).unwrap().unwrap();
            assert_eq!((read.name.as_deref(), read.port), (name, port), "{url}");
            assert_eq!(read.protocols, protocols, "{url}");
        }
        assert!(AskedHello::read("https://a.example/").unwrap().is_none());
        for url in ["tls://a:b", "tls://a/b", "tls://a?x=1", "tls://a?alpn=", "tls://u@a"] {
            let told = AskedHello::read(url).err();
            assert!(told.is_some_and(|told| told.contains("tls://name:port")), "{url}");
        }
    }
}
