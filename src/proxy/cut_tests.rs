use std::future::pending;

use super::*;
use crate::proxy::upstream::tests::endpoints;

fn places() -> usize {
    CARRIED.with(|carried| {
        let places = carried.places.borrow();
        places.all.len() - places.free.len()
    })
}

/// Lets everything run that can.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_runs_at_an_endpoint_is_cut_and_what_runs_elsewhere_is_not() {
    let all = endpoints(&[1, 1]);
    let cutter = Cutter::default();
    let delivering = tokio::spawn(deliver(cutter.worker()));
    let run = |at: usize, kind| {
        let endpoint = Arc::clone(&all[at]);
        tokio::spawn(unless_cut(kind, None, async move {
            let _work = endpoint.begin();
            pending::<()>().await;
        }))
    };
    let (request, tunnel) = (run(0, Kind::Request), run(0, Kind::Tunnel));
    let other = run(1, Kind::Request);
    settle().await;
    assert_eq!((all[0].in_flight(), all[1].in_flight(), places()), (2, 1, 3));

    let cut = cutter.cut(all[0].load(), Reason::Left);
    assert_eq!(request.await.unwrap(), Err(Reason::Left));
    assert_eq!(tunnel.await.unwrap(), Err(Reason::Left));
    assert_eq!((all[0].in_flight(), all[1].in_flight()), (0, 1));
    assert_eq!(cut.counts(), [1, 1, 0]);
    assert!(!other.is_finished());
    other.abort();
    assert!(other.await.unwrap_err().is_cancelled());
    assert_eq!(places(), 0, "whoever ends leaves the list, however it ends");
    delivering.abort();
}

#[tokio::test]
async fn work_that_begins_at_an_endpoint_that_had_its_time_is_cut_until_it_is_spared() {
    let all = endpoints(&[1]);
    let cutter = Cutter::default();
    cutter.cut(all[0].load(), Reason::Deadline);
    let begun = || {
        let endpoint = Arc::clone(&all[0]);
        async move {
            let _work = endpoint.begin();
            tokio::task::yield_now().await;
        }
    };
    assert_eq!(unless_cut(Kind::Request, None, begun()).await, Err(Reason::Deadline));
    let tied = unless_cut(Kind::Connection, Some(all[0].load()), pending::<()>()).await;
    assert_eq!(tied, Err(Reason::Deadline));
    spare(all[0].load());
    assert_eq!(unless_cut(Kind::Request, None, begun()).await, Ok(()));
}

#[tokio::test]
async fn a_second_try_elsewhere_is_not_cut_with_the_first() {
    let all = endpoints(&[1, 1]);
    let cutter = Cutter::default();
    let delivering = tokio::spawn(deliver(cutter.worker()));
    let (first, second) = (Arc::clone(&all[0]), Arc::clone(&all[1]));
    let running = tokio::spawn(unless_cut(Kind::Request, None, async move {
        let work = first.begin();
        tokio::task::yield_now().await;
        drop(work);
        let _work = second.begin();
        pending::<()>().await;
    }));
    settle().await;
    assert_eq!(cutter.cut(all[0].load(), Reason::Left).counts(), [0, 0, 0]);
    settle().await;
    assert!(!running.is_finished());
    cutter.cut(all[1].load(), Reason::Left);
    assert_eq!(running.await.unwrap(), Err(Reason::Left));
    delivering.abort();
}

#[tokio::test]
async fn a_second_try_at_the_same_endpoint_is_cut_with_it() {
    let all = endpoints(&[1]);
    let cutter = Cutter::default();
    let delivering = tokio::spawn(deliver(cutter.worker()));
    let endpoint = Arc::clone(&all[0]);
    let running = tokio::spawn(unless_cut(Kind::Request, None, async move {
        let mut work = Some(endpoint.begin());
        tokio::task::yield_now().await;
        // The new one begins before the old one is let go.
        drop(work.replace(endpoint.begin()));
        pending::<()>().await;
        drop(work);
    }));
    settle().await;
    let cut = cutter.cut(all[0].load(), Reason::Left);
    assert_eq!(running.await.unwrap(), Err(Reason::Left));
    assert_eq!(cut.counts(), [1, 0, 0]);
    delivering.abort();
}

#[tokio::test]
async fn only_what_was_cut_learns_that_it_breaks() {
    struct Holder(Arc<Mutex<Vec<bool>>>);
    impl Drop for Holder {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(breaking().is_some());
        }
    }
    let all = endpoints(&[1]);
    let cutter = Cutter::default();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let holding = |ends: bool| {
        let (holder, endpoint) = (Holder(Arc::clone(&seen)), Arc::clone(&all[0]));
        async move {
            let _holder = holder;
            let _work = endpoint.begin();
            if !ends {
                pending::<()>().await;
            }
        }
    };
    unless_cut(Kind::Request, None, holding(true)).await.unwrap();
    cutter.cut(all[0].load(), Reason::Left);
    unless_cut(Kind::Request, None, holding(false)).await.unwrap_err();
    assert_eq!(*seen.lock().unwrap(), [false, true]);
    assert_eq!(breaking(), None);
}

#[tokio::test]
async fn an_unhealthy_endpoint_loses_its_connections_and_tunnels_and_keeps_its_requests() {
    let all = endpoints(&[1]);
    let cutter = Cutter::default();
    let delivering = tokio::spawn(deliver(cutter.worker()));
    let run = |kind| {
        let endpoint = Arc::clone(&all[0]);
        tokio::spawn(unless_cut(kind, None, async move {
            let _work = endpoint.begin();
            pending::<()>().await;
        }))
    };
    let (tunnel, connection) = (run(Kind::Tunnel), run(Kind::Connection));
    let request = run(Kind::Request);
    settle().await;
    let cut = cutter.cut(all[0].load(), Reason::Unhealthy);
    assert_eq!(tunnel.await.unwrap(), Err(Reason::Unhealthy));
    assert_eq!(connection.await.unwrap(), Err(Reason::Unhealthy));
    settle().await;
    assert!(!request.is_finished());
    assert_eq!(cut.counts(), [0, 1, 1]);
    assert_eq!(
        run(Kind::Connection).await.unwrap(),
        Err(Reason::Unhealthy),
        "what begins there too"
    );
    let later = run(Kind::Request);
    settle().await;
    assert!(!later.is_finished());
    for task in [request, later] {
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
    }
    delivering.abort();
}
