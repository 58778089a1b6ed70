//! The child of `[exec]`: started when the files are there, told when one of them changes.

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::App;
use super::rendered::{Rendered, written};
use crate::lifecycle::{Phase, Phases};
use crate::render::{Ended, ExecConfig, Order, supervise};

/// Orders that wait for a child that is busy ending.
const ORDERS: usize = 32;

impl App {
    /// Returns the exit code of the child of `[exec]` once it has ended for good by itself; never
    /// without one.
    pub async fn child_ended(&self) -> u8 {
        self.child.ended().await
    }

    /// Passes `signal` on to the child; says whether there is one that runs.
    pub async fn signal_child(&self, signal: rustix::process::Signal) -> bool {
        self.child.signal(signal).await
    }
}

/// The child, if there is one. Dropping it ends the task, and kills the child.
#[derive(Debug)]
pub(super) struct Child {
    orders: mpsc::Sender<Order>,
    state: watch::Receiver<State>,
    task: Option<JoinHandle<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// None is configured, or it waits for the files.
    Waiting,
    Running,
    /// It has ended by itself, with this code.
    Ended(u8),
}

impl Child {
    /// Starts the child of the configuration as soon as every file is what it should be. Must be
    /// called within a tokio runtime.
    pub(super) fn start(
        config: watch::Receiver<Option<ExecConfig>>,
        rendered: Rendered,
        phases: Phases,
    ) -> Self {
        let (orders, receiver) = mpsc::channel(ORDERS);
        let (sender, state) = watch::channel(State::Waiting);
        let task = tokio::spawn(live(config, rendered, phases, receiver, sender));
        Self { orders, state, task: Some(task) }
    }

    /// Returns its exit code once it has ended by itself.
    pub(super) async fn ended(&self) -> u8 {
        let mut state = self.state.clone();
        let ended = state.wait_for(|state| matches!(state, State::Ended(_))).await;
        match ended.map(|state| *state) {
            Ok(State::Ended(code)) => code,
            _ => std::future::pending().await,
        }
    }

    /// Passes a signal on; says whether there is a child that gets it.
    pub(super) async fn signal(&self, signal: rustix::process::Signal) -> bool {
        let running = *self.state.borrow() == State::Running;
        running && self.orders.send(Order::Signal(signal)).await.is_ok()
    }

    /// Ends it, within its own time for that.
    pub(super) async fn stop(&mut self) {
        // A task that is gone has no child any more.
        let _ = self.orders.send(Order::End).await;
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Lives as long as the application, over changes of the configuration.
async fn live(
    mut configs: watch::Receiver<Option<ExecConfig>>,
    mut rendered: Rendered,
    mut phases: Phases,
    mut orders: mpsc::Receiver<Order>,
    state: watch::Sender<State>,
) {
    loop {
        let config = configs.borrow_and_update().clone();
        let Some(config) = config else {
            tokio::select! {
                changed = configs.changed() => if changed.is_err() { return },
                order = orders.recv() => if ends(order) { return },
                () = phases.reached(Phase::Stopped) => return,
            }
            continue;
        };
        // The child reads what is rendered: nothing is started before that is there.
        let statuses = tokio::select! {
            statuses = rendered.current() => statuses,
            changed = configs.changed() => if changed.is_err() { return } else { continue },
            order = orders.recv() => if ends(order) { return } else { continue },
            () = phases.reached(Phase::Stopped) => return,
        };
        let mut known = written(statuses);
        let (sender, mut receiver) = mpsc::channel(ORDERS);
        let mut life = std::pin::pin!(supervise(&config, &mut receiver));
        state.send_replace(State::Running);
        let mut replaced = false;
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut life => break ended,
                order = orders.recv() => {
                    let order = order.unwrap_or(Order::End);
                    // A child that does not take orders any more is about to end.
                    let _ = sender.send(order).await;
                    if order == Order::End {
                        life.await;
                        return;
                    }
                }
                () = rendered.changed(&mut known) => {
                    let _ = sender.try_send(Order::Reload);
                }
                changed = configs.changed(), if !replaced => {
                    if changed.is_err() || configs.borrow().as_ref() != Some(&config) {
                        replaced = true;
                        let _ = sender.try_send(Order::End);
                    }
                }
            }
        };
        match ended {
            Ended::Itself(code) => {
                state.send_replace(State::Ended(code));
                return;
            }
            Ended::Told => {
                state.send_replace(State::Waiting);
            }
        }
    }
}

fn ends(order: Option<Order>) -> bool {
    order.is_none_or(|order| order == Order::End)
}
