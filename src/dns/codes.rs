//! Numbers of types and of response codes.

/// Types of records that have a meaning here.
pub mod rtype {
    /// IPv4 address (RFC 1035).
    pub const A: u16 = 1;
    /// Name server (RFC 1035).
    pub const NS: u16 = 2;
    /// Canonical name (RFC 1035).
    pub const CNAME: u16 = 5;
    /// Start of a zone (RFC 1035).
    pub const SOA: u16 = 6;
    /// Name of an address (RFC 1035).
    pub const PTR: u16 = 12;
    /// Mail exchanger (RFC 1035).
    pub const MX: u16 = 15;
    /// Text (RFC 1035).
    pub const TXT: u16 = 16;
    /// IPv6 address (RFC 3596).
    pub const AAAA: u16 = 28;
    /// Service (RFC 2782).
    pub const SRV: u16 = 33;
    /// Carrier of EDNS (RFC 6891).
    pub const OPT: u16 = 41;
    /// HTTPS binding; only counted, never served.
    pub const HTTPS: u16 = 65;
    /// Incremental transfer (RFC 1995).
    pub const IXFR: u16 = 251;
    /// Full transfer (RFC 5936).
    pub const AXFR: u16 = 252;
    /// Any type (RFC 8482).
    pub const ANY: u16 = 255;
}

/// Response codes that are sent here.
pub mod rcode {
    /// All is well.
    pub const NOERROR: u16 = 0;
    /// The question cannot be read.
    pub const FORMERR: u16 = 1;
    /// The answer is not known now.
    pub const SERVFAIL: u16 = 2;
    /// There is no such name.
    pub const NXDOMAIN: u16 = 3;
    /// This kind of question is not served.
    pub const NOTIMP: u16 = 4;
    /// Not for you, or not here.
    pub const REFUSED: u16 = 5;
    /// This zone is not served here (RFC 2136 §2.2).
    pub const NOTAUTH: u16 = 9;
    /// Unknown EDNS version (RFC 6891 §9).
    pub const BADVERS: u16 = 16;
    /// Come again with the cookie that goes with this (RFC 7873 §8).
    pub const BADCOOKIE: u16 = 23;
}
