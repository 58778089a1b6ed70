//! What has to be looked at again and again to be told: rates, most at once, how long something has been
//! as it is. Pure: time is an argument.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::api::haproxy::model::Rate;

/// A counter, looked at once a second.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Meter {
    known: bool,
    /// The counter at the last look.
    last: u64,
    /// What the second before that look had.
    before: f64,
    most: u32,
}

impl Meter {
    /// The counter stands at `count`, `passed` after the last look.
    pub(super) fn look(&mut self, count: u64, passed: Duration) {
        if self.known && passed > Duration::ZERO {
            self.before = count.saturating_sub(self.last) as f64 / passed.as_secs_f64();
            self.most = self.most.max(self.before.round() as u32);
        }
        (self.last, self.known) = (count, true);
    }

    /// Per second now: what came since the last look, and of the second before it the share that is not
    /// over yet, as HAProxy has it.
    pub(super) fn rate(&self, count: u64, passed: Duration) -> Rate {
        if !self.known {
            return Rate::default();
        }
        let left = 1.0 - passed.as_secs_f64().min(1.0);
        let since = count.saturating_sub(self.last) as f64;
        let now = self.before.mul_add(left, since).round() as u32;
        Rate { now, most: self.most.max(now) }
    }
}

/// Since when something is up or down, and how often it went down.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    state: u8,
    down: bool,
    since: Instant,
    pub(super) downs: u64,
    was_down: Duration,
}

impl Standing {
    pub(super) const fn new(state: u8, down: bool, now: Instant) -> Self {
        Self { state, down, since: now, downs: 0, was_down: Duration::ZERO }
    }

    /// It is in this `state` now.
    pub(super) fn is(&mut self, state: u8, down: bool, now: Instant) {
        if state == self.state {
            return;
        }
        if self.down {
            self.was_down += now.duration_since(self.since);
        } else if down {
            self.downs += 1;
        }
        (self.state, self.down, self.since) = (state, down, now);
    }

    /// How long it has been as it is.
    pub(super) fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.since)
    }

    /// How long it was down in all.
    pub(super) fn downtime(&self, now: Instant) -> Duration {
        let still = if self.down { self.age(now) } else { Duration::ZERO };
        self.was_down + still
    }
}

/// Who a server is, as its endpoint's identity has it.
pub(super) type Identity = (Arc<str>, Arc<str>, SocketAddr);

/// What is remembered of a server.
#[derive(Debug)]
pub(super) struct SeenServer {
    pub(super) id: u32,
    pub(super) name: Arc<str>,
    pub(super) meter: Meter,
    sessions: u64,
    pub(super) last: Option<Instant>,
    pub(super) standing: Standing,
    round: u64,
}

impl SeenServer {
    /// So many pieces of work have begun so far.
    pub(super) fn worked(&mut self, sessions: u64, now: Instant) {
        if sessions > self.sessions {
            self.last = Some(now);
        }
        self.sessions = sessions;
    }
}

/// What is remembered of a proxy.
#[derive(Debug)]
pub(super) struct SeenProxy {
    pub(super) id: u32,
    pub(super) front: Meter,
    pub(super) requests: Meter,
    pub(super) back: Meter,
    /// Most work at once.
    pub(super) most: u32,
    pub(super) standing: Option<Standing>,
    servers: HashMap<Identity, SeenServer>,
    /// Those of all servers that are remembered.
    names: HashSet<Arc<str>>,
    next: u32,
    round: u64,
}

/// What is remembered of everything.
#[derive(Debug)]
pub(super) struct Watch {
    /// When everything was looked at last.
    pub(super) looked: Instant,
    pub(super) accepted: Meter,
    proxies: HashMap<Arc<str>, SeenProxy>,
    next: u32,
    round: u64,
}

impl Watch {
    pub(super) fn new(now: Instant) -> Self {
        Self { looked: now, accepted: Meter::default(), proxies: HashMap::new(), next: 2, round: 0 }
    }

    /// A look at everything begins.
    pub(super) const fn begin(&mut self) {
        self.round += 1;
    }

    /// It has ended: whoever was not seen is forgotten.
    pub(super) fn end(&mut self) {
        let round = self.round;
        self.proxies.retain(|_, proxy| {
            let SeenProxy { servers, names, .. } = proxy;
            servers.retain(|_, server| {
                let stays = server.round == round;
                if !stays {
                    names.remove(&server.name);
                }
                stays
            });
            proxy.round == round
        });
    }

    /// The proxy called `name`. Numbers are given once.
    pub(super) fn proxy(&mut self, name: &Arc<str>) -> &mut SeenProxy {
        let next = &mut self.next;
        let proxy = self.proxies.entry(Arc::clone(name)).or_insert_with(|| {
            *next += 1;
            SeenProxy {
                id: *next - 1,
                front: Meter::default(),
                requests: Meter::default(),
                back: Meter::default(),
                most: 0,
                standing: None,
                servers: HashMap::new(),
                names: HashSet::new(),
                next: 0,
                round: 0,
            }
        });
        proxy.round = self.round;
        proxy
    }
}

impl SeenProxy {
    /// The server of this identity, whose name is made by `name` when it is new. Of two of one name the
    /// later one gets another.
    pub(super) fn server(
        &mut self,
        identity: Identity,
        standing: Standing,
        name: impl FnOnce() -> Arc<str>,
    ) -> &mut SeenServer {
        let Self { servers, names, next, round, .. } = self;
        let server = servers.entry(identity).or_insert_with(|| {
            *next += 1;
            let (wanted, id) = (name(), *next);
            let name =
                if names.contains(&wanted) { format!("{wanted}_{id}").into() } else { wanted };
            names.insert(Arc::clone(&name));
            SeenServer {
                id,
                name,
                meter: Meter::default(),
                sessions: 0,
                last: None,
                standing,
                round: 0,
            }
        });
        server.round = *round;
        server
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_rate_is_that_of_the_last_second_and_wears_off_within_the_next() {
        let mut meter = Meter::default();
        assert_eq!(meter.rate(50, SECOND), Rate::default(), "nobody has looked yet");
        meter.look(100, SECOND);
        assert_eq!(meter.rate(100, Duration::ZERO).now, 0, "what came before is nobody's second");
        meter.look(130, SECOND);
        for (millis, count, want) in [(0, 130, 30), (500, 130, 15), (500, 140, 25), (1000, 140, 10)]
        {
            let rate = meter.rate(count, Duration::from_millis(millis));
            assert_eq!(rate.now, want, "{millis} ms, {count}");
        }
        assert_eq!(meter.rate(130, SECOND).most, 30);
        meter.look(150, 2 * SECOND);
        assert_eq!(meter.rate(150, Duration::ZERO), Rate { now: 10, most: 30 });
    }

    #[tokio::test(start_paused = true)]
    async fn down_is_counted_once_and_for_as_long_as_it_lasts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (up, down, maintenance) = (0, 1, 2);
        let mut standing = Standing::new(up, false, start);
        standing.is(up, false, at(5));
        assert_eq!((standing.age(at(5)), standing.downs), (5 * SECOND, 0));
        standing.is(down, true, at(10));
        assert_eq!(standing.downtime(at(13)), 3 * SECOND);
        standing.is(maintenance, true, at(15));
        assert_eq!((standing.downs, standing.age(at(16))), (1, SECOND));
        standing.is(up, false, at(20));
        standing.is(up, false, at(30));
        assert_eq!((standing.downtime(at(40)), standing.downs), (10 * SECOND, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn numbers_and_names_stay_as_long_as_somebody_is_there() {
        let now = Instant::now();
        let mut watch = Watch::new(now);
        let standing = Standing::new(0, false, now);
        let identity = |id: &str| ("mem".into(), id.into(), "10.0.0.1:80".parse().unwrap());
        let see =
            |watch: &mut Watch, proxies: &[&str], servers: &[&str]| -> Vec<(u32, u32, String)> {
                watch.begin();
                let mut seen = Vec::new();
                for proxy in proxies {
                    let proxy = watch.proxy(&Arc::from(*proxy));
                    for id in servers {
                        let number = proxy.id;
                        let server = proxy.server(identity(id), standing, || "same".into());
                        seen.push((number, server.id, server.name.to_string()));
                    }
                }
                watch.end();
                seen
            };
        let both = see(&mut watch, &["a", "b"], &["1", "2"]);
        let same = |n: u32, id, name: &str| (n, id, name.to_owned());
        assert_eq!(
            both,
            [same(2, 1, "same"), same(2, 2, "same_2"), same(3, 1, "same"), same(3, 2, "same_2")]
        );
        assert_eq!(
            see(&mut watch, &["b"], &["2", "3"]),
            [same(3, 2, "same_2"), same(3, 3, "same_3")]
        );
        assert_eq!(see(&mut watch, &["a"], &["1"]), [same(4, 1, "same")]);
    }
}
