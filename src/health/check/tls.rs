//! `check.tls`: the handshake succeeds, with a certificate that is valid for a while.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::super::tracker::{Observation, Outcome};
use super::secure::{Secure, TlsConfig};
use super::{Ask, Kind, Target, check_config};
use crate::units::Period;

const fn yes() -> bool {
    true
}

check_config! {
    /// `[service.NAME] check.tls`.
    pub struct Config {
        /// Whom the certificate must be for, and what is asked for by SNI.
        pub server_name: Option<String>,
        /// False: any certificate will do.
        #[serde(default = "yes")]
        pub verify: bool,
        /// Authorities to believe, in PEM.
        pub ca_file: Option<PathBuf>,
        /// A certificate that expires sooner is a warning.
        pub min_validity: Option<Period>,
    }
}

/// Shakes hands and looks at the certificate.
#[derive(Debug)]
pub(super) struct Probe {
    secure: Secure,
    min_validity: Option<Duration>,
}

impl Kind for Config {
    type Probe = Probe;

    fn ca_file(&self) -> Option<&Path> {
        self.ca_file.as_deref()
    }

    fn compile(&self, base_dir: &Path) -> Result<Probe, (&'static str, String)> {
        let config = TlsConfig {
            server_name: self.server_name.clone(),
            verify: self.verify,
            ca_file: self.ca_file.clone(),
        };
        let secure = Secure::compile(&config, base_dir, &[])?;
        Ok(Probe { secure, min_validity: self.min_validity.map(|period| period.0) })
    }
}

impl Ask for Probe {
    async fn ask(&self, target: &Target, _: Duration) -> Observation {
        let stream = match self.secure.connect(target).await {
            Ok(stream) => stream,
            Err(failed) => return failed,
        };
        let certificates = stream.get_ref().1.peer_certificates();
        let Some(certificate) = certificates.and_then(<[_]>::first) else {
            return Observation::failed("TLS: there is no certificate");
        };
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return Observation::failed("TLS: the certificate cannot be read");
        };
        let expires = certificate.validity().not_after.timestamp();
        validity(expires, SystemTime::now(), self.min_validity)
    }
}

/// What a certificate that expires at `expires`, in Unix seconds, is worth `now`.
fn validity(expires: i64, now: SystemTime, wanted: Option<Duration>) -> Observation {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let left = expires.saturating_sub(i64::try_from(now).unwrap_or(i64::MAX));
    let Some(wanted) = wanted else { return Observation::passed("shaken hands") };
    let days = left / 86_400;
    if left < i64::try_from(wanted.as_secs()).unwrap_or(i64::MAX) {
        let text = match left {
            ..0 => "the certificate has expired".to_owned(),
            _ => format!("the certificate expires within {} days", days + 1),
        };
        return Observation::new(Outcome::Warned, &text);
    }
    Observation::passed("shaken hands")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_expires_soon_is_a_warning_when_that_is_asked_for() {
        let week = Duration::from_secs(7 * 86_400);
        for (case, left, wanted, want) in [
            ("long enough", 30 * 86_400, Some(week), Outcome::Passed),
            ("soon", 86_400, Some(week), Outcome::Warned),
            ("expired", -5, Some(week), Outcome::Warned),
            ("nobody asks", 5, None, Outcome::Passed),
        ] {
            let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
            assert_eq!(validity(1_000_000 + left, now, wanted).outcome, want, "{case}");
        }
    }
}
