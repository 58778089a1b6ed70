//! What is true: apps, pods and their instances, and what becomes of them. Every change gives the
//! events that Marathon would tell of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::Bytes;

use super::era::Era;
use super::events::{self, Said};
use super::shapes;

/// How the tasks of an app are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Net {
    /// At ports of the agent.
    Host,
    /// At ports of the agent that lead to those of a container.
    Bridge,
    /// At an address of their own.
    PerTask,
    /// Instances of a pod, at ports of the agent.
    Pod,
}

/// Where a task is in its life; one that has ended is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Staging,
    Running,
    Killing,
    Unreachable,
}

impl State {
    /// As Mesos spells it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Staging => "TASK_STAGING",
            Self::Running => "TASK_RUNNING",
            Self::Killing => "TASK_KILLING",
            Self::Unreachable => "TASK_UNREACHABLE",
        }
    }
}

/// A task, or an instance of a pod.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    /// Where its first port is reached.
    pub(crate) at: SocketAddr,
    pub(crate) state: State,
    /// What its checks said last; none: they have not run, or it was forgotten.
    pub(crate) health: Option<bool>,
    /// What its checks said last before it was forgotten.
    pub(crate) known: Option<bool>,
    /// How often its health has changed.
    pub(crate) flips: u32,
    /// Version of the app that it runs.
    pub(crate) version: u32,
}

/// An app, or a pod.
#[derive(Debug, Clone)]
pub(crate) struct App {
    pub(crate) net: Net,
    /// Whether Marathon checks its tasks.
    pub(crate) checks: bool,
    pub(crate) ports: Vec<&'static str>,
    pub(crate) service_ports: Vec<u16>,
    pub(crate) labels: BTreeMap<String, String>,
    /// The number of its version.
    pub(crate) version: u32,
    /// The deployment that changes it.
    pub(crate) deployment: Option<String>,
    /// How many tasks it is to have, where somebody said so over HTTP.
    pub(crate) instances: Option<usize>,
    /// It is to be there no more once its tasks have ended.
    pub(crate) deleted: bool,
    /// By their own part of the name.
    pub(crate) tasks: BTreeMap<String, Task>,
    /// Bytes that it carries about for nothing, in its environment.
    pub(crate) padding: usize,
    /// Its JSON, made when it is asked for.
    body: Option<Bytes>,
}

impl App {
    /// One without tasks, labels and checks, with one port called `http`.
    pub(crate) fn new(net: Net) -> Self {
        Self {
            net,
            checks: false,
            ports: vec!["http"],
            service_ports: vec![0],
            labels: BTreeMap::new(),
            version: 1,
            deployment: None,
            instances: None,
            deleted: false,
            tasks: BTreeMap::new(),
            padding: 0,
            body: None,
        }
    }

    /// Tasks that run, whatever their health.
    pub(crate) fn running(&self) -> impl Iterator<Item = (&String, &Task)> {
        let runs = |task: &Task| matches!(task.state, State::Running | State::Unreachable);
        self.tasks.iter().filter(move |(_, task)| runs(task))
    }

    /// Whether a task that runs is to get work. What Marathon has forgotten stands.
    pub(crate) fn serves(&self, task: &Task) -> bool {
        !self.checks || task.health.or(task.known) == Some(true)
    }
}

/// All that one Marathon knows.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) era: Era,
    pub(crate) apps: BTreeMap<String, App>,
    /// Elements that stand in the list of apps as they are, well-formed or not.
    pub(crate) odd: Vec<Bytes>,
    /// The same in the list of pods.
    pub(crate) odd_pods: Vec<Bytes>,
    /// Grows with all that gets a number.
    counter: u32,
}

/// What ends a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Killed,
    Failed,
    Lost,
    Gone,
}

impl World {
    pub(crate) fn new(era: Era) -> Self {
        Self { era, apps: BTreeMap::new(), odd: Vec::new(), odd_pods: Vec::new(), counter: 0 }
    }

    /// A number that nothing has had yet.
    pub(crate) fn fresh(&mut self) -> u32 {
        self.counter += 1;
        self.counter
    }

    /// The app, to change it.
    pub(crate) fn app(&mut self, id: &str) -> &mut App {
        let app = self.apps.get_mut(id).unwrap_or_else(|| panic!("no app {id}"));
        app.body = None;
        app
    }

    fn task(&mut self, id: &str, own: &str) -> &mut Task {
        let task = self.app(id).tasks.get_mut(own);
        task.unwrap_or_else(|| panic!("no task {own} of {id}"))
    }

    /// The id that the catalog knows a task by: for a pod that of the instance.
    pub(crate) fn told_as(&self, id: &str, own: &str) -> String {
        if self.apps.get(id).is_some_and(|app| app.net == Net::Pod) {
            self.era.instance_id(id, own)
        } else {
            self.era.task_id(id, own)
        }
    }

    /// A new app, or a new version of one.
    pub(crate) fn post(&mut self, id: &str, app: App) -> Vec<Said> {
        let there = self.apps.contains_key(id);
        let pod = app.net == Net::Pod;
        self.apps.insert(id.to_owned(), App { body: None, ..app });
        if pod {
            return vec![events::pod(if there { "updated" } else { "created" }, id)];
        }
        vec![events::api_post(self.era, id, &self.apps[id]), events::group_change(id)]
    }

    /// An app goes with all its tasks.
    pub(crate) fn delete(&mut self, id: &str) -> Vec<Said> {
        let Some(app) = self.apps.get(id) else { return Vec::new() };
        let (pod, tasks) = (app.net == Net::Pod, app.tasks.keys().cloned().collect::<Vec<_>>());
        let mut said = Vec::new();
        for own in tasks {
            said.extend(self.end(id, &own, End::Killed));
        }
        self.apps.remove(id);
        said.push(if pod { events::pod("deleted", id) } else { events::app_terminated(id) });
        said
    }

    /// A deployment of an app begins.
    pub(crate) fn deploy(&mut self, id: &str) -> Vec<Said> {
        let number = self.fresh();
        let deployment = format!("{number:08x}-5b1c-4d2e-9a61-0f5a7c9b3e10");
        let app = self.app(id);
        app.version = number;
        app.deployment = Some(deployment.clone());
        vec![
            events::api_post(self.era, id, &self.apps[id]),
            events::group_change(id),
            events::deployment("deployment_info", &deployment, id),
        ]
    }

    /// The deployment of an app ends.
    pub(crate) fn deployed(&mut self, id: &str) -> Vec<Said> {
        let Some(deployment) = self.app(id).deployment.take() else { return Vec::new() };
        vec![
            events::deployment("deployment_step_success", &deployment, id),
            events::deployment("deployment_success", &deployment, id),
        ]
    }

    /// A task of the app is staged; its own part of the name.
    pub(crate) fn stage(&mut self, id: &str, at: SocketAddr) -> (String, Vec<Said>) {
        let number = self.fresh();
        let own = format!("{number:08x}-1b6e-11f0-8d5a-70b3d5800001");
        let version = self.app(id).version;
        let task = Task { at, state: State::Staging, health: None, known: None, flips: 0, version };
        self.app(id).tasks.insert(own.clone(), task);
        let said = self.state_told(id, &own, State::Staging.word());
        (own, said)
    }

    /// A task begins to run, comes back, gets out of reach, or begins to be killed.
    pub(crate) fn becomes(&mut self, id: &str, own: &str, state: State) -> Vec<Said> {
        self.task(id, own).state = state;
        self.state_told(id, own, state.word())
    }

    /// A task has ended.
    pub(crate) fn end(&mut self, id: &str, own: &str, how: End) -> Vec<Said> {
        let word = match how {
            End::Killed => "TASK_KILLED",
            End::Failed => "TASK_FAILED",
            End::Lost => "TASK_LOST",
            End::Gone => "TASK_GONE",
        };
        let said = self.state_told(id, own, word);
        self.app(id).tasks.remove(own);
        said
    }

    /// The checks of a task say something; told when it is news.
    pub(crate) fn checked(&mut self, id: &str, own: &str, alive: bool) -> Vec<Said> {
        let era = self.era;
        let task = self.task(id, own);
        let news = task.health != Some(alive);
        task.flips += u32::from(task.known.is_some_and(|known| known != alive));
        (task.health, task.known) = (Some(alive), Some(alive));
        let version = task.version;
        if news { events::health(era, id, own, alive, version) } else { Vec::new() }
    }

    /// What checks have said is forgotten, as by a leader that has just been elected.
    pub(crate) fn forget_health(&mut self) {
        for app in self.apps.values_mut().filter(|app| app.checks) {
            app.body = None;
            for task in app.tasks.values_mut() {
                task.health = None;
            }
        }
    }

    fn state_told(&self, id: &str, own: &str, word: &str) -> Vec<Said> {
        let app = &self.apps[id];
        events::state(self.era, id, app, own, word)
    }

    /// The JSON of one app with its tasks; none when it is not there or a pod.
    pub(crate) fn body(&mut self, id: &str) -> Option<Bytes> {
        let era = self.era;
        let app = self.apps.get_mut(id).filter(|app| app.net != Net::Pod)?;
        if app.body.is_none() {
            app.body = Some(shapes::app(era, id, app, true).to_string().into());
        }
        app.body.clone()
    }

    /// The elements of the list of apps, with their tasks or without.
    pub(crate) fn listed(&mut self, tasks: bool) -> Vec<Bytes> {
        let ids: Vec<String> = self.apps.keys().cloned().collect();
        let era = self.era;
        let mut all = Vec::with_capacity(ids.len());
        for id in ids {
            if tasks {
                all.extend(self.body(&id));
            } else if self.apps[&id].net != Net::Pod {
                all.push(shapes::app(era, &id, &self.apps[&id], false).to_string().into());
            }
        }
        all.extend(self.odd.iter().cloned());
        all
    }

    /// The elements of the list of pods.
    pub(crate) fn pods(&self) -> Vec<Bytes> {
        let pods = self.apps.iter().filter(|(_, app)| app.net == Net::Pod);
        let pods = pods.map(|(id, pod)| shapes::pod(self.era, id, pod).to_string().into());
        pods.chain(self.odd_pods.iter().cloned()).collect()
    }

    /// The status of one pod; none when it is not there or an app.
    pub(crate) fn pod(&self, id: &str) -> Option<Bytes> {
        let pod = self.apps.get(id).filter(|app| app.net == Net::Pod)?;
        Some(shapes::pod(self.era, id, pod).to_string().into())
    }

    /// The deployments that go on.
    pub(crate) fn deployments(&self) -> String {
        let under_way = self.apps.iter().filter_map(|(id, app)| {
            let deployment = app.deployment.as_ref()?;
            Some(serde_json::json!({"id": deployment, "affectedApps": [id], "steps": []}))
        });
        under_way.collect::<serde_json::Value>().to_string()
    }

    /// The rows of `/v2/tasks`.
    pub(crate) fn tasks(&self) -> Vec<Bytes> {
        let apps = self.apps.iter().filter(|(_, app)| app.net != Net::Pod);
        let rows = apps.flat_map(|(id, app)| shapes::tasks(self.era, id, app));
        rows.map(|row| row.to_string().into()).collect()
    }
}
