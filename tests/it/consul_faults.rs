//! On a Consul that goes wrong in one way at a time: no answer is lost, and it is asked decently.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use portolan::app::App;

use crate::clients::{Dns, Http};
use crate::consul_storm::{HOLD, Truth, decent, differs, launch, serving};
use crate::support::consul::{Consul, Entry};
use crate::support::consul_fake::{Asked, Fake, Fault, Member, Status, TOKEN, seconds};
use crate::support::{address, until, within};

/// How many watches may begin in one second after a restart.
const RAMP: f64 = 50.0;
/// By how many more they may be ahead of that.
const AHEAD: f64 = 2.0;

/// A server with one healthy instance in each of so many services.
async fn filled(services: usize) -> (Fake, Truth) {
    let fake = Fake::start().await;
    let mut truth = Truth::new();
    for service in 0..services {
        let member = Member {
            at: (Ipv4Addr::new(10, 1, (service / 200) as u8, (service % 200) as u8), 80).into(),
            status: Status::Passing,
            tags: Vec::new(),
            weights: (1, 1),
            meta: std::collections::BTreeMap::new(),
            output: String::new(),
        };
        let name = format!("s{service}");
        fake.set(&name, "i", member.clone());
        truth.insert(name, [("i".to_owned(), member)].into());
    }
    (fake, truth)
}

async fn told(app: &App, truth: &Truth) {
    within("the truth", app.published(|snapshot| differs(truth, snapshot).is_none())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_for_a_while_costs_no_answer_and_few_requests() {
    let faults = Fault::ALL.into_iter().chain([Fault::Huge]);
    let beside = async {
        let each: Vec<_> =
            faults.map(|fault| tokio::task::spawn_local(wrong_for_a_while(fault))).collect();
        for done in each {
            done.await.unwrap();
        }
    };
    tokio::task::LocalSet::new().run_until(beside).await;
}

async fn wrong_for_a_while(fault: Fault) {
    let (fake, mut truth) = filled(2).await;
    let directory = tempfile::tempdir().unwrap();
    let app = launch(&fake, directory.path(), "").await;
    told(&app, &truth).await;
    let dns = Dns::to(address(&app, "dns").await).await;
    let before = fake.asked();

    fake.arm(std::iter::repeat_n(fault, 100_000));
    // Watches that wait are woken, and run into it.
    fake.cut_all();
    let began = Instant::now();
    until("two seconds of it", async || {
        for (name, members) in &truth {
            let told = dns.addresses(&format!("{name}.test")).await;
            assert_eq!(told, serving(members), "{fault:?}");
        }
        (began.elapsed() > Duration::from_secs(2)).then_some(())
    })
    .await;
    let asked = fake.asked() - before;
    println!("{fault:?}: {asked} requests in {:?}", began.elapsed());
    assert!(asked >= 3, "{fault:?}: it was not met");

    fake.heal();
    let healed = Instant::now();
    let member = Member {
        at: (Ipv4Addr::new(10, 2, 0, 1), 80).into(),
        status: Status::Passing,
        tags: Vec::new(),
        weights: (1, 1),
        meta: std::collections::BTreeMap::new(),
        output: String::new(),
    };
    fake.set("s0", "new", member.clone());
    truth.get_mut("s0").unwrap().insert("new".into(), member);
    told(&app, &truth).await;
    println!("{fault:?}: news {:?} after it went well again", healed.elapsed());
    decent(&fake.log());
    // Nobody wants 200 MB; what the sockets hold may be on its way.
    assert!(fake.swallowed() < 100 << 20, "{} bytes were taken", fake.swallowed());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_went_silent_is_given_up_and_news_come_by_another() {
    let (fake, mut truth) = filled(1).await;
    let directory = tempfile::tempdir().unwrap();
    let app = launch(&fake, directory.path(), "wait = \"1s\"").await;
    told(&app, &truth).await;
    let before = fake.asked();
    fake.arm([Fault::HalfOpen; 2]);
    until("both watches are stuck", async || {
        (fake.armed() == 0 && fake.asked() >= before + 2).then_some(())
    })
    .await;
    let members = truth.get_mut("s0").unwrap();
    members.get_mut("i").unwrap().status = Status::Critical;
    fake.set("s0", "i", members["i"].clone());
    let since = Instant::now();
    told(&app, &truth).await;
    println!("news {:?} after both connections had gone silent", since.elapsed());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_watches_come_back_by_and_by() {
    let (fake, mut truth) = filled(140).await;
    let directory = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let app = launch(&fake, directory.path(), "").await;
    told(&app, &truth).await;
    // Who has not asked for news yet would be counted among those who come back.
    until("news of all are waited for", async || {
        let log = fake.log();
        let services = log.iter().filter(|asked| asked.path.starts_with("/v1/health/service/"));
        let waiting = services.filter(|asked| asked.index.is_some()).map(|asked| &asked.path);
        (waiting.collect::<BTreeSet<_>>().len() == 140).then_some(())
    })
    .await;
    let log = fake.log();
    let begin = ahead(&firsts(&log), started);
    let before = log.len();
    let restarted = Instant::now();
    fake.cut_all();
    let watched = async || {
        let again: BTreeSet<_> = fake.log()[before..].iter().map(|a| a.path.clone()).collect();
        (again.len() > 140).then_some(())
    };
    until("all are watched again", watched).await;
    let again = ahead(&firsts(&fake.log()[before..]), restarted);
    println!("ahead of {RAMP} a second: {begin:.1} at the start, {again:.1} after the restart");
    assert!(begin <= AHEAD && again <= AHEAD, "{begin} {again}");
    assert!(fake.most_open() <= 150, "{}", fake.most_open());
    let member = truth.get_mut("s139").unwrap().get_mut("i").unwrap();
    member.status = Status::Warning;
    fake.set("s139", "i", member.clone());
    told(&app, &truth).await;
    decent(&fake.log());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_came_back_empty_is_believed_after_a_consistent_read_and_not_before() {
    let (fake, truth) = filled(3).await;
    let directory = tempfile::tempdir().unwrap();
    let app = launch(&fake, directory.path(), "").await;
    told(&app, &truth).await;
    let before = fake.asked();
    let since = Instant::now();
    fake.restart_empty();
    told(&app, &Truth::new()).await;
    let held = since.elapsed();
    let log = fake.log();
    let again = log[before..].iter().find(|asked| asked.consistent);
    let again = again.expect("no consistent read").at.duration_since(since);
    println!("asked again after {again:?}, believed after {held:?}");
    assert!(again >= HOLD, "{again:?}");
    assert!(held >= again, "{held:?}");
    app.stop().await;
}

/// When each service was asked for the first time, in order.
fn firsts(log: &[Asked]) -> Vec<Instant> {
    let mut seen = BTreeSet::new();
    let services = log.iter().filter(|asked| asked.path.starts_with("/v1/health/service/"));
    services.filter(|asked| seen.insert(&asked.path)).map(|asked| asked.at).collect()
}

/// By how many more than [`RAMP`] a second since `cause` there were at most. A server that was kept
/// from its work for a while sees many at once, but none too early.
fn ahead(times: &[Instant], cause: Instant) -> f64 {
    let numbered = times.iter().zip(1_u32..);
    let each = numbered
        .map(|(at, number)| f64::from(number) - RAMP * at.duration_since(cause).as_secs_f64());
    each.fold(0.0, f64::max)
}

/// Who asks over another connection may have found a server that was started anew, with less than
/// it had: an index from before would be waited for in vain.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_connection_breaks_what_was_asked_just_before_is_asked_again_for_a_moment() {
    let (fake, truth) = filled(2).await;
    let directory = tempfile::tempdir().unwrap();
    let app = launch(&fake, directory.path(), "").await;
    told(&app, &truth).await;
    let service = "/v1/health/service/s0";
    let wait = |log: &[Asked], path: &str| {
        log.iter().rev().find(|asked| asked.path == path).and_then(|asked| asked.wait.clone())
    };
    let long = |wait: Option<String>| wait.is_some_and(|wait| seconds(&wait) > HOLD);
    until("all is waited for", async || {
        let log = fake.log();
        (long(wait(&log, service)) && long(wait(&log, "/v1/catalog/services"))).then_some(())
    })
    .await;
    let before = fake.log().len();
    fake.cut("/v1/catalog/services");
    until("a short wait", async || {
        // It may wait long again by the time we look.
        let log = fake.log();
        let mut waits = log[before..].iter().filter(|asked| asked.path == service);
        let short = |wait: &String| seconds(wait) <= HOLD;
        waits.any(|asked| asked.wait.as_ref().is_some_and(short)).then_some(())
    })
    .await;
    told(&app, &truth).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_services_than_watches_take_turns_and_each_is_heard() {
    let (fake, mut truth) = filled(40).await;
    let directory = tempfile::tempdir().unwrap();
    let app = launch(&fake, directory.path(), "max_watches = 8\nwait = \"1s\"").await;
    told(&app, &truth).await;
    for service in (0..40).step_by(13) {
        let member = truth.get_mut(&format!("s{service}")).unwrap().get_mut("i").unwrap();
        member.status = Status::Critical;
        fake.set(&format!("s{service}"), "i", member.clone());
        let since = Instant::now();
        told(&app, &truth).await;
        println!("40 services by 8 watches: news of s{service} after {:?}", since.elapsed());
    }
    assert!(fake.most_open() <= 8, "{}", fake.most_open());
    decent(&fake.log());
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scripted_consul_tells_what_the_real_one_tells() {
    let consul = Consul::start().await;
    let (fake, _) = filled(0).await;
    let at: SocketAddr = (Ipv4Addr::new(10, 0, 0, 1), 80).into();
    consul.register(&Entry::new("web", "i", at).tagged("t").weighing(3)).await;
    let member = Member {
        at,
        status: Status::Passing,
        tags: vec!["t".into()],
        weights: (3, 1),
        meta: std::collections::BTreeMap::new(),
        output: String::new(),
    };
    fake.set("web", "i", member);
    consul.put("/v1/kv/app/key", serde_json::json!("value")).await;
    fake.key("app/key", Some("\"value\""));
    let fake_says = async |path: &str| {
        let mut client = Http::to(fake.address).await;
        client.send("GET", path, &format!("X-Consul-Token: {TOKEN}\r\n")).await;
        client.receive().await.unwrap().json()
    };
    let path = "/v1/health/service/web";
    let (real, scripted) = (consul.get(path).await, fake_says(path).await);
    for part in ["ID", "Service", "Tags", "Address", "Port", "Weights"] {
        assert_eq!(scripted[0]["Service"][part], real[0]["Service"][part], "{part}");
    }
    for part in ["Node", "Service"] {
        let keys = |value: &serde_json::Value| {
            value[0][part].as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>()
        };
        let (real, scripted) = (keys(&real), keys(&scripted));
        assert!(scripted.is_subset(&real), "{part}: {scripted:?} {real:?}");
    }
    assert_eq!(scripted[0]["Checks"][0]["Status"], "passing");
    let checks = real[0]["Checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["ServiceID"] == "i").unwrap();
    for (key, value) in scripted[0]["Checks"][0].as_object().unwrap() {
        assert!(check[key].is_string() == value.is_string(), "{key}: {value} {check}");
    }
    let path = "/v1/catalog/services";
    assert_eq!(fake_says(path).await["web"], consul.get(path).await["web"]);
    let path = "/v1/kv/app/?recurse";
    let (real, scripted) = (consul.get(path).await, fake_says(path).await);
    for part in ["Key", "Value", "Flags", "LockIndex"] {
        assert_eq!(scripted[0][part], real[0][part], "{part}");
    }
}
