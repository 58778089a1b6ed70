//! Names that marathon-lb gives, which its consumers look for.

use std::fmt::Write as _;

use sha1::{Digest as _, Sha1};

/// HAProxy's name of a backend: the app's id without its first slash, slashes as underscores, and
/// the service port.
#[must_use]
pub fn backend_name(app: &str, port: u16) -> String {
    let name = app.strip_prefix('/').unwrap_or(app);
    format!("{}_{port}", name.replace('/', "_"))
}

/// HAProxy's name of a server: host, address (unless it is the same) and port, with an underscore for
/// all but letters, digits and `-`.
#[must_use]
pub fn server_name(host: &str, address: &str, port: u16) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let whole = if host == address {
        format!("{address}_{port}")
    } else {
        format!("{host}_{address}_{port}")
    };
    whole.chars().map(plain).collect()
}

/// The value that marathon-lb's cookie has for the server of this name: ten hexadecimal digits of
/// its SHA-1.
#[must_use]
pub fn cookie_value(server: &str) -> String {
    let mut text = String::with_capacity(10);
    for byte in Sha1::digest(server.as_bytes()).iter().take(5) {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_marathon_lb() {
        assert_eq!(backend_name("/prod/shop/web", 10_001), "prod_shop_web_10001");
        assert_eq!(
            server_name("srv4.example.com", "10.0.0.4", 31_001),
            "srv4_example_com_10_0_0_4_31001"
        );
        assert_eq!(server_name("10.0.0.4", "10.0.0.4", 31_001), "10_0_0_4_31001");
        // printf '10_0_0_4_31001' | sha1sum
        assert_eq!(cookie_value("10_0_0_4_31001"), "9d96a7c415");
    }
}
