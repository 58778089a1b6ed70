//! How long it takes from a write in a real Consul to the new answer.
//!
//! `PORTOLAN_FULL` asks for ten thousand instances; without it there are fewer.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::clients::Dns;
use crate::consul_real::{RESTART, launch};
use crate::support::consul::{Consul, Entry};
use crate::support::{address, granted, within};

/// The bound from a write to the new answer, for 99 of 100, and what is asked of
/// a build that was not optimised.
const LATENCY: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 100 });

/// The bound of a restart where every instance has names of its own, ten thousand tags in all: many
/// times the names that ten thousand instances usually have.
const RESTART_MANY: Duration =
    Duration::from_millis(if cfg!(debug_assertions) { 5000 } else { 500 });

/// Address `n` of service `service`; nobody listens there.
pub(crate) fn instance(service: usize, n: usize) -> SocketAddr {
    let [_, _, high, low] = (n as u32).to_be_bytes();
    let [_, _, above, below] = (service as u32).to_be_bytes();
    SocketAddr::from(([10, above * 64 + high, below, low], 80))
}

/// How a run over many services is set up, and what came of it.
struct Latency {
    services: usize,
    instances: usize,
    writes: usize,
}

impl Latency {
    /// The full size when asked for, else a small one.
    fn of(services: usize) -> Self {
        if std::env::var_os("PORTOLAN_FULL").is_some() {
            return Self { services, instances: 10_000 / services, writes: 500 };
        }
        Self { services: services / 10, instances: 10, writes: 60 }
    }

    async fn measure(&self, mut consul: Consul) {
        let directory = tempfile::tempdir().unwrap();
        let mut entries = Vec::new();
        for service in 0..self.services {
            for n in 0..self.instances {
                let name = format!("s{service}");
                let id = format!("i{n}-{name}");
                let entry = Entry::new(&name, &id, instance(service, n));
                // A tag of its own gives each instance a name of its own.
                entries.push(entry.tagged(&format!("i{n}")));
            }
        }
        let filling = Instant::now();
        consul.fill(&entries).await;
        println!("{} instances written in {:?}", entries.len(), filling.elapsed());
        let starting = Instant::now();
        let app = launch(&consul, directory.path()).await;
        let all = app.published(|snapshot| {
            let counted = snapshot.services.iter().filter(|(name, _)| name.starts_with('s'));
            counted.map(|(_, service)| service.instances.len()).sum::<usize>() == entries.len()
        });
        within("all instances", all).await;
        println!("all known after {:?}", starting.elapsed());
        let dns = Dns::to(address(&app, "dns").await).await;
        let mut writer = consul.writer().await;
        let mut took = Vec::new();
        for write in 0..self.writes {
            // A prime step visits the services in no order that helps.
            let entry = &mut entries[(write * 7919) % (self.services * self.instances)];
            let [_, b, c, d] = match entry.at.ip() {
                IpAddr::V4(ip) => ip.octets(),
                IpAddr::V6(_) => unreachable!(),
            };
            entry.at = SocketAddr::from(([11 + (write % 100) as u8, b, c, d], 80));
            let name = format!("{}.{}.service.consul", entry.tags[0], entry.service);
            let wanted: BTreeSet<IpAddr> = [entry.at.ip()].into();
            let node = format!("node-{}", entry.service);
            let body = json!({"Node": node, "Address": "127.0.0.1", "SkipNodeUpdate": true,
                "Service": entry.in_catalog()});
            let since = Instant::now();
            writer.put("/v1/catalog/register", &body).await;
            within(&name, async {
                while dns.addresses(&name).await != wanted {
                    tokio::task::yield_now().await;
                }
            })
            .await;
            took.push(since.elapsed());
        }
        took.sort_unstable();
        let at = |share: usize| took[(took.len() * share).div_ceil(100) - 1];
        println!(
            "{} services of {} by {}: from the write to the answer p50 {:?}, p99 {:?}, most {:?}",
            self.services,
            self.instances,
            consul.url().split(':').next().unwrap(),
            at(50),
            at(99),
            at(100)
        );
        assert!(at(99) < granted(LATENCY), "{:?}", at(99));
        app.stop().await;

        consul.kill().await;
        let last = entries.last().unwrap();
        let name = format!("{}.{}.service.consul", last.tags[0], last.service);
        let restarting = Instant::now();
        let app = launch(&consul, directory.path()).await;
        let dns = Dns::to(address(&app, "dns").await).await;
        let told = dns.addresses(&name).await;
        let restarted = restarting.elapsed();
        println!("restarted without Consul: the first answer after {restarted:?}");
        assert_eq!(told, [last.at.ip()].into());
        assert!(app.readiness().ready());
        assert!(restarted < granted(RESTART_MANY), "{restarted:?}");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_an_answer_soon_with_a_hundred_services_over_http() {
    Box::pin(Latency::of(100).measure(Consul::start().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_an_answer_soon_with_a_thousand_services_over_https() {
    Box::pin(Latency::of(1000).measure(Consul::start_with_tls().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_without_consul_answers_at_once_for_instances_with_the_tags_of_their_service() {
    let full = std::env::var_os("PORTOLAN_FULL").is_some();
    let (services, each) = if full { (100, 100) } else { (20, 50) };
    let mut consul = Consul::start().await;
    let directory = tempfile::tempdir().unwrap();
    let mut entries = Vec::new();
    for service in 0..services {
        for n in 0..each {
            let name = format!("s{service}");
            let entry = Entry::new(&name, &format!("i{n}-{name}"), instance(service, n));
            entries.push(entry.tagged("http").tagged(if n % 2 == 0 { "v1" } else { "v2" }));
        }
    }
    consul.fill(&entries).await;
    // More watches than plaintext connections may be open take turns: all in a few seconds.
    let app = launch(&consul, directory.path()).await;
    let all = app.published(|snapshot| {
        let counted = snapshot.services.iter().filter(|(name, _)| name.starts_with('s'));
        counted.map(|(_, service)| service.instances.len()).sum::<usize>() == entries.len()
    });
    within("all instances", all).await;
    app.stop().await;
    consul.kill().await;
    let last = entries.last().unwrap();
    let name = format!("v2.{}.service.consul", last.service);
    let mut took = Vec::new();
    for _ in 0..5 {
        let restarting = Instant::now();
        let app = launch(&consul, directory.path()).await;
        let told = Dns::to(address(&app, "dns").await).await.addresses(&name).await;
        took.push(restarting.elapsed());
        assert_eq!(told.len(), each / 2, "{told:?}");
        assert!(app.readiness().ready());
        app.stop().await;
    }
    took.sort_unstable();
    println!(
        "{} instances of {services} services, restarted without Consul: the first answer after \
         {took:?}",
        entries.len()
    );
    // The machine is not ours alone.
    assert!(took[2] < granted(RESTART), "{took:?}");
}
