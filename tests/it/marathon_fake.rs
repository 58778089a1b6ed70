//! The scripted Marathon itself, asked by a plain client: what the other tests take for granted.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::rig::{Answer, Client};
use crate::support::marathon::{App, Auth, Era, Fake, Fault, Net, Standby, State, Told};

/// A Marathon with one app of two tasks, one of which runs, and a pod where there are pods.
async fn one_app(era: Era, nodes: usize) -> Fake {
    let fake = Fake::start(era, nodes).await;
    let mut web = App::new(Net::Host);
    web.checks = true;
    web.service_ports = vec![10_001];
    fake.act(|world| world.post("/prod/web", web));
    for (number, runs) in [(1, true), (2, false)] {
        let at = SocketAddr::from(([127, 42, 0, number], 31_000));
        fake.act(|world| {
            let (own, mut said) = world.stage("/prod/web", at);
            if runs {
                said.extend(world.becomes("/prod/web", &own, State::Running));
                said.extend(world.checked("/prod/web", &own, true));
            }
            said
        });
    }
    if era.has_instances() {
        fake.act(|world| world.post("/prod/pod", App::new(Net::Pod)));
        fake.act(|world| world.stage("/prod/pod", ([127, 42, 0, 9], 31_000).into()).1);
    }
    fake
}

async fn get(node: SocketAddr, path: &str, headers: &str) -> Answer {
    let mut client = Client::connect(node).await;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: m\r\n{headers}\r\n")).await;
    client.answer().await
}

/// A body with its chunks put together.
pub(crate) fn json(answer: &Answer) -> Value {
    let mut text = String::new();
    let mut rest = &*answer.body;
    if answer.header("transfer-encoding").is_some() {
        while let Some((size, more)) = rest.split_once("\r\n") {
            let size = usize::from_str_radix(size, 16).unwrap();
            text.push_str(&more[..size]);
            rest = &more[size + 2..];
            if size == 0 {
                break;
            }
        }
    } else {
        text.push_str(rest);
    }
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A stream of events of which the head has been read.
async fn events(node: SocketAddr, query: &str) -> (String, Client) {
    let mut client = Client::connect(node).await;
    let request =
        format!("GET /v2/events{query} HTTP/1.1\r\nHost: m\r\nAccept: text/event-stream\r\n\r\n");
    client.send(request).await;
    let head = client.until("\r\n\r\n").await;
    (String::from_utf8(head).unwrap(), client)
}

#[tokio::test]
async fn each_release_tells_of_apps_tasks_and_pods_in_its_own_way() {
    for era in Era::ALL {
        let fake = one_app(era, 1).await;
        let node = fake.nodes()[0];
        let info = json(&get(node, "/v2/info", "").await);
        assert_eq!(info["version"], era.release());
        assert_eq!(info["leader"], node.to_string());

        let apps = json(&get(node, "/v2/apps?embed=apps.tasks&embed=apps.deployments", "").await);
        let web = &apps["apps"][0];
        assert_eq!(apps["apps"].as_array().unwrap().len(), 1, "{era:?}: pods are no apps");
        let tasks = web["tasks"].as_array().unwrap();
        // Without states a task that has not begun would look like one that has.
        assert_eq!(tasks.len(), if era == Era::V0_9 { 1 } else { 2 }, "{era:?}");
        assert_eq!(tasks[0]["host"], "127.42.0.1", "{era:?}");
        assert_eq!(tasks[0]["ports"][0], 31_000, "{era:?}");
        assert_eq!(tasks[0]["healthCheckResults"][0]["alive"], true, "{era:?}");
        assert_eq!(tasks[0]["state"].is_string(), era.has_instances(), "{era:?}");
        assert_eq!(web["networks"].is_array(), era.has_networks(), "{era:?}");
        assert_eq!(web["ports"].is_array(), !era.has_networks(), "{era:?}");

        let one = get(node, "/v2/apps//prod/web?embed=app.tasks", "").await;
        assert_eq!(json(&one)["app"], *web, "{era:?}: one app as in the list");
        assert_eq!(get(node, "/v2/apps//prod/none", "").await.status, 404);
        let plain = json(&get(node, "/v2/apps", "").await);
        assert!(plain["apps"][0]["tasks"].is_null(), "{era:?}: tasks are wished for");
        let rows = json(&get(node, "/v2/tasks", "").await);
        assert_eq!(rows["tasks"][0]["appId"], "/prod/web", "{era:?}");
        let pods = get(node, "/v2/pods/::status", "").await;
        if era.has_instances() {
            assert_eq!(json(&pods)[0]["instances"][0]["status"], "STAGING", "{era:?}");
        } else {
            assert_eq!(pods.status, 404);
        }
    }
}

#[tokio::test]
async fn a_stream_begins_with_its_own_event_and_tells_what_was_asked_for_until_the_leader_goes() {
    let fake = one_app(Era::V1_11, 1).await;
    fake.script(|script| {
        script.heartbeat = Duration::from_millis(5);
        script.plan = 10_000;
    });
    let query = "?event_type=event_stream_attached&event_type=deployment_info";
    let (_, mut light) = events(fake.nodes()[0], &format!("{query}&plan-format=light")).await;
    light.until("event: event_stream_attached\r\ndata: {").await;
    let (_, mut full) = events(fake.nodes()[0], query).await;
    light.until("event: event_stream_attached").await;
    // A heartbeat is two bytes, one by one.
    light.until("1\r\n\r\r\n1\r\n\n\r\n").await;

    assert_eq!(fake.act(|world| world.deploy("/prod/web")), Told::NotLive, "nobody has read yet");
    let short = light.until("\r\n\r\n\r\n").await;
    full.until("event: deployment_info").await;
    let long = full.until("\r\n\r\n\r\n").await.len();
    assert!(short.len() < 2000, "{}", short.len());
    assert!(long > 20_000, "{long}");
    let text = String::from_utf8(short).unwrap();
    assert!(!text.contains("group_change"), "what was not asked for: {text}");

    get(fake.nodes()[0], "/v2/apps?embed=apps.tasks", "").await;
    assert_eq!(fake.act(|world| world.deploy("/prod/web")), Told::NotLive, "pods belong to it");
    get(fake.nodes()[0], "/v2/pods/::status", "").await;
    // The last event of a deployment's begin is one that was asked for.
    assert_eq!(fake.act(|world| world.deploy("/prod/web")), Told::Live);
    fake.script(|script| script.lost = 3);
    assert_eq!(fake.act(|world| world.deploy("/prod/web")), Told::NotLive, "lost in silence");
    fake.lead(None);
    light.rest().await;
    full.rest().await;
}

#[tokio::test]
async fn a_stream_that_is_mute_stays_open_and_says_nothing_more() {
    let fake = one_app(Era::V1_8, 1).await;
    fake.script(|script| script.heartbeat = Duration::from_millis(5));
    let (_, mut stream) = events(fake.nodes()[0], "").await;
    stream.until("event_stream_attached").await;
    assert_eq!(fake.hearing(), 1);
    fake.mute(true);
    fake.act(|world| world.deploy("/prod/web"));
    let beats = String::from_utf8(stream.bytes(600).await).unwrap();
    assert!(!beats.contains("deployment_info"), "{beats}");
    assert_eq!(fake.hearing(), 0);
    fake.mute(false);
    fake.end_streams();
    let rest = String::from_utf8(stream.rest().await).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "{rest:?}");
}

#[tokio::test]
async fn who_does_not_lead_asks_the_leader_and_sends_listeners_there_or_away() {
    let fake = one_app(Era::V1_8, 2).await;
    let [leader, standby] = fake.nodes() else { unreachable!() };
    let apps = get(*standby, "/v2/apps?embed=apps.tasks", "").await;
    assert_eq!(apps.header("x-marathon-leader"), Some(&*format!("http://{leader}")));
    assert_eq!(apps.header("x-marathon-via"), Some(&*format!("1.1 {standby}")));
    assert_eq!(json(&apps)["apps"][0]["id"], "/prod/web");
    assert_eq!(get(*leader, "/v2/apps", "").await.header("x-marathon-via"), None);

    let (head, _) = events(*standby, "?plan-format=light").await;
    assert!(head.starts_with("HTTP/1.1 302"), "{head}");
    let place = format!("Location: http://{leader}/v2/events?plan-format=light\r\n");
    assert!(head.contains(&place), "{head}");
    fake.script(|script| script.standby = Standby::Closes);
    let (head, mut stream) = events(*standby, "").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(stream.rest().await.is_empty(), "it says nothing before it closes");
    fake.script(|script| script.standby = Standby::Proxies);
    let (_, mut stream) = events(*standby, "").await;
    stream.until("event_stream_attached").await;

    fake.script(|script| script.election = Duration::from_millis(1));
    fake.lead(None);
    stream.rest().await;
    assert_eq!(get(*standby, "/v2/apps", "").await.status, 502);
    let (_, mut stream) = events(*leader, "").await;
    assert!(stream.rest().await.is_empty(), "nobody leads");
    fake.lead(Some(1));
    assert_eq!(fake.leader(), Some(1));
    let apps = json(&get(*leader, "/v2/apps?embed=apps.tasks", "").await);
    let results = &apps["apps"][0]["tasks"][0]["healthCheckResults"];
    assert!(results[0].is_null(), "the new leader has checked nobody yet: {results}");
}

#[tokio::test]
async fn answers_go_wrong_as_armed_and_strangers_get_none() {
    let fake = one_app(Era::V1_8, 1).await;
    let node = fake.nodes()[0];
    fake.script(|script| script.auth = Auth::Basic("portolan", "secret"));
    assert_eq!(get(node, "/v2/apps", "").await.status, 401);
    let known = "Authorization: Basic cG9ydG9sYW46c2VjcmV0\r\n";
    assert_eq!(get(node, "/v2/apps", known).await.status, 200);
    fake.script(|script| script.auth = Auth::Token("abc.def"));
    assert_eq!(get(node, "/v2/apps", known).await.status, 401);
    let token = "Authorization: token=abc.def\r\n";
    let mut client = Client::connect(node).await;
    client.send(format!("GET /v2/events HTTP/1.1\r\nHost: m\r\n{token}\r\n")).await;
    assert_eq!(client.answer().await.status, 405, "no stream was asked for");

    fake.arm([Some(Fault::Refused(503)), None, Some(Fault::Slow(1)), Some(Fault::Half)]);
    let statuses = async |count: usize| {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(get(node, "/v2/apps", token).await.status);
        }
        all
    };
    assert_eq!(statuses(3).await, [503, 200, 200]);
    let mut client = Client::connect(node).await;
    client.send(format!("GET /v2/apps HTTP/1.1\r\nHost: m\r\n{token}\r\n")).await;
    let half = String::from_utf8(client.rest().await).unwrap();
    assert!(half.contains("{\"apps\":[") && !half.ends_with("0\r\n\r\n"), "{half}");
    fake.arm([Fault::Garbage, Fault::OtherJson]);
    assert!(get(node, "/v2/apps", token).await.body.contains("not json"));
    assert!(get(node, "/v2/apps", token).await.body.contains("rows"));
    fake.arm([Fault::HalfOpen, Fault::Reset]);
    let mut hanging = TcpStream::connect(node).await.unwrap();
    let request = format!("GET /v2/apps HTTP/1.1\r\nHost: m\r\n{token}\r\n");
    let asked = fake.asked();
    hanging.write_all(request.as_bytes()).await.unwrap();
    while fake.asked() == asked {
        tokio::task::yield_now().await;
    }
    let mut client = Client::connect(node).await;
    client.send(&request).await;
    assert!(client.is_reset().await);
    assert_eq!(fake.armed(), 0);
    fake.heal();
    let mut client = Client::over(hanging);
    assert!(client.rest().await.is_empty(), "given up without an answer");
}
