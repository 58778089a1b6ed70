//! Whether a request that failed at an endpoint is sent again. Pure; both lanes ask here.
//!
//! What may have arrived is sent a second time only where that does no harm: by an idempotent
//! method (RFC 9110 §9.2.2), before any of the answer went out, with a body that is still there.
//! All else is answered with an error instead.

use crate::proxy::config::{RetryConfig, RetryOn};
use crate::proxy::limit::metrics::Outcome;

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// No connection came about: nothing was sent.
    Connect,
    /// A connection that was kept from before turned out to be closed before anything was sent.
    Closed,
    /// A connection that was kept from before broke without an answer: most often the endpoint
    /// closed it at the same moment, and has read nothing.
    Stale,
    /// The endpoint says that it has not begun with it: the stream was refused, or came after the last
    /// one that it still looks at (RFC 9113 §8.7).
    Refused,
    /// The connection broke.
    Reset,
    /// No answer came in time.
    Timeout,
    /// This status was the answer.
    Status(u16),
}

/// What is known of the request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Doing it twice is the same as once, and it asks for no other protocol.
    pub idempotent: bool,
    /// Some of the answer has gone to the client.
    pub begun: bool,
    /// All of its body that was read is still there to be sent again.
    pub replayable: bool,
}

/// What is known of the attempts so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempts {
    /// Further endpoints that it was sent to.
    pub made: u8,
    /// This endpoint has had its new connection already.
    pub renewed: bool,
    /// There is an endpoint that was not tried.
    pub another: bool,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A new connection to the same endpoint.
    Renew,
    /// Another endpoint.
    Another,
    /// The client is told of the failure.
    Tell,
}

/// Whether a method is idempotent: sent twice it does what it does once (RFC 9110 §9.2.2).
#[must_use]
pub fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

/// What follows after an attempt that `failed`, and what to count. `budget` is asked last, for
/// one retry, and only where something may have been done already: neither connections that failed
/// nor those that were closed put more work on anybody.
#[must_use]
pub fn decide(
    failed: Failed,
    sent: Sent,
    attempts: Attempts,
    config: &RetryConfig,
    budget: impl FnOnce() -> bool,
) -> (Verdict, Option<Outcome>) {
    const TELL: Verdict = Verdict::Tell;
    if sent.begun {
        return (TELL, None);
    }
    let asked = config.attempts > 0 && asked_for(failed, &config.on);
    let harmless = matches!(failed, Failed::Connect | Failed::Closed | Failed::Refused);
    // What was refused has been sent: what of its body is gone can't be sent again.
    let whole = failed != Failed::Refused || sent.replayable;
    if matches!(failed, Failed::Closed | Failed::Refused) && !attempts.renewed && whole {
        return (Verdict::Renew, Some(Outcome::Stale));
    }
    if !asked {
        return (TELL, None);
    }
    let safe = harmless && whole || sent.idempotent && sent.replayable;
    if !safe {
        return (TELL, Some(Outcome::Unsafe));
    }
    if failed == Failed::Stale && !attempts.renewed {
        return (Verdict::Renew, Some(Outcome::Stale));
    }
    if attempts.made >= config.attempts || !attempts.another {
        return (TELL, Some(Outcome::Exhausted));
    }
    if !harmless && !budget() {
        return (TELL, Some(Outcome::Spent));
    }
    let outcome = match failed {
        Failed::Connect => Outcome::Connect,
        Failed::Closed | Failed::Stale | Failed::Refused | Failed::Reset => Outcome::Reset,
        Failed::Timeout => Outcome::Timeout,
        Failed::Status(_) => Outcome::Status,
    };
    (Verdict::Another, Some(outcome))
}

/// Whether the configuration wants such a failure tried again.
#[must_use]
pub fn asked_for(failed: Failed, on: &[RetryOn]) -> bool {
    let wanted = match failed {
        Failed::Connect => RetryOn::Connect,
        Failed::Closed | Failed::Stale | Failed::Refused | Failed::Reset => RetryOn::Reset,
        Failed::Timeout => RetryOn::Timeout,
        Failed::Status(502) => RetryOn::BadGateway,
        Failed::Status(503) => RetryOn::Unavailable,
        Failed::Status(504) => RetryOn::GatewayTimeout,
        Failed::Status(_) => return false,
    };
    on.contains(&wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Share;

    const ALL: [RetryOn; 6] = [
        RetryOn::Connect,
        RetryOn::Reset,
        RetryOn::Timeout,
        RetryOn::BadGateway,
        RetryOn::Unavailable,
        RetryOn::GatewayTimeout,
    ];
    const FAILURES: [Failed; 9] = [
        Failed::Connect,
        Failed::Closed,
        Failed::Stale,
        Failed::Refused,
        Failed::Reset,
        Failed::Timeout,
        Failed::Status(502),
        Failed::Status(503),
        Failed::Status(504),
    ];
    const FIRST: Attempts = Attempts { made: 0, renewed: false, another: true };
    const GET: Sent = Sent { idempotent: true, begun: false, replayable: true };
    const POST: Sent = Sent { idempotent: false, ..GET };

    fn config(attempts: u8, on: &[RetryOn]) -> RetryConfig {
        RetryConfig { attempts, budget: Share(0.2), on: on.to_vec() }
    }

    #[test]
    fn the_idempotent_methods_are_those_of_the_standard() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(is_idempotent(method), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "get", "PROPFIND", ""] {
            assert!(!is_idempotent(method), "{method}");
        }
    }

    #[test]
    fn each_failure_leads_where_it_should_by_default() {
        use Verdict::{Another, Renew, Tell};
        let config = RetryConfig::default();
        for (failed, of_get, of_post) in [
            (Failed::Connect, Another, Another),
            (Failed::Closed, Renew, Renew),
            (Failed::Stale, Renew, Tell),
            (Failed::Refused, Renew, Renew),
            (Failed::Reset, Another, Tell),
            (Failed::Timeout, Tell, Tell),
            (Failed::Status(503), Tell, Tell),
            (Failed::Status(500), Tell, Tell),
        ] {
            let of = |sent| decide(failed, sent, FIRST, &config, || true).0;
            assert_eq!((of(GET), of(POST)), (of_get, of_post), "{failed:?}");
        }
    }

    #[test]
    fn nothing_that_may_have_arrived_is_sent_twice_unless_that_is_harmless() {
        let everything = config(200, &ALL);
        for failed in FAILURES {
            for bits in 0..8 {
                let sent = Sent {
                    idempotent: bits & 1 > 0,
                    begun: bits & 2 > 0,
                    replayable: bits & 4 > 0,
                };
                let (verdict, outcome) = decide(failed, sent, FIRST, &everything, || true);
                let safe = match failed {
                    Failed::Connect | Failed::Closed => true,
                    Failed::Refused => sent.replayable,
                    _ => sent.idempotent && sent.replayable,
                };
                let again = safe && !sent.begun;
                assert_eq!(verdict != Verdict::Tell, again, "{failed:?} {sent:?}");
                let told = !safe && !sent.begun;
                assert_eq!(outcome == Some(Outcome::Unsafe), told, "{failed:?} {sent:?}");
            }
        }
    }

    #[test]
    fn attempts_endpoints_and_the_budget_end_it() {
        let two = config(2, &ALL);
        for (case, failed, attempts, budget, want) in [
            ("one left", Failed::Reset, Attempts { made: 1, ..FIRST }, true, Outcome::Reset),
            ("none left", Failed::Reset, Attempts { made: 2, ..FIRST }, true, Outcome::Exhausted),
            (
                "nobody else",
                Failed::Reset,
                Attempts { another: false, ..FIRST },
                true,
                Outcome::Exhausted,
            ),
            ("spent", Failed::Reset, FIRST, false, Outcome::Spent),
            ("spent by status", Failed::Status(503), FIRST, false, Outcome::Spent),
            ("connecting costs nothing", Failed::Connect, FIRST, false, Outcome::Connect),
            ("nor does a new connection", Failed::Stale, FIRST, false, Outcome::Stale),
            ("but once", Failed::Stale, Attempts { renewed: true, ..FIRST }, false, Outcome::Spent),
            (
                "then another",
                Failed::Stale,
                Attempts { renewed: true, ..FIRST },
                true,
                Outcome::Reset,
            ),
            (
                "no endless renewal",
                Failed::Closed,
                Attempts { renewed: true, ..FIRST },
                true,
                Outcome::Reset,
            ),
            (
                "many connects",
                Failed::Connect,
                Attempts { made: 2, ..FIRST },
                true,
                Outcome::Exhausted,
            ),
        ] {
            let (_, outcome) = decide(failed, GET, attempts, &two, || budget);
            assert_eq!(outcome, Some(want), "{case}");
        }
    }

    #[test]
    fn only_what_is_asked_for_is_tried_again_but_for_a_connection_that_was_closed_before() {
        for failed in FAILURES {
            for none in [config(0, &ALL), config(2, &[])] {
                let (verdict, outcome) = decide(failed, GET, FIRST, &none, || true);
                let closed = matches!(failed, Failed::Closed | Failed::Refused);
                assert_eq!(verdict == Verdict::Renew, closed, "{failed:?} {none:?}");
                assert_eq!(outcome.is_some(), closed, "{failed:?} {none:?}");
            }
        }
    }

    #[test]
    fn the_budget_is_not_asked_for_what_is_not_sent_again() {
        let asked = |failed, sent, attempts| {
            let mut asked = false;
            let budget = || {
                asked = true;
                true
            };
            let _ = decide(failed, sent, attempts, &config(1, &ALL), budget);
            asked
        };
        assert!(asked(Failed::Reset, GET, FIRST));
        assert!(!asked(Failed::Reset, POST, FIRST));
        assert!(!asked(Failed::Reset, GET, Attempts { made: 1, ..FIRST }));
        assert!(!asked(Failed::Connect, GET, FIRST));
    }
}
