//! HAProxy's rows: `FRONTEND`, servers and `BACKEND` of each proxy, with what it leaves empty left empty.

use std::sync::Arc;
use std::time::Duration;

use super::columns::{COLUMNS, OWN, at};
use super::model::{Back, Front, Proxy, Rate, Server, Work};

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Field {
    Empty,
    Text(Arc<str>),
    Word(&'static str),
    Number(u64),
    /// Only `-1`, which stands for never.
    Never,
}

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Object {
    Front,
    Back,
    Server,
}

impl Object {
    /// As the column `type` has it.
    pub(super) const fn number(self) -> u64 {
        match self {
            Self::Front => 0,
            Self::Back => 1,
            Self::Server => 2,
        }
    }

    /// The bit by which `show stat` asks for it.
    pub(super) const fn bit(self) -> i64 {
        1 << self.number()
    }

    /// As `show stat json` has it.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Front => "Frontend",
            Self::Back => "Backend",
            Self::Server => "Server",
        }
    }
}

/// A row.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) object: Object,
    pub(super) proxy: u32,
    pub(super) id: u32,
    /// As many as there are columns.
    pub(super) fields: Vec<Field>,
}

/// Which rows are wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Of one proxy, by its number or its name; none: of all.
    pub(super) proxy: Option<Arc<str>>,
    /// [`Object::bit`]s; none: all.
    pub(super) objects: Option<i64>,
    /// Of one server, by its number.
    pub(super) server: Option<u32>,
    /// Only servers that get work.
    pub(super) up: bool,
    /// No servers in maintenance.
    pub(super) no_maintenance: bool,
    /// With addresses and policies, which the page and its CSV keep to themselves.
    pub(super) legends: bool,
}

impl Wanted {
    /// Whether rows of `proxy` are wanted.
    pub(super) fn takes(&self, proxy: &Proxy) -> bool {
        self.proxy.as_deref().is_none_or(|wanted| {
            *wanted == *proxy.name || wanted.parse::<u32>().is_ok_and(|id| id == proxy.id)
        })
    }

    fn takes_object(&self, object: Object) -> bool {
        self.objects.is_none_or(|wanted| wanted & object.bit() != 0)
    }

    fn takes_server(&self, server: &Server) -> bool {
        self.server.is_none_or(|id| id == server.id)
            && (!self.up || server.status.serves())
            && (!self.no_maintenance || server.status.word() != "MAINT")
    }
}

/// The rows of `proxy` that are wanted.
pub(super) fn rows<'a>(proxy: &'a Proxy, wanted: &'a Wanted) -> impl Iterator<Item = Row> + 'a {
    let whole = wanted.server.is_none_or(|id| id == 0);
    let front = proxy.front.as_ref().filter(|_| whole && wanted.takes_object(Object::Front));
    let back = proxy.back.as_ref().filter(|_| whole && wanted.takes_object(Object::Back));
    let servers = proxy
        .servers
        .iter()
        .filter(|server| wanted.takes_object(Object::Server) && wanted.takes_server(server));
    front
        .into_iter()
        .map(|front| of_front(proxy, front))
        .chain(servers.map(|server| of_server(proxy, server, wanted.legends)))
        .chain(back.into_iter().map(|back| of_back(proxy, back, wanted.legends)))
}

impl Row {
    fn new(object: Object, proxy: &Proxy, id: u32, name: Field) -> Self {
        let mut row =
            Self { object, proxy: proxy.id, id, fields: vec![Field::Empty; COLUMNS.len()] };
        row.fields[OWN] = Field::Word("-");
        row.set(const { at("pxname") }, Field::Text(Arc::clone(&proxy.name)));
        row.set(const { at("svname") }, name);
        // Of one process, and so of the first.
        row.number(const { at("pid") }, 1);
        row.number(const { at("iid") }, u64::from(proxy.id));
        row.number(const { at("sid") }, u64::from(id));
        row.number(const { at("type") }, object.number());
        row.set(const { at("mode") }, Field::Word(if proxy.http { "http" } else { "tcp" }));
        row.number(const { at("eint") }, 0);
        row
    }

    /// The value in the column at `at`.
    #[cfg(test)]
    pub(super) fn get(&self, name: &str) -> &Field {
        &self.fields[at(name)]
    }

    fn set(&mut self, at: usize, field: Field) {
        if let Some(place) = self.fields.get_mut(at) {
            *place = field;
        }
    }

    fn number(&mut self, at: usize, number: u64) {
        self.set(at, Field::Number(number));
    }

    fn bytes(&mut self, [there, back]: [u64; 2]) {
        self.number(const { at("bin") }, there);
        self.number(const { at("bout") }, back);
    }

    fn rate(&mut self, rate: Rate) {
        self.number(const { at("rate") }, rate.now.into());
        self.number(const { at("rate_max") }, rate.most.into());
    }

    fn classes(&mut self, classes: [u64; 6]) {
        let first = const { at("hrsp_1xx") };
        for (class, count) in classes.iter().enumerate() {
            // Those of no class stand last.
            let place = if class == 0 { first + 5 } else { first + class - 1 };
            self.number(place, *count);
        }
    }

    fn nothing(&mut self, names: &[usize]) {
        for at in names {
            self.number(*at, 0);
        }
    }

    fn standing(&mut self, changed: Duration, downs: u64, downtime: Duration) {
        self.number(const { at("lastchg") }, changed.as_secs());
        self.number(const { at("chkdown") }, downs);
        self.number(const { at("downtime") }, downtime.as_secs());
    }

    fn work(&mut self, work: &Work, http: bool) {
        self.number(const { at("scur") }, work.now.into());
        self.number(const { at("smax") }, work.most.into());
        self.number(const { at("stot") }, work.total);
        self.number(const { at("lbtot") }, work.total);
        self.bytes(work.bytes);
        self.rate(work.rate);
        self.number(const { at("dresp") }, 0);
        self.number(const { at("econ") }, work.connect_errors);
        self.number(const { at("eresp") }, work.response_errors);
        self.number(const { at("wretr") }, work.retries);
        self.number(const { at("wredis") }, work.redispatches);
        self.number(const { at("cli_abrt") }, work.client_aborts);
        self.number(const { at("srv_abrt") }, work.server_aborts);
        self.number(const { at("connect") }, work.connects[0]);
        self.number(const { at("reuse") }, work.connects[1]);
        let times = const { [at("qtime"), at("ctime"), at("rtime"), at("ttime")] };
        let most = const { [at("qtime_max"), at("ctime_max"), at("rtime_max"), at("ttime_max")] };
        for (place, (average, longest)) in times.into_iter().zip(most).zip(work.times) {
            self.number(place.0, average.into());
            self.number(place.1, longest.into());
        }
        let last = work.last.map_or(Field::Never, |last| Field::Number(last.as_secs()));
        self.set(const { at("lastsess") }, last);
        if http {
            self.classes(work.classes);
            self.number(const { at("wrew") }, 0);
        }
    }
}

fn of_front(proxy: &Proxy, front: &Front) -> Row {
    let mut row = Row::new(Object::Front, proxy, 0, Field::Word("FRONTEND"));
    row.number(const { at("scur") }, front.now);
    row.number(const { at("smax") }, front.most);
    row.number(const { at("slim") }, front.limit);
    row.number(const { at("stot") }, front.total);
    row.bytes(front.bytes);
    row.number(const { at("dreq") }, front.denied);
    row.number(const { at("ereq") }, front.bad);
    row.set(const { at("status") }, Field::Word("OPEN"));
    row.rate(front.rate);
    row.number(const { at("conn_rate") }, front.rate.now.into());
    row.number(const { at("conn_rate_max") }, front.rate.most.into());
    row.number(const { at("conn_tot") }, front.total);
    row.number(const { at("dcon") }, front.refused);
    row.nothing(
        &const {
            [
                at("dresp"),
                at("rate_lim"),
                at("comp_in"),
                at("comp_out"),
                at("comp_byp"),
                at("comp_rsp"),
                at("dses"),
            ]
        },
    );
    if proxy.http {
        row.classes(front.classes);
        row.number(const { at("req_rate") }, front.requests.now.into());
        row.number(const { at("req_rate_max") }, front.requests.most.into());
        row.number(const { at("req_tot") }, front.classes.iter().sum());
        row.nothing(
            &const { [at("intercepted"), at("wrew"), at("cache_lookups"), at("cache_hits")] },
        );
    }
    row
}

fn of_server(proxy: &Proxy, server: &Server, legends: bool) -> Row {
    let name = Field::Text(Arc::clone(&server.name));
    let mut row = Row::new(Object::Server, proxy, server.id, name);
    row.nothing(&const { [at("qcur"), at("qmax"), at("bck")] });
    row.work(&server.work, proxy.http);
    if let Some(limit) = server.work.limit {
        row.number(const { at("slim") }, limit.into());
    }
    row.set(const { at("status") }, Field::Word(server.status.word()));
    row.number(const { at("weight") }, server.weight.0.into());
    row.number(const { at("uweight") }, server.weight.0.into());
    row.number(const { at("act") }, 1);
    row.number(const { at("lastchg") }, server.changed.as_secs());
    if let Some(check) = &server.check {
        row.standing(server.changed, server.downs, server.downtime);
        row.number(const { at("chkfail") }, server.downs);
        row.set(const { at("check_status") }, Field::Word(check.status));
        row.number(const { at("check_duration") }, check.took_ms);
        row.set(const { at("last_chk") }, Field::Text(Arc::clone(&check.text)));
    }
    row.nothing(
        &const { [at("srv_icur"), at("idle_conn_cur"), at("safe_conn_cur"), at("need_conn_est")] },
    );
    row.number(const { at("used_conn_cur") }, server.work.now.into());
    if legends {
        row.set(const { at("addr") }, Field::Text(server.address.to_string().into()));
    }
    row
}

fn of_back(proxy: &Proxy, back: &Back, legends: bool) -> Row {
    let mut row = Row::new(Object::Back, proxy, 0, Field::Word("BACKEND"));
    row.work(&back.work, proxy.http);
    let [waiting, most, limit] = back.queue;
    row.number(const { at("qcur") }, waiting.into());
    row.number(const { at("qmax") }, most.into());
    row.number(const { at("qlimit") }, limit.into());
    if let Some(limit) = back.work.limit {
        row.number(const { at("slim") }, limit.into());
    }
    row.set(const { at("status") }, Field::Word(if proxy.is_up() { "UP" } else { "DOWN" }));
    let weight = proxy.serving().map(|server| u64::from(server.weight.0)).sum();
    row.number(const { at("weight") }, weight);
    row.number(const { at("uweight") }, weight);
    row.number(const { at("act") }, proxy.serving().count() as u64);
    row.standing(back.changed, back.downs, back.downtime);
    row.nothing(
        &const {
            [
                at("dreq"),
                at("bck"),
                at("comp_in"),
                at("comp_out"),
                at("comp_byp"),
                at("comp_rsp"),
                at("agg_server_status"),
                at("agg_server_check_status"),
                at("agg_check_status"),
            ]
        },
    );
    if proxy.http {
        row.number(const { at("req_tot") }, back.work.total);
        row.nothing(&const { [at("cache_lookups"), at("cache_hits")] });
    }
    if legends {
        row.set(const { at("algo") }, Field::Word(back.algorithm));
    }
    row
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn each_proxy_has_its_rows_in_haproxys_order() {
        let stats = samples::stats();
        let rows: Vec<_> = stats
            .proxies
            .iter()
            .flat_map(|proxy| rows(proxy, &Wanted::default()).collect::<Vec<_>>())
            .collect();
        let names: Vec<String> =
            rows.iter().map(|row| format!("{:?} {:?}", row.object, row.get("svname"))).collect();
        assert_eq!(
            names,
            [
                "Front Word(\"FRONTEND\")",
                "Server Text(\"s1\")",
                "Server Text(\"s2\")",
                "Back Word(\"BACKEND\")",
                "Front Word(\"FRONTEND\")",
            ]
        );
        for row in &rows {
            assert_eq!(row.fields.len(), COLUMNS.len());
            assert_eq!(row.fields[OWN], Field::Word("-"));
        }
    }

    #[test]
    fn values_stand_where_haproxy_has_them_and_what_it_leaves_out_is_empty() {
        let stats = samples::stats();
        let wanted = Wanted::default();
        let of = |at: usize| rows(&stats.proxies[0], &wanted).nth(at).unwrap();
        let (front, first, second, back) = (of(0), of(1), of(2), of(3));
        for (row, name, want) in [
            (&front, "scur", Field::Number(2)),
            (&front, "hrsp_2xx", Field::Number(5)),
            (&front, "hrsp_other", Field::Number(1)),
            (&front, "req_tot", Field::Number(6)),
            (&front, "status", Field::Word("OPEN")),
            (&front, "qcur", Field::Empty),
            (&front, "econ", Field::Empty),
            (&first, "status", Field::Word("UP")),
            (&first, "check_status", Field::Word("L7OK")),
            (&first, "slim", Field::Number(9)),
            (&first, "lastsess", Field::Number(3)),
            (&first, "addr", Field::Empty),
            (&second, "status", Field::Word("MAINT")),
            (&second, "lastsess", Field::Never),
            (&second, "check_status", Field::Empty),
            (&second, "slim", Field::Empty),
            (&back, "status", Field::Word("UP")),
            (&back, "qcur", Field::Number(4)),
            (&back, "act", Field::Number(1)),
            (&back, "weight", Field::Number(10)),
        ] {
            assert_eq!(*row.get(name), want, "{:?} {name}", row.object);
        }
    }

    #[test]
    fn only_what_is_wanted_is_told() {
        let stats = samples::stats();
        let count = |wanted: &Wanted| {
            let proxies = stats.proxies.iter().filter(|proxy| wanted.takes(proxy));
            proxies.map(|proxy| rows(proxy, wanted).count()).sum::<usize>()
        };
        let all = Wanted::default;
        for (case, wanted, want) in [
            ("all", all(), 5),
            ("one proxy by name", Wanted { proxy: Some("app".into()), ..all() }, 4),
            ("by number", Wanted { proxy: Some("3".into()), ..all() }, 1),
            ("servers", Wanted { objects: Some(4), ..all() }, 2),
            ("fronts and backs", Wanted { objects: Some(3), ..all() }, 3),
            ("one server", Wanted { objects: Some(-1), server: Some(2), ..all() }, 1),
            ("up", Wanted { up: true, ..all() }, 4),
            ("no maintenance", Wanted { no_maintenance: true, ..all() }, 4),
        ] {
            assert_eq!(count(&wanted), want, "{case}");
        }
    }
}
