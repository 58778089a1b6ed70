//! Work that can be cut: what runs at an endpoint ends early when its time there is over.
//!
//! Each data worker keeps a list of what it carries, for itself: entering and leaving it is a push
//! and a pop, without a lock and without an allocation once the list has grown. A piece of work is
//! tied to the load of the endpoint that it was begun at (`tie`, called where work begins), so
//! that nobody who picks endpoints has to think of it. To cut, the control side marks the load and
//! tells every worker ([`Cutter::cut`]); each looks through its own list once and wakes what runs
//! there, which then ends where it waits.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::mpsc;

use super::upstream::Load;

/// Why work is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Its instance left, and had its time.
    Left,
    /// The deadline that an operator gave is over.
    Deadline,
    /// Its instance turned unhealthy, and its service says that connections end then.
    Unhealthy,
}

impl Reason {
    /// Every reason, for metrics.
    pub const ALL: [Self; 3] = [Self::Left, Self::Deadline, Self::Unhealthy];

    /// Lower-case word, as metrics and logs write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Deadline => "deadline",
            Self::Unhealthy => "unhealthy",
        }
    }

    /// Whether it ends what is of this kind: a request ends soon, or its instance fails it.
    const fn ends(self, kind: Kind) -> bool {
        !matches!((self, kind), (Self::Unhealthy, Kind::Request))
    }
}

/// What is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request and its answer.
    Request,
    /// A request that asks for another protocol, and the tunnel that it becomes.
    Tunnel,
    /// A connection of a TCP listener, or a flow of a UDP listener.
    Connection,
}

/// Whether what runs at an endpoint has had its time; part of its load.
#[derive(Debug, Default)]
pub struct Mark(AtomicU8);

impl Mark {
    fn set(&self, reason: Option<Reason>) {
        self.0.store(reason.map_or(0, |reason| reason as u8 + 1), Relaxed);
    }

    pub(super) fn reason(&self) -> Option<Reason> {
        match self.0.load(Relaxed) {
            0 => None,
            1 => Some(Reason::Left),
            2 => Some(Reason::Deadline),
            _ => Some(Reason::Unhealthy),
        }
    }
}

/// One order to cut, and what came of it.
#[derive(Debug)]
pub struct Cut {
    load: Arc<Load>,
    reason: Reason,
    counts: [AtomicU32; 3],
}

impl Cut {
    /// Whether it is meant for work at the endpoint with this `load`; why.
    pub(super) fn concerns(&self, load: &Arc<Load>) -> Option<Reason> {
        Arc::ptr_eq(&self.load, load).then_some(self.reason)
    }

    /// Counts so many more pieces of work that were cut by it.
    pub(super) fn counted(&self, kind: Kind, pieces: u32) {
        self.counts[kind as usize].fetch_add(pieces, Relaxed);
    }

    /// How many requests, tunnels and connections were cut by it so far.
    #[must_use]
    pub fn counts(&self) -> [u32; 3] {
        [0, 1, 2].map(|kind: usize| self.counts[kind].load(Relaxed))
    }
}

/// Tells the data workers what to cut. One for the whole process.
#[derive(Debug, Default)]
pub struct Cutter(Mutex<Vec<mpsc::UnboundedSender<Arc<Cut>>>>);

impl Cutter {
    /// What one more worker is told, for [`deliver`].
    pub fn worker(&self) -> mpsc::UnboundedReceiver<Arc<Cut>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    /// Cuts what runs at an endpoint with this `load`, and what begins there, until it is
    /// [spared](spare).
    pub fn cut(&self, load: &Arc<Load>, reason: Reason) -> Arc<Cut> {
        // Before anybody is told: who begins later than the look through the list sees the mark.
        load.cut.set(Some(reason));
        let cut = Arc::new(Cut { load: Arc::clone(load), reason, counts: Default::default() });
        let workers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for worker in workers.iter() {
            // One that has ended carries nothing any more.
            let _ = worker.send(Arc::clone(&cut));
        }
        cut
    }
}

/// What begins at an endpoint with this `load` from now on is not cut.
pub fn spare(load: &Load) {
    load.cut.set(None);
}

/// What this thread is told to cut, for a task of its own that carries many pieces of work at once and
/// looks through them itself.
pub(super) fn told() -> mpsc::UnboundedReceiver<Arc<Cut>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    TOLD.with_borrow_mut(|told| told.push(sender));
    receiver
}

/// Cuts what this thread carries, as it is told. Never returns.
pub async fn deliver(mut cuts: mpsc::UnboundedReceiver<Arc<Cut>>) {
    while let Some(cut) = cuts.recv().await {
        for waker in CARRIED.with(|carried| carried.places.borrow_mut().cut(&cut)) {
            waker.wake();
        }
        // One that has ended carries nothing any more.
        TOLD.with_borrow_mut(|told| told.retain(|told| told.send(Arc::clone(&cut)).is_ok()));
    }
    std::future::pending::<()>().await;
}

thread_local! {
    static CARRIED: Carried = const { Carried {
        current: Cell::new(None),
        breaking: Cell::new(None),
        places: RefCell::new(Places { all: Vec::new(), free: Vec::new() }),
    } };
}

thread_local! {
    /// Who looks through its own list.
    static TOLD: RefCell<Vec<mpsc::UnboundedSender<Arc<Cut>>>> = const { RefCell::new(Vec::new()) };
}

/// What this thread carries.
struct Carried {
    /// The place of the work that is being polled.
    current: Cell<Option<usize>>,
    /// Why work is being dropped, when it was cut.
    breaking: Cell<Option<Reason>>,
    places: RefCell<Places>,
}

struct Places {
    all: Vec<Slot>,
    free: Vec<usize>,
}

struct Slot {
    kind: Kind,
    /// Whom to wake; none until the work was polled, and in places that are free.
    waker: Option<Waker>,
    /// The load that it is tied to, or null. Only compared: the work itself keeps it alive.
    load: *const Load,
    /// How many pieces of work tie it there: a second try may begin before the first one is let go.
    ties: u32,
    cut: Option<Reason>,
}

impl Places {
    fn tie(&mut self, place: usize, load: &Arc<Load>) {
        if let Some(slot) = self.all.get_mut(place) {
            let load_of = Arc::as_ptr(load);
            slot.ties = if std::ptr::eq(slot.load, load_of) { slot.ties + 1 } else { 1 };
            slot.load = load_of;
            slot.cut = load.cut.reason().filter(|reason| reason.ends(slot.kind));
        }
    }

    /// Marks all that is tied to the load; gives back whom to wake.
    fn cut(&mut self, cut: &Cut) -> Vec<Waker> {
        let load = Arc::as_ptr(&cut.load);
        let ends = |slot: &&mut Slot| std::ptr::eq(slot.load, load) && cut.reason.ends(slot.kind);
        let tied = self.all.iter_mut().filter(ends);
        let told = tied.filter_map(|slot| {
            slot.cut = Some(cut.reason);
            cut.counts[slot.kind as usize].fetch_add(1, Relaxed);
            slot.waker.clone()
        });
        told.collect()
    }
}

/// A place in the list; dropping it frees it.
struct Place(usize);

impl Place {
    fn take(kind: Kind) -> Self {
        CARRIED.with(|carried| {
            let mut places = carried.places.borrow_mut();
            let slot = Slot { kind, waker: None, load: std::ptr::null(), ties: 0, cut: None };
            if let Some(free) = places.free.pop()
                && let Some(place) = places.all.get_mut(free)
            {
                *place = slot;
                return Self(free);
            }
            places.all.push(slot);
            Self(places.all.len() - 1)
        })
    }

    /// Ties the work to `load`; work at an endpoint that has had its time is cut at once.
    fn tie(&self, load: &Arc<Load>) {
        CARRIED.with(|carried| carried.places.borrow_mut().tie(self.0, load));
    }

    /// Why the work is cut, if it is; else notes whom to wake.
    fn enter(&self, waker: &Waker) -> Option<Reason> {
        CARRIED.with(|carried| {
            let mut places = carried.places.borrow_mut();
            let slot = places.all.get_mut(self.0)?;
            if slot.cut.is_none() && !slot.waker.as_ref().is_some_and(|old| old.will_wake(waker)) {
                slot.waker = Some(waker.clone());
            }
            slot.cut
        })
    }

    fn poll<F: Future>(
        &self,
        work: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Reason>> {
        if let Some(reason) = self.enter(cx.waker()) {
            return Poll::Ready(Err(reason));
        }
        let polling = Polling(CARRIED.with(|carried| carried.current.replace(Some(self.0))));
        let polled = work.poll(cx);
        drop(polling);
        match polled {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            // It may have begun just now, at an endpoint that has had its time.
            Poll::Pending => match self.enter(cx.waker()) {
                Some(reason) => Poll::Ready(Err(reason)),
                None => Poll::Pending,
            },
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        CARRIED.with(|carried| {
            let mut places = carried.places.borrow_mut();
            let Some(slot) = places.all.get_mut(self.0) else { return };
            let waker = slot.waker.take();
            slot.load = std::ptr::null();
            places.free.push(self.0);
            drop(places);
            drop(waker);
        });
    }
}

/// While something is polled; dropping it brings back what was polled around it.
struct Polling(Option<usize>);

impl Drop for Polling {
    fn drop(&mut self) {
        CARRIED.with(|carried| carried.current.set(self.0));
    }
}

/// Until it is dropped, [`breaking`] says that what is dropped was cut.
struct Breaking(bool);

impl Breaking {
    fn begin(&mut self, reason: Reason) {
        self.0 = true;
        CARRIED.with(|carried| carried.breaking.set(Some(reason)));
    }
}

impl Drop for Breaking {
    fn drop(&mut self) {
        if self.0 {
            CARRIED.with(|carried| carried.breaking.set(None));
        }
    }
}

/// Runs `work` to its end, or until the endpoint that it runs at has had its time: then it is
/// dropped where it is, and why is returned. Work that begins at an endpoint while it is polled is
/// tied to that one; `tied` is for work that began before.
///
/// Needs a runtime that stays on its thread, as those of the data workers do.
///
/// # Errors
/// The work was cut.
pub async fn unless_cut<T>(
    kind: Kind,
    tied: Option<&Arc<Load>>,
    work: impl Future<Output = T>,
) -> Result<T, Reason> {
    let place = Place::take(kind);
    if let Some(load) = tied {
        place.tie(load);
    }
    // Dropped behind the work, so that what the work holds learns why it is dropped.
    let mut broken = Breaking(false);
    let mut work = pin!(work);
    let ended = poll_fn(|cx| place.poll(work.as_mut(), cx)).await;
    if let Err(reason) = &ended {
        broken.begin(*reason);
    }
    ended
}

/// Why what is being dropped on this thread was cut, if it was: whoever holds a connection then breaks
/// it visibly, for an orderly close could be taken for the end of a whole answer.
#[must_use]
pub fn breaking() -> Option<Reason> {
    CARRIED.with(|carried| carried.breaking.get())
}

/// Work has begun at an endpoint with this `load`: what is being polled is cut with it.
pub(super) fn tie(load: &Arc<Load>) {
    CARRIED.with(|carried| {
        if let Some(current) = carried.current.get() {
            carried.places.borrow_mut().tie(current, load);
        }
    });
}

/// Work has ended at an endpoint with this `load`.
pub(super) fn untie(load: &Arc<Load>) {
    CARRIED.with(|carried| {
        let Some(current) = carried.current.get() else { return };
        if let Some(slot) = carried.places.borrow_mut().all.get_mut(current)
            && std::ptr::eq(slot.load, Arc::as_ptr(load))
        {
            slot.ties = slot.ties.saturating_sub(1);
            if slot.ties == 0 {
                slot.load = std::ptr::null();
            }
        }
    });
}

#[cfg(test)]
#[path = "cut_tests.rs"]
mod tests;
