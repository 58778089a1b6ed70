use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::thread;

use super::*;
use crate::proxy::balance::PickKey;
use crate::proxy::balance::hash::mix;
use crate::proxy::config::ServiceBalance;
use crate::proxy::upstream::tests::{instance, service};
use crate::proxy::upstream::{Rules, Upstream};

const LONG: Duration = Duration::from_secs(30);

/// So many places, and who has had one.
#[derive(Default)]
struct Free {
    places: AtomicU32,
    served: Mutex<Vec<usize>>,
}

impl Free {
    fn take(&self, who: usize) -> Option<usize> {
        let taken = self.places.fetch_update(SeqCst, SeqCst, |free| free.checked_sub(1));
        taken.is_ok().then(|| {
            self.served.lock().unwrap().push(who);
            who
        })
    }

    fn free(&self, queue: &Queue) {
        self.places.fetch_add(1, SeqCst);
        queue.call();
    }
}

/// Runs `work` to its end on a runtime of this thread alone, as the workers' are.
fn alone<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn places_are_given_in_the_order_of_coming_over_all_threads() {
    let (queue, free) = (Queue::default(), Free::default());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for worker in 0..4_usize {
            let (queue, free, next) = (&queue, &free, &next);
            scope.spawn(move || {
                alone(async {
                    let wait = |who: usize| async move {
                        // In turn: each comes when all before stand in line.
                        while next.load(SeqCst) != who {
                            tokio::task::yield_now().await;
                        }
                        let waited = queue.wait(1000, LONG, || free.take(who));
                        tokio::pin!(waited);
                        let first = std::future::poll_fn(|context| {
                            Poll::Ready(waited.as_mut().poll(context))
                        });
                        assert!(first.await.is_pending());
                        next.fetch_add(1, SeqCst);
                        assert_eq!(waited.await, Ok(who));
                    };
                    let mine = (0..100).filter(|who| who % 4 == worker);
                    futures_join(mine.map(wait).map(|f| Box::pin(f) as _).collect()).await;
                });
            });
        }
        while next.load(SeqCst) != 100 {
            thread::yield_now();
        }
        assert_eq!(queue.waiting(), 100);
        for _ in 0..100 {
            free.free(&queue);
        }
    });
    assert_eq!(*free.served.lock().unwrap(), (0..100).collect::<Vec<_>>());
    assert_eq!(queue.waiting(), 0);
}

/// Polls all of them until all are done.
async fn futures_join(mut all: Vec<std::pin::Pin<Box<dyn Future<Output = ()> + '_>>>) {
    std::future::poll_fn(|context| {
        all.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if all.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_full_line_refuses_at_once_and_a_long_wait_ends() {
    let (queue, free) = (Arc::new(Queue::default()), Arc::new(Free::default()));
    let wait = |who, size, patience| {
        let (queue, free) = (Arc::clone(&queue), Arc::clone(&free));
        tokio::spawn(async move { queue.wait(size, patience, || free.take(who)).await })
    };
    let first = wait(1, 2, Duration::from_secs(3));
    tokio::task::yield_now().await;
    let second = wait(2, 2, Duration::from_secs(5));
    tokio::task::yield_now().await;
    assert_eq!(wait(3, 2, LONG).await.unwrap(), Err(Vain::Full));
    assert_eq!(wait(4, 0, LONG).await.unwrap(), Err(Vain::Full), "no line at all");
    assert_eq!(first.await.unwrap(), Err(Vain::Timeout));
    free.free(&queue);
    assert_eq!(second.await.unwrap(), Ok(2), "the one behind is first then");
    assert_eq!(queue.waiting(), 0);
}

#[tokio::test]
async fn who_leaves_gives_way_and_takes_no_place_along() {
    let (queue, free) = (Arc::new(Queue::default()), Arc::new(Free::default()));
    let mut waits = Vec::new();
    for who in 0..3 {
        let (queue, free) = (Arc::clone(&queue), Arc::clone(&free));
        waits.push(tokio::spawn(async move { queue.wait(9, LONG, || free.take(who)).await }));
        tokio::task::yield_now().await;
    }
    waits[1].abort();
    while queue.waiting() == 3 {
        tokio::task::yield_now().await;
    }
    // Called, and gone before it could come: the place is for the next one.
    free.free(&queue);
    waits[0].abort();
    assert!(waits.remove(0).await.unwrap_err().is_cancelled());
    assert_eq!(waits.remove(1).await.unwrap(), Ok(2));
}

#[test]
fn limits_hold_and_nobody_is_forgotten_while_many_come_and_go_on_all_threads() {
    const MAX: u32 = 2;
    let config = ServiceBalance { max_connections: Some(MAX), ..ServiceBalance::default() };
    let rules = Arc::new(Rules::compile(&config).unwrap());
    let instances: Vec<_> =
        (0..3).map(|n| instance(&n.to_string(), &format!("10.0.0.{n}"), 80, 1)).collect();
    let service = service("web", &instances);
    let upstream = Upstream::compile_by(&rules, Some(&service), "", None, 1);
    let queue = upstream.queue().unwrap();
    let (served, left, waited) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for worker in 0..4_u64 {
            let (upstream, served, left, waited) = (&upstream, &served, &left, &waited);
            scope.spawn(move || {
                alone(async {
                    let come = |who: u64| async move {
                        for round in 0..50_u64 {
                            let random = mix(worker << 32 | who << 16 | round);
                            let take = || upstream.take(PickKey::new(random, 1), &[]).ok();
                            let at_once = if upstream.crowded() { None } else { take() };
                            let placed = if at_once.is_some() {
                                at_once
                            } else {
                                waited.fetch_add(1, Relaxed);
                                let wait = queue.wait(1000, LONG, take);
                                // One in four loses patience after a few turns.
                                let patience = async {
                                    for _ in 0..random % 20 {
                                        tokio::task::yield_now().await;
                                    }
                                    if !random.is_multiple_of(4) {
                                        std::future::pending::<()>().await;
                                    }
                                };
                                tokio::select! {
                                    placed = wait => Some(placed.unwrap()),
                                    () = patience => None,
                                }
                            };
                            let Some((endpoint, work)) = placed else {
                                left.fetch_add(1, Relaxed);
                                continue;
                            };
                            assert!(endpoint.in_flight() <= MAX);
                            tokio::task::yield_now().await;
                            assert!(endpoint.in_flight() <= MAX);
                            drop(work);
                            served.fetch_add(1, Relaxed);
                        }
                    };
                    futures_join((0..20).map(come).map(|f| Box::pin(f) as _).collect()).await;
                });
            });
        }
    });
    let (served, left) = (served.into_inner(), left.into_inner());
    assert_eq!(served + left, 4 * 20 * 50, "somebody waited for ever");
    assert!(waited.into_inner() > 100 && left > 10, "{served} served, {left} left: too easy");
    assert_eq!(queue.waiting(), 0);
    assert!(upstream.endpoints.iter().all(|endpoint| endpoint.in_flight() == 0));
}
